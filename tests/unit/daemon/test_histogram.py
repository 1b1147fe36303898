"""Counts by upper bound."""

from __future__ import annotations

import math

import pytest

from muster.histogram import BOUNDS_S, Histogram


def test_a_value_counts_at_its_bound_and_above() -> None:
    histogram = Histogram()
    for seconds in (0.001, 0.0011, 9.0):
        histogram.observe(seconds)
    counts = dict(histogram.cumulative())
    assert (counts[0.0005], counts[0.001], counts[0.0025], counts[2.5]) == (0, 1, 2, 2)
    assert counts[math.inf] == histogram.count == 3
    assert histogram.sum_s == pytest.approx(9.0021)
    assert histogram.max_s == 9.0


def test_it_does_not_grow_with_what_it_counts() -> None:
    histogram = Histogram()
    for number in range(10_000):
        histogram.observe(number / 1000)
    assert len(list(histogram.cumulative())) == len(BOUNDS_S) + 1
