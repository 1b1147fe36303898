"""The updates that still want to be told, and how often each was.

Updates ride on packets that leave anyway. Each is sent a bounded number of times
(`config.retransmit_limit`), those sent least first and among them the youngest (SWIM, section 4.1),
so that fresh news overtakes old. A newer update about a member replaces the older ones, with one
exception: the accusations of one suspicion stand beside each other, because the independent
confirmations are what the others wait for.

The queue is one dictionary per number of sendings already made: picking takes from the lowest,
newest first, and moves what it took one up. Nothing is sorted or searched, so a queue of thousands
(a mass join) costs only what fits into the packet.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from muster_protocol.types import NodeId
from muster_protocol.wire.codec import encode
from muster_protocol.wire.membership import NOBODY, Suspect, Update

UPDATE_BYTES_MIN: Final = 37
"""No update is shorter (a node id alone takes 34), so below this looking further is pointless."""

Key = tuple[NodeId, NodeId]
"""Subject, and for an accusation the accuser."""


@dataclass(frozen=True, slots=True)
class Broadcast:
    """One update with its encoded size, which is computed once."""

    update: Update
    size: int


class Broadcasts:
    """The queue. Bounded by the member table: one entry per member, or as many accusations as a
    suspicion passes on."""

    def __init__(self) -> None:
        self._tiers: list[dict[Key, Broadcast]] = [{}]
        self._tier_of: dict[NodeId, dict[NodeId, int]] = {}
        """Subject, then accuser, to the number of sendings made."""

    def __len__(self) -> int:
        return sum(len(accusers) for accusers in self._tier_of.values())

    def __contains__(self, node: NodeId) -> bool:
        """Whether anything about the member is still to be told."""
        return node in self._tier_of

    @property
    def sendings(self) -> int:
        """How often the one was sent that was sent most often and is still queued."""
        return max((tier for tier, queued in enumerate(self._tiers) if queued), default=0)

    def put(self, update: Update) -> None:
        """Queue an update; what it outdates is dropped."""
        subject, by = key = _key(update)
        for accuser, tier in list(self._tier_of.get(subject, {}).items()):
            held = self._tiers[tier][subject, accuser].update
            if accuser == by or not _stand_together(held, update):
                self._remove((subject, accuser), tier)
        self._insert(key, 0, Broadcast(update, len(encode(update))))

    def drop(self, subject: NodeId) -> None:
        """Forget everything that is queued about a member."""
        for accuser, tier in list(self._tier_of.get(subject, {}).items()):
            self._remove((subject, accuser), tier)

    def pick(self, *, bytes_max: int, count_max: int, sendings_max: int) -> list[Update]:
        """What goes into one packet: at most so many bytes and updates. Counts as one sending;
        an update that was sent `sendings_max` times is dropped."""
        taken = self._choose(bytes_max, count_max)
        for tier, key, broadcast in reversed(taken):
            self._remove(key, tier)
            if tier + 1 < sendings_max:
                self._insert(key, tier + 1, broadcast)
        return [broadcast.update for _, _, broadcast in taken]

    def _choose(self, bytes_max: int, count_max: int) -> list[tuple[int, Key, Broadcast]]:
        taken: list[tuple[int, Key, Broadcast]] = []
        for tier, queued in enumerate(self._tiers):
            for key in reversed(queued):
                if bytes_max < UPDATE_BYTES_MIN or len(taken) >= count_max:
                    return taken
                broadcast = queued[key]
                if broadcast.size <= bytes_max:
                    bytes_max -= broadcast.size
                    taken.append((tier, key, broadcast))
        return taken

    def _insert(self, key: Key, tier: int, broadcast: Broadcast) -> None:
        while len(self._tiers) <= tier:
            self._tiers.append({})
        self._tiers[tier][key] = broadcast
        self._tier_of.setdefault(key[0], {})[key[1]] = tier

    def _remove(self, key: Key, tier: int) -> None:
        del self._tiers[tier][key]
        accusers = self._tier_of[key[0]]
        del accusers[key[1]]
        if not accusers:
            del self._tier_of[key[0]]


def _key(update: Update) -> Key:
    return update.node, update.by if isinstance(update, Suspect) else NOBODY


def _stand_together(held: Update, new: Update) -> bool:
    return (
        isinstance(held, Suspect)
        and isinstance(new, Suspect)
        and held.incarnation == new.incarnation
    )
