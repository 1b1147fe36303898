"""Faults on a cluster: what they do, whom they hit, and that nothing is left of them."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio

from muster.flight.records import FILE_NAMES
from muster.sim.checkers.violated import Violated
from muster.sim.cluster import Life, SimCluster, SimNode
from muster.sim.deterministic import run_seeded
from muster.sim.disk import CAPACITY_BYTES, SimDisk
from muster.sim.faults import (
    AnyFault,
    BadLink,
    BitRot,
    Clog,
    Crash,
    Cut,
    DiskError,
    DriftClock,
    Flap,
    FullDisk,
    HungDisk,
    Isolate,
    Lossy,
    OldStreams,
    Pause,
    PowerOff,
    ResetStreams,
    SlowDisk,
    SlowReader,
    Split,
    StepClock,
    Stop,
)
from muster.sim.injector import Injector
from muster.sim.network import PORT_FIRST
from muster.sim.simulation import Plan, Simulation
from muster.storage.records import sound_records
from muster.storage.segments import SegmentRead, read_segment
from muster_protocol.consistency.commands import Command, Get, Put
from muster_protocol.errors import OutcomeUnknown, Refused, StorageCorrupt, UsageError
from muster_protocol.types import Address

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
            DriftClock(node="n2", by_ppm=1e5),
            DiskError(node="n2"),
            OldStreams(a="n1", b="n3"),
            Isolate(node="n2"),
            Crash(node="n3"),
            Flap(node="n2"),
            BadLink(a="n1", b="n2", loss=1.0),
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
        wall, now = cluster.nodes[1].host.clock.wall(), trio.current_time()
        await trio.sleep(100.0)
        gained_s = cluster.nodes[1].host.clock.wall() - wall - (trio.current_time() - now)
        assert abs(gained_s) < 1e-3
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
        leader.agents.consistency.voter.transfer_leadership()  # a new term has to be written down
        await cluster.until(lambda: leader.life is Life.ENDED, 120.0)
        assert "No space left" in leader.ended_why
        await undo()
        assert leader.life is Life.RUNNING

    play(scene)


@pytest.mark.parametrize("action", ["write", "sync"])
def test_a_node_whose_disk_fails_once_ends_with_one_reason_and_comes_back(action: str) -> None:
    async def scene(cluster: SimCluster, injector: Injector) -> None:
        leader = cluster.leader()
        assert leader is not None
        undo, _ = await injector.begin(DiskError(node=leader.name, action=action))
        leader.agents.consistency.voter.transfer_leadership()  # a new term has to be written down
        await cluster.until(lambda: leader.life is Life.ENDED, 120.0)
        reason = f"cannot {action} /sim/{leader.host.ip}/journal-00000001.seg: Input/output error"
        assert leader.ended_why == reason
        assert [note.fields["why"] for note in leader.said("process.ended")] == [reason]
        await undo()
        assert leader.life is Life.RUNNING

    play(scene)


def test_a_node_that_cannot_read_its_journal_does_not_start() -> None:
    async def scene(cluster: SimCluster, injector: Injector) -> None:
        undo, _ = await injector.begin(DiskError(node="n2", action="read"))
        await cluster.until(lambda: cluster.nodes[1].life is Life.ENDED)
        assert "cannot read /sim/127.0.0.2/journal-00000001.seg" in cluster.nodes[1].ended_why
        await undo()
        await cluster.until(cluster.leader)

    play(scene)


def test_what_a_failed_sync_was_to_save_survives_the_loss_of_power_after_a_restart() -> None:
    async def scene(cluster: SimCluster, injector: Injector) -> None:
        leader = cluster.leader()
        assert leader is not None
        undo, _ = await injector.begin(DiskError(node=leader.name))
        leader.agents.consistency.voter.transfer_leadership()
        await cluster.until(lambda: leader.life is Life.ENDED)
        await undo()
        await cluster.until(cluster.leader)
        await cluster.power_off()
        await cluster.start()
        await cluster.until(cluster.leader)

    play(scene)


def test_a_node_refuses_to_start_on_a_bit_that_rots_and_comes_back_with_its_file() -> None:
    async def scene(cluster: SimCluster, injector: Injector) -> None:
        sim, reasons = cluster.nodes[1], []
        watched = cluster.crash

        async def crash(node: SimNode) -> None:
            reasons.append(node.ended_why)
            await watched(node)

        cluster.crash = crash  # type: ignore[method-assign]
        undo, whom = await injector.begin(BitRot(node="n2"))
        assert whom == "n2"
        assert "journal-00000001.seg: the record at byte" in reasons[-1]
        assert sim.life is Life.DOWN
        await undo()
        assert sim.life is Life.RUNNING
        await cluster.until(cluster.leader)

    play(scene)


def test_what_rots_on_a_node_that_does_not_vote_is_a_fault_of_nobody() -> None:
    async def scene(cluster: SimCluster, injector: Injector) -> None:
        await cluster.crash(cluster.nodes[1])
        _, whom = await injector.begin(BitRot(node="n2"))
        assert whom == ""
        assert cluster.nodes[1].life is Life.DOWN

    play(scene)


def test_a_snapshot_that_is_about_to_be_removed_may_rot() -> None:
    async def scene(cluster: SimCluster, injector: Injector) -> None:
        files = cluster.nodes[1].host.disk.mount()
        for index in (1, 2):
            handle = files.append(f"snapshot-{index:020}-{1:020}.snap")
            handle.write(b"x" * 512 * 1_000)
            handle.sync()
            handle.close()
        files.sync_directory()
        hit: list[str] = []
        rot = cluster.nodes[1].host.disk.rot

        def rotten(*args: Any, **options: Any) -> tuple[str, int] | None:
            found = rot(*args, **options)
            hit.append(found[0] if found is not None else "")
            return found

        cluster.nodes[1].host.disk.rot = rotten  # type: ignore[method-assign]
        await injector.begin(BitRot(node="n2"))
        assert hit == [f"snapshot-{2:020}-{1:020}.snap"]

    play(scene)


def test_a_voter_that_serves_a_rotten_journal_is_a_violation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scene(cluster: SimCluster, injector: Injector) -> None:
        monkeypatch.setattr(SimDisk, "rot", lambda *_, **__: ("superblock", 0))
        monkeypatch.setattr(SimDisk, "flip_bit", lambda *_: None)
        with pytest.raises(Violated, match="n2 votes, and bit 0 of superblock is wrong"):
            await injector.begin(BitRot(node="n2"))

    play(scene)


async def rot_often(cluster: SimCluster, injector: Injector) -> None:
    """Most hits are so early in the journal that nothing of it makes sense without them."""
    for _ in range(20):
        undo, _ = await injector.begin(BitRot(node="n2"))
        await undo()
        await cluster.until(cluster.leader)


def test_a_voter_that_cuts_off_what_rotted_is_a_violation(monkeypatch: pytest.MonkeyPatch) -> None:
    def takes_damage_for_torn(data: bytes, **options: Any) -> SegmentRead:
        try:
            return read_segment(data, **options)
        except StorageCorrupt as damage:
            offset = int(str(damage).partition("at byte ")[2].split()[0])
            return SegmentRead(sound_records(data[:offset])[0], offset, 1, is_closed=False)

    async def scene(cluster: SimCluster, injector: Injector) -> None:
        monkeypatch.setattr("muster.storage.recovery.read_segment", takes_damage_for_torn)
        with pytest.raises(Violated, match="bit rot"):
            await rot_often(cluster, injector)

    play(scene)


def test_a_start_into_bit_rot_that_is_called_off_leaves_a_whole_disk() -> None:
    async def scene(cluster: SimCluster, injector: Injector) -> None:
        sim = cluster.nodes[1]
        sim.host.disk.hang()
        with trio.move_on_after(1.0) as scope:
            await injector.begin(BitRot(node="n2"))
        assert scope.cancelled_caught
        await injector.heal_all()
        await cluster.until(cluster.leader)
        assert sim.life is Life.RUNNING

    play(scene)


def test_a_clock_that_drifts_gains_steadily_and_keeps_what_it_gained() -> None:
    async def scene(cluster: SimCluster, injector: Injector) -> None:
        right, wrong = (sim.host.clock for sim in cluster.nodes[:2])
        undo, _ = await injector.begin(DriftClock(node="n2", by_ppm=-1_000.0))
        assert wrong.wall() == pytest.approx(right.wall(), abs=1e-6)
        await trio.sleep(100.0)
        assert wrong.wall() - right.wall() == pytest.approx(-0.1, abs=1e-5)
        await undo()
        await trio.sleep(100.0)
        assert wrong.wall() - right.wall() == pytest.approx(-0.1, abs=1e-5)

    play(scene)


async def write(cluster: SimCluster, sim: SimNode, number: int) -> None:
    """Ask a node to write something, whatever becomes of it."""
    now = trio.current_time()
    command = Command("5e" * 16, number, sim.agents.consistency.revision(), now, Put("k", b"v"))
    with contextlib.suppress(OutcomeUnknown, Refused):
        await cluster.ask(
            sim,
            lambda: sim.agents.consistency.submit(command, is_first=True, deadline=now + 0.3),
        )


def test_old_streams_deliver_behind_the_new_ones() -> None:
    """A follower's forwarded requests: those that it sent before it dialled again come last."""

    async def scene(cluster: SimCluster, injector: Injector) -> None:
        leader = cluster.leader()
        assert leader is not None
        follower = next(sim for sim in cluster.nodes if sim is not leader)
        arrivals: list[tuple[float, int]] = []  # when, and from which port

        def delivered(kind: str, source: Address, target: Address, data: bytes) -> None:
            hosts = (source.host, target.host)
            is_dialled = source.port >= PORT_FIRST
            if kind == "stream" and is_dialled and hosts == (follower.host.ip, leader.host.ip):
                arrivals.append((trio.current_time(), source.port))

        await write(cluster, follower, 1)
        assert leader.host.world is not None
        streams = leader.host.world.network.streams.values()
        old = [s.remote.port for s in streams if s.remote.host == follower.host.ip]
        cluster.fabric.on_delivery, began = delivered, trio.current_time()
        await injector.begin(OldStreams(a=leader.name, b=follower.name, for_s=2.0))
        for number in range(2, 20):
            await write(cluster, follower, number)
            await trio.sleep(0.1)
        await trio.sleep(1.0)
        first_new = min(at for at, port in arrivals if port not in old)
        late = [at for at, port in arrivals if port in old and at > began + 0.1]
        assert first_new < began + 2.0 <= min(late)
        await cluster.until(cluster.leader)

    play(scene)


