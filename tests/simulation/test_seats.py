"""Who votes, on whole nodes: growing, shrinking, replacing, leaving."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio

from muster_protocol.errors import Refused
from muster_protocol.types import NodeId
from testkit.control import ask
from testkit.node_cluster import NodeCluster as Cluster
from testkit.node_cluster import SimNode, node_cluster, registry_of


def voting(cluster: Cluster) -> list[str]:
    """Names of those who vote, as the leader's committed electorate has it."""
    leaders = [sim for sim in cluster.up if sim.agents.consistency.leads()]
    if len(leaders) != 1:
        return []
    configuration = leaders[0].agents.consistency.configuration
    known = (sim for sim in cluster.nodes if sim.node is not None)
    return sorted(sim.name for sim in known if configuration.is_voter(sim.me))


def seated(cluster: Cluster) -> list[str]:
    """Names of those who have a journal."""
    return [sim.name for sim in cluster.up if sim.agents.consistency.has_seat]


def vote(cluster: Cluster, *names: str) -> Callable[[], bool]:
    return lambda: voting(cluster) == sorted(names)


def the_leader(cluster: Cluster) -> SimNode:
    (leader,) = (sim for sim in cluster.up if sim.agents.consistency.leads())
    return leader


async def test_one_node_grows_to_three_and_shrinks_again(autojump_clock: object) -> None:
    async with node_cluster(3, founders=1) as cluster:
        await cluster.start()
        await cluster.until(lambda: voting(cluster) == ["n1"])
        n1, n2, _ = cluster.nodes
        await cluster.put(n1, "k", b"alone")
        await cluster.until(vote(cluster, "n1", "n2", "n3"), within_s=60.0)
        await cluster.put(n2, "k", b"three")
        await ask(n2, "raft.voters", size=1)
        await cluster.until(lambda: len(voting(cluster)) == 1, within_s=60.0)
        await cluster.until(lambda: len(seated(cluster)) == 1, within_s=60.0)
        await cluster.until(
            lambda: all(sim.running.verdict().may_act for sim in cluster.nodes), 5.0
        )
        for sim in cluster.nodes:
            assert await cluster.get(sim, "k") == b"three"
        await cluster.put(n2, "k", b"one")


async def test_a_voter_that_is_gone_is_replaced_by_a_member_that_is_there(
    autojump_clock: object,
) -> None:
    async with node_cluster(4, founders=3, cluster__replace_voter_after_s=20.0) as cluster:
        await cluster.start()
        await cluster.founded()
        gone = next(sim for sim in cluster.nodes[:3] if not sim.agents.consistency.leads())
        await cluster.put(cluster.nodes[3], "k", b"before")
        await cluster.crash(gone)
        others = [sim.name for sim in cluster.nodes if sim is not gone]
        await cluster.until(vote(cluster, *others), within_s=90.0)
        await cluster.put(cluster.nodes[3], "k", b"after")
        await cluster.start(gone)
        consistency = gone.agents.consistency
        await cluster.until(lambda: consistency.cluster and consistency.role == "member", 60.0)
        assert await cluster.get(gone, "k") == b"after"


async def test_a_lone_voter_that_is_busy_gets_others_all_the_same(autojump_clock: object) -> None:
    """Nothing may be proposed while its disk is at work, which under load is nearly always."""
    async with node_cluster(3, founders=1) as cluster, trio.open_nursery() as nursery:
        one, two, three = cluster.nodes
        await cluster.start(one)
        await cluster.until(lambda: voting(cluster) == ["n1"])

        async def load(key: str) -> None:
            while True:
                await cluster.put(one, key, b"v")

        for number in range(10):
            nursery.start_soon(load, f"k{number}")
        await cluster.start(two, three)
        await cluster.until(vote(cluster, "n1", "n2", "n3"), within_s=20.0)
        nursery.cancel_scope.cancel()


async def test_without_a_member_to_take_its_place_a_voter_keeps_its_seat(
    autojump_clock: object,
) -> None:
    async with node_cluster(3, cluster__replace_voter_after_s=20.0) as cluster:
        await cluster.start()
        await cluster.founded()
        gone = next(sim for sim in cluster.nodes if not sim.agents.consistency.leads())
        await cluster.crash(gone)
        await trio.sleep(60.0)
        assert voting(cluster) == ["n1", "n2", "n3"]
        await cluster.start(gone)
        await cluster.until(lambda: gone.agents.consistency.leader() is not None)


