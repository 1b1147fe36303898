"""How frames travel between bare voters: late, in order or not, twice, or not at all.

A way leads from one voter to another. It may be cut: then what is sent on it is lost, although the
connection stays. Or it is held: then all of it arrives once the hold is over, as over TCP after a
clog. Both leave the other direction as it is.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from typing import Final

from muster_protocol.types import NodeId

STRAGGLER_S: Final = 4.0
"""Two or three campaigns: what was said in one term arrives in another."""

Way = tuple[NodeId, NodeId]
"""Sender and receiver."""


class Ways:
    """All ways of one cluster."""

    def __init__(
        self,
        rng: random.Random,
        *,
        frame_s: tuple[float, float],
        is_fifo: bool,
        repeated: float,
        straggling: float,
    ) -> None:
        self.cut: dict[Way, None] = {}
        self._rng = rng
        self._frame_s = frame_s
        self._is_fifo = is_fifo
        self._repeated = repeated
        self._straggling = straggling
        self._held_until: dict[Way, float] = {}
        self._last_arrival: dict[Way, float] = {}

    def hold(self, ways: Iterable[Way], until: float) -> None:
        """What is sent on these ways before `until` arrives after it."""
        for way in ways:
            self._held_until[way] = max(until, self._held_until.get(way, 0.0))

    def release(self) -> None:
        """What is sent from now on is held no more; what was sent before still is."""
        self._held_until.clear()

    def late(self, until: float) -> list[Way]:
        """Ways on which, in order, nothing more arrives before `until`."""
        return [way for way, arrival in self._last_arrival.items() if arrival > until]

    def forget(self, way: Way) -> None:
        """A new connection: nothing sent on the old one is before what is sent on it."""
        self._last_arrival.pop(way, None)

    def delays(self, way: Way, now: float) -> Iterator[float]:
        """In how many seconds a frame arrives, which is sent now: once, twice or never."""
        if way in self.cut:
            return
        for _ in range(2 if self._rng.random() < self._repeated else 1):
            yield self._arrives_at(way, now) - now

    def _arrives_at(self, way: Way, now: float) -> float:
        is_straggler = self._rng.random() < self._straggling
        delay_s = (0.0, STRAGGLER_S) if is_straggler else self._frame_s
        arrives_at = max(now, self._held_until.get(way, 0.0)) + self._rng.uniform(*delay_s)
        if self._is_fifo:
            arrives_at = max(arrives_at, self._last_arrival.get(way, 0.0))
            self._last_arrival[way] = arrives_at
        return arrives_at
