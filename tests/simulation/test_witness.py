"""A site of two nodes with a witness: it bears the loss of any one of the three, and loses
nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from muster.agents.consistency.fence import NOBODY_YET
from muster_protocol.errors import Refused
from testkit.control import ask
from testkit.node_cluster import NodeCluster as Cluster
from testkit.node_cluster import SimNode, node_cluster


def electorate(cluster: Cluster) -> tuple[list[str], str]:
    """Names of the voters, and of the witness among them, as the leader has it."""
    leaders = [sim for sim in cluster.up if sim.agents.consistency.leads()]
    if len(leaders) != 1:
        return [], ""
    held = leaders[0].agents.consistency.configuration
    known = [sim for sim in cluster.nodes if sim.node is not None]
    names = [sim.name for sim in known if held.is_voter(sim.me)]
    return names, next((sim.name for sim in known if sim.me == held.witness), "")


@asynccontextmanager
async def two_and_a_witness(seed: str = "1") -> AsyncIterator[Cluster]:
    async with node_cluster(3, has_witness=True, seed=seed) as cluster:
        await cluster.start()
        await cluster.until(lambda: electorate(cluster) == (["n1", "n2", "n3"], "n3"), 60.0)
        await cluster.until(lambda: all(sim.running.verdict().may_act for sim in cluster.nodes))
        yield cluster


def leader_and_other(cluster: Cluster) -> tuple[SimNode, SimNode]:
    one, two, _ = cluster.nodes
    return (one, two) if one.agents.consistency.leads() else (two, one)


def is_called(sim: SimNode) -> bool:
    return bool(sim.agents.consistency.voter.core.guard.is_witness_called)


async def test_either_node_may_die_and_the_other_goes_on(autojump_clock: object) -> None:
    async with two_and_a_witness() as cluster:
        witness = cluster.nodes[2]
        leader, other = leader_and_other(cluster)
        await cluster.put(leader, "k", b"two")
        for dead, alive in ((leader, other), (other, leader)):
            await cluster.crash(dead)
            began = trio.current_time()
            await cluster.put(witness, "k", alive.name.encode())
            assert trio.current_time() - began < 5.0
            assert await cluster.get(alive, "k") == alive.name.encode()
            assert is_called(alive)
            await cluster.start(dead)
            await cluster.until(lambda sim=alive: sim.agents.consistency.leads())
            await cluster.put(alive, "k", b"again")
            await cluster.until(lambda sim=alive: not is_called(sim))


async def test_without_its_witness_the_site_goes_on(autojump_clock: object) -> None:
    async with two_and_a_witness() as cluster:
        leader, other = leader_and_other(cluster)
        await cluster.crash(cluster.nodes[2])
        await cluster.put(other, "k", b"v")
        assert await cluster.get(leader, "k") == b"v"
        assert not is_called(leader)
        await cluster.start(cluster.nodes[2])
        await cluster.crash(leader)
        await cluster.put(other, "k", b"w")


async def test_who_lacks_what_the_witness_was_asked_for_does_not_lead(
    autojump_clock: object,
) -> None:
    """Two losses, one after the other: what was acknowledged in between is on one disk only."""
    async with two_and_a_witness() as cluster:
        leader, other = leader_and_other(cluster)
        await cluster.crash(other)
        await cluster.put(leader, "k", b"on one disk")
        await cluster.crash(leader)
        await cluster.start(other)
        await trio.sleep(20.0)
        assert not other.agents.consistency.leads()
        with pytest.raises(Refused, match=r"not quorate|no leader answered"):
            await cluster.get(other, "k")
        await cluster.start(leader)
        await cluster.until(lambda: other.running.verdict().may_act)
        assert await cluster.get(other, "k") == b"on one disk"


async def test_a_witness_has_no_data_and_says_so(autojump_clock: object) -> None:
    async with two_and_a_witness() as cluster:
        leader, other = leader_and_other(cluster)
        witness = cluster.nodes[2]
        await cluster.put(leader, "secret-key", b"secret-value")
        await cluster.crash(other)
        for number in range(300):
            await cluster.put(leader, "secret-key", b"secret-value %d" % number)
        files = witness.host.disk.mount()
        assert not any(b"secret" in (files.read(name) or b"") for name in files.names())
        assert await cluster.get(witness, "secret-key") == b"secret-value 299"
        raft = await ask(witness, "raft")
        assert raft.role == "witness"
        assert raft.mark_index > 300
        assert {row.name: row.role for row in raft.voters}["n3"] == "witness"
        with pytest.raises(Refused, match="keeps no replica"):
            await ask(witness, "kv.get", key="secret-key", stale=True)


async def test_while_both_nodes_answer_the_witness_writes_nothing(autojump_clock: object) -> None:
    async with two_and_a_witness() as cluster:
        leader, _ = leader_and_other(cluster)
        await trio.sleep(5.0)
        promises = cluster.nodes[2].agents.consistency.promises
        for number in range(50):
            await cluster.put(leader, "k", b"%d" % number)
        assert cluster.nodes[2].agents.consistency.promises == promises


async def test_under_load_too_it_is_called_only_until_the_other_node_is_back(
    autojump_clock: object,
) -> None:
    async with two_and_a_witness() as cluster, trio.open_nursery() as nursery:
        leader, other = leader_and_other(cluster)

        async def load(key: str) -> None:
            while True:
                await cluster.put(leader, key, b"v" * 1000)

        for number in range(20):
            nursery.start_soon(load, f"k{number}")
        await cluster.crash(other)
        await trio.sleep(5.0)
        assert is_called(leader)
        await cluster.start(other)
        await cluster.until(lambda: not is_called(leader), within_s=10.0)
        promises = cluster.nodes[2].agents.consistency.promises
        revision = leader.agents.consistency.revision()
        await trio.sleep(2.0)
        assert leader.agents.consistency.revision() > revision + 100
        assert cluster.nodes[2].agents.consistency.promises == promises
        nursery.cancel_scope.cancel()


async def test_a_third_node_takes_the_place_of_the_witness(autojump_clock: object) -> None:
    async with node_cluster(4, founders=2, has_witness=True) as cluster:
        one, two, three, four = cluster.nodes
        await cluster.start(one, two, four)
        await cluster.until(lambda: electorate(cluster)[1] == "n4", 60.0)
        await cluster.start(three)
        await cluster.until(lambda: electorate(cluster) == (["n1", "n2", "n3"], ""), 60.0)
        await cluster.crash(three)
        await ask(one, "raft.remove", node="n3")
        await cluster.until(lambda: electorate(cluster) == (["n1", "n2", "n4"], "n4"), 60.0)


async def test_an_operator_can_take_the_witness_its_seat_and_give_it_back(
    autojump_clock: object,
) -> None:
    async with two_and_a_witness() as cluster:
        leader, other = leader_and_other(cluster)
        await ask(other, "raft.remove", node="n3")
        await cluster.until(lambda: electorate(cluster) == (["n1", "n2"], ""), 30.0)
        await trio.sleep(10.0)
        assert electorate(cluster) == (["n1", "n2"], "")
        await ask(cluster.nodes[2], "raft.add", node="n3")
        await cluster.until(lambda: electorate(cluster)[1] == "n3", 30.0)
        await cluster.crash(leader)
        await cluster.put(other, "k", b"v")


async def test_a_witness_that_lost_its_promises_does_not_count(autojump_clock: object) -> None:
    """It would vote for a node whose log ends before what it was asked for."""
    async with two_and_a_witness() as cluster:
        leader, other = leader_and_other(cluster)
        witness = cluster.nodes[2]
        await cluster.crash(other)
        await cluster.put(leader, "k", b"on one disk")
        await cluster.crash(leader)
        await cluster.crash(witness)
        files = witness.host.disk.mount()
        files.remove("consistency.witness.rec")
        files.sync_directory()
        await cluster.start(other)
        await cluster.start(witness)
        await trio.sleep(20.0)
        assert not other.agents.consistency.leads()
        await cluster.start(leader)
        await cluster.until(lambda: other.running.verdict().may_act)
        assert await cluster.get(other, "k") == b"on one disk"
        await trio.sleep(20.0)
        assert witness.running.verdict().reachable == 2, "it does not count itself"
        leads = next(sim for sim in (leader, other) if sim.agents.consistency.leads())
        told = [problem.what for problem in (await ask(leads, "status")).problems]
        assert told == ["n3 is alive, and does not answer in its seat"]
        await ask(leads, "raft.remove", node="n3")
        await ask(leads, "raft.add", node="n3")
        await cluster.until(lambda: electorate(cluster)[1] == "n3", 30.0)
        await cluster.until(lambda: witness.running.verdict().reachable == 3)


async def test_a_member_that_reaches_nobody_says_so_and_founds_nothing(
    autojump_clock: object,
) -> None:
    async with two_and_a_witness() as cluster:
        one, two, witness = cluster.nodes
        for sim in cluster.nodes:
            await cluster.stop(sim)
        await cluster.start(witness)
        await trio.sleep(5.0)
        status = await ask(witness, "status")
        assert (status.verdict, status.reason) == ("NOT QUORATE", NOBODY_YET)
        with pytest.raises(Refused, match="no voter of this cluster was reached"):
            await cluster.get(witness, "k")
        await cluster.start(one, two)
        await cluster.until(lambda: witness.running.verdict().may_act)


async def test_a_witness_that_lives_twice_says_nothing_more(autojump_clock: object) -> None:
    async with two_and_a_witness() as cluster:
        leader, other = leader_and_other(cluster)
        witness = cluster.nodes[2]
        witness.agents.consistency.suspend_voting("it lives twice")
        await trio.sleep(1.0)
        assert (await ask(witness, "raft")).voting_suspended == "it lives twice"
        await cluster.crash(leader)
        await trio.sleep(20.0)
        assert not other.agents.consistency.leads()
        await cluster.start(leader)
        await cluster.until(lambda: electorate(cluster)[0] == ["n1", "n2", "n3"], 30.0)