async def test_who_leaves_gives_its_seat_back_one_after_the_other(autojump_clock: object) -> None:
    async with node_cluster(3) as cluster:
        await cluster.start()
        await cluster.founded()
        await cluster.put(cluster.nodes[0], "k", b"v")
        for _ in range(2):
            leaving = the_leader(cluster)
            await ask(leaving, "leave")
            await cluster.until(lambda sim=leaving: not sim.is_up)
            await cluster.until(lambda: len(voting(cluster)) == len(cluster.up), within_s=30.0)
        (last,) = cluster.up
        assert await cluster.get(last, "k") == b"v"
        await cluster.put(last, "k", b"alone")


async def test_a_seat_is_not_given_back_where_too_few_would_stay(autojump_clock: object) -> None:
    async with node_cluster(3) as cluster:
        await cluster.start()
        await cluster.founded()
        leader = the_leader(cluster)
        gone, asked = (sim for sim in cluster.nodes if sim is not leader)
        await cluster.crash(gone)
        await trio.sleep(3.0)
        with pytest.raises(Refused, match="too few voters would answer"):
            await ask(asked, "leave")
        assert asked.is_up
        await ask(asked, "leave", force=True)
        await cluster.until(lambda: not asked.is_up)


async def test_an_operator_gives_and_takes_seats(autojump_clock: object) -> None:
    async with node_cluster(4, founders=3) as cluster:
        await cluster.start()
        await cluster.founded()
        spare = cluster.nodes[3]
        with pytest.raises(Refused, match="but all 3 are taken"):
            await ask(spare, "raft.add", node="n4")
        leader = the_leader(cluster)
        await ask(spare, "raft.remove", node=leader.name)
        others = [sim.name for sim in cluster.nodes if sim is not leader]
        await cluster.until(vote(cluster, *others), within_s=60.0)
        await cluster.until(lambda: leader.name not in seated(cluster), within_s=60.0)
        shown = await ask(the_leader(cluster), "raft")
        assert shown.barred == [leader.name]
        await ask(spare, "raft.voters", size=5)
        await trio.sleep(30.0)
        assert leader.name not in seated(cluster)
        await ask(leader, "raft.add", node=leader.name)
        await cluster.until(lambda: leader.name in seated(cluster), within_s=30.0)


async def test_a_learner_does_not_count(autojump_clock: object) -> None:
    async with node_cluster(2, founders=1) as cluster:
        await cluster.start()
        await cluster.until(lambda: voting(cluster) == ["n1"])
        n1, n2 = cluster.nodes
        await cluster.until(lambda: n2.agents.consistency.has_seat, within_s=30.0)
        assert n2.agents.consistency.role == "learner"
        await cluster.crash(n2)
        await trio.sleep(10.0)
        await cluster.put(n1, "k", b"alone")
        assert n1.agents.consistency.configuration.seat(NodeId(n2.me)) is not None


async def test_a_learner_that_lost_its_seat_learns_again(autojump_clock: object) -> None:
    """Its connection to the leader stays, and tells it nothing."""
    async with node_cluster(2, founders=1) as cluster:
        await cluster.start()
        n1, n2 = cluster.nodes
        await cluster.until(lambda: n2.agents.consistency.role == "learner", 30.0)
        await cluster.put(n1, "k", b"v")
        await ask(n1, "raft.voters", size=1)
        await cluster.until(lambda: n2.agents.consistency.role == "member", 30.0)
        await ask(n1, "raft.voters", size=3)
        await cluster.until(lambda: n2.agents.consistency.role == "learner", 30.0)
        await cluster.until(lambda: registry_of(n2).digest() == registry_of(n1).digest(), 30.0)


