"""Bare voters take and install snapshots, and lose their power at every step of it."""

from __future__ import annotations

import pytest

from muster.agents.consistency.compaction import SnapshotPolicy
from muster.sim.machines.raft import RaftVoters
from muster.sim.machines.raft_swarm import RaftRun, draw
from muster.sim.machines.snapshots import SnapshotPlan
from muster.sim.machines.voter import SimVoter
from muster_protocol.raftguard.events import Role
from muster_protocol.types import NodeId
from muster_protocol.wire.codec import encode

PLAN = SnapshotPlan(SnapshotPolicy(every_entries=20, keep_entries=5), segment_bytes_max=300)


def write(cluster: RaftVoters, count: int) -> None:
    """So many commands, one after the other, on whoever leads."""
    for _ in range(count):
        assert cluster.run_until(cluster.now + 10.0, lambda: len(cluster.leaders()) == 1)
        before = len(cluster.acknowledged)
        cluster.propose(cluster.leaders()[0], encode(["write", before]))
        cluster.run_until(cluster.now + 5.0, lambda: len(cluster.acknowledged) > before)  # noqa: B023 (used at once)


def is_level(cluster: RaftVoters) -> bool:
    histories = {node.history.digest for node in cluster.live()}
    return len(histories) == 1 and len(cluster.live()) == len(cluster.ids)


@pytest.mark.parametrize("seed", range(1, 17))
def test_a_drawn_run_holds(seed: int) -> None:
    RaftRun(draw(seed)).run()


def a_follower(cluster: RaftVoters) -> SimVoter:
    write(cluster, 1)
    return next(node for node in cluster.live() if node.core.role is not Role.LEADER)


def left_behind(cluster: RaftVoters) -> NodeId:
    """A follower that is down, and whose next entries the others no longer have."""
    behind = a_follower(cluster)
    cluster.crash(behind.id)
    write(cluster, 60)
    last = behind.journal.last_index
    assert all(node.journal.first_index > last + 1 for node in cluster.live())
    return behind.id


def test_the_log_is_trimmed_behind_a_snapshot_and_its_segments_removed() -> None:
    cluster = RaftVoters(3, seed=1, snapshots=PLAN)
    write(cluster, 100)
    cluster.run_until(cluster.now + 2.0)
    assert cluster.snapshots.taken >= 9
    for node in cluster.live():
        assert node.journal.last_index - node.journal.first_index < 40
        assert len(node.files.names()) < 40  # one entry each, at least 100 in all


def test_a_follower_that_is_far_behind_is_refilled_by_a_snapshot() -> None:
    cluster = RaftVoters(3, seed=2, snapshots=PLAN)
    behind = left_behind(cluster)
    cluster.restart(behind)
    assert cluster.run_until(cluster.now + 5.0, lambda: is_level(cluster))
    assert cluster.snapshots.installed == 1


def test_a_snapshot_that_does_not_arrive_is_offered_again() -> None:
    slow = SnapshotPlan(PLAN.policy, transfer_s_max=2.0)
    cluster = RaftVoters(3, seed=3, snapshots=slow)
    behind = left_behind(cluster)
    cluster.restart(behind)
    assert cluster.run_until(cluster.now + 5.0, lambda: cluster.nodes[behind].is_installing)
    cluster.isolate(behind)
    cluster.run_until(cluster.now + 4.5)
    cluster.heal()
    assert cluster.snapshots.failed == 1
    assert cluster.run_until(cluster.now + 10.0, lambda: is_level(cluster))


@pytest.mark.parametrize("operations", range(16))
def test_power_may_fail_at_any_step_of_taking_a_snapshot(operations: int) -> None:
    cluster = RaftVoters(3, seed=4, snapshots=PLAN)
    node = a_follower(cluster)
    write(cluster, 50)
    assert cluster.run_until(cluster.now + 5.0, lambda: not node.is_taking)
    while not node.is_taking:
        write(cluster, 1)
    node.disk.power_off_in(operations)
    cluster.run_until(cluster.now + 1.0)
    write(cluster, 10)
    cluster.restart(node.id)
    assert cluster.run_until(cluster.now + 5.0, lambda: is_level(cluster))


@pytest.mark.parametrize("operations", range(20))
def test_power_may_fail_at_any_step_of_installing_a_snapshot(operations: int) -> None:
    cluster = RaftVoters(3, seed=5, snapshots=PLAN)
    behind = left_behind(cluster)
    cluster.restart(behind)
    node = cluster.nodes[behind]
    assert cluster.run_until(cluster.now + 5.0, lambda: node.is_installing)
    node.disk.power_off_in(operations)
    cluster.run_until(cluster.now + 1.0)
    cluster.restart(behind)
    assert cluster.run_until(cluster.now + 5.0, lambda: is_level(cluster))
