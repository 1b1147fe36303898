"""Do all replicas make the same of the same log?

They must; a replica that does not has a bug, or memory that flips bits, and nothing that Raft does
will ever show it. So each voter tells the others the fingerprint of its state at every
`EVERY`th index of the log, and compares what it hears with what others said of that index. With a
majority of equal ones, who differs is named; without, everybody is told that somebody does.

etcd compares hashes at the leader, now and then (its corruption check); here each voter does, so a
leader that is wrong is found too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from muster_protocol.types import NodeId

EVERY: Final = 64
"""Indexes from one fingerprint to the next: a few hundred bytes a second under full load."""

PATIENCE: Final = 32
"""Indexes with a fingerprint that a voter may lag and still be compared: 2,048 entries."""


@dataclass(frozen=True, slots=True)
class Diverged:
    """At `index`, these voters have another state than a majority; all of whom something is known
    if there is no majority."""

    index: int
    who: tuple[NodeId, ...]


class Divergence:
    """What this voter knows of everybody's states."""

    def __init__(self, *, me: NodeId, replicas: int) -> None:
        self._me = me
        self.replicas = replicas
        """How many keep the state: everybody with a seat."""
        self._own_index = 0
        self._known: dict[int, dict[NodeId, bytes]] = {}
        self._judged_index = 0
        self._told: dict[NodeId, None] = {}
        self.agreed_index = 0
        """The newest index at which a majority is known to have the same state."""

    @property
    def diverged(self) -> tuple[NodeId, ...]:
        """Everybody who ever differed."""
        return tuple(self._told)

    @property
    def indexes(self) -> int:
        """How many are remembered."""
        return len(self._known)

    def has(self, node: NodeId, index: int, fingerprint: bytes) -> tuple[Diverged, ...]:
        """`node` (or we) has this state at `index`. Who differs is told once. What is far ahead of
        us is not compared: it would push out what is not."""
        if node == self._me:
            self._own_index = index
        is_far = index > self._own_index + EVERY * PATIENCE
        if index % EVERY or index <= self._judged_index or is_far:
            return ()
        self._known.setdefault(index, {}).setdefault(node, fingerprint)
        judged = [each for each in sorted(self._known) if self._is_ripe(each)]
        found = tuple(filter(None, map(self._judge, judged)))
        for each in judged:
            self._judged_index = max(self._judged_index, each)
            del self._known[each]
        return found

    def _is_ripe(self, index: int) -> bool:
        """All have told, or those who lag have had their time."""
        is_old = index <= max(self._known) - EVERY * PATIENCE
        return len(self._known[index]) == self.replicas or is_old

    def _judge(self, index: int) -> Diverged | None:
        states = self._known[index]
        said = list(states.values())
        most = max(said, key=said.count)
        has_majority = said.count(most) > self.replicas // 2
        if has_majority:
            self.agreed_index = max(self.agreed_index, index)
        differs = [node for node, state in states.items() if state != most or not has_majority]
        if said.count(most) == len(said):
            differs = []  # few have told, and nobody differs
        news = tuple(node for node in differs if node not in self._told)
        self._told.update(dict.fromkeys(news))
        return Diverged(index, news) if news else None
