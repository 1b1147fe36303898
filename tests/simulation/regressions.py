"""Seeds that found something, and what. Each ran into it before its cause was mended.

A seed is only as good as the code that drew it: when draws change, it is a seed like any other. So
each bug has a minimal scene of its own, a test that is named here.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Regression:
    """A run that once failed."""

    tier: str
    """"nodes" (`muster.sim.swarm`), "raft" (`muster.sim.machines.raft_swarm`), or "failover"
    (`muster.sim.experiments.failover`, a leader that is killed)."""

    seed: int
    why: str
    scene: str
    """File and function of the test."""


REGRESSIONS = (
    Regression(
        tier="nodes",
        seed=51,
        why="a link's watch slept until an instant that rounding put before now, and never ended",
        scene="unit/daemon/consistency/test_links.py::test_a_watch_waits_for_one_instant_and_ends",
    ),
    Regression(
        tier="nodes",
        seed=301,
        why="the simulator did not wait for a node that was stopping when the faults ended",
        scene="unit/daemon/sim/test_faults.py::test_a_node_that_is_still_stopping_runs_after_the_heal",
    ),
    Regression(
        tier="raft",
        seed=3,
        why="a record whose end was never written, zeros from within a sector on, was refused",
        scene="unit/daemon/storage/test_segments.py::test_a_file_that_ends_early_loses_its_last_batch_at_most",
    ),
    Regression(
        tier="raft",
        seed=30,
        why="what a failed sync had lost counted as durable after the next start (fsyncgate)",
        scene="unit/daemon/storage/test_journal.py"
        "::test_what_a_failed_sync_left_in_the_cache_is_durable_after_the_next_start",
    ),
    Regression(
        tier="raft",
        seed=45,
        why="a late answer sent a leader back to entries that it no longer had",
        scene="unit/protocol/raftguard/test_guard.py"
        "::test_who_has_an_entry_is_not_sent_it_again_because_of_a_late_answer",
    ),
    Regression(
        tier="raft",
        seed=1009,
        why="a follower asked for what is before a snapshot that it had, for ever",
        scene="unit/protocol/raftguard/test_appends.py"
        "::test_going_back_stops_at_what_the_leaders_snapshot_has_too",
    ),
    Regression(
        tier="raft",
        seed=20306,
        why="a single voter made one sync for each batch that had waited",
        scene="simulation/test_raft_cluster.py"
        "::test_what_a_single_voter_lets_wait_shares_the_next_sync",
    ),
    Regression(
        tier="raft",
        seed=24637,
        why="segments were removed for a snapshot of entries that were not on the disk yet",
        scene="unit/daemon/storage/test_journal.py"
        "::test_segments_stay_until_what_follows_them_is_on_the_disk",
    ),
    Regression(
        tier="raft",
        seed=24337,
        why="so it was where a segment without entries lies between",
        scene="unit/daemon/storage/test_journal.py"
        "::test_a_segment_with_the_end_of_the_log_stays_where_only_votes_follow",
    ),
    Regression(
        tier="raft",
        seed=969,
        why="a restarted single voter confirmed reads as of what it had not applied yet",
        scene="unit/daemon/sim/test_faults.py::test_a_read_waits_until_what_it_must_see_is_applied",
    ),
    Regression(
        tier="failover",
        seed=13,
        why="a voter that had just voted went on with its own attempt, and deposed its leader",
        scene="unit/protocol/raftguard/test_guard.py"
        "::test_who_has_voted_waits_for_his_candidate_before_trying_himself",
    ),
)
