"""Linearizable reads that wait until this voter is known to have led when they came.

Each has a ticket; the guard confirms or refuses all up to one (`raftguard/reads`).
"""

from __future__ import annotations

import collections
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import trio

from muster_protocol.errors import Refused
from muster_protocol.limits import WAITING_COMMANDS_MAX

if TYPE_CHECKING:
    from muster.clock import Clock


@dataclass(slots=True)
class _Reader:
    ticket: int
    done: trio.Event = field(default_factory=trio.Event)
    index: int | None = None


class Reads:
    """The waiting reads of one voter."""

    def __init__(self, *, clock: Clock, want: Callable[[int], bool]) -> None:
        """`want(ticket)` asks the guard; False if the voter has ended."""
        self._clock = clock
        self._want = want
        self._ticket = 0
        self._waiting: collections.deque[_Reader] = collections.deque()
        self._is_closed = False
        self.confirmed = self.refused = self.overloaded = 0

    @property
    def waiting(self) -> int:
        """Reads without an answer, also those whose caller has gone."""
        return len(self._waiting)

    async def confirm(self, *, deadline: float) -> int:
        """The index up to which a state must have applied to answer a read that comes now.

        Errors: Refused("not-leader"), also where nobody answers in time; Refused("overload").
        """
        if self.waiting >= WAITING_COMMANDS_MAX:
            self.overloaded += 1
            raise Refused("overload", "too many reads are waiting for the quorum")
        self._ticket += 1
        reader = _Reader(self._ticket)
        self._waiting.append(reader)
        if self._is_closed or not self._want(reader.ticket):
            self.settle(reader.ticket, None)
        with self._clock.move_on_at(deadline):
            await reader.done.wait()
        if reader.index is None:
            self.refused += 1
            raise Refused("not-leader", "this node is not known to lead")
        self.confirmed += 1
        return reader.index

    def settle(self, ticket: int, index: int | None) -> None:
        """All up to `ticket` are answered from `index` on, or (None) have to ask elsewhere."""
        while self._waiting and self._waiting[0].ticket <= ticket:
            reader = self._waiting.popleft()
            reader.index = index
            reader.done.set()

    def close(self) -> None:
        """The voter has ended."""
        self._is_closed = True
        self.settle(self._ticket, None)
