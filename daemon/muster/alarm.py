"""One timer for all that wait: a cancel scope for each request costs more than the rest of it.

Whoever waits tells the instant at which to look (`at`); at the earliest of them the owner is asked
to look (`look(now)`), does what is due, and says when to look again. Instants that nobody waits for
any more are not taken back: looking once too often, seconds later, costs nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import trio

if TYPE_CHECKING:
    from muster.clock import Clock

PAUSE_S: Final = 0.01
"""Between two looks: each goes over everything that waits, and ten thousand deadlines a second
apart from each other by a little must not mean ten thousand looks."""


class Alarm:
    """Wakes one owner. `run` it in a nursery; `at` from anywhere in the same trio run."""

    def __init__(self, clock: Clock, look: Callable[[float], float]) -> None:
        """`look(now)` returns the next instant to look at: `math.inf` if nothing waits."""
        self._clock = clock
        self._look = look
        self._next = math.inf
        self._is_earlier = trio.Event()

    def at(self, instant: float) -> None:
        """Look at `instant`, or before."""
        if instant < self._next:
            self._next = instant
            self._is_earlier.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            while (now := self._clock.now()) < self._next:
                self._is_earlier = trio.Event()
                with self._clock.move_on_at(self._next):
                    await self._is_earlier.wait()
            self._next = math.inf
            self._next = min(self._next, max(self._look(now), now + PAUSE_S))
            if self._next <= now + PAUSE_S:
                await self._clock.sleep_until(now + PAUSE_S)
