"""A second opinion on muster's own histories, in O(n log n): every reply tells the store's
revision, which is the order of the operations, so nothing has to be searched.

The operations are put in the order of their revisions (a change before those that were told the
revision it made), replayed on all keys, and each reply is compared. Then the order must agree with
time: what was called after something had returned has no lower revision, and a change a higher one.
It sees what a search by key cannot: a revision that two keys share, one that skips.

A revision that no answered change made belongs to one of unknown outcome. Which one is known only
if somebody read it; so with such revisions the answer is UNKNOWN at best, and a fault is called one
only if it is one whichever they were. The history must begin with an empty store, and hold all who
changed it: a revision that is nobody's shows that a change was made twice.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from muster.sim.checkers.models import ABSENT, RegistryKey
from muster.sim.checkers.vocabulary import Verdict
from muster.sim.checkers.wording import by_whom, outcome_clause
from muster.sim.history import Op, Outcome

ANY_VALUE: Final = None
MODEL: Final = RegistryKey()


@dataclass(frozen=True, slots=True)
class RevisionReport:
    """The verdict, and if it is not linearizable a sentence and the operations that it names."""

    verdict: Verdict
    why: str = ""
    operations: tuple[Op, ...] = ()


@dataclass(slots=True)
class _Held:
    """A key in the replay. `value` is `ANY_VALUE` also where only the revision is known."""

    value: str | None = None
    entry: int = ABSENT
    since: int = 0
    """The revision of the last change of this key that was answered."""
    maker: Op | None = None


class _Fault(Exception):
    def __init__(self, why: str, *operations: Op | None) -> None:
        super().__init__(why)
        self.operations = tuple(operation for operation in operations if operation is not None)


def check_revisions(operations: Iterable[Op]) -> RevisionReport:
    """Judge the operations of a whole store, of all keys."""
    operations = list(operations)
    known = [operation for operation in operations if operation.output is not None]
    if any(_revision(operation) < 0 for operation in known):
        return RevisionReport(Verdict.UNKNOWN, "not every reply tells a revision")
    replay = _Replay(operation for operation in operations if operation.output is None)
    try:
        _check_time(known)
        for operation in sorted(known, key=_order):
            replay.apply(operation)
        replay.check_count()
    except _Fault as fault:
        return RevisionReport(Verdict.NOT_LINEARIZABLE, str(fault), fault.operations)
    verdict = Verdict.UNKNOWN if replay.missing else Verdict.LINEARIZABLE
    return RevisionReport(
        verdict, "" if not replay.missing else "some revisions have no known maker"
    )


class _Replay:
    """All keys, brought from revision to revision."""

    def __init__(self, unknown: Iterable[Op]) -> None:
        self.missing: list[int] = []
        """Revisions that no answered change made."""
        self._unknown: dict[str, list[Op]] = {}
        self._unknown_count = 0
        for operation in unknown:
            self._unknown.setdefault(operation.input.key, []).append(operation)
            self._unknown_count += MODEL.changes(operation)
        self._keys: dict[str, _Held] = {}
        self._revision = 0
        self._last: Op | None = None
        self._owner: dict[int, str] = {}
        """Of a missing revision that somebody was told as a key's own: that key."""

    def apply(self, operation: Op) -> None:
        """The next one in the order of `_order`."""
        request, reply, revision = operation.input, operation.output, _revision(operation)
        assert reply is not None
        held = self._keys.setdefault(request.key, _Held())
        if not _is_change(operation):
            self._move_to(revision)
            if reply.outcome is Outcome.NOT_FOUND:
                self._find(held, operation, ABSENT)
            elif reply.outcome is Outcome.CONFLICT:
                if reply.entry == (request.expected or None):
                    raise _Fault(
                        f"{outcome_clause(operation)}, but its revision was right", operation
                    )
                self._find(held, operation, reply.entry or ABSENT)
            else:
                self._find(held, operation, reply.entry or ABSENT, reply.value)
            return
        if revision <= self._revision:
            why = f"revision {revision} was made twice, at last by {by_whom(operation)}"
            raise _Fault(why, self._last, operation)
        self._move_to(revision - 1)
        if isinstance(request.expected, int):
            self._find(held, operation, request.expected)
        elif request.action == "delete" and held.entry == ABSENT and not self._may_be_new(held):
            raise _Fault(f"{outcome_clause(operation)}, but there was no such key", operation)
        self._revision, self._last = revision, operation
        entry = revision if request.action == "put" else ABSENT
        self._keys[request.key] = _Held(request.value, entry, revision, operation)

    def check_count(self) -> None:
        """Errors: _Fault if more revisions are missing than changes are unknown."""
        if len(self.missing) > self._unknown_count:
            raise _Fault(
                f"{len(self.missing)} revisions, the first of them {self.missing[0]}, were made by "
                f"no answered change, and only {self._unknown_count} have an unknown outcome"
            )

    def _move_to(self, revision: int) -> None:
        self.missing += range(self._revision + 1, revision + 1)
        self._revision = max(self._revision, revision)

    def _find(self, held: _Held, operation: Op, entry: int, value: str | None = ANY_VALUE) -> None:
        """An operation found its key at revision `entry`. Errors: _Fault if it cannot have."""
        if entry == held.entry and (ANY_VALUE in (value, held.value) or value == held.value):
            held.value = value if held.value is ANY_VALUE else held.value
            return
        key = operation.input.key
        if entry != held.entry and self._may_be_new(held) and self._unknown_maker(operation, value):
            is_free = self._owner.get(entry, key) == key and not self._is_made(entry)
            if entry == ABSENT or (is_free and held.since < entry <= self._revision):
                if entry != ABSENT:
                    self._owner[entry] = key
                held.value, held.entry = value, entry
                return
        found = f"revision {held.entry}" if held.entry else "no such key"
        told = f"finding it at revision {entry}" if entry else "finding no such key"
        raise _Fault(
            f"{outcome_clause(operation)}, {told}; in the order of revisions there was {found}",
            held.maker,
            operation,
        )

    def _may_be_new(self, held: _Held) -> bool:
        """May a change of unknown outcome have touched this key since its last answered one?"""
        return bool(self.missing) and self.missing[-1] > held.since

    def _is_made(self, revision: int) -> bool:
        place = bisect.bisect_left(self.missing, revision)
        return place == len(self.missing) or self.missing[place] != revision

    def _unknown_maker(self, reader: Op, value: str | None) -> bool:
        """Is there a change of unknown outcome that `reader` may have seen?"""
        candidates = self._unknown.get(reader.input.key, ())
        return any(
            maker.call <= reader.ret and (value is ANY_VALUE or maker.input.value == value)
            for maker in candidates
        )


def _check_time(known: list[Op]) -> None:
    """Errors: _Fault if the order of revisions is not that of time."""
    events = [(operation.call, 0, place) for place, operation in enumerate(known)]
    events += [(operation.ret, 1, place) for place, operation in enumerate(known)]
    newest: Op | None = None
    for _, kind, place in sorted(events):
        operation = known[place]
        if kind == 1:
            if newest is None or _revision(operation) > _revision(newest):
                newest = operation
        elif newest is not None:
            least = _revision(newest) + _is_change(operation)
            if _revision(operation) < least:
                raise _Fault(
                    f"{outcome_clause(operation)} at revision {_revision(operation)}, after "
                    f"{by_whom(newest)} had been answered at revision {_revision(newest)}",
                    newest,
                    operation,
                )


def _order(operation: Op) -> tuple[int, bool, float]:
    return _revision(operation), not _is_change(operation), operation.call


def _is_change(operation: Op) -> bool:
    return MODEL.changes(operation)


def _revision(operation: Op) -> int:
    """-1: it tells none."""
    reply = operation.output
    return reply.revision if reply is not None and reply.revision is not None else -1
