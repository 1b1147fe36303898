"""A replica that makes something else of the log is found, and named by all."""

from __future__ import annotations

import pytest

from muster_protocol.consistency.commands import Delete, Put, Result
from muster_protocol.consistency.divergence import EVERY
from testkit.node_cluster import node_cluster, registry_of


async def test_a_voter_with_another_state_is_named(
    autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with node_cluster(3) as cluster:
        await cluster.start()
        leader = await cluster.founded()
        wrong = next(sim for sim in cluster.nodes if sim is not leader)
        registry = registry_of(wrong)
        change = registry._change

        def differently(operation: Put | Delete, wall: float) -> Result:
            if isinstance(operation, Put) and operation.key == "k 5":
                operation = Put("k 5", b"something else")
            return change(operation, wall)

        monkeypatch.setattr(registry, "_change", differently)
        for number in range(3 * EVERY):
            await cluster.put(leader, f"k {number}", b"1")
        await cluster.until(lambda: all(sim.said("raft.state.diverged") for sim in cluster.nodes))
        for sim in cluster.nodes:
            (note,) = sim.said("raft.state.diverged")
            assert note.fields["nodes"] == [wrong.me]
            voter = sim.agents.consistency.voter
            assert voter.divergence.diverged == (wrong.me,)
            assert voter.divergence.agreed_index >= EVERY


async def test_replicas_that_are_the_same_agree_after_a_restart_too(
    autojump_clock: object,
) -> None:
    async with node_cluster(3) as cluster:
        await cluster.start()
        leader = await cluster.founded()
        other = next(sim for sim in cluster.nodes if sim is not leader)
        for number in range(EVERY):
            await cluster.put(leader, f"k {number}", b"1")
        await cluster.crash(other)
        await cluster.start(other)
        await cluster.until(cluster.leader)
        for number in range(2 * EVERY):
            await cluster.put(leader, f"k {number % 7}", b"2")
        voter = other.agents.consistency.voter
        await cluster.until(lambda: voter.divergence.agreed_index >= 2 * EVERY)
        assert not any(sim.said("raft.state.diverged") for sim in cluster.nodes)
