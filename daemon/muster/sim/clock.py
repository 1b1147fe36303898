"""A simulated node's clock, on top of trio's virtual one.

Monotonic clocks count the time of the run, each as fast as its quartz goes; what also differs per
node is the wall clock (offset, drift, steps), the time that the host was suspended, and whether the
process runs at all. A paused node (SIGSTOP, a long stall of its loop) has all its waits held until
it goes on: a sleep does not return and a time-out does not fire. Time passes meanwhile, so on
resuming everything is due at once, as in a real process.
"""

from __future__ import annotations

import itertools
import math
import weakref
from typing import Final

import trio

from muster.clock import TrioClock

WALL_START: Final = 1_767_225_600.0
"""The wall clock at time zero: 2026-01-01 UTC."""


class SimClock:
    """A `Clock` that can be paused, and whose wall clock can be wrong."""

    def __init__(
        self, *, wall_offset_s: float = 0.0, drift_ppm: float = 0.0, rate_ppm: float = 0.0
    ) -> None:
        """`drift_ppm`: how many microseconds the wall clock gains in a second; `rate_ppm`: the
        monotonic one, for its whole life, as deadlines are instants of it."""
        self._time = TrioClock()
        self._wall_offset_s = wall_offset_s
        self._drift = drift_ppm * 1e-6
        self._rate = 1.0 + rate_ppm * 1e-6
        self._suspended_s = 0.0
        self._running = trio.Event()
        self._running.set()
        self._serial = itertools.count()
        self._scopes: dict[int, weakref.ref[trio.CancelScope]] = {}
        self._frozen: list[tuple[trio.CancelScope, float]] = []

    # --- the seam --------------------------------------------------------------------------

    def now(self) -> float:
        return self._time.now() * self._rate

    def wall(self) -> float:
        return WALL_START + self._wall_offset_s + self.now() * (1.0 + self._drift)

    def boot(self) -> float:
        return self.now() + self._suspended_s

    async def sleep(self, seconds: float) -> None:
        await self._time.sleep(seconds / self._rate)
        await self.wait_running()

    async def sleep_until(self, instant: float) -> None:
        await self._time.sleep_until(self._in_the_run(instant))
        await self.wait_running()

    def move_on_after(self, seconds: float) -> trio.CancelScope:
        return self.move_on_at(self.now() + seconds)

    def move_on_at(self, instant: float) -> trio.CancelScope:
        scope = self._time.move_on_at(self._in_the_run(instant))
        if self.is_paused:
            self._freeze(scope)
        serial = next(self._serial)
        scopes = self._scopes
        scopes[serial] = weakref.ref(scope, lambda _: scopes.pop(serial, None))
        return scope

    # --- what the simulator does to it -----------------------------------------------------

    @property
    def is_paused(self) -> bool:
        return not self._running.is_set()

    async def wait_running(self) -> None:
        """Return at once unless the node is paused; every wait of a simulated seam ends with it."""
        while self.is_paused:
            await self._running.wait()

    def pause(self) -> None:
        """Hold all waits of this node."""
        if self.is_paused:
            return
        self._running = trio.Event()
        for reference in list(self._scopes.values()):
            scope = reference()
            if scope is not None and scope.deadline != math.inf and not scope.cancel_called:
                self._freeze(scope)

    def resume(self) -> None:
        """Let the node go on; time-outs that fell into the pause fire now."""
        frozen, self._frozen = self._frozen, []
        self._running.set()
        for scope, deadline in frozen:
            scope.deadline = deadline

    def step_wall(self, seconds: float) -> None:
        """Set the wall clock forward or back, as an operator or NTP does."""
        self._wall_offset_s += seconds

    def drift_wall(self, ppm: float) -> None:
        """From now on the wall clock gains `ppm` microseconds in a second. It does not jump."""
        drift = ppm * 1e-6
        self._wall_offset_s += self.now() * (self._drift - drift)
        self._drift = drift

    def suspend(self, seconds: float) -> None:
        """The host slept: boot time is ahead of monotonic time by so much more."""
        self._suspended_s += seconds

    def _in_the_run(self, instant: float) -> float:
        """When this clock shows `instant`; never so early, by rounding, that it does not yet."""
        at = instant / self._rate
        while math.isfinite(at) and at * self._rate < instant:
            at = math.nextafter(at, math.inf)
        return at

    def _freeze(self, scope: trio.CancelScope) -> None:
        self._frozen.append((scope, scope.deadline))
        scope.deadline = math.inf
