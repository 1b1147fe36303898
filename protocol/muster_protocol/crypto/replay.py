"""The replay window: which counters of one boot have been seen.

The scheme of IPsec (RFC 4303, section 3.4.3): the highest counter accepted so far, and a bit for
each of the `WINDOW_BITS` counters up to it. A counter below the window is refused: it
cannot be told from a replay.
"""

from __future__ import annotations

from typing import Final

WINDOW_BITS: Final = 1_024
"""RFC 4303 advises 64 for a counter between two parties. Ours is shared by all destinations, so one
receiver sees gaps as wide as a round of gossip; sixteen times as many bits cost nothing."""

_ALL_SEEN: Final = (1 << WINDOW_BITS) - 1


class ReplayWindow:
    """Accepts each counter at most once. Opened at a counter, nothing up to it is accepted."""

    __slots__ = ("_highest", "_seen")

    def __init__(self, opened_at: int) -> None:
        """All counters up to `opened_at` count as seen: before the window nobody kept watch, so
        they may have been delivered to an earlier boot of the receiver."""
        self._highest = opened_at
        self._seen = _ALL_SEEN

    def accept(self, counter: int) -> bool:
        """True, once, for a counter that is new; False for one that was seen or is too old."""
        ahead = counter - self._highest
        if ahead > 0:
            self._seen = (self._seen << ahead | 1) & _ALL_SEEN if ahead < WINDOW_BITS else 1
            self._highest = counter
            return True
        bit = 1 << -ahead if -ahead < WINDOW_BITS else 0
        if not bit or self._seen & bit:
            return False
        self._seen |= bit
        return True
