"""Raft cores under crashes, power cuts and cuts: nothing acknowledged is lost, logs agree.

`RaftVoters` runs the production guard, engine and journal on an event heap. In every run the
safety phase hurts at random; then everything is healed and the cluster must agree again.
"""

from __future__ import annotations

import pytest

from muster.sim.machines.raft import RaftVoters
from muster.sim.machines.voter import SimVoter
from muster_protocol.raftguard.events import (
    FrameReceived,
    Role,
    SuspendVoting,
    TransferLeadership,
)
from muster_protocol.types import NodeId
from muster_protocol.wire.codec import encode
from muster_protocol.wire.raft import Append, Entry

SEEDS = range(25)


def command(text: str) -> bytes:
    return encode(["test", text])


def steady(cluster: RaftVoters) -> SimVoter:
    """Run until there is a leader that all follow."""
    assert cluster.run_until(cluster.now + 20.0, lambda: agreed_leader(cluster) is not None)
    leader = agreed_leader(cluster)
    assert leader is not None
    return leader


def agreed_leader(cluster: RaftVoters) -> SimVoter | None:
    leaders = [n for n in cluster.live() if n.core.role is Role.LEADER]
    if len(leaders) != 1:
        return None
    followed = all(n.core.leader == leaders[0].id for n in cluster.live())
    return leaders[0] if followed else None


def assert_logs_agree(cluster: RaftVoters) -> None:
    """What is applied at an index is the same everywhere, at any time, in any life."""
    applied: dict[int, bytes] = {}
    for node in cluster.nodes.values():
        for index, data in node.applied:
            assert applied.setdefault(index, data) == data, f"index {index} differs"


def assert_nothing_lost(cluster: RaftVoters) -> None:
    """Every acknowledged command is applied at its index on every node."""
    for node in cluster.live():
        applied = dict(node.applied)
        for data, index in cluster.acknowledged.items():
            assert applied.get(index) == data, f"{data!r} at {index} is lost on {node.id[-2:]}"


def settle(cluster: RaftVoters) -> None:
    """Heal everything and demand liveness."""
    for node_id in cluster.ids:
        cluster.restart(node_id)
    cluster.heal()
    leader = steady(cluster)
    last = command("the last one")
    cluster.propose(leader, last)

    def everywhere() -> bool:
        return all(any(data == last for _, data in n.applied) for n in cluster.live())

    if not cluster.run_until(cluster.now + 10.0, everywhere):
        cluster.propose(steady(cluster), last)  # its first proposal may have died with a leader
        assert cluster.run_until(cluster.now + 10.0, everywhere), "the cluster does not recover"


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("voters", [3, 5])
def test_crashes_power_cuts_and_cuts_lose_nothing_acknowledged(voters: int, seed: int) -> None:
    cluster = RaftVoters(voters, seed=seed)
    rng = cluster.rng
    count = 0

    def client() -> None:
        nonlocal count
        for leader in cluster.leaders():
            count += 1
            cluster.propose(leader, command(f"{leader.id[-2:]} {count}"))
        cluster.at(rng.uniform(0.01, 0.08), client)

    def fault() -> None:
        kind, node_id = rng.random(), rng.choice(cluster.ids)
        if kind < 0.45 and cluster.nodes[node_id].up:
            cluster.crash(node_id, lose_unsynced=rng.random() < 0.7)
            cluster.at(rng.uniform(0.1, 2.0), cluster.restart, node_id)
        elif kind < 0.55:
            for each in cluster.ids:
                if cluster.nodes[each].up:
                    cluster.crash(each)
                    cluster.at(rng.uniform(0.1, 1.0), cluster.restart, each)
        elif kind < 0.75:
            cluster.isolate(node_id)
            cluster.at(rng.uniform(0.5, 3.0), cluster.heal)
        elif kind < 0.9:
            cluster.isolate(node_id, one_way=True)
            cluster.at(rng.uniform(0.5, 3.0), cluster.heal)
        cluster.at(rng.uniform(0.3, 2.0), fault)

    cluster.at(1.0, client)
    cluster.at(2.0, fault)
    for second in range(1, 16):
        cluster.run_until(float(second))
        assert_logs_agree(cluster)
    cluster.drop(client, fault)
    settle(cluster)
    assert_logs_agree(cluster)
    assert_nothing_lost(cluster)
    assert len(cluster.acknowledged) > 10


def test_d24_a_node_that_was_cut_off_does_not_raise_the_term_or_depose_the_leader() -> None:
    """Stock: a rejoining node with a higher term forces an election."""
    cluster = RaftVoters(3, seed=1)
    leader = steady(cluster)
    term = leader.core.term
    away = next(n for n in cluster.ids if n != leader.id)
    cluster.isolate(away)
    cluster.run_until(cluster.now + 20.0)
    cluster.heal()
    cluster.run_until(cluster.now + 5.0)
    assert agreed_leader(cluster) is leader
    assert leader.core.term == term


def test_d25_a_leader_that_lost_its_majority_steps_down_within_two_seconds() -> None:
    cluster = RaftVoters(3, seed=2)
    leader = steady(cluster)
    cluster.isolate(leader.id)
    assert cluster.run_until(cluster.now + 2.0, lambda: leader.core.role is Role.FOLLOWER)


def test_a_stopped_stream_makes_the_others_elect_at_once() -> None:
    cluster = RaftVoters(3, seed=3)
    leader = steady(cluster)
    cluster.crash(leader.id)
    started = cluster.now
    assert cluster.run_until(started + 1.0, lambda: bool(cluster.leaders()))
    assert cluster.now - started < 0.5


