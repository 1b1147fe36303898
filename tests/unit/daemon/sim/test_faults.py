"""Faults on a cluster: what they do, whom they hit, and that nothing is left of them."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable

import pytest
import trio

from muster.sim.cluster import Life, SimCluster
from muster.sim.deterministic import run_seeded
from muster.sim.disk import CAPACITY_BYTES
from muster.sim.faults import (
    AnyFault,
    Clog,
    Crash,
    Cut,
    Flap,
    FullDisk,
    HungDisk,
    Injector,
    Isolate,
    Lossy,
    Pause,
    PowerOff,
    ResetStreams,
    SlowDisk,
    SlowReader,
    Split,
    StepClock,
    Stop,
)
from muster_protocol.errors import UsageError

Scene = Callable[[SimCluster, Injector], Awaitable[None]]


def play(scene: Scene, *, nodes: int = 3) -> None:
    """A scene on a founded cluster."""

    async def run() -> None:
        async with trio.open_nursery() as nursery:
            cluster = SimCluster(nursery, nodes)
            await cluster.start()
            await cluster.founded()
            await scene(cluster, Injector(cluster, random.Random(1), nursery))
            nursery.cancel_scope.cancel()

    run_seeded(run, seed="1")


@pytest.mark.parametrize(
    ("fault", "life"),
    [
        (Crash(node="n2"), Life.DOWN),
        (PowerOff(nodes=("n2",)), Life.DOWN),
        (Stop(node="n2"), Life.DOWN),
        (Pause(node="n2"), Life.PAUSED),
    ],
    ids=["crash", "power-off", "stop", "pause"],
)
def test_a_process_is_taken_away_and_comes_back(fault: AnyFault, life: Life) -> None:
    async def scene(cluster: SimCluster, injector: Injector) -> None:
        undo, whom = await injector.begin(fault)
        assert whom == "n2"
        assert [sim.life for sim in cluster.nodes] == [Life.RUNNING, life, Life.RUNNING]
        await undo()
        assert cluster.nodes[1].life is Life.RUNNING

    play(scene)


def cuts(cluster: SimCluster) -> list[str]:
    """Which ways are cut."""
    hosts = [sim.host.ip for sim in cluster.nodes]
    return [
        f"{source[-1]}>{target[-1]}"
        for source in hosts
        for target in hosts
        if source != target and cluster.fabric.is_cut(source, target)
    ]


@pytest.mark.parametrize(
    ("fault", "cut"),
    [
        (Isolate(node="n2"), ["1>2", "2>1", "2>3", "3>2"]),
        (Isolate(node="n2", way="in"), ["1>2", "3>2"]),
        (Isolate(node="n2", way="out"), ["2>1", "2>3"]),
        (Cut(a="n1", b="n3"), ["1>3", "3>1"]),
        (Cut(a="n1", b="n3", one_way=True), ["1>3"]),
        (Split(nodes=("n1",)), ["1>2", "1>3", "2>1", "3>1"]),
        (Flap(node="n2"), ["1>2", "2>1", "2>3", "3>2"]),
    ],
    ids=["isolate", "in", "out", "cut", "one-way", "split", "flap"],
)
def test_ways_are_cut_and_whole_again(fault: AnyFault, cut: list[str]) -> None:
    async def scene(cluster: SimCluster, injector: Injector) -> None:
        undo, _ = await injector.begin(fault)
        await trio.sleep(0.1)
        assert cuts(cluster) == cut
        await undo()
        await trio.sleep(10.0)
        assert cuts(cluster) == []

    play(scene)


def test_a_loose_contact_comes_and_goes() -> None:
    async def scene(cluster: SimCluster, injector: Injector) -> None:
        await injector.begin(Flap(node="n1", period_s=1.0))
        await trio.sleep(0.5)
        seen = []
        for _ in range(4):
            seen.append(bool(cuts(cluster)))
            await trio.sleep(1.0)
        assert seen == [True, False, True, False]

    play(scene)


def test_the_leader_is_found_by_what_it_is() -> None:
    async def scene(cluster: SimCluster, injector: Injector) -> None:
        leader = cluster.leader()
        assert leader is not None
        undo, whom = await injector.begin(Crash(node="leader"))
        assert whom == leader.name
        _, nobody = await injector.begin(Pause(node="leader"))
        assert nobody == ""
        await undo()

    play(scene)


def test_a_node_that_there_is_not_is_an_error_with_the_names_that_there_are() -> None:
    async def scene(_: SimCluster, injector: Injector) -> None:
        with pytest.raises(UsageError, match="there is no node 'n9': n1 to n3"):
            await injector.begin(Crash(node="n9"))

    play(scene)


def test_disks_and_networks_are_as_before_after_the_heal() -> None:
    async def scene(cluster: SimCluster, injector: Injector) -> None:
        link, first = cluster.fabric.link, cluster.nodes[0]
        for fault in (
            Lossy(),
            SlowDisk(node="n1"),
            FullDisk(node="n1"),
            HungDisk(node="n1"),
            SlowReader(node="n2"),
            Clog(a="n1", b="n2"),
            ResetStreams(a="n1", b="n2"),
            StepClock(node="n1"),
            Isolate(node="n2"),
            Crash(node="n3"),
            Flap(node="n2"),
        ):
            await injector.begin(fault)
        assert first.host.world is not None
        assert first.host.world.offload.durations_s["fsync"] > 0.1
        assert first.host.disk.capacity_bytes < CAPACITY_BYTES
        await injector.heal_all()
        await trio.sleep(10.0)
        assert cluster.fabric.link == link
        assert cuts(cluster) == []
        assert "fsync" not in first.host.world.offload.durations_s
        assert not first.host.disk.is_hung
        assert first.host.disk.capacity_bytes == CAPACITY_BYTES
        assert all(sim.life is Life.RUNNING for sim in cluster.nodes)

    play(scene)


def test_a_node_that_is_still_stopping_runs_after_the_heal() -> None:
    async def scene(cluster: SimCluster, injector: Injector) -> None:
        with trio.move_on_after(0.01):
            await injector.begin(Stop(node="leader"))
        assert Life.STOPPING in [sim.life for sim in cluster.nodes]
        await injector.heal_all()
        assert all(sim.life is Life.RUNNING for sim in cluster.nodes)

    play(scene)


def test_a_node_without_room_ends_by_itself_and_says_why() -> None:
    async def scene(cluster: SimCluster, injector: Injector) -> None:
        leader = cluster.leader()
        assert leader is not None
        undo, _ = await injector.begin(FullDisk(node=leader.name))
        await injector.begin(Crash(node="follower"))  # what follows has to be written down
        await injector.begin(Crash(node="follower"))
        await cluster.until(lambda: leader.life is Life.ENDED, 120.0)
        assert "No space left" in leader.ended_why
        await undo()
        assert leader.life is Life.RUNNING

    play(scene)
