"""What a confirmed read must not be older than."""

from __future__ import annotations

import pytest

from muster.sim.checkers.reads import FreshReads
from muster.sim.checkers.violated import Violated


def test_a_read_sees_what_was_acknowledged_before_it_was_asked() -> None:
    reads = FreshReads()
    reads.acknowledged(5)
    reads.asked("n1", 1)
    reads.acknowledged(9)
    reads.is_confirmed("n1", 1, 5)
    reads.asked("n1", 2)
    with pytest.raises(Violated, match="answers read 2 as of index 8; index 9 was known"):
        reads.is_confirmed("n1", 2, 8)


def test_a_read_sees_what_an_earlier_one_saw() -> None:
    reads = FreshReads()
    reads.asked("n1", 1)
    reads.is_confirmed("n1", 1, 7)
    reads.asked("n2", 2)
    with pytest.raises(Violated, match="n2 answers read 2"):
        reads.is_confirmed("n2", 2, 6)


def test_a_refused_read_is_over() -> None:
    reads = FreshReads()
    reads.acknowledged(5)
    reads.asked("n1", 1)
    reads.is_refused("n1", 1)
    reads.is_confirmed("n1", 1, 3)
    assert reads.confirmed == 0