def test_one_way_of_a_pair_may_be_bad() -> None:
    async def scene(cluster: SimCluster, injector: Injector) -> None:
        ways, (a, b, _) = cluster.fabric.ways, (sim.host.ip for sim in cluster.nodes)
        undo, _ = await injector.begin(BadLink(a="n1", b="n2", one_way=True, mtu_bytes=500))
        assert ways.packet(a, b, 501, now=0.0) == ()
        assert ways.packet(b, a, 501, now=0.0)
        await undo()
        assert ways.packet(a, b, 501, now=0.0)

    play(scene)


def test_a_bad_way_is_as_all_others_after_the_heal() -> None:
    async def scene(cluster: SimCluster, injector: Injector) -> None:
        ways, (a, b, _) = cluster.fabric.ways, (sim.host.ip for sim in cluster.nodes)
        await injector.begin(BadLink(a="n1", b="n2", loss=1.0))
        assert ways.packet(a, b, 99, now=0.0) == ways.packet(b, a, 99, now=0.0) == ()
        await injector.heal_all()
        assert ways.packet(a, b, 99, now=0.0)
        assert ways.packet(b, a, 99, now=0.0)

    play(scene)


def test_clocks_that_go_at_different_rates_do_no_harm() -> None:
    report = Simulation(Plan(seed="rates", for_s=20.0, clock_ppm=5_000.0)).run()
    assert (report.verdict, report.what) == ("ok", "")