def test_d28_a_long_divergent_tail_is_replaced_quickly() -> None:
    """Stock goes back one entry a heartbeat: 200 of them take 50 s."""
    cluster = RaftVoters(3, seed=4)
    leader = steady(cluster)
    cluster.isolate(leader.id)
    for number in range(200):
        cluster.propose(leader, command(f"lost {number}"))
    assert cluster.run_until(cluster.now + 10.0, lambda: leader.core.role is Role.FOLLOWER)
    cluster.run_until(cluster.now + 3.0)
    settle(cluster)
    assert not any(b"lost" in data for _, data in leader.applied)


def test_a_single_voter_acknowledges_nothing_before_its_sync() -> None:
    cluster = RaftVoters(1, seed=5, sync_s_max=0.5)
    leader = steady(cluster)
    cluster.propose(leader, command("x"))
    assert not leader.applied or leader.journal.durable_index >= leader.applied[-1][0]
    assert cluster.run_until(cluster.now + 2.0, lambda: len(leader.applied) == 1)
    assert leader.journal.durable_index >= leader.applied[-1][0]


def test_what_a_single_voter_lets_wait_shares_the_next_sync() -> None:
    """One entry a sync, a burst took minutes on a slow disk (seed 20306 of the drawn runs)."""
    cluster = RaftVoters(1, seed=1)
    (node,) = cluster.nodes.values()
    assert cluster.run_until(10.0, lambda: node.core.role is Role.LEADER)
    cluster.run_until(cluster.now + 1.0)
    before = node.journal.commits
    for number in range(50):
        cluster.propose(node, command(str(number)))
    assert cluster.run_until(cluster.now + 1.0, lambda: len(cluster.acknowledged) == 50)
    assert node.journal.commits - before <= 3


def test_leadership_is_handed_over_without_waiting_for_a_time_out() -> None:
    cluster = RaftVoters(3, seed=6)
    leader = steady(cluster)
    started = cluster.now
    cluster.step(leader, TransferLeadership())

    def taken_over() -> bool:
        return any(n is not leader for n in cluster.leaders())

    assert cluster.run_until(started + 1.0, taken_over)
    assert cluster.now - started < 0.2


def test_d34_nothing_is_proposed_while_leadership_is_handed_over() -> None:
    """It would be appended after the successor was told that it has everything, and be lost."""
    cluster = RaftVoters(3, seed=6)
    leader = steady(cluster)
    cluster.propose(leader, command("before"))
    cluster.step(leader, TransferLeadership())
    cluster.propose(leader, command("during"))
    assert cluster.refused == 1
    assert cluster.run_until(
        cluster.now + 1.0, lambda: any(n is not leader for n in cluster.leaders())
    )
    settle(cluster)
    assert command("before") in cluster.acknowledged
    assert not any(b"during" in data for _, data in leader.applied)


def test_a_voter_whose_identity_is_doubtful_says_nothing_more() -> None:
    cluster = RaftVoters(3, seed=7)
    leader = steady(cluster)
    cluster.step(leader, SuspendVoting("alive elsewhere"))
    assert cluster.run_until(
        cluster.now + 5.0, lambda: any(n is not leader for n in cluster.leaders())
    )
    new = next(n for n in cluster.leaders() if n is not leader)
    cluster.propose(new, command("goes on"))
    cluster.run_until(cluster.now + 1.0)
    assert not any(b"goes on" in data for _, data in leader.applied)


def test_a_proposal_to_a_follower_is_refused_and_not_forwarded() -> None:
    cluster = RaftVoters(3, seed=8)
    leader = steady(cluster)
    follower = next(n for n in cluster.live() if n is not leader)
    cluster.propose(follower, command("x"))
    assert cluster.refused == 1


def test_only_members_with_the_right_identity_count() -> None:
    cluster = RaftVoters(3, seed=9)
    stranger = NodeId("f" * 32)
    leader = steady(cluster)
    assert stranger not in leader.core.guard.connected()
    assert leader.core.guard.statistics().dropped.get("not-a-voter", 0) == 0


def test_a_cut_off_leader_steps_down_although_its_streams_stay_and_writes_come() -> None:
    cluster = RaftVoters(3, seed=2)
    leader = steady(cluster)
    cluster.propose(leader, command("before"))
    cluster.run_until(cluster.now + 1)
    for other in cluster.ids:
        if other != leader.id:
            cluster.ways.cut.update({(other, leader.id): None, (leader.id, other): None})

    def write() -> None:
        if leader.core.role is Role.LEADER:
            cluster.propose(leader, command(f"at {cluster.now}"))
        cluster.at(0.1, write)

    cluster.at(0.0, write)
    assert cluster.run_until(cluster.now + 20, lambda: leader.core.role is Role.FOLLOWER)


@pytest.mark.parametrize("data", [b"\x00\xc1", b"\x03\x05"], ids=["no command", "version"])
def test_an_entry_that_is_no_command_is_dropped_and_counted(data: bytes) -> None:
    cluster = RaftVoters(3, seed=3)
    leader = steady(cluster)
    follower = next(node for node in cluster.live() if node is not leader)
    last, term = follower.journal.last_index, leader.core.term
    previous_term = follower.journal.term_at(last)
    assert previous_term is not None
    entry = Entry(data, last + 1, term)
    frame = Append(term, last + 1, last, previous_term, (entry,))
    cluster.step(follower, FrameReceived(leader.id, follower.links[leader.id], frame))
    assert follower.journal.last_index == last
    assert sum(follower.core.guard.statistics().dropped.values()) == 1
    cluster.propose(leader, command("after"))
    assert cluster.run_until(cluster.now + 5, lambda: follower.core.applied_index > last)
