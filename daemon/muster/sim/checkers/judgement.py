"""The verdict on a whole history: all checkers that apply to its kind, and the explanation.

A history of muster's own is judged twice. The search by key follows values and revisions, the
replay by revision sees all keys at once; either may find it wrong, and either may find it right
where the other one ran out of time or of certainty.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from muster.sim.checkers.explanation import Explainable, Explanation, explain
from muster.sim.checkers.linearizability import check
from muster.sim.checkers.models import Register, RegistryKey, Text
from muster.sim.checkers.revisions import RevisionReport, check_revisions
from muster.sim.checkers.vocabulary import Budget, Verdict
from muster.sim.history import History

MODELS: Final[dict[str, Explainable]] = {
    "register": Register(),
    "text": Text(),
    "registry": RegistryKey(),
}
"""By `History.kind`."""


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
    revisions = RevisionReport(Verdict.UNKNOWN)
    if history.kind == "registry":
        revisions = check_revisions(history.operations)
    report = check(model, history.operations, key=lambda request: request.key, budget=budget)
    if report.verdict is Verdict.NOT_LINEARIZABLE:
        found = explain(model, report, budget=budget)
        return Judgement(report.verdict, found)
    if revisions.verdict is Verdict.NOT_LINEARIZABLE:
        return Judgement(revisions.verdict, _of_revisions(revisions))
    if Verdict.LINEARIZABLE in (report.verdict, revisions.verdict):
        return Judgement(Verdict.LINEARIZABLE)
    key = report.operations[0].input.key
    steps = f"after {report.steps:,} steps on key {key}, {len(report.operations)} operations"
    return Judgement(Verdict.UNKNOWN, why_unknown=f"the search was given up {steps}")


def _of_revisions(report: RevisionReport) -> Explanation:
    keys = sorted({operation.input.key for operation in report.operations})
    return Explanation(", ".join(keys), report.operations, f"{report.why}.")
