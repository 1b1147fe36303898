"""The search, on histories whose verdict a person can see."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muster.sim.checkers.judgement import MODELS
from muster.sim.checkers.linearizability import check, check_key
from muster.sim.checkers.models import Cell, Register, RegistryKey, Text
from muster.sim.checkers.vocabulary import Budget, Operation, Verdict
from muster.sim.history import Op, Outcome, Reply, Request
from testkit.executions import Step, execute, random_steps
from testkit.operations import has_an_order, op

REGISTER, TEXT, REGISTRY = Register(), Text(), RegistryKey()

RIGHT = {
    "nothing happened": [],
    "a read of what was written": [op("1", "put x", 1, 2), op("2", "get x", 3, 4)],
    "a read of nothing": [op("1", "get -", 1, 2)],
    "a read that overlaps the write sees it": [op("1", "put x", 1, 4), op("2", "get x", 2, 3)],
    "a read that overlaps the write misses it": [op("1", "put x", 1, 4), op("2", "get -", 2, 3)],
    "writes overlap and take effect the other way round": [
        op("1", "put x", 1, 5),
        op("2", "put y", 2, 4),
        op("3", "get x", 6, 7),
    ],
    "an unknown write is seen late": [
        op("1", "put x", 1),
        op("2", "get -", 2, 3),
        op("2", "put y", 4, 5),
        op("2", "get x", 6, 7),
    ],
    "an unknown write is never seen": [op("1", "put x", 1), op("2", "get -", 9, 10)],
    "an unknown write takes effect between two reads": [
        op("1", "put x", 1),
        op("2", "get -", 2, 3),
        op("2", "get x", 4, 5),
    ],
    "a cas swaps": [
        op("1", "put a", 1, 2),
        op("1", "cas a b", 3, 4),
        op("2", "get b", 5, 6),
    ],
    "a cas conflicts with another value": [
        op("1", "put a", 1, 2),
        op("1", "cas z b conflict", 3, 4),
    ],
    "an unknown cas was done": [
        op("1", "put a", 1, 2),
        op("1", "cas a b", 3),
        op("2", "get b", 5, 6),
    ],
    "what happens at one instant overlaps": [op("1", "put x", 1, 2), op("2", "get -", 2, 3)],
    "two equal unknown writes are seen once each": [
        op("1", "put x", 1),
        op("2", "put x", 1),
        op("3", "get x", 2, 3),
        op("3", "put y", 4, 5),
        op("3", "get x", 6, 7),
    ],
    "an equal value is written later": [
        op("1", "put a", 1, 6),
        op("2", "put a", 2, 3),
        op("3", "cas a b", 4, 5),
        op("3", "get a", 7, 8),
    ],
}

WRONG = {
    "a stale read": [
        op("1", "put x", 1, 2),
        op("1", "put y", 3, 4),
        op("2", "get x", 5, 6),
    ],
    "a read of what nobody wrote": [op("1", "put x", 1, 2), op("2", "get z", 3, 4)],
    "a read before the write": [op("2", "get x", 1, 2), op("1", "put x", 3, 4)],
    "a lost update": [
        op("1", "put a", 1, 2),
        op("1", "cas a b", 3, 6),
        op("2", "cas a c", 4, 5),
    ],
    "a cas that should have been done": [
        op("1", "put a", 1, 2),
        op("1", "cas a b conflict", 3, 4),
    ],
    "two reads that disagree on the order of two writes": [
        op("1", "put x", 1, 9),
        op("2", "put y", 1, 9),
        op("3", "get x", 2, 3),
        op("3", "get y", 4, 5),
        op("3", "get x", 6, 7),
    ],
    "an unknown write is seen, unseen and seen again": [
        op("1", "put x", 1),
        op("2", "get x", 2, 3),
        op("2", "get -", 4, 5),
    ],
    "one unknown write is seen twice": [
        op("1", "put x", 1),
        op("3", "get x", 2, 3),
        op("3", "put y", 4, 5),
        op("3", "get x", 6, 7),
    ],
    "an unknown cas that could not be done is seen": [
        op("1", "put a", 1, 2),
        op("1", "cas z b", 3),
        op("2", "get b", 5, 6),
    ],
}


@pytest.mark.parametrize("name", RIGHT)
def test_it_finds_the_order_where(name: str) -> None:
    report = check_key(REGISTER, RIGHT[name])
    assert report.verdict is Verdict.LINEARIZABLE
    assert report.stuck is None
    assert {each for each in report.operations if each.output is not None} <= set(report.longest)


@pytest.mark.parametrize("name", WRONG)
def test_it_finds_no_order_where_there_is(name: str) -> None:
    report = check_key(REGISTER, WRONG[name])
    assert report.verdict is Verdict.NOT_LINEARIZABLE
    assert report.stuck is not None
    assert report.stuck in report.operations
    assert len(report.longest) < len(report.operations)


def test_appends_take_effect_in_one_order() -> None:
    first, second = op("1", "append a", 1, 4), op("2", "append b", 2, 3)
    for found, verdict in (("ab", True), ("ba", True), ("a", False), ("abab", False)):
        report = check_key(TEXT, [first, second, op("3", f"get {found}", 5, 6)])
        assert (report.verdict is Verdict.LINEARIZABLE) == verdict


def test_each_key_is_judged_by_itself() -> None:
    good = op("1", "put x", 1, 2)
    bad = op("2", "get z", 1, 2)
    bad = replace(bad, input=replace(bad.input, key="other"))
    report = check(REGISTER, [good, bad], key=lambda request: request.key)
    assert report.verdict is Verdict.NOT_LINEARIZABLE
    assert report.operations == (bad,)


def test_the_longest_order_is_kept_for_the_report() -> None:
    history = WRONG["a stale read"]
    assert check_key(REGISTER, history).longest == tuple(history[:2])


@pytest.mark.parametrize("budget", [Budget(steps=2), Budget(is_over=lambda: True)])
def test_a_spent_budget_is_unknown_whatever_the_history(budget: Budget) -> None:
    for history in (RIGHT["a cas swaps"], WRONG["a stale read"]):
        assert check_key(REGISTER, history, budget=budget).verdict is Verdict.UNKNOWN


def test_a_wrong_key_counts_more_than_an_unknown_one() -> None:
    """One key is cheap and wrong, the other dear: 22 writes at once, and a read of none of them."""
    dear = [op(str(n), f"append {n};", 1, 9) for n in range(22)]
    dear.append(op("r", "get z", 10, 11))
    cheap = op("2", "get q", 1, 2)
    cheap = replace(cheap, input=replace(cheap.input, key="other"))
    by_key: Any = {"key": lambda request: request.key, "budget": Budget(steps=5_000)}
    assert check(TEXT, dear, **by_key).verdict is Verdict.UNKNOWN
    assert check(TEXT, [*dear, cheap], **by_key).verdict is Verdict.NOT_LINEARIZABLE


class Coin:
    """A model that branches: a toss gives nothing away, a look tells."""

    def initial(self) -> tuple[str, ...]:
        return ("heads", "tails")

    def step(self, state: str, request: str, reply: str | None) -> tuple[str, ...]:
        if request == "toss":
            return ("heads", "tails")
        return (state,) if reply == state else ()

    def changes(self, operation: Operation[str, str]) -> bool:
        return operation.input == "toss"

    def covers(self, state: str, other: str) -> bool:
        return state == other

    def rank(self, operation: Operation[str, str]) -> int:
        return 0


def test_a_model_may_leave_open_what_follows() -> None:
    def coin(*seen: str) -> list[Operation[str, str]]:
        return [
            Operation("1", "toss" if what == "toss" else "look", what, 2 * n, 2 * n + 1)
            for n, what in enumerate(seen)
        ]

    right = coin("tails", "toss", "heads", "toss", "tails", "toss", "tails")
    assert check_key(Coin(), right).verdict is Verdict.LINEARIZABLE
    assert check_key(Coin(), coin("tails", "heads")).verdict is Verdict.NOT_LINEARIZABLE


# --- muster's registry --------------------------------------------------------------------------


def test_a_put_expects_the_revision_that_is_there() -> None:
    first = op("1", "put x", 1, 2, revision=1, entry=1)
    done = op("1", "put y", 3, 4, expected=1, revision=2, entry=2)
    assert check_key(REGISTRY, [first, done]).verdict is Verdict.LINEARIZABLE
    stale = op("1", "put y", 3, 4, expected=0, revision=2, entry=2)
    assert check_key(REGISTRY, [first, stale]).verdict is Verdict.NOT_LINEARIZABLE


def test_a_conflict_needs_another_revision() -> None:
    first = op("1", "put x", 1, 2, revision=1, entry=1)
    for expected, verdict in ((0, Verdict.LINEARIZABLE), (1, Verdict.NOT_LINEARIZABLE)):
        reply = Reply(Outcome.CONFLICT, revision=1, entry=1)
        conflict = Operation("2", Request("put", "k", "y", expected), reply, 3, 4)
        assert check_key(REGISTRY, [first, conflict]).verdict is verdict


def test_revisions_never_go_back() -> None:
    first = op("1", "put x", 1, 2, revision=5, entry=5)
    again = op("2", "get x", 3, 4, revision=4, entry=4)
    assert check_key(REGISTRY, [first, again]).verdict is Verdict.NOT_LINEARIZABLE


def test_the_revision_of_an_unknown_put_is_learned_from_who_reads_it() -> None:
    lost = op("1", "put x", 1)
    read = op("2", "get x", 3, 4, revision=7, entry=6)
    assert check_key(REGISTRY, [lost, read]).verdict is Verdict.LINEARIZABLE
    later = op("3", "get x", 5, 6, revision=8, entry=8)
    assert check_key(REGISTRY, [lost, read, later]).verdict is Verdict.NOT_LINEARIZABLE


def test_a_deleted_key_is_absent() -> None:
    put = op("1", "put x", 1, 2, revision=1, entry=1)
    delete = op("1", "delete", 3, 4, revision=2)
    gone = op("2", "get not-found", 5, 6, revision=2)
    assert check_key(REGISTRY, [put, delete, gone]).verdict is Verdict.LINEARIZABLE
    assert check_key(REGISTRY, [put, gone]).verdict is Verdict.NOT_LINEARIZABLE
    back = op("2", "get x", 5, 6, revision=2, entry=1)
    assert check_key(REGISTRY, [put, delete, back]).verdict is Verdict.NOT_LINEARIZABLE


# --- laws ---------------------------------------------------------------------------------------

times = st.tuples(st.integers(0, 8), st.integers(0, 4))
values = st.sampled_from("ab")
WORDS = {
    "register": st.one_of(
        values.map("put {}".format),
        st.sampled_from(["get a", "get b", "get -"]),
        st.builds("cas {} {}{}".format, values, values, st.sampled_from(["", " conflict"])),
    ),
    "text": st.one_of(
        values.map("append {}".format),
        values.map("put {}".format),
        st.sampled_from(["get a", "get b", "get ab", "get ba", "get aab"]),
    ),
}


@st.composite
def tiny_histories(draw: st.DrawFn, kind: str) -> list[Op]:
    """Whatever up to six operations may have said, right or wrong."""
    history = []
    for client in range(draw(st.integers(0, 6))):
        words = draw(WORDS[kind])
        call, lasts = draw(times)
        is_unknown = not words.startswith("get") and "conflict" not in words and draw(st.booleans())
        history.append(op(str(client), words, call, *([] if is_unknown else [call + lasts])))
    return history


@settings(deadline=None)  # a search takes what it takes
@given(st.data(), st.sampled_from(["register", "text"]))
def test_it_agrees_with_who_tries_every_order(data: st.DataObject, kind: str) -> None:
    history = data.draw(tiny_histories(kind))
    found = check_key(MODELS[kind], history).verdict is Verdict.LINEARIZABLE
    assert found == has_an_order(MODELS[kind], history)


@st.composite
def executions(draw: st.DrawFn, kind: str, count: int = 30) -> list[Op]:
    """What clients saw of a real store."""
    rng = random.Random(draw(st.integers(0, 2**32)))
    clients = draw(st.integers(1, 4 if kind == "text" else 8))
    return execute(random_steps(rng, kind, clients=clients, count=count, lost=0.1), kind)


@settings(deadline=None)  # a search takes what it takes
@given(st.data(), st.sampled_from(["register", "text", "registry"]))
def test_what_really_happened_is_linearizable(data: st.DataObject, kind: str) -> None:
    """`text` with fewer operations: many overlapping appends are what makes the search dear."""
    history = data.draw(executions(kind, 10 if kind == "text" else 40))
    assert check_key(MODELS[kind], history).verdict is Verdict.LINEARIZABLE


@settings(deadline=None)  # a search takes what it takes
@given(st.data(), st.sampled_from(["register", "text", "registry"]))
def test_one_value_that_cannot_be_makes_it_wrong(data: st.DataObject, kind: str) -> None:
    history = data.draw(executions(kind, 10 if kind == "text" else 40))
    reads = [n for n, each in enumerate(history) if each.output and each.output.value is not None]
    if not reads:
        return
    place = data.draw(st.sampled_from(reads))
    read = history[place]
    assert read.output is not None
    history[place] = replace(read, output=replace(read.output, value="never written"))
    assert check_key(MODELS[kind], history).verdict is Verdict.NOT_LINEARIZABLE


@settings(deadline=None)  # a search takes what it takes
@given(st.data())
def test_the_registry_agrees_with_who_tries_every_order(data: st.DataObject) -> None:
    """Few operations of a real execution, of which one reply is changed a little."""
    rng = random.Random(data.draw(st.integers(0, 2**32)))
    steps = random_steps(rng, "registry", clients=3, count=6, lost=0.4)
    history = _bent(execute(steps, "registry"), data)
    found = check_key(REGISTRY, history).verdict is Verdict.LINEARIZABLE
    assert found == has_an_order(REGISTRY, history)


def _bent(history: list[Op], data: st.DataObject) -> list[Op]:
    known = [n for n, each in enumerate(history) if each.output is not None]
    if known:
        place = data.draw(st.sampled_from(known))
        reply = history[place].output
        assert reply is not None
        assert reply.revision is not None
        changed = replace(reply, revision=max(0, reply.revision + data.draw(st.integers(-1, 1))))
        history[place] = replace(history[place], output=changed)
    return history


cells = st.builds(
    lambda value, least, more, floor: (
        Cell(value, least, least + more, floor) if value else Cell(None, 0, 0, floor)
    ),
    st.sampled_from([None, "a"]),
    st.integers(1, 3),
    st.integers(0, 3),
    st.integers(0, 3),
)


@settings(deadline=None)  # a search takes what it takes
@given(cells, cells, st.sampled_from(["put b", "get a", "delete", "get not-found"]), st.data())
def test_a_state_that_covers_another_allows_what_it_allows(
    state: Cell, other: Cell, words: str, data: st.DataObject
) -> None:
    numbers = st.integers(0, 5)
    is_read = words.startswith("get")
    request = op(
        "1",
        words,
        1,
        2,
        revision=data.draw(numbers),
        entry=data.draw(numbers) if is_read else None,
        expected=None if is_read else data.draw(st.none() | numbers),
    )
    if not REGISTRY.covers(state, other):
        return
    for reply in (request.output, None):
        reached = REGISTRY.step(state, request.input, reply)
        if reply is None:
            reached += (state,)  # an unknown one need not take effect
        for after in REGISTRY.step(other, request.input, reply):
            assert any(REGISTRY.covers(each, after) for each in reached)


def test_a_long_history_takes_a_step_or_two_for_each_operation() -> None:
    """And no recursion: 5,000 operations are deeper than Python's stack."""
    steps = random_steps(random.Random(1), "registry", clients=10, count=5_000, lost=0)
    report = check_key(REGISTRY, execute(steps, "registry"))
    assert report.verdict is Verdict.LINEARIZABLE
    assert report.steps < 4 * len(steps)


def test_a_client_need_not_be_told_anything() -> None:
    """Every request lost: nothing is left to contradict."""
    steps = [Step(1, Request("put", "k", str(n)), is_lost=True) for n in range(50)]
    assert check_key(REGISTRY, execute(steps, "registry")).verdict is Verdict.LINEARIZABLE
