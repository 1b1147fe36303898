"""The order that revisions give to the operations of a whole store: does it agree with time, and is
each revision somebody's?

A revision that no answered change made is *missing*: a change of unknown outcome made it, which was
called before anybody was told that revision or a later one (`tellers`). So when the nth missing one
is told, n such changes must have been called (Hall's condition, for moments that only grow).
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from muster.sim.checkers.models import RegistryKey
from muster.sim.checkers.wording import by_whom, outcome_clause
from muster.sim.history import Op

MODEL: Final = RegistryKey()


class Fault(Exception):
    """What is wrong, and the operations that show it."""

    def __init__(self, why: str, *operations: Op | None) -> None:
        super().__init__(why)
        self.operations = tuple(operation for operation in operations if operation is not None)


def answered(operations: Iterable[Op]) -> list[Op]:
    """Those that were, in the order of revisions: a change, then who was told what it made."""
    return sorted((op for op in operations if op.output is not None), key=_by_revision)


def _by_revision(operation: Op) -> tuple[int, bool, float]:
    return revision_of(operation), not is_change(operation), operation.call


def is_change(operation: Op) -> bool:
    """Did it make a revision, or may it have?"""
    return MODEL.changes(operation)


def revision_of(operation: Op) -> int:
    """-1: it tells none."""
    reply = operation.output
    return reply.revision if reply is not None and reply.revision is not None else -1


def check_time(known: list[Op]) -> None:
    """Errors: Fault if the order of revisions is not that of time."""
    events = [(operation.call, 0, place) for place, operation in enumerate(known)]
    events += [(operation.ret, 1, place) for place, operation in enumerate(known)]
    newest: Op | None = None
    for _, kind, place in sorted(events):
        operation = known[place]
        if kind == 1:
            if newest is None or revision_of(operation) > revision_of(newest):
                newest = operation
        elif newest is not None:
            least = revision_of(newest) + is_change(operation)
            if revision_of(operation) < least:
                raise Fault(
                    f"{outcome_clause(operation)} at revision {revision_of(operation)}, after "
                    f"{by_whom(newest)} had been answered at revision {revision_of(newest)}",
                    newest,
                    operation,
                )


def missing_revisions(known: Sequence[Op], unknown: int) -> list[int]:
    """Those that no answered change made. They are counted before they are listed: a reply may tell
    a revision of any size. Errors: Fault if they are more than the changes of unknown outcome."""
    made = [0, *(revision_of(operation) for operation in known if is_change(operation))]
    newest = revision_of(known[-1]) if known else 0
    gaps = [range(one + 1, other) for one, other in zip(made, [*made[1:], newest + 1], strict=True)]
    count = sum(max(0, gap.stop - gap.start) for gap in gaps)
    if count > unknown:
        first = next(gap.start for gap in gaps if gap.stop > gap.start)
        raise Fault(
            f"{count} revisions, the first of them {first}, were made by no answered change, and "
            f"only {unknown} have an unknown outcome",
            next(operation for operation in known if revision_of(operation) >= first),
        )
    return [revision for gap in gaps for revision in gap]


def check_calls(missing: Sequence[int], known: Sequence[Op], unknown: Sequence[Op]) -> None:
    """Errors: Fault if a missing revision was told before enough changes had been called to make
    it and those before it."""
    calls = sorted(operation.call for operation in unknown)
    for place, (revision, teller) in enumerate(tellers(missing, known)):
        if calls[place] > teller.ret:
            raise Fault(
                f"{outcome_clause(teller)} at revision {revision_of(teller)}; of the revisions up "
                f"to {revision}, {place + 1} were made by no answered change, and of the changes "
                f"of unknown outcome only {bisect.bisect_right(calls, teller.ret)} had been called",
                teller,
                min(unknown, key=lambda op: (op.call <= teller.ret, op.call)),
            )


def tellers(missing: Sequence[int], known: Sequence[Op]) -> Iterator[tuple[int, Op]]:
    """Of each missing revision who was told it, or a later one, first: whatever made it was called
    before that reply. `known`: as `answered` gives them."""
    first: list[Op] = []
    for operation in reversed(known):
        first.append(operation if not first or operation.ret < first[-1].ret else first[-1])
    first.reverse()
    for revision in missing:
        yield revision, first[bisect.bisect_left(known, revision, key=revision_of)]
