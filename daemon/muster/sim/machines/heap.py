"""Virtual time without tasks: actions in the order of their instants.

Actions of one instant run in the order in which they were put in, so a run depends on nothing but
its seed.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from typing import Any


class EventHeap:
    """What happens when."""

    def __init__(self) -> None:
        self.now = 0.0
        self._heap: list[tuple[float, int, Callable[..., object], tuple[Any, ...]]] = []
        self._order = itertools.count()

    def at(self, delay_s: float, action: Callable[..., object], *args: Any) -> None:
        """Do this, so many seconds from now."""
        heapq.heappush(self._heap, (self.now + delay_s, next(self._order), action, args))

    def run_until(self, instant: float, condition: Callable[[], bool] | None = None) -> bool:
        """Run to `instant`, or until `condition`; says whether it came true."""
        while self._heap and self._heap[0][0] <= instant:
            if condition is not None and condition():
                return True
            self.now, _, action, args = heapq.heappop(self._heap)
            action(*args)
        self.now = instant
        return condition is not None and condition()

    def drop(self, *actions: Callable[..., object]) -> None:
        """These actions are not done any more."""
        self._heap = [item for item in self._heap if item[2] not in actions]
        heapq.heapify(self._heap)
