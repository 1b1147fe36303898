"""How late the loop is, on a loop that is late by what the test says."""

from __future__ import annotations

import pytest
import trio

from muster.clock import TrioClock
from muster.runtime.looplag import PERIOD_S, LoopLag, Turns


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


class StillClock(TrioClock):
    """Shows what the test says."""

    def __init__(self) -> None:
        self.shows = 0.0

    def now(self) -> float:
        return self.shows


def turn(turns: Turns, clock: StillClock, *, waited: float, due_in: float, took: float) -> None:
    turns.before_io_wait(due_in)
    clock.shows += waited
    turns.after_io_wait(due_in)
    clock.shows += took


def test_a_turn_counts_from_when_it_was_due() -> None:
    clock = StillClock()
    turns = Turns(clock)
    turn(turns, clock, waited=0.5, due_in=2.0, took=0.06)  # something came before its deadline
    turns.before_io_wait(1.0)
    assert turns.seconds.max_s == pytest.approx(0.06)
    turn(turns, clock, waited=1.2, due_in=1.0, took=0.01)  # another thread had the interpreter
    turns.before_io_wait(1.0)
    assert turns.seconds.max_s == pytest.approx(0.21)
    turn(turns, clock, waited=0.3, due_in=0.0, took=0.01)  # the same, and somebody had work
    turns.before_io_wait(1.0)
    assert turns.seconds.max_s == pytest.approx(0.31)


async def test_turns_are_measured_while_it_runs(
    nursery: trio.Nursery, autojump_clock: object
) -> None:
    lag = LoopLag(TrioClock())
    nursery.start_soon(lag.run)
    await looks(lag, 2)
    assert lag.turns.seconds.count >= 2


async def test_no_turn_is_measured_after_it(autojump_clock: object) -> None:
    lag = LoopLag(TrioClock())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lag.run)
        await looks(lag, 2)
        nursery.cancel_scope.cancel()
    measured = lag.turns.seconds.count
    await trio.sleep(1.0)
    assert lag.turns.seconds.count == measured


def test_the_longest_turn_counts_where_no_look_was_late() -> None:
    lag = LoopLag(TrioClock())
    lag.seconds.observe(0.01)
    lag.turns.seconds.observe(0.06)
    assert lag.max_s == 0.06
