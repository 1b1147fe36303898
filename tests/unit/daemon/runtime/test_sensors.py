"""Sensors: periodic readings on the clock."""

from __future__ import annotations

import itertools
from typing import Any

import trio
from trio.testing import MockClock

from muster.runtime.directives import Sensed
from muster.runtime.sensors import Surroundings, every
from testkit.runtime_node import NodeUnderTest


def surroundings(node: NodeUnderTest) -> Surroundings:
    return Surroundings(
        node="n1",
        agent="a",
        clock=node.clock,
        entropy=node.services.entropy,
        post=lambda event: True,
    )


async def test_readings_come_a_whole_number_of_periods_apart(
    node: NodeUnderTest, autojump_clock: MockClock
) -> None:
    readings = iter(range(100))
    sensor = every(5.0, "CountSensor", lambda: next(readings))(surroundings(node))
    times = []
    for number in range(4):
        assert await sensor.next() == Sensed("CountSensor", number)
        times.append(node.clock.now())
        await trio.sleep(1.0 * number)
    assert [round(b - a, 9) for a, b in itertools.pairwise(times)] == [5.0, 5.0, 5.0]
    assert sensor.next_nowait() is None


async def test_instants_that_were_missed_are_skipped(
    node: NodeUnderTest, autojump_clock: MockClock
) -> None:
    sensor = every(5.0, "S", lambda: "x")(surroundings(node))
    await sensor.next()
    first = node.clock.now()
    await trio.sleep(12.0)
    await sensor.next()
    assert round(node.clock.now() - first, 9) == 12.0
    await sensor.next()
    assert round(node.clock.now() - first, 9) == 15.0


async def test_a_reading_may_be_awaited_and_none_is_not_reported(
    node: NodeUnderTest, autojump_clock: MockClock
) -> None:
    readings = iter([None, None, "third"])

    async def read() -> Any:
        await trio.sleep(0.5)
        return next(readings)

    sensor = every(5.0, "S", read)(surroundings(node))
    assert await sensor.next() == Sensed("S", "third")


async def test_sensors_that_start_together_do_not_read_together(
    node: NodeUnderTest, autojump_clock: MockClock
) -> None:
    instants = []
    for name in ("A", "B", "C"):
        await every(5.0, name, lambda: 1)(surroundings(node)).next()
        instants.append(node.clock.now() % 5.0)
    assert len({round(instant, 6) for instant in instants}) == 3
