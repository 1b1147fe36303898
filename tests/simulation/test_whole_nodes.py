"""Whole production nodes on virtual time: agents, gossip, Raft and signals together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import trio
import trio.lowlevel

from muster.agents.consistency.compaction import SnapshotPolicy
from muster.runtime.host import HostState
from muster_protocol.consistency.commands import Command, Done, Expired, Get, Put, Result
from muster_protocol.effects import Emit
from muster_protocol.errors import OutcomeUnknown, Refused
from muster_protocol.types import Scope
from muster_protocol.wire.membership import MemberState
from testkit.node_cluster import NodeCluster, SimNode, node_cluster, registry_of


async def a_fourth_without_a_seat(cluster: NodeCluster) -> SimNode:
    """Start three founders of four, and then the fourth."""
    *founders, fourth = cluster.nodes
    await cluster.start(*founders)
    await cluster.until(lambda: cluster.leader(*founders))
    await cluster.start(fourth)
    await cluster.until(lambda: fourth.agents.consistency.cluster)
    await cluster.until(lambda: fourth.running.verdict().may_act)
    return fourth


async def test_three_nodes_found_a_cluster_and_agree(autojump_clock: object) -> None:
    async with node_cluster(3) as cluster:
        await cluster.start()
        await cluster.founded()
        for node in cluster.nodes:
            await cluster.put(node, f"from {node.number}", b"value")
        for reader in cluster.nodes:
            for writer in cluster.nodes:
                assert await cluster.get(reader, f"from {writer.number}") == b"value"


async def test_a_killed_leader_is_detected_replaced_and_comes_back(autojump_clock: object) -> None:
    async with node_cluster(3) as cluster:
        await cluster.start()
        leader = await cluster.founded()
        others = [n for n in cluster.nodes if n is not leader]
        await cluster.put(leader, "k", b"before")
        gone = leader.me
        await cluster.crash(leader)
        assert await cluster.until(lambda: cluster.leader(*others)) < 1.0
        await cluster.put(others[0], "k", b"after")
        states = lambda: [  # noqa: E731 (one line of meaning)
            m.state for o in others for m in o.running.members() if m.id == gone
        ]
        assert await cluster.until(lambda: states() == [MemberState.FAILED] * 2) < 6.0
        await cluster.start(leader)
        await cluster.until(cluster.leader)
        assert await cluster.get(leader, "k") == b"after"


async def test_power_loss_of_all_loses_nothing_acknowledged(autojump_clock: object) -> None:
    async with node_cluster(3) as cluster:
        await cluster.start()
        await cluster.founded()
        for number in range(20):
            await cluster.put(cluster.nodes[number % 3], f"k{number}", b"%d" % number)
        for node in cluster.nodes:
            node.scope.cancel()
            node.host.power_off(tear=True)
        await trio.sleep(1)
        await cluster.start()
        await cluster.founded()
        for number in range(20):
            assert await cluster.get(cluster.nodes[0], f"k{number}") == b"%d" % number


async def test_a_node_that_is_far_behind_may_still_write(autojump_clock: object) -> None:
    """A node without a seat keeps no replica and has heard of no revision: its new change looks as
    old as a forgotten one until the cluster has told it where it stands."""
    async with node_cluster(4, founders=3) as cluster:
        fourth = await a_fourth_without_a_seat(cluster)
        leader = await cluster.founded()
        for node in cluster.nodes[:3]:
            registry_of(node).sessions_max = 2
        for number in range(5):
            await cluster.put(leader, "k", b"%d" % number)
        assert fourth.agents.consistency.revision() == 0
        assert isinstance(await cluster.put(fourth, "k", b"fourth"), Done)
        assert fourth.agents.consistency.revision() == registry_of(leader).revision == 6
        old = Command("f" * 32, 1, 0, 0.0, Put("k", b"old"))
        deadline = trio.current_time() + 10.0
        submit = fourth.agents.consistency.submit
        assert isinstance(await submit(old, is_first=False, deadline=deadline), Expired)
        assert await cluster.get(fourth, "k") == b"fourth"


async def test_a_cut_off_minority_refuses_at_once_and_recovers(autojump_clock: object) -> None:
    async with node_cluster(3) as cluster:
        await cluster.start()
        leader = await cluster.founded()
        others = [n for n in cluster.nodes if n is not leader]
        for other in others:
            cluster.fabric.cut(leader.host.ip, other.host.ip)
        await cluster.until(lambda: cluster.leader(*others))
        await cluster.until(lambda: not leader.running.verdict().may_act, 5.0)
        started = trio.current_time()
        with pytest.raises(Refused, match="1 of 3 voters in reach"):
            await cluster.put(leader, "k", b"must not be")
        assert trio.current_time() - started < 0.1
        await cluster.until(lambda: leader.said("partition.minority"), 2.0)
        await cluster.put(others[0], "k", b"majority")
        cluster.fabric.heal_all()
        await cluster.until(lambda: leader.running.verdict().may_act)
        await cluster.until(cluster.leader)
        assert await cluster.get(leader, "k") == b"majority"


async def test_a_write_that_the_leader_could_not_confirm_is_unknown_or_done(
    autojump_clock: object,
) -> None:
    """Cut off in the middle: the client is told that it is not known, never that it failed."""
    async with node_cluster(3) as cluster:
        await cluster.start()
        leader = await cluster.founded()
        outcomes: list[str] = []

        async def write() -> None:
            try:
                await cluster.put(leader, "k", b"v")
                outcomes.append("committed")
            except OutcomeUnknown:
                outcomes.append("unknown")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(write)
            await trio.lowlevel.checkpoint()
            for other in cluster.nodes:
                if other is not leader:
                    cluster.fabric.cut(leader.host.ip, other.host.ip)
        assert outcomes[0] in ("committed", "unknown")


async def test_a_signal_of_scope_cluster_reaches_every_member_once_and_in_order(
    autojump_clock: object,
) -> None:
    async with node_cluster(3) as cluster:
        await cluster.start()
        await cluster.founded()
        await trio.sleep(5)
        inboxes = [
            node.running.parts.bus.subscribe(["cluster.load.reported"], name="test")  # type: ignore[union-attr]
            for node in cluster.nodes
        ]
        for number in range(100):
            emit(cluster.nodes[0], number)
        await trio.sleep(5)
        for inbox in inboxes:
            numbers = []
            while (signal := inbox.next_nowait()) is not None:
                numbers.append(signal.data["number"])
            assert numbers == list(range(100))


def emit(node: SimNode, number: int) -> None:
    parts = node.running.parts
    assert parts is not None
    effect = Emit("cluster.load.reported", {"number": number}, scope=Scope.CLUSTER)
    executor = parts.supervisor._executor
    executor.perform(effect)


def agent_state(node: SimNode, name: str) -> Any:
    parts = node.running.parts
    assert parts is not None
    return next(c for c in parts.supervisor.statistics() if c.name == name)


VOTER_SNAPSHOTS = "muster.agents.consistency.voter.SNAPSHOTS"


async def break_until_parked(cluster: NodeCluster, node: SimNode, name: str) -> None:
    """Break an agent again and again, each time that it works."""
    while agent_state(node, name).state is not HostState.PARKED:
        if agent_state(node, name).state is HostState.RUNNING:
            break_agent(cluster, node, name)
            getattr(node.agents, name).surroundings.post(object())
        await trio.sleep(0.05)


def break_agent(cluster: NodeCluster, node: SimNode, name: str) -> None:
    """The next thing that this agent handles raises."""

    def broken(event: Any, *, now: float) -> Any:
        raise RuntimeError("a bug")

    node.agents.__getattribute__(name).handle = broken


@pytest.mark.parametrize("name", ["failure", "signals", "discovery", "consistency", "partition"])
async def test_an_agent_that_raises_is_restarted_and_takes_nothing_else_down(
    autojump_clock: object, name: str
) -> None:
    async with node_cluster(3) as cluster:
        await cluster.start()
        await cluster.founded()
        node = cluster.nodes[0]
        await cluster.put(node, "k", b"before")
        break_agent(cluster, node, name)
        agent = getattr(node.agents, name)
        agent.surroundings.post(object())
        await cluster.until(lambda: agent_state(node, name).restarts == 1)
        await cluster.until(lambda: agent_state(node, name).state is HostState.RUNNING)
        parts = node.running.parts
        assert parts is not None
        assert all(c.restarts == (c.name == name) for c in parts.supervisor.statistics())
        await cluster.until(cluster.leader)
        await cluster.put(node, "k", b"after")
        assert await cluster.get(cluster.nodes[1], "k") == b"after"


async def test_a_restarted_consistency_agent_is_reached_by_its_peers_again(
    autojump_clock: object,
) -> None:
    async with node_cluster(3) as cluster:
        await cluster.start()
        await cluster.founded()
        last = max(cluster.nodes, key=lambda node: node.me)  # all others dial it
        before = last.agents.consistency
        break_agent(cluster, last, "consistency")
        before.surroundings.post(object())

        def is_linked() -> bool:
            voter = last.agents.consistency.voter
            is_new = last.agents.consistency is not before
            return is_new and voter is not None and len(voter.core.guard.connected()) == 2

        await cluster.until(is_linked)


async def test_an_error_in_an_accepted_link_restarts_its_agent_and_nothing_else(
    autojump_clock: object,
) -> None:
    async with node_cluster(3) as cluster:
        await cluster.start()
        await cluster.founded()
        last = max(cluster.nodes, key=lambda node: node.me)
        voter = last.agents.consistency.voter
        assert voter is not None

        def broken(peer: object, message: object) -> None:
            raise KeyError("a bug")

        voter.core._engine.receive = broken  # type: ignore[method-assign]
        await cluster.until(lambda: agent_state(last, "consistency").restarts == 1)
        await cluster.until(lambda: last.agents.consistency.voter not in {None, voter})
        assert last.running.parts is not None


@pytest.mark.parametrize("partition", [True, False])
async def test_a_request_while_the_consistency_agent_is_down_is_refused(
    autojump_clock: object, partition: bool
) -> None:
    async with node_cluster(3, agents__partition=partition) as cluster:
        await cluster.start()
        leader = await cluster.founded()
        node = next(n for n in cluster.nodes if n is not leader)
        await cluster.put(node, "k", b"before")
        break_agent(cluster, node, "consistency")
        node.agents.consistency.surroundings.post(object())
        await trio.sleep(0.02)
        assert agent_state(node, "consistency").state is HostState.BACKING_OFF
        with pytest.raises(Refused, match="does not run here"):
            await cluster.put(node, "k", b"down")
        await cluster.until(cluster.leader)
        await cluster.put(node, "k", b"after")


async def test_a_request_that_waits_while_its_agent_fails_ends(autojump_clock: object) -> None:
    async with node_cluster(3) as cluster:
        await cluster.start()
        leader = await cluster.founded()
        node = next(n for n in cluster.nodes if n is not leader)
        for other in cluster.nodes:
            if other is not leader:
                cluster.fabric.cut(leader.host.ip, other.host.ip)
        ended: list[BaseException | Result] = []

        async def ask() -> None:
            try:
                ended.append(await cluster.put(leader, "k", b"v"))
            except (OutcomeUnknown, Refused) as error:
                ended.append(error)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await trio.sleep(0.1)
            break_agent(cluster, leader, "consistency")
            leader.agents.consistency.surroundings.post(object())
            await cluster.until(lambda: ended, within_s=1.0)
        assert isinstance(ended[0], OutcomeUnknown)
        assert node.running.parts is not None


async def test_a_voter_that_no_longer_runs_claims_nothing(autojump_clock: object) -> None:
    async with node_cluster(3) as cluster:
        await cluster.start()
        leader = await cluster.founded()
        node = next(n for n in cluster.nodes if n is not leader)
        await break_until_parked(cluster, node, "consistency")
        consistency = node.agents.consistency
        assert not node.running.verdict().may_act
        assert (consistency.voter, consistency.leader(), consistency.role) == (None, None, "down")
        assert not consistency.leads()
        assert consistency.evidence().reachable == ()
        with pytest.raises(Refused, match="does not run here"):
            await cluster.put(node, "k", b"v")


async def test_an_overloaded_leader_refuses_at_once(
    autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with node_cluster(3) as cluster:
        await cluster.start()
        await cluster.founded()
        monkeypatch.setattr("muster.agents.consistency.proposals.WAITING_COMMANDS_MAX", 0)
        started = trio.current_time()
        for node in cluster.nodes:
            with pytest.raises(Refused, match="too many requests"):
                await cluster.put(node, "k", b"v")
        assert trio.current_time() - started < 1.0


async def test_a_restarted_voter_has_another_origin(autojump_clock: object) -> None:
    """It counts its batches from 1 again, and batches of its earlier life may still be applied."""
    async with node_cluster(3) as cluster:
        await cluster.start()
        await cluster.founded()
        node = cluster.nodes[0]
        before = node.agents.consistency.voter.proposals.origin
        break_agent(cluster, node, "consistency")
        node.agents.consistency.surroundings.post(object())
        await cluster.until(lambda: agent_state(node, "consistency").restarts == 1)
        await cluster.until(lambda: node.agents.consistency.voter is not None)
        assert node.agents.consistency.voter.proposals.origin != before


async def a_follower_left_behind(cluster: NodeCluster) -> tuple[SimNode, SimNode]:
    """The leader of three, and a follower that was down while the others wrote 200 entries."""
    await cluster.start()
    leader = await cluster.founded()
    behind = next(n for n in cluster.nodes if n is not leader)
    await cluster.crash(behind)
    for number in range(200):
        await cluster.put(leader, f"k{number}", b"%d" % number)
    return leader, behind


async def test_a_node_may_stop_while_it_installs_a_snapshot(
    autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(VOTER_SNAPSHOTS, SnapshotPolicy(every_entries=50, keep_entries=10))
    async with node_cluster(3) as cluster:
        _, behind = await a_follower_left_behind(cluster)
        await cluster.start(behind)
        await cluster.until(lambda: behind.agents.consistency.voter is not None)
        voter = behind.agents.consistency.voter
        offload = voter._offload

        class Slow:
            async def run(self, work: Callable[[], Any], *, kind: str) -> Any:
                with trio.CancelScope(shield=True):  # as a thread is
                    await trio.sleep(0.5 if kind == "snapshot" else 0.0)
                    return await offload.run(work, kind=kind)

        voter._offload = Slow()
        await cluster.until(lambda: voter._store_in_use.locked())
        await trio.sleep(0.3)
        assert voter.compaction.installed == 0
        behind.scope.cancel()
        await trio.sleep(1.0)
        assert not behind.said("agent.failed")
        await cluster.start(behind)
        await cluster.until(cluster.leader)
        assert await cluster.get(behind, "k150") == b"150"


async def test_large_values_bring_a_snapshot_before_many_entries_do(
    autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = SnapshotPolicy(every_bytes=100_000, keep_bytes=25_000)
    monkeypatch.setattr(VOTER_SNAPSHOTS, policy)
    async with node_cluster(3) as cluster:
        await cluster.start()
        leader = await cluster.founded()
        voter = leader.agents.consistency.voter
        for number in range(30):
            await cluster.put(leader, f"k{number}", b"x" * 10_000)
        await cluster.until(lambda: voter.compaction.taken >= 2)
        assert voter.journal.log_bytes < 2 * policy.every_bytes


async def test_an_agent_that_raises_again_and_again_is_parked_shown_and_alerted(
    autojump_clock: object,
) -> None:
    async with node_cluster(3) as cluster:
        await cluster.start()
        await cluster.founded()
        node = cluster.nodes[0]
        parts = node.running.parts
        assert parts is not None
        alerts = parts.bus.subscribe(["cluster.health.alerted"], name="test")
        await break_until_parked(cluster, node, "partition")
        assert node.said("agent.parked")
        assert (await alerts.next()).data["data"]["agent"] == "partition"
        assert agent_state(node, "partition").last_error.startswith("RuntimeError")
        parts.supervisor.unpark("partition")
        await cluster.until(lambda: agent_state(node, "partition").state is HostState.RUNNING)


async def test_a_far_behind_follower_is_refilled_by_a_snapshot(
    autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(VOTER_SNAPSHOTS, SnapshotPolicy(every_entries=50, keep_entries=10))
    async with node_cluster(3) as cluster:
        leader, behind = await a_follower_left_behind(cluster)
        await cluster.until(lambda: leader.agents.consistency.voter.compaction.taken >= 2)
        await cluster.start(behind)
        await cluster.until(lambda: cluster.leader())
        await cluster.until(lambda: behind.agents.consistency.voter.compaction.installed == 1)
        await cluster.until(
            lambda: (
                behind.agents.consistency.voter.replica.registry.digest()
                == leader.agents.consistency.voter.replica.registry.digest()
            )
        )
        await cluster.crash(behind)
        await cluster.start(behind)
        await cluster.until(cluster.leader)
        assert await cluster.get(behind, "k150") == b"150"


async def test_a_fourth_node_forwards_without_a_seat(autojump_clock: object) -> None:
    async with node_cluster(4, founders=3) as cluster:
        fourth = await a_fourth_without_a_seat(cluster)
        await cluster.put(fourth, "k", b"v")
        assert await cluster.get(fourth, "k") == b"v"
        with pytest.raises(Refused, match="no replica"):
            fourth.agents.consistency.read_stale(None)


async def test_the_partition_agent_can_be_switched_off(autojump_clock: object) -> None:
    async with node_cluster(3, agents__partition=False) as cluster:
        await cluster.start()
        await cluster.founded()
        await cluster.put(cluster.nodes[0], "k", b"v")
        parts = cluster.nodes[0].running.parts
        assert parts is not None
        assert "partition" not in parts.supervisor.names()


async def test_gossip_alone_watches_without_a_store(autojump_clock: object) -> None:
    """Incremental deployment: no consistency, no partition, no discovery."""
    async with node_cluster(
        3, agents__partition=False, agents__consistency=False, cluster__bootstrap_expect=0
    ) as cluster:
        await cluster.start()
        await cluster.until(lambda: all(len(n.running.members()) == 3 for n in cluster.nodes))
        gone = cluster.nodes[2]
        gone_id = gone.me
        await cluster.crash(gone)
        await cluster.until(
            lambda: (
                [m.state for m in cluster.nodes[0].running.members() if m.id == gone_id]
                == [MemberState.FAILED]
            )
        )


async def test_a_stopped_node_is_shown_as_stopped_and_leadership_was_handed_over(
    autojump_clock: object,
) -> None:
    async with node_cluster(3) as cluster:
        await cluster.start()
        leader = await cluster.founded()
        await trio.sleep(2)
        gone = leader.me
        others = [n for n in cluster.nodes if n is not leader]
        leader.running.request_stop()
        assert await cluster.until(lambda: cluster.leader(*others)) < 1.0
        await cluster.until(
            lambda: all(
                m.state is MemberState.STOPPED
                for o in others
                for m in o.running.members()
                if m.id == gone
            ),
            3.0,
        )


async def test_garbage_from_a_voter_costs_its_link_and_nothing_else(
    autojump_clock: object,
) -> None:
    """Both ways round: from the side that dialled, and from the side that was dialled."""
    async with node_cluster(3) as cluster:
        await cluster.start()
        await cluster.founded()
        one, two = cluster.nodes[0], cluster.nodes[1]
        for sender, receiver in ((one, two), (two, one)):
            link = sender.agents.consistency.voter.links._links[receiver.me]
            await link.connection.send(b"garbage")
            await trio.sleep(3)
            assert agent_state(receiver, "consistency").restarts == 0
            assert sender.me in receiver.agents.consistency.voter.core.guard.connected()
        await cluster.put(one, "k", b"v")


@pytest.mark.parametrize("off_s", [1.0, 20.0])
async def test_a_member_back_from_lost_power_gets_its_signal_streams_again(
    autojump_clock: object, off_s: float
) -> None:
    """Nobody told the others that their streams to it lead nowhere, and they had nothing to say;
    it was up to them to dial, so it neither got nor sent signals, for ever."""
    async with node_cluster(3) as cluster:
        await cluster.start()
        await cluster.founded()
        await trio.sleep(5)
        highest = max(cluster.nodes, key=lambda node: node.me)
        await cluster.power_off(highest)
        await trio.sleep(off_s)
        await cluster.start(highest)
        streams = lambda: [len(node.agents.signals._streams) for node in cluster.nodes]  # noqa: E731
        await cluster.until(lambda: streams() == [2, 2, 2], 30.0)
        await trio.sleep(60)
        assert streams() == [2, 2, 2]


async def test_who_waits_for_a_leader_that_is_cut_off_asks_the_next_one(
    autojump_clock: object,
) -> None:
    """Nobody is told of the cut: the request was sent, and the follower knows a new leader long
    before its client's time is up. Repeating is harmless; it is made once."""
    async with node_cluster(3) as cluster:
        await cluster.start()
        leader = await cluster.founded()
        follower = next(sim for sim in cluster.nodes if sim is not leader)
        await cluster.put(follower, "k", b"0")
        for other in cluster.nodes:
            if other is not leader:
                cluster.fabric.cut(leader.host.ip, other.host.ip)
        began = trio.current_time()
        await cluster.put(follower, "k", b"1")
        assert trio.current_time() - began < 2.5
        assert (await cluster.do(follower, Get("k"))).entry.version == 2
        assert trio.current_time() - began < 2.6
