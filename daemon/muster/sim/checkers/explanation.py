"""Why a history is not linearizable: the fewest of its operations that show it, and one sentence.

Delta debugging (Zeller 1999) over whole operations: leave out halves, quarters, ..., single ones,
as long as what is left is not linearizable. Not everything may be left out. Without the write that
a read found, what is left is wrong too, but for a reason that the history has not. So

- a *source* of an operation is a change that may have left what it found, that was called before it
  returned, and that was not certainly overwritten before it was called: while the operation stays,
  its sources stay. Whatever else is left out, no remaining operation found what it had left, so an
  order of the whole history, if there were one, would be an order of the remaining operations.
- if all that could have been its source was overwritten, the one that returned last stays: people
  want to see where the value came from.

"Certainly overwritten" means: between its return and the call there lies a whole operation, of the
history, that wrote something else or already did not find it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from muster.sim.checkers.linearizability import check_key
from muster.sim.checkers.vocabulary import Budget, Model, Report, Verdict
from muster.sim.checkers.wording import asked, by_whom, outcome_clause, timeline, told
from muster.sim.history import Op, Reply, Request


class Explainable(Model[Any, Request, Reply], Protocol):
    """A model that can tell who may have seen whose effect."""

    def observes(self, operation: Op) -> bool:
        """Does its result depend on what was there?"""

    def overwrites(self, operation: Op) -> bool:
        """Did it certainly leave nothing to be seen of what was there before?"""

    def may_show(self, reader: Op, writer: Op) -> bool:
        """May what `reader` found have been left by `writer`?"""


@dataclass(frozen=True, slots=True)
class Explanation:
    """`operations` of one key, in the order of their calls: not linearizable, and if
    `is_smallest`, none of them can be left out."""

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
    shrinker = _Shrinker(model, report, budget or Budget())
    kept = shrinker.shrink()
    why = _why(model, shrinker, kept)
    key = report.operations[0].input.key
    return Explanation(key, tuple(shrinker.all[n] for n in kept), why, shrinker.is_smallest)


class _Shrinker:
    """Operations are known by their place in `all`."""

    def __init__(self, model: Explainable, report: Report[Request, Reply], budget: Budget) -> None:
        self.all = report.operations
        self.is_smallest = True
        self._model, self._budget = model, budget
        self._stuck = report.stuck
        self._writers = [n for n, op in enumerate(self.all) if model.changes(op)]
        self._observers = {
            n: None for n, op in enumerate(self.all) if op.output is not None and model.observes(op)
        }
        self._gone = {n: self._gone_at(self.all[n]) for n in self._writers}
        self.sources = [self._sources(n) for n in range(len(self.all))]

    def _gone_at(self, writer: Op) -> float:
        """From when on nobody can find what `writer` left."""
        return min(
            (
                other.ret
                for other in self.all
                if other.call > writer.ret and self._hides(other, writer)
            ),
            default=math.inf,
        )

    def _hides(self, other: Op, writer: Op) -> bool:
        """`other` came after `writer`, and who comes after `other` does not find it any more."""
        model = self._model
        if model.overwrites(other):
            return True
        is_get = other.input.action == "get" and other.output is not None
        return is_get and not model.may_show(other, writer)

    def _sources(self, number: int) -> list[int]:
        """Who must stay while this one stays."""
        reader = self.all[number]
        possible = [
            n
            for n in self._writers
            if n != number
            and self.all[n].call <= reader.ret
            and self._model.may_show(reader, self.all[n])
        ]
        present = [n for n in possible if self._gone[n] >= reader.call]
        return present or sorted(possible, key=lambda n: self.all[n].ret)[-1:]

    def shrink(self) -> list[int]:
        """The places of what is left."""
        kept = list(range(len(self.all)))
        if self._stuck is not None:
            late = [n for n in kept if self.all[n].call > self._stuck.ret]
            kept = self._tried(kept, late) or kept
        size = max(1, len(kept) // 2)
        while True:
            before, start = len(kept), 0
            while start < len(kept):
                smaller = self._tried(kept, kept[start : start + size])
                if smaller is None:
                    start += size
                else:
                    kept = smaller
            if size > 1:
                size //= 2
            elif len(kept) == before or not self.is_smallest:
                return kept

    def _tried(self, kept: list[int], left_out: list[int]) -> list[int] | None:
        """`kept` without as much of `left_out` as may be left out, if it is still wrong."""
        smaller = self._without(kept, left_out)
        if not smaller or len(smaller) == len(kept):
            return None
        if self._budget.is_over():
            self.is_smallest = False
            return None
        found = check_key(self._model, [self.all[n] for n in smaller], budget=self._budget)
        if found.verdict is Verdict.UNKNOWN:
            self.is_smallest = False
        return smaller if found.verdict is Verdict.NOT_LINEARIZABLE else None

    def _without(self, kept: list[int], left_out: list[int]) -> list[int]:
        """Whose source would be missing takes it back in, and the source its own. What was called
        after the last observation that is certain was made cannot matter."""
        stays = dict.fromkeys(kept)
        for number in left_out:
            stays.pop(number, None)
        end, before = -math.inf, -1
        while len(stays) != before:
            before = len(stays)
            end = max([end, *(self.all[n].ret for n in stays if n in self._observers)])
            for number in list(stays):
                in_time = (n for n in self.sources[number] if self.all[n].call <= end)
                stays.update(dict.fromkeys(in_time))
        return sorted(stays)


def _why(model: Explainable, shrinker: _Shrinker, kept: Sequence[int]) -> str:
    """The sentence. The simple reasons first, of the operation that was answered last."""
    operations = [shrinker.all[n] for n in kept]
    for reader in sorted(operations, key=lambda op: op.ret, reverse=True):
        if reader.output is not None and model.observes(reader):
            why = _why_not(model, shrinker.all, operations, reader)
            if why:
                return f"{why}."
    found = check_key(model, operations)
    return _no_order(operations, found)


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
    order = ", then ".join(by_whom(op) for op in found.longest) or "none"
    left = [op for op in operations if op.output is not None and op not in found.longest]
    rest = f"; {asked(left[0])} by client {left[0].client} does not fit behind it" if left else ""
    return f"No order gives all of these their results. The longest that does: {order}{rest}."
