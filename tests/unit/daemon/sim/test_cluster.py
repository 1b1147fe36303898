"""Lives of whole nodes, and what is asked in them."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable

import pytest
import trio

from muster.sim.cluster import Life, ProcessGone, SimCluster
from muster.sim.deterministic import run_seeded
from muster_protocol.errors import Refused

Scene = Callable[[SimCluster], Awaitable[None]]


def play(scene: Scene) -> None:
    """A scene with one node that runs."""

    async def run() -> None:
        async with trio.open_nursery() as nursery:
            cluster = SimCluster(nursery, 1)
            await cluster.start()
            await scene(cluster)
            nursery.cancel_scope.cancel()

    run_seeded(run, seed="1")


async def forever() -> None:
    await trio.sleep_forever()


def test_an_answer_and_a_refusal_come_back() -> None:
    async def scene(cluster: SimCluster) -> None:
        async def answer() -> int:
            await trio.sleep(1.0)
            return 7

        async def refuse() -> int:
            raise Refused("conflict", "no")

        assert await cluster.ask(cluster.nodes[0], answer) == 7
        with pytest.raises(Refused, match="no"):
            await cluster.ask(cluster.nodes[0], refuse)

    play(scene)


@pytest.mark.parametrize("how", ["crash", "power off", "stop"])
def test_what_is_asked_ends_with_the_process(how: str) -> None:
    async def scene(cluster: SimCluster) -> None:
        (sim,) = cluster.nodes

        async def end() -> None:
            await trio.sleep(1.0)
            if how == "crash":
                await cluster.crash(sim)
            elif how == "power off":
                await cluster.power_off(sim)
            else:
                await cluster.stop(sim)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(end)
            with trio.fail_after(30.0), pytest.raises(ProcessGone):
                await cluster.ask(sim, forever)
        with pytest.raises(ProcessGone):
            await cluster.ask(sim, forever)
        assert sim.life is Life.DOWN

    play(scene)


def test_who_gives_up_ends_what_it_asked() -> None:
    async def scene(cluster: SimCluster) -> None:
        ended = trio.Event()

        async def work() -> None:
            try:
                await trio.sleep_forever()
            finally:
                ended.set()

        with trio.move_on_after(1.0):
            await cluster.ask(cluster.nodes[0], work)
        with trio.fail_after(1.0):
            await ended.wait()

    play(scene)


def test_a_bug_in_a_node_ends_the_run() -> None:
    async def scene(cluster: SimCluster) -> None:
        async def bug() -> None:
            raise ZeroDivisionError

        with contextlib.suppress(ProcessGone):
            await cluster.ask(cluster.nodes[0], bug)

    with pytest.RaisesGroup(ZeroDivisionError, flatten_subgroups=True):
        play(scene)


def test_of_a_large_cluster_as_many_found_it_as_may_vote() -> None:
    async def run() -> None:
        async with trio.open_nursery() as nursery:
            cluster = SimCluster(nursery, 9)
            await cluster.start()
            await cluster.founded()
            assert sum(sim.agents.consistency.has_seat for sim in cluster.nodes) == 7
            nursery.cancel_scope.cancel()

    run_seeded(run, seed="1")
