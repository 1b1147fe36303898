"""The driver: the one place that knows in which order things happen around a machine.

1. **Input before timers.** Input that is ready is handled, at most `DRAIN_EVENTS_MAX` events or
   `DRAIN_S`, before a due deadline fires. A loop that was late has the answers to its probes in
   the socket buffer; firing the timer first would accuse the peer of the loop's own sin (found by
   kinship and, independently, in DAOS). So the sources are asked once more, without waiting, and
   before that the scheduler goes round: a pump may hold an event that it was just handed.
2. **Durable before sent.** Effects leave in the order in which the machine returned them. A
   `Persist` holds back what stands behind it until it is on the disk; the machine goes on
   meanwhile. When `OUTBOX_MAX` effects wait for the disk, the driver takes no more input. Without
   a `persist` function a `Persist` is an effect like any other: an error unless `perform` knows it.
3. **Its own lag is measured.** How late a deadline fired is a statistic, and is told to machines
   that want to know (`lag_event`): a late loop must doubt itself, not its peers.
4. **What went in is on the record.** With a recorder, every (event, now) is written to the flight
   recorder before it is handled. A machine that is to be replayed has a tape of its own instead
   (`flight.tape`), which also keeps what it decided.

A machine that raises ends the driver, also if it did so in `complete` and the caller took no
notice: its state can no longer be trusted, and nobody gets at it any more. Whoever runs the driver
(the agent's supervisor) builds a new machine.
"""

from __future__ import annotations

import collections
import enum
import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

import trio

from muster_protocol.effects import DeadlineReached, Effect, Machine, Persist

if TYPE_CHECKING:
    from muster.clock import Clock

DRAIN_EVENTS_MAX: Final = 256
"""Events handled in one turn: more than a node of a 1,000-member cluster receives in a second."""

DRAIN_S: Final = 0.020
"""Time for one turn of input: below a tenth of the shortest probe time-out (0.2 s)."""

OUTBOX_MAX: Final = 4_096
"""Effects that may wait for one sync: a second of a busy node's output."""

PUMP_ROUNDS: Final = 2
"""Rounds of the scheduler before a deadline fires. In one round tasks run in random order: after
the first everybody who is about to hand something to a pump has, after the second it is posted."""

LAG_REPORT_S: Final = 0.1
"""A deadline that fires later than this is reported to the machine; LAN probes wait 0.5 s."""


ON_TIME_S: Final = 0.005
"""Without sources, a deadline that fires within this is on time. Only a late loop then has to look
for input that is older than its deadline, and looking costs loop turns."""


class Overflow(enum.StrEnum):
    """What a full inbox does with one event more. Both are counted."""

    DROP_NEWEST = "drop-newest"
    """Refuse the new one: for input whose sender notices (requests) or repeats (packets)."""
    DROP_OLDEST = "drop-oldest"
    """Forget the oldest: for readings, where the newest is worth most."""


class Source(Protocol):
    """Where events come from, other than `post`: a socket, usually."""

    async def next(self) -> Any:
        """Wait for the next event."""

    def next_nowait(self) -> Any | None:
        """An event that is already there, or None."""


class Recorder(Protocol):
    """Where the flight recorder is written to (`muster.recorder`)."""

    def record(self, machine: str, event: Any, now: float) -> None:
        """Keep one event; never blocks."""


@dataclass(frozen=True, slots=True)
class DriverStatistics:
    """What a driver did so far; times in seconds."""

    events_handled: int
    events_dropped: int
    deadlines_fired: int
    inbox_length: int
    outbox_length: int
    inbox_max: int
    lag_last_s: float
    lag_max_s: float


