"""Client commands on their way into the log and back: batching, waiting, outcomes.

Commands that arrive together become one log entry (a `Batch`), named by this voter and a number.
When the entry is applied here, whoever waits for them is told the results. What is not known to be
applied in time is `OutcomeUnknown`: it may still be. The library's callbacks are not used: they
never fire for entries that were truncated or jumped by a snapshot (D29).

A batch costs the same whether it holds one command or hundreds: frames to the followers, a sync on
each disk, a turn of the engine. So commands that come while `IN_FLIGHT_MAX` batches have no outcome
yet wait for the next one, unless they are many: under load the batches grow by themselves, and
without it nothing waits.

Nobody here is a task: a command is a `Change`, which is told its outcome by a call, and one alarm
looks after all deadlines.

A command counts against `WAITING_COMMANDS_MAX` and `WAITING_BYTES_MAX` from when it comes until its
outcome is settled here, not until its client gives up: what was proposed stays in the log. While a
majority's disks hang, its answers do not (D11), the leader goes on leading, and clients that come
again after each time-out would fill its memory.
"""

from __future__ import annotations

import collections
import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec
import trio

from muster.alarm import Alarm
from muster.histogram import Histogram
from muster_protocol.consistency.commands import (
    BATCH_TAG,
    Command,
    Result,
    checked_command,
)
from muster_protocol.errors import OutcomeUnknown, Refused
from muster_protocol.limits import BATCH_BYTES_MAX, WAITING_BYTES_MAX, WAITING_COMMANDS_MAX
from muster_protocol.wire.codec import encode

if TYPE_CHECKING:
    from muster.clock import Clock

BATCH_OVERHEAD_BYTES: Final = 128

IN_FLIGHT_MAX: Final = 2
"""One on its way while the next is made; see the module."""

BATCH_COMMANDS_ENOUGH: Final = 128
BATCH_BYTES_ENOUGH: Final = BATCH_BYTES_MAX // 2
"""So many do not wait for others: what a batch costs is small for each of them."""

Told = Result | Exception
Resume = Callable[[], Awaitable[Result]]
Outcome = Told | Resume
"""What becomes of a change: its result, why there is none, or that somebody has to go on asking."""


@dataclass(slots=True, eq=False)
class Change:
    """A command, and whom to tell what became of it.

    `settle(change, outcome)` is called once and must not raise; `asked` is for whoever made it.
    """

    command: Command
    deadline: float
    settle: Callable[[Change, Outcome], None]
    asked: Any = None
    is_first: bool = True
    """Nobody proposed it before."""

    told: Callable[[Change, Told | None], None] | None = None
    """Who waits for the present attempt; None once it was told, or gave up. Told None: nothing was
    proposed, and another node may be asked."""

    encoded: bytes = b""


@dataclass(frozen=True, slots=True)
class _Batch:
    """Proposed, and not known to be applied."""

    changes: Sequence[Change]
    proposed_at: float


