"""Faults that overlap: the end of one does not end another."""

from __future__ import annotations

from muster.sim.overlap import Overlapping


def test_the_newest_that_has_not_ended_is_in_force() -> None:
    overlapping, put = Overlapping(), list[object]()
    ends = [overlapping.begin("disk", value, put.append) for value in (1, 2, 3)]
    ends[1]()
    ends[2]()
    ends[2]()
    assert overlapping.holds("disk")
    ends[0]()
    assert put == [1, 2, 3, 3, 1, None]
    assert not overlapping.holds("disk")


def test_equal_values_are_told_apart() -> None:
    overlapping, put = Overlapping(), list[object]()
    first, second = (overlapping.begin("disk", True, put.append) for _ in range(2))
    first()
    first()
    assert overlapping.holds("disk")
    second()
    assert put[-1] is None


def test_when_all_have_ended_an_end_does_nothing() -> None:
    overlapping, put = Overlapping(), list[object]()
    end = overlapping.begin("disk", 1, put.append)
    overlapping.end_all()
    end()
    assert put == [1]
