"""The follower's side of log replication: what of an append may reach the engine.

pysyncobj 0.3.17 truncates its log behind `prevLogIdx` of *every* append, conflict or not (D2), and
moves its commit index over entries nobody has compared (D1). So an append is reduced first:

* Entries that are already here with the same term are cut off. By the Log Matching Property
  (Ongaro & Ousterhout, Raft, figure 3) everything before them is then the same as well.
* What is committed here is the same in the log of every later leader (Leader Completeness), so
  such entries are cut off without a look; if one differs after all, that is a safety violation.
* If entries are left, the first of them is new or conflicts with one of ours: the engine may
  append, or truncate and append.
* If what comes before them is missing here or differs, the leader is asked to start again from an
  earlier entry: from our end, or from the first of our entries of the conflicting term. (The
  engine would go back one entry a heartbeat, D28.)
* If none is left and our log is longer than what the leader spoke of, the engine would truncate.
  It is given a bare heartbeat instead, whose commit index is clamped to what is verified, and the
  acknowledgement for the verified prefix is ours.

`verified` is the highest index known to be the same as in the log of the leader of `term`. Only
it bounds the commit index and is acknowledged; the engine's own answer would cover its unverified
tail.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from muster_protocol.errors import RemoteError
from muster_protocol.raftguard.translation import check_command

if TYPE_CHECKING:
    from collections.abc import Mapping

    from muster_protocol.raftguard.events import LogView
    from muster_protocol.wire.raft import Append, Entry


class CommittedEntryConflict(Exception):
    """A leader's append contradicts an entry that is committed here."""


@dataclass(frozen=True, slots=True)
class Reduced:
    """What to hand to the engine, and what to answer in its place: the index to acknowledge, or
    the one from which the leader should start again. Neither: the engine answers."""

    message: Mapping[str, Any]
    acknowledge: int | None = None
    start_again_from: int | None = None


class FollowerLog:
    """Reduces appends of the present leader."""

    def __init__(self, log: LogView) -> None:
        self._log = log
        self._term = 0
        self._verified = 0

    def verified_in(self, term: int) -> int:
        """The verified index for the leader of `term`; what is committed is always verified."""
        if term != self._term:
            self._term = term
            self._verified = 0
        self._verified = max(self._verified, self._log.commit_index)
        return self._verified

    def verify(self, term: int, index: int) -> None:
        """The leader of `term` has the same log up to `index` as we have, by its snapshot."""
        self._verified = max(self.verified_in(term), index)

    def reduce(self, append: Append) -> Reduced:
        """Errors: RemoteError for an append that no leader sends, CommittedEntryConflict."""
        _check_consecutive(append)
        self.verified_in(append.term)
        entries = self._new_entries(append)
        end, end_term = self._before(append, entries)
        if not self._matches(end, end_term):
            return Reduced(self._heartbeat(append), start_again_from=self._restart_at(end))
        self._verified = max(self._verified, entries[-1].index if entries else end)
        if entries or self._log.last_index == end:
            return Reduced(_engine_append(append, end, end_term, entries))
        return Reduced(self._heartbeat(append), acknowledge=self._verified)

    def _heartbeat(self, append: Append) -> Mapping[str, Any]:
        """The leader lives, and so much is committed of what is verified."""
        return {
            "type": "append_entries",
            "term": append.term,
            "commit_index": max(self._log.commit_index, min(append.commit_index, self._verified)),
            "serialized": None,
        }

    def _restart_at(self, index: int) -> int:
        """The leader's entry at `index` is not ours: where its next append should begin."""
        term = self._log.term_at(index)
        if term is None:
            return self._log.last_index + 1
        while index - 1 > self._verified and self._log.term_at(index - 1) == term:
            index -= 1
        return index

    def _new_entries(self, append: Append) -> tuple[Entry, ...]:
        for position, entry in enumerate(append.entries):
            held = self._log.term_at(entry.index)
            is_committed = entry.index <= self._log.commit_index
            if is_committed and held is not None and held != entry.term:
                raise CommittedEntryConflict(
                    f"entry {entry.index} is committed here with term {held}, "
                    f"the leader of term {append.term} sent it with term {entry.term}"
                )
            if not is_committed and held != entry.term:
                return append.entries[position:]
        return ()

    @staticmethod
    def _before(append: Append, entries: tuple[Entry, ...]) -> tuple[int, int]:
        """Index and term of the leader's entry before the first new one, or of its last."""
        skipped = len(append.entries) - len(entries)
        if skipped == 0:
            return append.previous_index, append.previous_term
        return append.entries[skipped - 1].index, append.entries[skipped - 1].term

    def _matches(self, index: int, term: int) -> bool:
        """Is the leader's entry at `index` ours too? Compacted entries are committed, hence so."""
        held = self._log.term_at(index)
        return held == term if held is not None else index < self._log.first_index


def _check_consecutive(append: Append) -> None:
    for position, entry in enumerate(append.entries, start=1):
        if entry.index != append.previous_index + position or entry.term > append.term:
            raise RemoteError("raft-append", "append with a hole or with terms from the future")
        check_command(entry.command)


def _engine_append(
    append: Append, previous_index: int, previous_term: int, entries: tuple[Entry, ...]
) -> Mapping[str, Any]:
    return {
        "type": "append_entries",
        "term": append.term,
        "commit_index": append.commit_index,
        "entries": [(entry.command, entry.index, entry.term) for entry in entries],
        "prevLogIdx": previous_index,
        "prevLogTerm": previous_term,
    }
