"""How long things took, in bounded memory: counts by upper bound, as Prometheus has them.

A quantile over all that ever happened says little, and one over the last minutes needs the values.
Counts that only grow can be subtracted by whoever scrapes them, over any time and any nodes.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator
from typing import Final

BOUNDS_S: Final = (
    0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
)  # fmt: skip
"""From a sync of a fast disk to what an election takes; all that is slower counts above."""


class Histogram:
    """Counts of values, their sum and the largest one."""

    def __init__(self) -> None:
        self._counts = [0] * (len(BOUNDS_S) + 1)
        self.sum_s = self.max_s = 0.0

    def observe(self, seconds: float) -> None:
        """One more."""
        self._counts[bisect.bisect_left(BOUNDS_S, seconds)] += 1
        self.sum_s += seconds
        self.max_s = max(self.max_s, seconds)

    @property
    def count(self) -> int:
        """How many there were."""
        return sum(self._counts)

    def cumulative(self) -> Iterator[tuple[float, int]]:
        """For each bound, and for infinity: how many took no longer."""
        total = 0
        for bound, count in zip((*BOUNDS_S, float("inf")), self._counts, strict=True):
            total += count
            yield bound, total
