"""Raft's safety, seen from outside (Ongaro's dissertation, figure 3.2).

* **Election safety**: at most one leader in each term. What counts is who leads, not who thinks
  that somebody does; a deposed leader that has not heard of it leads in an older term.
* **Committed prefixes**: an entry that one voter has committed at an index is the entry that every
  voter ever commits there (state machine safety), also after crashes, and whatever it had in its
  log before. One table of all committed entries is enough for that: index to term and digest.
* **On a majority**: what the first voter takes for committed is on the disks of a majority in that
  moment. This is the rule from which the other two follow, so whoever breaks it is seen before he
  has done harm, which takes two failures more.
* **A life's commit index** never goes back. A new life may begin lower: it is not stored.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Iterable

from muster.sim.checkers.violated import Violated

DIGEST_BYTES = 8


class ElectionSafety:
    """At most one leader in each term."""

    def __init__(self) -> None:
        self._leaders: dict[int, str] = {}

    def leads(self, node: str, term: int) -> None:
        """`node` leads in `term`. Errors: Violated."""
        leader = self._leaders.setdefault(term, node)
        if leader != node:
            raise Violated("election safety", f"{leader} and {node} both lead in term {term}")

    @property
    def terms(self) -> int:
        """How many terms had a leader."""
        return len(self._leaders)


class CommittedPrefixes:
    """What is committed once is committed for ever, and the same everywhere."""

    def __init__(self) -> None:
        self._entries: dict[int, tuple[int, bytes]] = {}
        self._first_seen: dict[int, str] = {}
        self._commit_index: dict[Hashable, int] = {}

    def next_index(self, life: Hashable) -> int:
        """The first index of which this life of a node has not told."""
        return self._commit_index.get(life, 0) + 1

    def commit_index(self, node: str, life: Hashable, index: int) -> None:
        """`node` takes everything up to `index` for committed. Errors: Violated."""
        before = self._commit_index.get(life, 0)
        if index < before:
            raise Violated(
                "committed prefixes", f"{node} went back from commit index {before} to {index}"
            )
        self._commit_index[life] = index

    def committed(self, node: str, index: int, term: int, command: bytes) -> None:
        """`node` has this entry at a committed index. Errors: Violated."""
        digest = hashlib.blake2b(command, digest_size=DIGEST_BYTES).digest()
        known = self._entries.setdefault(index, (term, digest))
        if known != (term, digest):
            first = self._first_seen[index]
            raise Violated(
                "committed prefixes",
                f"at index {index}, {first} committed an entry of term {known[0]} and {node} "
                f"another one of term {term}",
            )
        self._first_seen.setdefault(index, node)

    @property
    def entries(self) -> int:
        """How many indexes were seen committed."""
        return len(self._entries)


class CommittedOnMajority:
    """Nothing is committed before a majority has it on disk. Needs an eye on all disks at once."""

    def __init__(self) -> None:
        self._up_to = 1  # each voter makes the first entry itself, when the cluster is founded

    def committed(
        self, node: str, index: int, holders: Iterable[str], electorates: Iterable[Iterable[str]]
    ) -> None:
        """`node` takes this entry for committed, and `holders` have it durably; a majority of one
        of the electorates must be among them, which are those in force since the entry was made.
        What was committed before is not looked at again: they may have compacted it.

        Errors: Violated.
        """
        if index <= self._up_to:
            return
        self._up_to = index
        held = list(holders)
        if not any(_is_majority(held, list(voters)) for voters in electorates):
            raise Violated(
                "on a majority",
                f"{node} commits entry {index}, which is on the disks of {', '.join(held)} only",
            )


def _is_majority(held: list[str], voters: list[str]) -> bool:
    return 2 * sum(voter in held for voter in voters) > len(voters)