def test_a_leader_whose_disk_hangs_makes_way() -> None:
    async def scene(cluster: SimCluster, injector: Injector) -> None:
        stuck = cluster.leader()
        assert stuck is not None
        others = [sim for sim in cluster.nodes if sim is not stuck]
        undo, _ = await injector.begin(HungDisk(node=stuck.name))
        await write(cluster, stuck, 1)  # only something that waits shows that it hangs
        await cluster.until(lambda: cluster.leader(*others))
        before = others[0].agents.consistency.revision()
        await write(cluster, others[0], 2)
        assert others[0].agents.consistency.revision() > before
        assert len(stuck.said("raft.disk.stuck")) == 1
        await undo()
        await cluster.until(cluster.leader)

    play(scene)


def test_a_node_outlives_a_flight_recorder_whose_disk_fails() -> None:
    async def scene(cluster: SimCluster, injector: Injector) -> None:
        (sim, *_) = cluster.nodes
        for name in FILE_NAMES:
            sim.host.disk.fail("write", name=name, times=5)
        await trio.sleep(20.0)
        assert sim.life is Life.RUNNING
        assert sim.running.recorder.records_dropped > 0

    play(scene)


def test_the_end_of_a_fault_leaves_others_of_the_same_ways_and_hosts_alone() -> None:
    async def scene(cluster: SimCluster, injector: Injector) -> None:
        one = cluster.nodes[0]
        alone, _ = await injector.begin(Isolate(node="n1"))
        short, _ = await injector.begin(Cut(a="n1", b="n2"))
        await short()
        assert cuts(cluster) == ["1>2", "1>3", "2>1", "3>1"]
        await alone()
        assert cuts(cluster) == []

        slow, _ = await injector.begin(SlowDisk(node="n1", fsync_s=0.5))
        slower, _ = await injector.begin(SlowDisk(node="n1", fsync_s=0.9))
        await slow()
        assert one.host.durations_s["fsync"] == 0.9
        await slower()
        assert "fsync" not in one.host.durations_s

        power, _ = await injector.begin(PowerOff())
        killed, _ = await injector.begin(Crash(node="n1"))
        await killed()
        assert one.life is Life.DOWN
        await power()
        assert one.life is Life.RUNNING

    play(scene)


