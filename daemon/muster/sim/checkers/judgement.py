"""The verdict on a whole history: all checkers that apply to its kind, and the explanation.

A history of muster's own is judged by its revisions, over all keys at once (`revisions`, and where
they leave something open `makers`): only that can call it right, for keys share their revisions.
The search by key sees less; but what it finds wrong is wrong, and can be shown in a few operations
of one key. So it is asked for the explanation, and helps where `makers` takes too long.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from muster.sim.checkers.explanation import Explanation, explain
from muster.sim.checkers.linearizability import check
from muster.sim.checkers.makers import Makers, find_makers
from muster.sim.checkers.models import Register, RegistryKey, Text
from muster.sim.checkers.revision_order import answered, revision_of, tellers
from muster.sim.checkers.revisions import check_revisions
from muster.sim.checkers.sources import Explainable
from muster.sim.checkers.vocabulary import Budget, Verdict
from muster.sim.checkers.wording import by_whom, outcome_clause
from muster.sim.history import History, Op

MODELS: Final[dict[str, Explainable]] = {
    "register": Register(),
    "text": Text(),
    "registry": RegistryKey(),
}
"""By `History.kind`."""

FIRST_STEPS: Final = 1_000_000
"""Of `makers` before the search by key has its turn: half a second. What is right is usually
found in a few for each operation."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """`explanation` if it is not linearizable; `why_unknown` if nobody can tell."""

    verdict: Verdict
    explanation: Explanation | None = None
    why_unknown: str = ""


def judge(history: History, *, budget: Budget | None = None) -> Judgement:
    """Judge all keys of a history; the explanation is of the first that is wrong."""
    budget = budget or Budget()
    model = MODELS[history.kind]
    whole = Judgement(Verdict.UNKNOWN)
    if history.kind == "registry":
        whole = _of_store(history.operations, replace(budget, steps=min(budget.steps, FIRST_STEPS)))
        if whole.verdict is Verdict.LINEARIZABLE:
            return whole
    report = check(model, history.operations, key=lambda request: request.key, budget=budget)
    if report.verdict is Verdict.NOT_LINEARIZABLE:
        return Judgement(report.verdict, explain(model, report, budget=budget))
    if history.kind == "registry":
        if whole.verdict is Verdict.UNKNOWN:
            whole = _of_store(history.operations, budget)
        return whole
    if report.verdict is Verdict.LINEARIZABLE:
        return Judgement(report.verdict)
    key = report.operations[0].input.key
    steps = f"after {report.steps:,} steps on key {key}, {len(report.operations)} operations"
    return Judgement(Verdict.UNKNOWN, why_unknown=f"the search was given up {steps}")


def _of_store(operations: tuple[Op, ...], budget: Budget) -> Judgement:
    """By revision, over all keys. Unknown only if the budget is over."""
    report = check_revisions(operations)
    if report.verdict is Verdict.NOT_LINEARIZABLE:
        keys = dict.fromkeys(operation.input.key for operation in report.operations)
        shown = Explanation(", ".join(sorted(keys)), report.operations, f"{report.why}.")
        return Judgement(report.verdict, shown)
    if not report.missing:
        return Judgement(report.verdict, why_unknown=report.why)
    makers = find_makers(operations, report.missing, budget=budget)
    if makers.verdict is Verdict.NOT_LINEARIZABLE:
        return Judgement(makers.verdict, _of_makers(operations, report.missing, makers))
    told = "who made the revisions that no answered change made was not found"
    is_unknown = makers.verdict is Verdict.UNKNOWN
    return Judgement(
        makers.verdict, why_unknown=f"{told} in {makers.steps:,} steps" if is_unknown else ""
    )


def _of_makers(operations: tuple[Op, ...], missing: Sequence[int], makers: Makers) -> Explanation:
    """Shown is what no way got past, and what of unknown outcome may have come before it."""
    unknown = [op for op in operations if op.output is None]
    if makers.stuck is None:
        _, stuck = next(tellers([makers.missing], answered(operations)))
        why = (
            f"{by_whom(stuck)} was told of revision {makers.missing}, which no answered change "
            f"made; no change of unknown outcome can have made it without another reply being "
            f"wrong."
        )
    else:
        stuck = makers.stuck
        unknown = [op for op in unknown if op.input.key == stuck.input.key]
        why = (
            f"{outcome_clause(stuck)} at revision {revision_of(stuck)}; the {len(missing)} "
            f"revisions that no answered change made cannot be given to changes of unknown outcome "
            f"so that all replies up to this one are right."
        )
    shown = [*(op for op in unknown if op.call <= stuck.ret), stuck]
    shown.sort(key=lambda op: op.call)
    return Explanation(stuck.input.key, tuple(shown), why, is_smallest=False)
