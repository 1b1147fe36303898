"""How late the loop is, on a loop that is late by what the test says."""

from __future__ import annotations

import pytest
import trio

from muster.clock import TrioClock
from muster.runtime.looplag import PERIOD_S, LoopLag


class LateClock(TrioClock):
    """Its waits end late."""

    def __init__(self) -> None:
        self.late_s = 0.0

    async def sleep_until(self, instant: float) -> None:
        await super().sleep_until(instant + self.late_s)


async def looks(lag: LoopLag, count: int) -> None:
    wanted = lag.seconds.count + count
    while lag.seconds.count < wanted:  # noqa: ASYNC110 (on virtual time)
        await trio.sleep(PERIOD_S / 10)


async def test_a_loop_that_is_on_time_has_no_lag(
    nursery: trio.Nursery, autojump_clock: object
) -> None:
    lag = LoopLag(TrioClock())
    nursery.start_soon(lag.run)
    await looks(lag, 50)
    assert lag.seconds.max_s == pytest.approx(0.0, abs=1e-9)


async def test_a_stall_is_seen_whole_and_once(
    nursery: trio.Nursery, autojump_clock: object
) -> None:
    clock = LateClock()
    lag = LoopLag(clock)
    nursery.start_soon(lag.run)
    await looks(lag, 3)
    clock.late_s = 2.0
    await looks(lag, 2)  # the wait that was under way ended in time
    clock.late_s = 0.0
    before = lag.seconds.count
    await looks(lag, 5)
    assert lag.seconds.max_s == pytest.approx(2.0)
    assert lag.seconds.sum_s == pytest.approx(2.0 * (before - 4) + 2.0)
