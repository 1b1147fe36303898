"""A second opinion on muster's own histories, in O(n log n): every reply tells the store's
revision, which is the order of the operations, so nothing has to be searched.

The operations are put in the order of their revisions (a change before those that were told the
revision it made), replayed on all keys, and each reply is compared. Then the order must agree with
time: what was called after something had returned has no lower revision, and a change a higher one.
It sees what a search by key cannot: a revision that two keys share, one that skips.

Who made a missing revision is known only if somebody read it; so with such revisions the answer is
UNKNOWN at best, `makers` has to find them, and a fault is called one only if it is one whoever made
them. The history must begin with an empty store, and hold all who changed it: a revision that is
nobody's shows that a change was made twice.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from muster.sim.checkers.models import ABSENT
from muster.sim.checkers.revision_order import (
    Fault,
    answered,
    check_calls,
    check_time,
    is_change,
    missing_revisions,
    revision_of,
)
from muster.sim.checkers.vocabulary import Verdict
from muster.sim.checkers.wording import by_whom, outcome_clause, told
from muster.sim.history import Op, Outcome

ANY_VALUE: Final = None


@dataclass(frozen=True, slots=True)
class RevisionReport:
    """The verdict, and if it is not linearizable a sentence and the operations that it names."""

    verdict: Verdict
    why: str = ""
    operations: tuple[Op, ...] = ()
    missing: tuple[int, ...] = ()
    """Revisions that no answered change made, if the verdict is UNKNOWN for their sake."""


@dataclass(slots=True)
class _Held:
    """A key in the replay. `value` is `ANY_VALUE` also where only the revision is known."""

    value: str | None = None
    entry: int = ABSENT
    since: int = 0
    """The revision of the last change of this key that was answered."""
    maker: Op | None = None


def check_revisions(operations: Iterable[Op]) -> RevisionReport:
    """Judge the operations of a whole store, of all keys."""
    operations = list(operations)
    known = answered(operations)
    unknown = [op for op in operations if op.output is None and is_change(op)]
    if any(revision_of(operation) < 0 for operation in known):
        return RevisionReport(Verdict.UNKNOWN, "not every reply tells a revision")
    replay = _Replay(unknown)
    try:
        check_time(known)
        missing = missing_revisions(known, len(unknown))
        check_calls(missing, known, unknown)
        for operation in known:
            _check_alone(operation)
            replay.apply(operation)
    except Fault as fault:
        return RevisionReport(Verdict.NOT_LINEARIZABLE, str(fault), fault.operations)
    if not missing:
        return RevisionReport(Verdict.LINEARIZABLE)
    why = "some revisions have no known maker"
    return RevisionReport(Verdict.UNKNOWN, why, missing=tuple(missing))


class _Replay:
    """All keys, brought from revision to revision."""

    def __init__(self, unknown: Iterable[Op]) -> None:
        self.missing: list[int] = []
        """Those that were met so far."""
        self._unknown: dict[str, list[Op]] = {}
        for operation in unknown:
            self._unknown.setdefault(operation.input.key, []).append(operation)
        self._keys: dict[str, _Held] = {}
        self._revision = 0
        self._last: Op | None = None
        self._owner: dict[int, str] = {}
        """Of a missing revision that somebody was told as a key's own: that key."""

    def apply(self, operation: Op) -> None:
        """The next one in the order of `answered`."""
        request, reply, revision = operation.input, operation.output, revision_of(operation)
        assert reply is not None
        held = self._keys.setdefault(request.key, _Held())
        if not is_change(operation):
            self._move_to(revision)
            if reply.outcome is Outcome.NOT_FOUND:
                self._find(held, operation, ABSENT)
            else:
                self._find(held, operation, reply.entry or ABSENT, reply.value)
            return
        if revision <= self._revision:
            why = f"revision {revision} was made twice, at last by {by_whom(operation)}"
            raise Fault(why, self._last, operation)
        self._move_to(revision - 1)
        if isinstance(request.expected, int):
            self._find(held, operation, request.expected)
        elif (
            request.action == "delete" and held.entry == ABSENT and not self._may_be_new(operation)
        ):
            raise Fault(f"{outcome_clause(operation)}, but there was no such key", operation)
        self._revision, self._last = revision, operation
        entry = revision if request.action == "put" else ABSENT
        self._keys[request.key] = _Held(request.value, entry, revision, operation)

    def _move_to(self, revision: int) -> None:
        self.missing += range(self._revision + 1, revision + 1)
        self._revision = max(self._revision, revision)

    def _find(self, held: _Held, operation: Op, entry: int, value: str | None = ANY_VALUE) -> None:
        """An operation found its key at revision `entry`. Errors: Fault if it cannot have."""
        if entry == held.entry and (ANY_VALUE in (value, held.value) or value == held.value):
            held.value = value if held.value is ANY_VALUE else held.value
            return
        key = operation.input.key
        if entry != held.entry and self._may_be_new(operation, value):
            is_free = self._owner.get(entry, key) == key and not self._is_made(entry)
            if entry == ABSENT or (is_free and held.since < entry <= self._revision):
                if entry != ABSENT:
                    self._owner[entry] = key
                held.value, held.entry = value, entry
                return
        found = f"revision {held.entry}" if held.entry else "no such key"
        finding = f"finding it at revision {entry}" if entry else "finding no such key"
        raise Fault(
            f"{outcome_clause(operation)}, {finding}; in the order of revisions there was {found}",
            held.maker,
            operation,
        )

    def _may_be_new(self, reader: Op, value: str | None = ANY_VALUE) -> bool:
        """May `reader` have seen a change of unknown outcome, made since the key's last answered
        one?"""
        since = self._keys[reader.input.key].since
        return (
            bool(self.missing)
            and self.missing[-1] > since
            and any(
                maker.call <= reader.ret and (value is ANY_VALUE or maker.input.value == value)
                for maker in self._unknown.get(reader.input.key, ())
            )
        )

    def _is_made(self, revision: int) -> bool:
        place = bisect.bisect_left(self.missing, revision)
        return place == len(self.missing) or self.missing[place] != revision


def _check_alone(operation: Op) -> None:
    """Errors: Fault if no store at all can have answered so."""
    request, reply = operation.input, operation.output
    assert reply is not None
    entry = reply.entry or ABSENT
    if reply.outcome is Outcome.CONFLICT:
        if entry == request.expected:
            raise Fault(f"{outcome_clause(operation)}, but its revision was right", operation)
        return
    if reply.outcome is Outcome.NOT_FOUND:
        is_wrong = bool(entry or request.expected)
    elif request.action == "delete":
        is_wrong = bool(entry) or request.expected == ABSENT
    else:
        is_put = request.action == "put"
        is_wrong = reply.entry not in (None, reply.revision) if is_put else not entry
    if is_wrong:
        raise Fault(f"{by_whom(operation)} was told {told(operation)}; no store says so", operation)
