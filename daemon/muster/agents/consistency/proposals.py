"""Client commands on their way into the log and back: batching, waiting, outcomes.

All commands that arrive in one turn of the loop become one log entry (a `Batch`), named by this
boot and a number. When the entry is applied here, the commands' waiters get their results. What
is not known to be applied in time is `OutcomeUnknown`: it may still be. The library's callbacks
are not used: they never fire for entries that were truncated or jumped by a snapshot (D29).

A command counts against `WAITING_COMMANDS_MAX` and `WAITING_BYTES_MAX` from when it comes until its
outcome is settled here, not until its client gives up: what was proposed stays in the log. While a
majority's disks hang, its answers do not (D11), the leader goes on leading, and clients that come
again after each time-out would fill its memory.
"""

from __future__ import annotations

import collections
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import trio

from muster_protocol.consistency.commands import (
    BATCH_FORMAT,
    Batch,
    Command,
    Result,
    checked_size,
)
from muster_protocol.errors import OutcomeUnknown, Refused
from muster_protocol.limits import BATCH_BYTES_MAX, WAITING_BYTES_MAX, WAITING_COMMANDS_MAX
from muster_protocol.wire.codec import encode

if TYPE_CHECKING:
    from muster.clock import Clock

BATCH_OVERHEAD_BYTES: Final = 128


@dataclass(slots=True)
class _Waiter:
    command: Command
    size_bytes: int
    done: trio.Event = field(default_factory=trio.Event)
    result: Result | None = None
    refused: bool = False


class Proposals:
    """The waiting commands of one node."""

    def __init__(self, *, clock: Clock, origin: str, propose: Callable[[bytes], bool]) -> None:
        """`propose(batch)` hands a batch to the engine; False if it was refused (not leader)."""
        self._clock = clock
        self.origin = origin
        self._propose = propose
        self._number = 0
        self._queue: collections.deque[_Waiter] = collections.deque()
        self._proposed: dict[int, list[_Waiter]] = {}
        self._waiting_commands = self._waiting_bytes = 0
        self._is_closed = False
        self._wake = trio.Event()
        self.refused = self.unknown = self.committed = 0

    @property
    def pending(self) -> int:
        """Commands that wait, or may still be committed although nobody waits any more."""
        return self._waiting_commands

    @property
    def pending_bytes(self) -> int:
        """And their encoded size."""
        return self._waiting_bytes

    async def submit(self, command: Command, *, deadline: float) -> Result:
        """Commit a command and return its result.

        Errors: Refused("overload", "not-leader"), nothing took effect; OutcomeUnknown; UsageError
        for a command that no replica could decode. Cancellation: it may still take effect.
        """
        if self._is_closed:
            raise Refused("not-leader", "this voter has ended")
        waiter = _Waiter(command, checked_size(command))
        if not self._has_room(waiter):
            self.refused += 1
            raise Refused("overload", "too many requests are waiting for the disk or the quorum")
        assert waiter.size_bytes <= BATCH_BYTES_MAX - BATCH_OVERHEAD_BYTES, "it was checked before"
        self._queue.append(waiter)
        self._waiting_commands += 1
        self._waiting_bytes += waiter.size_bytes
        self._wake.set()
        with self._clock.move_on_at(deadline):
            await waiter.done.wait()
        if waiter.result is not None:
            self.committed += 1
            return waiter.result
        if waiter.refused or self._withdraw(waiter):
            self.refused += 1
            raise Refused("not-leader", "this node does not lead")
        self.unknown += 1
        raise OutcomeUnknown("not known to be committed in time; a retry will tell")

    async def run(self) -> None:
        """Turn what arrives into batches, one per turn of the loop, until cancelled."""
        while True:
            await self._wake.wait()
            self._wake = trio.Event()
            await self._clock.sleep(0)  # let everything that is ready in this turn arrive
            while self._queue:
                self._propose_batch()

    def applied(self, batch: Batch, results: tuple[Result, ...]) -> bool:
        """A batch was applied here. True if anybody here waited for it."""
        if batch.origin != self.origin:
            return False
        waiters = self._proposed.pop(batch.number, None)
        if waiters is None:
            return False
        for waiter, result in zip(waiters, results, strict=True):
            waiter.result = result
            self._settle(waiter)
        return True

    def leadership_lost(self) -> None:
        """Who waits for a batch of ours need not wait any longer: its outcome is unknown, and a
        retry at the new leader is answered at once."""
        for waiters in self._proposed.values():
            for waiter in waiters:
                self._settle(waiter)
        self._proposed.clear()

    def close(self) -> None:
        """The voter has ended: nobody need wait any longer, and nothing more is proposed."""
        self._is_closed = True
        self.leadership_lost()
        while self._queue:
            self._refuse(self._queue.popleft())

    def _propose_batch(self) -> None:
        waiters = [self._queue.popleft()]
        size = BATCH_OVERHEAD_BYTES + waiters[0].size_bytes
        while self._queue and size + self._queue[0].size_bytes <= BATCH_BYTES_MAX:
            waiters.append(self._queue.popleft())
            size += waiters[-1].size_bytes
        self._number += 1
        commands = tuple(waiter.command for waiter in waiters)
        self._proposed[self._number] = waiters
        data = encode(Batch(BATCH_FORMAT, self.origin, self._number, commands))
        if not self._propose(data):
            for waiter in self._proposed.pop(self._number, []):
                self._refuse(waiter)

    def _has_room(self, waiter: _Waiter) -> bool:
        return (
            self._waiting_commands < WAITING_COMMANDS_MAX
            and self._waiting_bytes + waiter.size_bytes <= WAITING_BYTES_MAX
        )

    def _settle(self, waiter: _Waiter) -> None:
        """Its outcome, or that there is none to wait for, is known."""
        self._waiting_commands -= 1
        self._waiting_bytes -= waiter.size_bytes
        waiter.done.set()

    def _refuse(self, waiter: _Waiter) -> None:
        waiter.refused = True
        self._settle(waiter)

    def _withdraw(self, waiter: _Waiter) -> bool:
        """True if it had not been proposed yet."""
        if waiter in self._queue:
            self._queue.remove(waiter)
            self._settle(waiter)
            return True
        return False
