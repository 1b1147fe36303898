"""How frames travel between bare voters."""

from __future__ import annotations

import random

import pytest

from muster.sim.machines.ways import Ways
from muster_protocol.types import NodeId

THERE, BACK = (NodeId("a"), NodeId("b")), (NodeId("b"), NodeId("a"))


@pytest.fixture
def ways() -> Ways:
    return Ways(
        random.Random(1), frame_s=(0.001, 0.002), is_fifo=True, repeated=0.0, straggling=0.0
    )


def test_a_frame_takes_its_time(ways: Ways) -> None:
    (delay_s,) = ways.delays(THERE, 5.0)
    assert 0.001 <= delay_s <= 0.002


def test_what_is_sent_on_a_held_way_arrives_after_the_hold(ways: Ways) -> None:
    ways.hold((THERE,), 9.0)
    (held_s,), (other_s,) = ways.delays(THERE, 5.0), ways.delays(BACK, 5.0)
    assert 4.001 <= held_s <= 4.002
    assert other_s <= 0.002


def test_a_released_way_keeps_the_order_of_its_frames(ways: Ways) -> None:
    ways.hold((THERE,), 9.0)
    (held_s,) = ways.delays(THERE, 5.0)
    ways.release()
    (later_s,) = ways.delays(THERE, 6.0)
    assert 6.0 + later_s >= 5.0 + held_s


def test_a_cut_way_loses_what_is_sent_on_it(ways: Ways) -> None:
    ways.cut[THERE] = None
    assert not list(ways.delays(THERE, 5.0))
    assert list(ways.delays(BACK, 5.0))


def test_a_frame_may_come_twice() -> None:
    ways = Ways(random.Random(1), frame_s=(0.0, 0.0), is_fifo=False, repeated=1.0, straggling=0.0)
    assert list(ways.delays(THERE, 5.0)) == [0.0, 0.0]
