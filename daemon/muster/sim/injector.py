"""Doing faults to a cluster, and ending them.

Faults overlap: what is in force while several are is in `overlap`. Whatever is still going on when
the faults end is ended by `heal_all`, which leaves every host whole and every node running: from
then on the cluster has to recover.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Awaitable, Callable, Hashable
from typing import TYPE_CHECKING, Any, Final

import trio

from muster.sim.checkers.violated import Violated
from muster.sim.cluster import POLL_S, Life, ProcessGone, SimCluster, SimNode
from muster.sim.disk import CAPACITY_BYTES
from muster.sim.faults import (
    BadLink,
    BitRot,
    Clog,
    Crash,
    Cut,
    DiskError,
    DriftClock,
    Fault,
    Flap,
    FullDisk,
    HungDisk,
    Isolate,
    Lossy,
    OldStreams,
    PairFault,
    Pause,
    PowerOff,
    ResetStreams,
    Seats,
    SlowDisk,
    SlowReader,
    Split,
    StepClock,
    Stop,
    named,
)
from muster.sim.network import Link
from muster.sim.overlap import Overlapping
from muster.storage.journal import is_segment, sequence_of
from muster.storage.segments import last_mark
from muster.storage.snapshots import is_snapshot
from muster.storage.superblock import read_superblock
from muster_protocol.errors import OutcomeUnknown, Refused, UsageError
from muster_protocol.wire.seats import SeatRequest

if TYPE_CHECKING:
    import random

Undo = Callable[[], Awaitable[None]]

SLOW_READ_S: Final = (0.5, 2.5)
"""As in kinship's replication of the Lifeguard paper."""

REQUEST_S: Final = 5.0
"""Within which an operator wants an answer."""

REFUSAL_S: Final = 10.0
"""Within which a start reads the disk, unless that hangs: then nothing is served either."""


