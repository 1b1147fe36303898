"""Why a history is not linearizable: few of its operations that show it, and one sentence.

Delta debugging (Zeller 1999) over whole operations: leave out halves, quarters, ..., single ones,
as long as what is left is not linearizable. In the end none of them can be left out alone; that
they are the fewest there are is not said, for to know that all choices would have to be tried.

Not everything may be left out. Without the write that a read found, what is left is wrong too, but
for a reason that the history has not. So while an operation stays, its `sources` stay. Whatever
else is left out, no remaining operation found what it had left, so an order of the whole history,
if there were one, would be an order of the remaining operations.

When the budget is over, what is left so far is shown, with whatever sentence was found.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from muster.sim.checkers.linearizability import check_key
from muster.sim.checkers.sources import Explainable, sources_of
from muster.sim.checkers.vocabulary import Budget, Report, Verdict
from muster.sim.checkers.wording import asked, by_whom, outcome_clause, timeline, told
from muster.sim.history import Op, Reply, Request

SHOWN_MAX: Final = 12
"""Operations of an order that the sentence names: the last ones. More is no sentence."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """`operations` of one key, in the order of their calls: not linearizable, and if
    `is_smallest`, no single one of them can be left out."""

    key: str
    operations: tuple[Op, ...]
    why: str
    is_smallest: bool = True

    def text(self) -> str:
        """A timeline and the sentence."""
        return "\n".join([*timeline(self.operations), f"  {self.why}"])


def explain(
    model: Explainable, report: Report[Request, Reply], *, budget: Budget | None = None
) -> Explanation:
    """Shrink what `check` found not linearizable. When `budget` is over, what is left is told."""
    assert report.verdict is Verdict.NOT_LINEARIZABLE
    budget = budget or Budget()
    shrinker = _Shrinker(model, report, budget)
    kept = [shrinker.all[n] for n in shrinker.shrink()]
    why = _simple_reason(model, shrinker.all, kept, budget) or _no_order(kept, shrinker.found)
    return Explanation(report.operations[0].input.key, tuple(kept), why, shrinker.is_smallest)


class _Shrinker:
    """Operations are known by their place in `all`."""

    def __init__(self, model: Explainable, report: Report[Request, Reply], budget: Budget) -> None:
        self.all = report.operations
        self.found = report
        """Of what is left."""
        self.is_smallest = True
        self._model, self._budget = model, budget
        self._is_observer = [op.output is not None and model.observes(op) for op in self.all]
        self._sources = sources_of(model, self.all, budget)

    def shrink(self) -> list[int]:
        """The places of what is left."""
        kept = list(range(len(self.all)))
        stuck = self.found.stuck
        if stuck is not None:
            late = [n for n in kept if self.all[n].call > stuck.ret]
            kept = self._tried(kept, late) or kept
        size = max(1, len(kept) // 2)
        while True:
            before, start = len(kept), 0
            while start < len(kept) and not self._is_over():
                smaller = self._tried(kept, kept[start : start + size])
                if smaller is None:
                    start += size
                else:
                    kept = smaller
            if self._is_over() or (size == 1 and len(kept) == before):
                return kept
            size = max(1, size // 2)

    def _is_over(self) -> bool:
        if self._sources is None or self._budget.is_over():
            self.is_smallest = False
            return True
        return False

    def _tried(self, kept: list[int], left_out: list[int]) -> list[int] | None:
        """`kept` without as much of `left_out` as may be left out, if it is still wrong."""
        if self._is_over():
            return None
        smaller = self._without(kept, left_out)
        if not smaller or len(smaller) == len(kept):
            return None
        found = check_key(self._model, [self.all[n] for n in smaller], budget=self._budget)
        if found.verdict is Verdict.NOT_LINEARIZABLE:
            self.found = found
            return smaller
        if found.verdict is Verdict.UNKNOWN:
            self.is_smallest = False
        return None

    def _without(self, kept: list[int], left_out: list[int]) -> list[int]:
        """Whose source would be missing takes it back in, and the source its own. What was called
        after the last observation that is certain was made cannot matter."""
        assert self._sources is not None
        stays = dict.fromkeys(kept)
        for number in left_out:
            stays.pop(number, None)
        until, end = -math.inf, self._end(stays)
        while until < end:
            until, waiting = end, list(stays)
            while waiting:
                for source in self._sources[waiting.pop()]:
                    if source not in stays and self.all[source].call <= until:
                        stays[source] = None
                        waiting.append(source)
            end = self._end(stays)
        return sorted(stays)

    def _end(self, places: Iterable[int]) -> float:
        """When the last certain observation was made."""
        rets = (self.all[n].ret for n in places if self._is_observer[n])
        return max(rets, default=-math.inf)


def _simple_reason(
    model: Explainable, whole: Sequence[Op], kept: Sequence[Op], budget: Budget
) -> str:
    """The sentence, of the operation that was answered last and has a simple reason; "": none has,
    or there is no time to find it."""
    for reader in sorted(kept, key=lambda op: op.ret, reverse=True):
        if reader.output is not None and model.observes(reader):
            if budget.is_over():
                return ""
            why = _why_not(model, whole, kept, reader)
            if why:
                return f"{why}."
    return ""


def _why_not(model: Explainable, whole: Sequence[Op], kept: Sequence[Op], reader: Op) -> str:
    """Why `reader` cannot have found what it found, if that has a simple reason."""
    writers = [op for op in whole if op is not reader and model.changes(op)]
    shown = [op for op in writers if model.may_show(reader, op)]
    earlier = [op for op in shown if op.call <= reader.ret]
    may_be_first = _is_right_alone(model, reader)
    if not may_be_first and not shown:
        return f"{outcome_clause(reader)}, which nothing wrote"
    if not may_be_first and not earlier:
        return f"{outcome_clause(reader)}, before that was written ({by_whom(shown[0])})"
    last = max((op.ret for op in earlier), default=-math.inf)
    again = "wrote that again" if earlier else "made it so again"
    for other in kept:
        is_between = last < other.call <= other.ret < reader.call
        if not is_between or (model.changes(other) and model.may_show(reader, other)):
            continue
        if model.overwrites(other):
            return f"{outcome_clause(reader)}, after {by_whom(other)} was done and nothing {again}"
        if model.changes(other) and other.output is not None:
            return f"{outcome_clause(reader)}, without {by_whom(other)}, which was done before"
        is_else = not any(model.may_show(other, op) for op in earlier)
        if is_else and not (may_be_first and _is_right_alone(model, other)):
            return f"{outcome_clause(reader)}, after {outcome_clause(other)} and nothing {again}"
    return ""


def _is_right_alone(model: Explainable, operation: Op) -> bool:
    return check_key(model, [operation]).verdict is Verdict.LINEARIZABLE


def _no_order(operations: Sequence[Op], found: Report[Request, Reply]) -> str:
    """The general reason: what the search came to."""
    if len(operations) == 1:
        cannot_be = "whatever was there, that cannot be"
        return f"{by_whom(operations[0])} was told {told(operations[0])}; {cannot_be}."
    last = [by_whom(op) for op in found.longest[-SHOWN_MAX:]]
    others = len(found.longest) - len(last)
    order = ", then ".join([f"{others} others"] * bool(others) + last) or "none"
    placed = set(found.longest)
    left = [op for op in operations if op.output is not None and op not in placed]
    rest = f"; {asked(left[0])} by client {left[0].client} does not fit behind it" if left else ""
    return f"No order gives all of these their results. The longest that does: {order}{rest}."
