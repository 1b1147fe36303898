"""What a voter has decided to say, and must not before it is durable: votes, and requests for them.

A vote leaves after the sync that makes the term and the vote durable (D5, D7); acknowledgements
have their own rule (`answers`).
"""

from __future__ import annotations

import collections
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from muster_protocol.effects import Effect
    from muster_protocol.raftguard.events import LogView

HELD_FRAMES_MAX: Final = 1_024
"""Votes and requests that wait for a sync. A node votes once a term; more means a dead disk."""


class Held:
    """In the order in which it was decided."""

    def __init__(self, log: LogView) -> None:
        self._log = log
        self._waiting: collections.deque[tuple[int, tuple[Effect, ...]]] = collections.deque()

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def is_full(self) -> bool:
        """Nothing more may wait: the disk is dead, or as good as that."""
        return len(self._waiting) >= HELD_FRAMES_MAX

    def after_sync(self, *effects: Effect) -> tuple[Effect, ...]:
        """These effects, if everything in the journal up to now is durable; else they wait."""
        if self._log.durable_lsn >= self._log.lsn:
            return effects
        self._waiting.append((self._log.lsn, effects))
        return ()

    def released(self) -> tuple[Effect, ...]:
        """What has waited for a sync that has ended."""
        effects: list[Effect] = []
        while self._waiting and self._waiting[0][0] <= self._log.durable_lsn:
            effects.extend(self._waiting.popleft()[1])
        return tuple(effects)

    def clear(self) -> None:
        """None of it is to be said any more."""
        self._waiting.clear()