class Driver:
    """Runs one machine. `run` in a nursery; `post` from anywhere in the same trio run."""

    def __init__(
        self,
        machine: Machine,
        *,
        name: str,
        clock: Clock,
        perform: Callable[[Effect], None],
        persist: Callable[[Persist], Awaitable[None]] | None = None,
        sources: Sequence[Source] = (),
        recorder: Recorder | None = None,
        lag_event: Callable[[float], Any] | None = None,
        inbox_max: int = 1_024,
        overflow: Overflow = Overflow.DROP_NEWEST,
    ) -> None:
        """`perform` executes one effect without waiting; `persist` makes one record durable."""
        self.machine = machine
        self.name = name
        self._clock = clock
        self._perform = perform
        self._persist = persist
        self._sources = sources
        self._recorder = recorder
        self._lag_event = lag_event
        self._inbox: collections.deque[Any] = collections.deque()
        self._inbox_max = inbox_max
        self._overflow = overflow
        self._outbox: collections.deque[Effect] = collections.deque()
        self._wake = trio.Event()
        self._sleeps_until = math.inf
        """When `run` looks again by itself. It is woken for an earlier deadline only: to be woken
        costs more than most events do."""
        self._outbox_filled = trio.Event()
        self._outbox_emptied = trio.Event()
        self._resumed = trio.Event()
        self._resumed.set()
        self._has_ended = self._is_closed = False
        self._failure: BaseException | None = None
        self._handled = self._dropped = self._fired = 0
        self._lag_last_s = self._lag_max_s = 0.0

    def post(self, event: Any) -> bool:
        """Put an event into the inbox; False (and counted) when it, or the oldest, was dropped."""
        kept = True
        if len(self._inbox) >= self._inbox_max:
            self._dropped += 1
            kept = False
            if self._overflow is Overflow.DROP_NEWEST:
                return False
            self._inbox.popleft()
        self._inbox.append(event)
        self._wake.set()
        return kept

    def complete(self, event: Any) -> bool:
        """Handle one event at once, ahead of the inbox: for the end of something that the machine
        waits for (a sync, a snapshot) and that must not be lost. Effects are executed before it
        returns, except those held back by a `Persist`. False: the driver is closed, and the event
        was not handled."""
        if self._is_closed:
            return False
        self._handle(event)
        deadline = self.machine.deadline
        if deadline is not None and deadline < self._sleeps_until:
            self._wake.set()
        return True

    def close(self) -> None:
        """Handle nothing more, whatever still comes. `run` goes on until it is cancelled."""
        self._is_closed = True

    @property
    def is_closed(self) -> bool:
        """Closed, ended, or the machine has raised."""
        return self._is_closed

    def pause(self) -> None:
        """Handle nothing more, neither input nor deadlines, until `resume`. The inbox still takes
        what comes, within its bound; effects that wait for the disk are still executed."""
        if self._resumed.is_set():
            self._resumed = trio.Event()

    def resume(self) -> None:
        """Go on after `pause`."""
        self._resumed.set()

    @property
    def has_ended(self) -> bool:
        """Whether `run` is over, for whatever reason."""
        return self._has_ended

    async def wait_flushed(self) -> None:
        """Wait until no effect waits for the disk, or the driver has ended."""
        while self._outbox and not self._has_ended:
            await self._outbox_emptied.wait()

    def statistics(self) -> DriverStatistics:
        return DriverStatistics(
            events_handled=self._handled,
            events_dropped=self._dropped,
            deadlines_fired=self._fired,
            inbox_length=len(self._inbox),
            outbox_length=len(self._outbox),
            inbox_max=self._inbox_max,
            lag_last_s=self._lag_last_s,
            lag_max_s=self._lag_max_s,
        )

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Drive the machine until cancelled. Exceptions of the machine or of an effect come out."""
        try:
            async with trio.open_nursery() as nursery:
                for source in self._sources:
                    nursery.start_soon(self._pump, source)
                if self._persist is not None:
                    nursery.start_soon(self._flush_outbox, self._persist)
                task_status.started()
                while True:
                    await self._wait_for_work()
                    if self._is_closed:
                        await self._stay_closed()
                    self._turn()
        finally:
            self._has_ended = self._is_closed = True
            self._outbox_emptied.set()

    async def _stay_closed(self) -> None:
        """Raise what the machine raised, or wait for the end: a deadline that is due and no longer
        handled must not keep the loop busy."""
        if self._failure is not None:
            raise self._failure
        await trio.sleep_forever()

    def _turn(self) -> None:
        """One turn: ready input first, then a deadline if one is still due."""
        self._drain_inbox()
        if not self._is_due():
            return
        if not self._inbox:  # else the turn's share is used up, and the sources' older events wait
            self._drain_sources()
        deadline = self.machine.deadline
        now = self._clock.now()
        if deadline is None or deadline > now:
            return
        self._lag_last_s = now - deadline
        self._lag_max_s = max(self._lag_max_s, self._lag_last_s)
        if self._lag_event is not None and self._lag_last_s > LAG_REPORT_S:
            self._handle(self._lag_event(self._lag_last_s))
        self._fired += 1
        self._handle(DeadlineReached())

    async def _wait_for_work(self) -> None:
        while self._is_full:
            await self._clock.sleep(0.01)
        if self._inbox or self._is_due():
            await self._go_round()
        else:
            self._wake = trio.Event()
            deadline = self.machine.deadline
            self._sleeps_until = math.inf if deadline is None else deadline
            if deadline is None:
                await self._wake.wait()
            else:
                with self._clock.move_on_at(deadline):
                    await self._wake.wait()
                if not self._wake.is_set() and (self._sources or self._lateness() > ON_TIME_S):
                    await self._go_round()
        while not self._resumed.is_set():
            await self._resumed.wait()

    async def _go_round(self) -> None:
        """Let the others run, so that pumps post what they were handed just now."""
        for _ in range(PUMP_ROUNDS if self._is_due() else 1):
            await self._clock.sleep(0)

    async def _pump(self, source: Source) -> None:
        while True:
            self.post(await source.next())

    @property
    def _is_full(self) -> bool:
        """Do so many effects wait that no more input may be taken?"""
        return len(self._outbox) >= OUTBOX_MAX

    def _lateness(self) -> float:
        deadline = self.machine.deadline
        return 0.0 if deadline is None else self._clock.now() - deadline

    def _is_due(self) -> bool:
        deadline = self.machine.deadline
        return deadline is not None and deadline <= self._clock.now()

    def _drain_inbox(self) -> None:
        stop_at = self._clock.now() + DRAIN_S
        for _ in range(DRAIN_EVENTS_MAX):
            if not self._inbox or self._clock.now() > stop_at or self._is_full:
                return
            self._handle(self._inbox.popleft())

    def _drain_sources(self) -> None:
        stop_at = self._clock.now() + DRAIN_S
        for source in self._sources:
            for _ in range(DRAIN_EVENTS_MAX):
                if self._clock.now() > stop_at or self._is_full:
                    break
                if (event := source.next_nowait()) is None:
                    break
                self._handle(event)

    def _handle(self, event: Any) -> None:
        if self._is_closed:
            return
        try:
            self._handle_open(event)
        except BaseException as failure:
            self._is_closed, self._failure = True, failure
            self._wake.set()
            raise

    def _handle_open(self, event: Any) -> None:
        now = self._clock.now()
        if self._recorder is not None:
            self._recorder.record(self.name, event, now)
        self._handled += 1
        for effect in self.machine.handle(event, now=now):
            must_sync = isinstance(effect, Persist) and self._persist is not None
            if self._outbox or must_sync:
                self._outbox.append(effect)
                self._outbox_filled.set()
            else:
                self._perform(effect)

    async def _flush_outbox(self, persist: Callable[[Persist], Awaitable[None]]) -> None:
        while True:
            await self._outbox_filled.wait()
            while self._outbox:
                effect = self._outbox[0]
                if isinstance(effect, Persist):
                    await persist(effect)
                else:
                    self._perform(effect)
                self._outbox.popleft()
            self._outbox_filled = trio.Event()
            self._outbox_emptied.set()
            self._outbox_emptied = trio.Event()
