"""How late the loop wakes whoever waits for a moment: everything on a node shares it.

A task waits for an instant, again and again, and what it looks at is by how much it was missed. Its
instants are those that were planned, not a period after it last woke: a loop that stands still for
a second is seen to be late by up to that second, and not only by what is left of it. What is seen
is what a timer sees: a turn of the loop that takes long, and a process that waits for a core.

Ten looks a second miss most stalls that are shorter than a tenth of one. So each turn of the loop
is timed as well (a trio instrument: two readings of the clock a turn, where a look costs a turn). A
turn counts from the moment in which it was due: the next deadline, or at once where somebody had
something to do. So it has in it what the loop waited for the interpreter that another thread held.
Not seen is only that wait where nothing but a socket had woken the loop.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import trio

from muster.histogram import Histogram

if TYPE_CHECKING:
    from muster.clock import Clock

PERIOD_S: Final = 0.1
"""Of the looks: a stall is underestimated by at most that much by them. Ten turns of the loop a
second are a thousandth of a core."""


class LoopLag:
    """Measures while it is `run`; the simulator, whose loop is never late, does not."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.seconds = Histogram()
        """Of all looks."""

        self.turns = Turns(clock)

    @property
    def max_s(self) -> float:
        """The latest that it was, by a look or by the length of a turn."""
        return max(self.seconds.max_s, self.turns.seconds.max_s)

    async def run(self) -> None:
        """Until cancelled."""
        trio.lowlevel.add_instrument(self.turns)
        try:
            await self._look()
        finally:
            trio.lowlevel.remove_instrument(self.turns)

    async def _look(self) -> None:
        planned = self._clock.now() + PERIOD_S
        while True:
            await self._clock.sleep_until(planned)
            now = self._clock.now()
            self.seconds.observe(max(0.0, now - planned))
            planned += PERIOD_S
            if planned <= now:
                planned = now + PERIOD_S  # one stall, one look


class Turns(trio.abc.Instrument):
    """Of trio's loop: how long each takes, from when it was due until all who ran in it wait."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.seconds = Histogram()
        self._due_at: float | None = None
        self._began_at: float | None = None

    def before_io_wait(self, timeout: float) -> None:
        """A turn ends. The next one is due in `timeout` seconds, or when something comes."""
        now = self._clock.now()
        if self._began_at is not None:
            self.seconds.observe(now - self._began_at)
        self._due_at = now + timeout

    def after_io_wait(self, timeout: float) -> None:
        """The next one begins."""
        del timeout
        now = self._clock.now()
        self._began_at = now if self._due_at is None else min(now, self._due_at)
