"""Local health: how much this node should doubt itself (Lifeguard's multiplier).

A score from 0, well, to `maximum - 1`. It rises when the node's own probes go unanswered in a way
that points at itself, when others suspected it, and when its loop ran late; it falls by one with
each probe that is answered. Probe interval and timeout are stretched by score + 1.

Descriptions differ on what a failed probe costs. Here, as in memberlist's code, it costs the
relays that did not even say "no answer yet" (a nack); if none could be asked it costs one. Relays
that all report show that our packets go out and our loop reads in time: the silence is the
target's. The second-hand reading (one for the failure and one per missing nack) would make every
node that probes a crashed member slower in detecting the next.
"""

from __future__ import annotations

from typing import Final

LAG_STEP_S: Final = 0.5
"""A late loop costs one point, and one more for each such time: the LAN probe timeout, which is
what that much lag would have made us miss."""


class Awareness:
    """The score. Switched off, it stays 0."""

    def __init__(self, *, maximum: int, enabled: bool) -> None:
        self._score_max = maximum - 1 if enabled else 0
        self.score = 0

    @property
    def multiplier(self) -> int:
        """By how much to stretch what one waits for."""
        return self.score + 1

    def probe_answered(self) -> None:
        self._add(-1)

    def probe_failed(self, *, nacks_expected: int, nacks_received: int) -> None:
        self._add(nacks_expected - nacks_received if nacks_expected else 1)

    def was_suspected(self) -> None:
        """Others could not reach us and we had to refute it."""
        self._add(1)

    def lagged(self, seconds: float) -> None:
        """The loop was late by `seconds`."""
        self._add(1 + int(seconds / LAG_STEP_S))

    def _add(self, delta: int) -> None:
        self.score = min(max(0, self.score + delta), self._score_max)