def test_streams_that_are_held_are_not_when_all_faults_end() -> None:
    async def scene(cluster: SimCluster, injector: Injector) -> None:
        await injector.begin(OldStreams(a="n1", b="n2", for_s=6_000.0, broken_after_s=2_000.0))
        await injector.heal_all()
        await trio.sleep(5.0)
        assert cluster.leader() is not None
        consistency = cluster.nodes[0].agents.consistency
        revision = consistency.revision()
        for number, sim in enumerate(cluster.nodes, start=1):
            await write(cluster, sim, number)
        await cluster.until(lambda: consistency.revision() == revision + 3)

    play(scene)


def test_a_read_waits_until_what_it_must_see_is_applied() -> None:
    """A single voter knows after a restart what is committed, and applies it behind its next sync:
    it must not answer from before that, nor fail (seed 980)."""

    async def scene(cluster: SimCluster, injector: Injector) -> None:
        (sim,) = cluster.nodes
        for number in range(1, 101):
            await write(cluster, sim, number)
        written = sim.agents.consistency.revision()
        await cluster.crash(sim)
        slow, _ = await injector.begin(SlowDisk(node="n1", fsync_s=1.0))
        await cluster.start(sim)
        await cluster.until(lambda: sim.agents.consistency.leads())
        command = Command("5f" * 16, 1, 0, 0.0, Get("k"))
        result = await cluster.ask(
            sim,
            lambda: sim.agents.consistency.submit(
                command, is_first=True, deadline=trio.current_time() + 20.0
            ),
        )
        assert result.revision == written
        await slow()

    play(scene, nodes=1)