class Injector:
    """Does faults to one cluster."""

    def __init__(self, cluster: SimCluster, rng: random.Random, nursery: trio.Nursery) -> None:
        """`nursery` holds what goes on between a fault's beginning and its end."""
        self._cluster = cluster
        self._nursery = nursery
        self._going_on: list[trio.CancelScope] = []
        self._overlapping = Overlapping()
        self._fabric = cluster.fabric
        self._rng = rng
        self._link = cluster.fabric.link
        self._table: dict[type[Fault], Callable[..., Awaitable[Undo]]] = {
            Crash: self._crash,
            PowerOff: self._power_off,
            Stop: self._stop,
            Pause: self._pause,
            Isolate: self._isolate,
            Cut: self._cut,
            Split: self._split,
            Flap: self._flap,
            Lossy: self._lossy,
            SlowDisk: self._slow_disk,
            FullDisk: self._full_disk,
            HungDisk: self._hung_disk,
            SlowReader: self._slow_reader,
            Clog: self._clog,
            ResetStreams: self._reset_streams,
            StepClock: self._step_clock,
            DiskError: self._disk_error,
            BitRot: self._bit_rot,
            DriftClock: self._drift_clock,
            Seats: self._seats,
            OldStreams: self._old_streams,
            BadLink: self._bad_link,
        }

    async def begin(self, fault: Fault) -> tuple[Undo, str]:
        """Do it. What ends it, and the names of those whom it hit.

        Errors: UsageError for a node that there is not.
        """
        names = named(fault)
        whom = [self._find(name) for name in names] if names != ("all",) else self._cluster.nodes
        hit = [sim for sim in whom if sim is not None]
        is_about_nobody = bool(names) and not hit
        is_half = isinstance(fault, PairFault) and (len(hit) < 2 or hit[0] is hit[1])
        if is_about_nobody or is_half:
            return _missed, ""
        undo = await self._table[type(fault)](fault, *hit)
        if undo is _missed:
            return undo, ""
        return undo, " ".join(sim.name for sim in hit) or "the network"

    async def heal_all(self) -> None:
        """Everything is whole, and every node runs."""
        for scope in self._going_on:
            scope.cancel()
        self._overlapping.end_all()
        self._fabric.heal_all()
        self._fabric.link = self._link
        self._fabric.reset_links()
        for sim in self._cluster.nodes:
            self._cluster.resume(sim)
            sim.host.disk.capacity_bytes = CAPACITY_BYTES
            sim.host.durations_s.pop("fsync", None)
            sim.host.disk.unhang()
            sim.host.disk.stop_failing()
            sim.host.clock.drift_wall(0.0)
            self._fabric.reads_late(sim.host.ip, 0.0, 0.0)
            await self._start_again(sim)

    # --- who ------------------------------------------------------------------------------------

    def _find(self, name: str) -> SimNode | None:
        """The node that is meant; None where nobody is that now. Errors: UsageError."""
        nodes = self._cluster.nodes
        if name == "any":
            return self._rng.choice(nodes)
        if name in ("leader", "follower"):
            voters = [sim for sim in nodes if _role(sim) is not None]
            wanted = [sim for sim in voters if (_role(sim) == "leader") == (name == "leader")]
            return self._rng.choice(wanted) if wanted else None
        found = next((sim for sim in nodes if sim.name == name), None)
        if found is None:
            raise UsageError(f"there is no node {name!r}: {nodes[0].name} to {nodes[-1].name}")
        return found

    # --- processes ------------------------------------------------------------------------------

    async def _crash(self, fault: Crash, sim: SimNode) -> Undo:
        del fault
        await self._cluster.crash(sim)
        return self._held_down(sim)

    async def _power_off(self, fault: PowerOff, *nodes: SimNode) -> Undo:
        await self._cluster.power_off(*nodes, tear=fault.tear)
        return self._held_down(*nodes)

    async def _stop(self, fault: Stop, sim: SimNode) -> Undo:
        del fault
        undo = self._held_down(sim)
        await self._cluster.stop(sim)
        return undo

    def _held_down(self, *nodes: SimNode) -> Undo:
        """Until this ends, and whatever else holds them down."""
        ends = [self._overlapping.begin(("down", sim.name), True, _ignore) for sim in nodes]

        async def undo() -> None:
            for end in ends:
                end()
            for sim in nodes:
                await self._start_again(sim)

        return undo

    async def _start_again(self, sim: SimNode) -> None:
        if self._overlapping.holds(("down", sim.name)):
            return
        if sim.life is Life.STOPPING:
            await sim.ended.wait()
        if sim.life in (Life.DOWN, Life.ENDED):
            await self._cluster.start(sim)

    async def _pause(self, fault: Pause, sim: SimNode) -> Undo:
        del fault

        def put(is_paused: bool | None) -> None:
            if is_paused:
                self._cluster.pause(sim)
            else:
                self._cluster.resume(sim)

        return self._in_force(("pause", sim.name), True, put)

    # --- the electorate -------------------------------------------------------------------------

    async def _seats(self, fault: Seats, sim: SimNode) -> Undo:
        if fault.change != "size" and not sim.has_started:
            return _nothing  # nobody knows its id yet
        request = SeatRequest(fault.change, "" if fault.change == "size" else sim.me, fault.size)
        asked = self._rng.choice(self._cluster.up or [sim])

        async def work() -> None:
            deadline = asked.host.clock.now() + REQUEST_S
            if not asked.has_started:
                raise Refused("down", "it is just starting")
            await asked.agents.consistency.change_seats(request, deadline=deadline)

        async def ask() -> None:
            with contextlib.suppress(ProcessGone, Refused, OutcomeUnknown):  # all are answers
                await self._cluster.ask(asked, work)

        self._goes_on(ask)
        return _nothing

    # --- the network ----------------------------------------------------------------------------

    async def _isolate(self, fault: Isolate, sim: SimNode) -> Undo:
        others = [other for other in self._cluster.nodes if other is not sim]
        return self._cut_pairs(
            [(sim, other) if fault.way == "out" else (other, sim) for other in others],
            one_way=fault.way != "both",
        )

    async def _cut(self, fault: Cut, a: SimNode, b: SimNode) -> Undo:
        return self._cut_pairs([(a, b)], one_way=fault.one_way)

    async def _split(self, fault: Split, *inside: SimNode) -> Undo:
        del fault
        outside = [sim for sim in self._cluster.nodes if sim not in inside]
        return self._cut_pairs([(a, b) for a in inside for b in outside], one_way=False)

    def _cut_pairs(self, pairs: list[tuple[SimNode, SimNode]], *, one_way: bool) -> Undo:
        def put(is_cut: bool | None) -> None:
            change = self._fabric.cut if is_cut else self._fabric.uncut
            for source, target in pairs:
                change(source.host.ip, target.host.ip, one_way=one_way)

        return self._in_force(object(), True, put)

    async def _flap(self, fault: Flap, sim: SimNode) -> Undo:
        pairs = [(sim, other) for other in self._cluster.nodes if other is not sim]
        heals = [self._cut_pairs(pairs, one_way=False)]

        async def flap() -> None:
            while True:
                await trio.sleep(fault.period_s)
                await heals.pop()()
                await trio.sleep(fault.period_s)
                heals.append(self._cut_pairs(pairs, one_way=False))

        scope = self._goes_on(flap)

        async def undo() -> None:
            scope.cancel()
            while heals:
                await heals.pop()()

        return undo

    async def _clog(self, fault: Clog, a: SimNode, b: SimNode) -> Undo:
        self._fabric.clog(a.host.ip, b.host.ip, fault.for_s)
        return _nothing

    async def _reset_streams(self, fault: ResetStreams, a: SimNode, b: SimNode) -> Undo:
        del fault
        self._fabric.reset_streams(a.host.ip, b.host.ip)
        return _nothing

    async def _old_streams(self, fault: OldStreams, a: SimNode, b: SimNode) -> Undo:
        held = self._fabric.hold_streams(a.host.ip, b.host.ip, fault.for_s)

        async def break_off() -> None:
            await trio.sleep(min(fault.broken_after_s, fault.for_s / 2.0))
            for stream in held:
                stream.break_off()

        self._goes_on(break_off)
        return _nothing

    def _goes_on(self, work: Callable[[], Awaitable[None]]) -> trio.CancelScope:
        """Between a fault's beginning and the end of all faults, at the latest."""
        scope = trio.CancelScope()

        async def task() -> None:
            with scope:
                await work()

        self._going_on.append(scope)
        self._nursery.start_soon(task)
        return scope

    async def _bad_link(self, fault: BadLink, a: SimNode, b: SimNode) -> Undo:
        link = Link(**{f.name: getattr(fault, f.name) for f in dataclasses.fields(Link)})
        ways = [(a.host.ip, b.host.ip)] + [(b.host.ip, a.host.ip)] * (not fault.one_way)
        undos = [
            self._in_force(("link", way), link, functools.partial(self._put_link, way))
            for way in ways
        ]

        async def undo() -> None:
            for each in undos:
                await each()

        return undo

    def _put_link(self, way: tuple[str, str], link: Link | None) -> None:
        if link is None:
            self._fabric.reset_link(*way)
        else:
            self._fabric.set_link(*way, link)

    async def _slow_reader(self, fault: SlowReader, sim: SimNode) -> Undo:
        del fault

        def put(late_s: tuple[float, float] | None) -> None:
            self._fabric.reads_late(sim.host.ip, *(late_s or (0.0, 0.0)))

        return self._in_force(("reads", sim.name), SLOW_READ_S, put)

    async def _lossy(self, fault: Lossy) -> Undo:
        link = Link(
            delay_s=fault.delay_s,
            jitter_s=fault.jitter_s,
            loss=fault.loss,
            duplicate=fault.duplicate,
        )

        def put(link: Link | None) -> None:
            self._fabric.link = link or self._link

        return self._in_force("all links", link, put)

    def _in_force(self, what: Hashable, value: Any, put: Callable[[Any | None], None]) -> Undo:
        """See `Overlapping.begin`."""
        end = self._overlapping.begin(what, value, put)

        async def undo() -> None:
            end()

        return undo

    # --- disks and clocks -----------------------------------------------------------------------

    async def _slow_disk(self, fault: SlowDisk, sim: SimNode) -> Undo:
        def put(fsync_s: float | None) -> None:
            if fsync_s is None:
                sim.host.durations_s.pop("fsync", None)
            else:
                sim.host.durations_s["fsync"] = fsync_s

        return self._in_force(("fsync", sim.name), fault.fsync_s, put)

    async def _hung_disk(self, fault: HungDisk, sim: SimNode) -> Undo:
        del fault

        def put(is_hung: bool | None) -> None:
            if is_hung:
                sim.host.disk.hang()
            else:
                sim.host.disk.unhang()

        return self._in_force(("hung", sim.name), True, put)

    async def _full_disk(self, fault: FullDisk, sim: SimNode) -> Undo:
        del fault

        def put(capacity_bytes: int | None) -> None:
            sim.host.disk.capacity_bytes = capacity_bytes or CAPACITY_BYTES

        end = self._overlapping.begin(("full", sim.name), sim.host.disk.used_bytes(), put)

        async def undo() -> None:
            end()
            await self._start_again(sim)

        return undo

    async def _disk_error(self, fault: DiskError, sim: SimNode) -> Undo:
        disk = sim.host.disk
        segments = [name for name in disk.files if is_segment(name)]
        if fault.action == "read":
            await self._cluster.crash(sim)
        disk.fail(fault.action, name=max(segments, default=None))
        if fault.action == "read":
            await self._start_again(sim)

        async def undo() -> None:
            disk.stop_failing()
            await self._start_again(sim)

        return undo

    async def _bit_rot(self, fault: BitRot, sim: SimNode) -> Undo:
        """Errors: Violated if the node takes its seat."""
        del fault
        if _role(sim) is None:  # what a torn write left may rot: it counts for nothing
            return _missed
        await self._cluster.crash(sim)
        disk = sim.host.disk
        hit = disk.rot(self._rng, within=functools.partial(_evident_bytes, sim))
        if hit is None:
            return _missed
        name, bit = hit
        try:
            await self._start_rotten(sim, f"bit {bit} of {name}")
        finally:
            with trio.CancelScope(shield=True):
                await self._cluster.crash(sim)  # whatever it had read is not right any more
            is_there = bit // 8 < disk.size_of(name)
            if is_there:
                disk.flip_bit(name, bit)
        if not is_there:
            raise Violated("bit rot", f"{sim.name} cut off of {name} what was acknowledged")
        return lambda: self._start_again(sim)

    async def _start_rotten(self, sim: SimNode, what: str) -> None:
        with trio.move_on_after(REFUSAL_S):
            await self._cluster.start(sim)
            while sim.is_up:
                if _role(sim) is not None:
                    raise Violated("bit rot", f"{sim.name} votes, and {what} is wrong")
                await trio.sleep(POLL_S)

    async def _drift_clock(self, fault: DriftClock, sim: SimNode) -> Undo:
        def put(by_ppm: float | None) -> None:
            sim.host.clock.drift_wall(by_ppm or 0.0)

        return self._in_force(("drift", sim.name), fault.by_ppm, put)

    async def _step_clock(self, fault: StepClock, sim: SimNode) -> Undo:
        sim.host.clock.step_wall(fault.by_s)
        return _nothing


def _evident_bytes(sim: SimNode, name: str, data: bytes) -> int:
    """How much of a file cannot be taken for torn: of the newest segment, what stands before its
    last mark. An older snapshot is about to be removed, and read by nobody."""
    files = sim.host.disk.files
    if is_snapshot(name):
        return len(data) if name == max(filter(is_snapshot, files)) else 0
    if not is_segment(name):
        return 0
    if name != max(filter(is_segment, files)):
        return len(data)
    block = read_superblock(sim.host.disk.mount())
    assert block is not None, "a voter has a superblock"
    return max(0, last_mark(data, key=block.mark_key, sequence=sequence_of(name)))


def _ignore(value: Any) -> None:
    """Nothing is to be put in force: the fault has done it already."""


async def _missed() -> None:
    """The fault hit nobody."""


async def _nothing() -> None:
    """There was nothing to undo."""


def _role(sim: SimNode) -> str | None:
    """Of a voter that runs."""
    if sim.life is not Life.RUNNING or sim.node is None or sim.node.parts is None:
        return None
    consistency = sim.node.parts.agents.consistency
    return consistency.role if consistency is not None and consistency.voter is not None else None
