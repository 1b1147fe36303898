"""The few operations that show what is wrong, and the sentence."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muster.sim.checkers.explanation import Explanation, _Shrinker, explain
from muster.sim.checkers.judgement import MODELS
from muster.sim.checkers.linearizability import check_key
from muster.sim.checkers.models import Register
from muster.sim.checkers.vocabulary import Budget, Verdict
from muster.sim.history import Op, Reply, Request
from testkit.executions import execute, random_steps
from testkit.operations import op

KINDS = ["register", "text", "registry"]


def explained(kind: str, history: list[Op]) -> Explanation:
    return explain(MODELS[kind], check_key(MODELS[kind], history))


STALE = [
    op("1", "put x", 1, 2),
    op("4", "get x", 1, 2),
    op("2", "put y", 3, 4),
    op("4", "get y", 5, 6),
    op("3", "get x", 7, 8),
    op("3", "put z", 9, 10),
]


def test_a_stale_read_is_shown_with_both_writes() -> None:
    found = explained("register", STALE)
    assert found.operations == (STALE[0], STALE[2], STALE[4])
    assert found.is_smallest
    assert found.why == (
        "get k by client 3 returned 'x', after put k 'y' by client 2 was done "
        "and nothing wrote that again."
    )
    assert found.text().splitlines()[:3] == [
        "  client 1  put k 'x'  done  [1, 2]",
        "  client 2  put k 'y'  done  [3, 4]",
        "  client 3  get k      'x'   [7, 8]",
    ]


@pytest.mark.parametrize(
    ("kind", "history", "why"),
    [
        (
            "register",
            [op("1", "put x", 1, 2), op("2", "get z", 3, 4)],
            "get k by client 2 returned 'z', which nothing wrote.",
        ),
        (
            "register",
            [op("2", "get x", 1, 2), op("1", "put x", 3, 4)],
            "get k by client 2 returned 'x', before that was written (put k 'x' by client 1).",
        ),
        (
            "register",
            [op("1", "put x", 1, 2), op("2", "get -", 3, 4)],
            (
                "get k by client 2 returned nothing, after put k 'x' by client 1 was done "
                "and nothing made it so again."
            ),
        ),
        (
            "register",
            [op("1", "put x", 1), op("2", "get x", 2, 3), op("2", "get -", 4, 5)],
            (
                "get k by client 2 returned nothing, after get k by client 2 returned 'x' "
                "and nothing made it so again."
            ),
        ),
        (
            "text",
            [op("1", "append x", 1, 2), op("2", "append y", 3, 4), op("3", "get x", 5, 6)],
            (
                "get k by client 3 returned 'x', without append k 'y' by client 2, "
                "which was done before."
            ),
        ),
        (
            "register",
            [op("1", "put a", 1, 2), op("1", "cas a b", 3, 6), op("2", "cas a c", 4, 5)],
            (
                "No order gives all of these their results. The longest that does: "
                "put k 'a' by client 1, then cas k 'a' 'b' by client 1; "
                "cas k 'a' 'c' by client 2 does not fit behind it."
            ),
        ),
    ],
)
def test_the_sentence_says(kind: str, history: list[Op], why: str) -> None:
    assert explained(kind, history).why == why


def test_a_source_that_may_be_the_one_stays() -> None:
    """Without the unknown write, the last read would look as if it came from nowhere."""
    lost = op("9", "put x", 1)
    history = [op("1", "put y", 2, 3), op("2", "get x", 4, 5), op("2", "get y", 6, 7)]
    found = explained("register", [lost, *history])
    assert set(found.operations) == {lost, *history}


def test_a_spent_budget_gives_what_was_found_so_far() -> None:
    report = check_key(MODELS["register"], STALE)
    found = explain(MODELS["register"], report, budget=Budget(is_over=lambda: True))
    assert not found.is_smallest
    assert set(found.operations) == set(STALE)


class Counting(Register):
    """How often it was asked."""

    def __init__(self) -> None:
        self.asked = 0

    def step(
        self, state: str | None, request: Request, reply: Reply | None
    ) -> tuple[str | None, ...]:
        self.asked += 1
        return super().step(state, request, reply)

    def may_show(self, reader: Op, writer: Op) -> bool:
        self.asked += 1
        return super().may_show(reader, writer)


def one_after_the_other(count: int) -> list[Op]:
    """Writes of three values, each read once, and the last read is of another one."""
    found = [f"v{n // 2 % 3}" for n in range(count)]
    history = [
        op("1", f"{'get' if n % 2 else 'put'} {value}", 2 * n, 2 * n + 1)
        for n, value in enumerate(found)
    ]
    return [
        *history,
        op("1", "get v0" if found[-1] != "v0" else "get v1", 2 * count, 2 * count + 1),
    ]


def test_the_work_grows_with_the_history_and_not_with_its_square() -> None:
    model, history = Counting(), one_after_the_other(5_000)
    report = check_key(model, history)
    model.asked = 0
    found = explain(model, report)
    assert len(found.operations) == 3
    assert found.is_smallest
    assert model.asked < 20 * len(history)


@pytest.mark.parametrize("looks", [0, 1_000, 2_004, 2_010])
def test_when_time_is_up_nothing_is_searched_any_more(looks: int) -> None:
    """While sources are looked for, and while it is shrunk: what was found wrong stays wrong."""
    model, history = Counting(), one_after_the_other(2_000)
    report = check_key(model, history)
    asked_until_over = 0

    def is_over() -> bool:
        nonlocal looks, asked_until_over
        looks -= 1
        if looks == 0:
            asked_until_over = model.asked
        return looks < 0

    model.asked = 0
    found = explain(model, report, budget=Budget(is_over=is_over))
    assert not found.is_smallest
    assert model.asked - asked_until_over < 10
    assert found.why.startswith("No order gives all of these their results. The longest that does:")
    assert len(found.why) < 600
    assert check_key(model, found.operations).verdict is Verdict.NOT_LINEARIZABLE


def history_of(kind: str, seed: int) -> list[Op]:
    rng = random.Random(seed)
    count = 10 if kind == "text" else 30
    return execute(random_steps(rng, kind, clients=5, count=count, lost=0.2), kind)


@settings(deadline=None)  # a search takes what it takes
@given(st.data(), st.sampled_from(KINDS), st.integers(0, 2**32))
def test_what_may_be_left_out_makes_nothing_wrong(
    data: st.DataObject, kind: str, seed: int
) -> None:
    """The law behind every explanation: of what really happened, whatever may be left out, the
    rest is linearizable."""
    history = history_of(kind, seed)
    report = check_key(MODELS[kind], history)
    everything = list(range(len(history)))
    left_out = [n for n in everything if data.draw(st.booleans())]
    shrinker = _Shrinker(MODELS[kind], report, Budget())
    rest = [shrinker.all[n] for n in shrinker._without(everything, left_out)]
    assert check_key(MODELS[kind], rest).verdict is Verdict.LINEARIZABLE


@settings(deadline=None)  # a search takes what it takes
@given(st.data(), st.sampled_from(KINDS), st.integers(0, 2**32))
def test_an_explanation_is_wrong_and_part_of_the_history(
    data: st.DataObject, kind: str, seed: int
) -> None:
    """Two reads exchange what they were told."""
    history = history_of(kind, seed)
    reads = [n for n, each in enumerate(history) if each.output and each.output.value is not None]
    if len(reads) < 2:
        return
    one, other = data.draw(st.tuples(st.sampled_from(reads), st.sampled_from(reads)))
    first, second = history[one], history[other]
    history[one] = replace(first, output=second.output)
    history[other] = replace(second, output=first.output)
    report = check_key(MODELS[kind], history)
    if report.verdict is Verdict.NOT_LINEARIZABLE:
        found = explain(MODELS[kind], report)
        assert found.is_smallest
        assert set(found.operations) <= set(history)
        wrong = check_key(MODELS[kind], found.operations)
        assert wrong.verdict is Verdict.NOT_LINEARIZABLE