@pytest.mark.parametrize("method", ["raft.remove", "leave"])
async def test_nobody_goes_a_moment_after_another_voter_has_died(
    autojump_clock: object, method: str
) -> None:
    """It answered a second ago, and does not any more: two would be left, of whom one is dead."""
    async with node_cluster(3) as cluster:
        await cluster.start()
        await cluster.founded()
        leader = the_leader(cluster)
        dies, goes = (sim for sim in cluster.nodes if sim is not leader)
        params = {"node": goes.name} if method == "raft.remove" else {}
        await cluster.crash(dies)
        with pytest.raises(Refused, match="too few voters would answer"):
            await ask(goes, method, **params)
        await cluster.put(leader, "k", b"v")
        await cluster.start(dies)
        await trio.sleep(90.0)
        assert voting(cluster) == ["n1", "n2", "n3"], "and it does not go later"


async def test_fewer_voters_are_those_that_are_there(autojump_clock: object) -> None:
    async with node_cluster(3) as cluster:
        await cluster.start()
        await cluster.founded()
        leader = the_leader(cluster)
        dies = next(sim for sim in cluster.nodes if sim is not leader)
        await cluster.crash(dies)
        await ask(leader, "raft.voters", size=1)
        await cluster.until(vote(cluster, leader.name), within_s=30.0)
        await cluster.put(leader, "k", b"v")


async def test_the_only_voter_hands_all_it_has_to_a_member_before_it_leaves(
    autojump_clock: object,
) -> None:
    async with node_cluster(2, founders=1) as cluster:
        await cluster.start()
        n1, n2 = cluster.nodes
        await cluster.until(lambda: voting(cluster) == ["n1"])
        await cluster.put(n1, "k", b"v")
        await trio.sleep(10.0)
        await ask(n1, "leave")
        await cluster.until(lambda: not n1.is_up)
        await cluster.until(vote(cluster, "n2"), within_s=30.0)
        assert await cluster.get(n2, "k") == b"v"


async def test_all_leave_at_once(autojump_clock: object) -> None:
    async with node_cluster(3) as cluster:
        await cluster.start()
        await cluster.founded()
        async with trio.open_nursery() as nursery:
            for sim in cluster.nodes:
                nursery.start_soon(ask, sim, "leave")
        await cluster.until(lambda: not cluster.up)
        terms = [note.fields["term"] for sim in cluster.nodes for _, note in sim.notes
                 if note.event == "raft.role.changed"]  # fmt: skip
        assert max(terms) < 10


async def test_a_member_that_was_removed_gets_no_seat_by_a_restart_of_the_others(
    autojump_clock: object,
) -> None:
    async with node_cluster(3) as cluster:
        await cluster.start()
        await cluster.founded()
        removed = next(sim for sim in cluster.nodes if not sim.agents.consistency.leads())
        others = [sim for sim in cluster.nodes if sim is not removed]
        await ask(others[0], "raft.remove", node=removed.name)
        for sim in cluster.nodes:
            await cluster.stop(sim)
        await cluster.start(*others)
        await trio.sleep(20.0)
        await cluster.start(removed)
        await trio.sleep(30.0)
        assert voting(cluster) == sorted(sim.name for sim in others)
        shown = await ask(removed, "raft")
        assert (shown.barred, shown.voters_wanted) == ([removed.name], 3)


async def test_a_voter_that_nobody_has_seen_since_the_start_is_removed_by_its_id(
    autojump_clock: object,
) -> None:
    async with node_cluster(4) as cluster:
        await cluster.start()
        await cluster.founded()
        gone = cluster.nodes[3]
        node = gone.me
        for sim in cluster.nodes:
            await cluster.stop(sim)
        await cluster.start(*cluster.nodes[:3])
        await cluster.until(lambda: any(s.agents.consistency.leads() for s in cluster.up), 30.0)
        await trio.sleep(2.0)
        with pytest.raises(Refused, match="there is no member"):
            await ask(cluster.nodes[0], "raft.remove", node="n9")
        await ask(cluster.nodes[0], "raft.remove", node=node[:8])
        configuration = the_leader(cluster).agents.consistency.configuration
        assert not configuration.is_voter(node)


async def test_who_leads_alone_has_nobody_to_hand_over_to(autojump_clock: object) -> None:
    async with node_cluster(1) as cluster:
        await cluster.start()
        await cluster.founded()
        with pytest.raises(Refused, match="no other voter"):
            await ask(cluster.nodes[0], "raft.transfer")