class Proposals:
    """The waiting commands of one node."""

    def __init__(self, *, clock: Clock, origin: str, propose: Callable[[bytes], bool]) -> None:
        """`propose(batch)` hands a batch to the engine; False if it was refused (not leader)."""
        self._clock = clock
        self.origin = origin
        self._propose = propose
        self._number = 0
        self._queue: collections.deque[Change] = collections.deque()
        self._proposed: dict[int, _Batch] = {}
        self._waiting_commands = self._waiting_bytes = self._queued_bytes = 0
        self._is_closed = False
        self._wake = trio.Event()
        self._alarm = Alarm(clock, self._look)
        self.refused = self.overloaded = self.unknown = self.committed = 0
        """Outcomes that somebody waited for. Refused: this node did not lead."""
        self.commit_seconds = Histogram()
        """Of batches, from their proposal until they were applied here."""

    @property
    def pending(self) -> int:
        """Commands that wait, or may still be committed although nobody waits any more."""
        return self._waiting_commands

    @property
    def pending_bytes(self) -> int:
        """And their encoded size."""
        return self._waiting_bytes

    def begin(self, change: Change, told: Callable[[Change, Told | None], None]) -> None:
        """Take a command; `told(change, result)` is called later, once, if it is called at all. An
        error as the result: Refused("not-leader"), nothing took effect; OutcomeUnknown.

        Errors: Refused("overload", "not-leader"), nothing took effect; UsageError for a command
        that no replica could decode.
        """
        if self._is_closed:
            raise Refused("not-leader", "this voter has ended")
        change.command, change.encoded = checked_command(change.command)
        size_bytes = len(change.encoded)
        if not self._has_room(size_bytes):
            self.overloaded += 1
            raise Refused("overload", "too many requests are waiting for the disk or the quorum")
        assert size_bytes <= BATCH_BYTES_MAX - BATCH_OVERHEAD_BYTES, "it was checked before"
        change.told = told
        self._queue.append(change)
        self._waiting_commands += 1
        self._waiting_bytes += size_bytes
        self._queued_bytes += size_bytes
        self._alarm.at(change.deadline)

    def wake(self) -> None:
        """Propose what has begun, when everything else that is ready in this turn has come."""
        self._wake.set()

    async def submit(self, command: Command, *, deadline: float) -> Result:
        """Commit a command and return its result.

        Errors: as `begin`, and what it tells. Cancellation: it may still take effect.
        """
        done = trio.Event()
        heard: list[Told] = []

        def told(_: Change, outcome: Told | None) -> None:
            assert outcome is not None
            heard.append(outcome)
            done.set()

        change = Change(command, deadline, _never)
        self.begin(change, told)
        self._wake.set()
        try:
            with self._clock.move_on_at(deadline):
                await done.wait()
            if not heard:
                self._give_up(change)
        finally:
            change.told = None
        if isinstance(heard[0], Exception):
            raise heard[0]
        return heard[0]

    async def run(self) -> None:
        """Turn what arrives into batches, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._alarm.run)
            while True:
                await self._wake.wait()
                self._wake = trio.Event()
                await self._clock.sleep(0)  # let everything that is ready in this turn arrive
                self.propose()

    def propose(self) -> None:
        """Propose what waits, unless it is better to wait for the next outcome."""
        while self._queue and (
            len(self._proposed) < IN_FLIGHT_MAX
            or len(self._queue) >= BATCH_COMMANDS_ENOUGH
            or self._queued_bytes >= BATCH_BYTES_ENOUGH
        ):
            self._propose_batch()

    def commands(self, origin: str, number: int) -> Sequence[Command] | None:
        """The commands of a batch of ours that waits, as every replica decodes them."""
        batch = self._proposed.get(number) if origin == self.origin else None
        return None if batch is None else [change.command for change in batch.changes]

    def applied(self, origin: str, number: int, results: Sequence[Result]) -> bool:
        """A batch was applied here. True if anybody here waited for it."""
        if origin != self.origin:
            return False
        batch = self._proposed.pop(number, None)
        if batch is None:
            return False
        self.commit_seconds.observe(self._clock.now() - batch.proposed_at)
        for change, result in zip(batch.changes, results, strict=True):
            self._waiting_bytes -= len(change.encoded)
            told, change.told = change.told, None
            if told is not None:
                self.committed += 1
                told(change, result)
        self._waiting_commands -= len(batch.changes)
        if self._queue:
            self._wake.set()
        return True

    def leadership_lost(self) -> None:
        """Who waits for a batch of ours need not wait any longer: its outcome is unknown, and a
        retry at the new leader is answered at once."""
        proposed, self._proposed = self._proposed, {}
        for batch in proposed.values():
            for change in batch.changes:
                self._settle(change, self._unknown)
        if self._queue:
            self._wake.set()  # to be refused

    def close(self) -> None:
        """The voter has ended: nobody need wait any longer, and nothing more is proposed."""
        self._is_closed = True
        self.leadership_lost()
        queue, self._queue, self._queued_bytes = self._queue, collections.deque(), 0
        for change in queue:
            self._settle(change, self._not_leader)

    def _propose_batch(self) -> None:
        changes = [self._queue.popleft()]
        size = len(changes[0].encoded)
        size_max = BATCH_BYTES_MAX - BATCH_OVERHEAD_BYTES
        while self._queue and size + len(self._queue[0].encoded) <= size_max:
            changes.append(self._queue.popleft())
            size += len(changes[-1].encoded)
        self._queued_bytes -= size
        self._number += 1
        number = self._number
        self._proposed[number] = _Batch(changes, self._clock.now())
        commands = [msgspec.Raw(change.encoded) for change in changes]
        data = encode([BATCH_TAG, self.origin, number, commands])  # a `Batch`, to the byte
        if not self._propose(data):
            batch = self._proposed.pop(number, None)
            for change in batch.changes if batch is not None else ():
                self._settle(change, self._not_leader)

    def _has_room(self, size_bytes: int) -> bool:
        return (
            self._waiting_commands < WAITING_COMMANDS_MAX
            and self._waiting_bytes + size_bytes <= WAITING_BYTES_MAX
        )

    # --- without a result ---------------------------------------------------------------------

    def _look(self, now: float) -> float:
        """The alarm: who has waited too long is told so. The next deadline."""
        earliest = math.inf
        for batch in self._proposed.values():
            for change in batch.changes:
                if change.told is None:
                    continue
                if change.deadline <= now:
                    self._tell(change, self._unknown)  # what it takes is settled with its batch
                else:
                    earliest = min(earliest, change.deadline)
        for change in self._queue:
            earliest = min(earliest, change.deadline)
        if earliest <= now:
            queue, self._queue = self._queue, collections.deque()
            for change in queue:
                if change.deadline <= now:
                    self._queued_bytes -= len(change.encoded)
                    self._settle(change, self._not_leader)
                else:
                    self._queue.append(change)
            return now
        return earliest

    def _give_up(self, change: Change) -> None:
        if change in self._queue:
            self._queue.remove(change)
            self._queued_bytes -= len(change.encoded)
            self._settle(change, self._not_leader)
        else:
            self._tell(change, self._unknown)

    def _settle(self, change: Change, error: Callable[[], Exception]) -> None:
        self._waiting_commands -= 1
        self._waiting_bytes -= len(change.encoded)
        self._tell(change, error)

    def _tell(self, change: Change, error: Callable[[], Exception]) -> None:
        told, change.told = change.told, None
        if told is not None:
            told(change, error())

    def _not_leader(self) -> Exception:
        self.refused += 1
        return Refused("not-leader", "this node does not lead")

    def _unknown(self) -> Exception:
        self.unknown += 1
        return OutcomeUnknown("not known to be committed in time; a retry will tell")


def _never(_change: Change, _outcome: Outcome) -> None:
    raise AssertionError("a change that is submitted has nobody else to tell")
