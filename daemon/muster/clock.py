"""The clock seam: the only place that reads a clock or waits for time to pass.

Every wait of the daemon goes through a `Clock`, so that a simulated node can be paused, slowed
or stepped, and no test ever sleeps. Three clocks are told apart: monotonic (all deadlines), wall
(what people and records see; steps and drifts) and boot time (goes on while the host is
suspended, which monotonic time does not show).
"""

from __future__ import annotations

import time
from typing import Protocol

import trio


class Clock(Protocol):
    """Time for one node."""

    def now(self) -> float:
        """Monotonic seconds; the origin is arbitrary."""

    def wall(self) -> float:
        """Seconds since 1970 as this host believes them."""

    def boot(self) -> float:
        """Seconds of CLOCK_BOOTTIME: counts suspend."""

    async def sleep(self, seconds: float) -> None:
        """Wait; a negative duration is a plain checkpoint."""

    async def sleep_until(self, instant: float) -> None:
        """Wait until `now()` reaches `instant`."""

    def move_on_after(self, seconds: float) -> trio.CancelScope:
        """A scope that is cancelled after `seconds`; look at `cancelled_caught`."""

    def move_on_at(self, instant: float) -> trio.CancelScope:
        """A scope that is cancelled when `now()` reaches `instant`."""


class TrioClock:
    """The clock of the trio run: the real one, or virtual under `trio.testing.MockClock`."""

    def now(self) -> float:
        return trio.current_time()

    def wall(self) -> float:
        return time.time()

    def boot(self) -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    async def sleep(self, seconds: float) -> None:
        await trio.sleep(max(0.0, seconds))

    async def sleep_until(self, instant: float) -> None:
        await trio.sleep_until(instant)

    def move_on_after(self, seconds: float) -> trio.CancelScope:
        return trio.move_on_after(seconds)

    def move_on_at(self, instant: float) -> trio.CancelScope:
        return trio.CancelScope(deadline=instant)
