"""Whole nodes under faults, and then their flight records through the machines again: every
decision of every machine is as it was, with a whole ring and with an overwritten beginning."""

from __future__ import annotations

import collections

import pytest

from muster import recorder
from muster.agents.consistency import voter
from muster.agents.consistency.compaction import SnapshotPolicy
from muster.replay.replaying import Outcome, Replay
from muster.sim.simulation import Simulation
from muster.sim.swarm import draw
from testkit.flights import flights_of

MACHINES = ("failure", "raft", "partition", "discovery", "signals")


def replayed(seed: str, *, for_s: float) -> collections.Counter[str]:
    """Outcomes of all machines of all nodes of a drawn run."""
    simulation = Simulation(draw(seed, nodes=3, for_s=for_s))
    report = simulation.run()
    assert report.verdict == "ok"
    assert simulation._cluster is not None
    counts: collections.Counter[str] = collections.Counter()
    for whose, files in flights_of(simulation._cluster):
        for step in Replay().steps(files):
            where = f"seed {seed}, {whose}: {step.machine} at {step.at}: {step.kind}: {step.why}"
            if step.machine in MACHINES:
                assert step.outcome not in (Outcome.DIFFERS, Outcome.LOST), where
                assert step.why != "it needs log entries whose content is not on the record", where
                counts[f"{step.machine} {step.outcome.value}"] += 1
                counts[step.kind] += 1
    return counts


@pytest.mark.parametrize("seed", ["3", "10", "21", "51"])
def test_all_that_nodes_decided_under_faults_is_decided_again(seed: str) -> None:
    counts = replayed(seed, for_s=40.0)
    for machine in MACHINES:
        assert counts[f"{machine} same"] >= 10, counts
        assert not counts[f"{machine} not replayed"], counts


@pytest.mark.parametrize("seed", ["13", "21", "26", "34"])
def test_a_ring_whose_beginning_was_overwritten_is_replayed_from_its_memories(
    seed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seeds 21, 24 and 34, as they were drawn then, found that a set's order depends on how it came
    about, another one that a value may refer to its key."""
    monkeypatch.setattr(recorder, "FILE_BYTES_MAX", 30_000)
    counts = replayed(seed, for_s=60.0)
    for machine in MACHINES:
        assert counts[f"{machine} goes on"], counts
        assert not counts[f"{machine} not replayed"], counts
    assert counts["raft same"] > 50
    assert counts["failure same"] > 10


@pytest.mark.parametrize("seed", ["16", "18", "34"])
def test_snapshots_taken_and_installed_are_part_of_the_record(
    seed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They change the log beside the machine's events, which sees it by what it may still send."""
    often = SnapshotPolicy(every_entries=20, keep_entries=5)
    monkeypatch.setattr(voter, "SNAPSHOTS", often)
    counts = replayed(seed, for_s=60.0)
    assert counts["LogTrimmed"] >= 5
    assert counts["ReadWanted"] > 50
    assert counts["SnapshotInstalled"] >= 1
    assert not counts["raft not replayed"], counts
