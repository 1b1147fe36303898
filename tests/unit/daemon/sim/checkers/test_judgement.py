"""The verdict on whole histories of muster's own, against who tries every order."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from muster.sim.checkers.judgement import Judgement, judge
from muster.sim.checkers.makers import find_makers
from muster.sim.checkers.revision_order import tellers
from muster.sim.checkers.revisions import check_revisions
from muster.sim.checkers.vocabulary import Budget, Operation, Verdict
from muster.sim.checkers.wording import timeline
from muster.sim.history import History, Op, Outcome, Reply, Request
from testkit.operations import op
from testkit.stores import bent, drawn, has_a_whole_order

HISTORIES = 3_000


def judged(*history: Op, budget: Budget | None = None) -> Judgement:
    return judge(History("registry", history), budget=budget)


def at_key(key: str, operation: Op) -> Op:
    return replace(operation, input=replace(operation.input, key=key))


def history_of(seed: int) -> list[Op]:
    """Every other one is bent."""
    rng = random.Random(seed)
    history = drawn(rng)
    return bent(rng, history) if seed % 2 else history


def test_the_verdict_is_that_of_who_tries_every_order() -> None:
    """Nothing is left open: the budget is not reached."""
    counts = {Verdict.LINEARIZABLE: 0, Verdict.NOT_LINEARIZABLE: 0}
    for seed in range(HISTORIES):
        history = history_of(seed)
        verdict = judged(*history).verdict
        right = Verdict.LINEARIZABLE if has_a_whole_order(history) else Verdict.NOT_LINEARIZABLE
        assert verdict is right, "\n".join([f"seed {seed}", *timeline(history)])
        counts[verdict] += 1
    assert min(counts.values()) > HISTORIES / 10


def test_makers_that_were_found_make_the_history_right_without_any_unknown_outcome() -> None:
    """The certificate: had they been answered, the replay would find nothing missing or wrong."""
    seen = 0
    for seed in range(HISTORIES):
        history = history_of(seed)
        missing = check_revisions(history).missing
        makers = find_makers(history, missing)
        if not missing or makers.verdict is not Verdict.LINEARIZABLE:
            continue
        known = [each for each in history if each.output is not None]
        ordered = sorted(known, key=lambda each: each.output.revision or 0 if each.output else 0)
        until = {revision: teller.ret for revision, teller in tellers(missing, ordered)}
        made = [
            Operation(by.client, by.input, Reply(revision=revision), by.call, until[revision])
            for revision, by in makers.by.items()
        ]
        assert check_revisions([*known, *made]).verdict is Verdict.LINEARIZABLE, seed
        seen += 1
    assert seen > HISTORIES / 10


def test_what_was_told_before_its_only_writer_called_is_wrong() -> None:
    history = (op("1", "get not-found", 1, 2, revision=1), op("2", "put y", 30))
    judgement = judged(*history)
    assert judgement.verdict is Verdict.NOT_LINEARIZABLE
    assert judgement.explanation is not None
    assert judgement.explanation.operations == history
    assert judgement.explanation.why == (
        "get k by client 1 found no such key at revision 1; of the revisions up to 1, 1 were made "
        "by no answered change, and of the changes of unknown outcome only 0 had been called."
    )


def test_a_put_that_was_told_of_another_change_than_its_own_is_wrong() -> None:
    judgement = judged(op("1", "put x", 1, 2, revision=1, entry=77))
    assert judgement.verdict is Verdict.NOT_LINEARIZABLE
    assert judgement.explanation is not None
    assert judgement.explanation.why == (
        "put k 'x' by client 1 was told done, revision 1, changed at 77; whatever was there, that "
        "cannot be."
    )


@pytest.mark.parametrize(
    "told",
    [
        op("1", "delete", 3, 4, revision=2, entry=1),
        op("1", "delete", 3, 4, expected=0, revision=2),
        op("1", "get not-found", 1, 2, revision=0, entry=1),
        op("1", "get x", 3, 4, revision=1, entry=0),
        op("1", "delete conflict", 3, 4, expected=1, revision=1, entry=1),
    ],
)
def test_what_no_store_says_is_wrong(told: Op) -> None:
    assert judged(op("1", "put x", 1, 2, revision=1), told).verdict is Verdict.NOT_LINEARIZABLE


LATER = op("1", "put z", 7, 8, revision=3, entry=3)


def test_who_made_a_revision_that_nobody_read_is_found() -> None:
    first, lost = op("1", "put x", 1, 2, revision=1, entry=1), op("9", "put y", 3)
    assert judged(first, lost, LATER) == Judgement(Verdict.LINEARIZABLE)


HERE = op("1", "put x", 1, 2, revision=1, entry=1)
THERE = at_key("other", op("1", "put x", 3, 4, revision=2, entry=2))
GONE_THERE = at_key("other", op("3", "get not-found", 8, 9, revision=3))


def test_one_revision_is_not_shared_by_two_keys() -> None:
    """Each key by itself is right: its own lost delete may have come before."""
    lost = op("9", "delete", 5), at_key("other", op("8", "delete", 5))
    gone_here = op("2", "get not-found", 6, 7, revision=3)
    assert judged(HERE, THERE, *lost, gone_here).verdict is Verdict.LINEARIZABLE
    judgement = judged(HERE, THERE, *lost, gone_here, GONE_THERE)
    assert judgement.verdict is Verdict.NOT_LINEARIZABLE
    assert judgement.explanation is not None
    assert judgement.explanation.operations == (*lost, gone_here)
    assert not judgement.explanation.is_smallest
    assert judgement.explanation.why == (
        "get k by client 2 was told of revision 3, which no answered change made; "
        "no change of unknown outcome can have made it without another reply being wrong."
    )


def test_a_reply_that_no_choice_of_makers_gives_is_told() -> None:
    """Somebody read at which revision the lost put was made; nothing is left for the delete."""
    lost, also_lost = op("9", "put y", 5), at_key("other", op("8", "delete", 5))
    read = op("2", "get y", 6, 7, revision=3, entry=3)
    judgement = judged(HERE, THERE, lost, also_lost, read, GONE_THERE)
    assert judgement.explanation is not None
    assert judgement.explanation.operations == (also_lost, GONE_THERE)
    assert judgement.explanation.why == (
        "get other by client 3 found no such key at revision 3; the 1 revisions that no answered "
        "change made cannot be given to changes of unknown outcome so that all replies up to this "
        "one are right."
    )


def test_a_revision_that_nothing_can_have_made_is_told() -> None:
    """The only change of unknown outcome is a delete, and there was nothing."""
    judgement = judged(op("9", "delete", 1), op("1", "put z", 7, 8, revision=2, entry=2))
    assert judgement.verdict is Verdict.NOT_LINEARIZABLE
    assert judgement.explanation is not None
    assert "was told of revision 1, which no answered change made" in judgement.explanation.why


@pytest.mark.parametrize("budget", [Budget(steps=0), Budget(is_over=lambda: True)])
def test_a_spent_budget_leaves_it_open_and_says_so(budget: Budget) -> None:
    lost = op("9", "put y", 3)
    judgement = judged(op("1", "put x", 1, 2, revision=1, entry=1), lost, LATER, budget=budget)
    assert judgement.verdict is Verdict.UNKNOWN
    assert "was not found" in judgement.why_unknown


@pytest.mark.parametrize("revision", [3 * 10**8, 2**62])
def test_a_large_revision_is_counted_and_not_listed(revision: int) -> None:
    reply = Reply(Outcome.NOT_FOUND, revision=revision)
    judgement = judged(Operation("1", Request("get", "k"), reply, 1, 2))
    assert judgement.verdict is Verdict.NOT_LINEARIZABLE
    assert judgement.explanation is not None
    assert judgement.explanation.why.startswith(f"{revision} revisions, the first of them 1, were")
