"""How late the loop wakes whoever waits for a moment: everything on a node shares it.

A task waits for an instant, again and again, and what it looks at is by how much it was missed. Its
instants are those that were planned, not a period after it last woke: a loop that stands still for
a second is seen to be late by up to that second, and not only by what is left of it. What is seen
is what a timer sees: a turn of the loop that takes long, and a process that waits for a core.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from muster.histogram import Histogram

if TYPE_CHECKING:
    from muster.clock import Clock

PERIOD_S: Final = 0.1
"""A stall is underestimated by at most that much. Ten turns of the loop a second are a thousandth
of a core."""


class LoopLag:
    """Measures while it is `run`; the simulator, whose loop is never late, does not."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.seconds = Histogram()
        """Of all looks."""

    async def run(self) -> None:
        """Until cancelled."""
        planned = self._clock.now() + PERIOD_S
        while True:
            await self._clock.sleep_until(planned)
            now = self._clock.now()
            self.seconds.observe(max(0.0, now - planned))
            planned += PERIOD_S
            if planned <= now:
                planned = now + PERIOD_S  # one stall, one look
