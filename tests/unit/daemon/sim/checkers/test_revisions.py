"""The check by revisions, and that it agrees with the search."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muster.sim.checkers.judgement import judge
from muster.sim.checkers.linearizability import check_key
from muster.sim.checkers.models import RegistryKey
from muster.sim.checkers.revisions import check_revisions
from muster.sim.checkers.vocabulary import Verdict
from muster.sim.history import History, Op
from testkit.executions import execute, random_steps
from testkit.operations import op

PUT = op("1", "put x", 1, 2, revision=1, entry=1)
GET = op("2", "get x", 3, 4, revision=1, entry=1)


def at_key(key: str, operation: Op) -> Op:
    return replace(operation, input=replace(operation.input, key=key))


@pytest.mark.parametrize(
    "history",
    [
        [],
        [PUT, GET],
        [PUT, op("1", "put y", 3, 4, expected=1, revision=2, entry=2)],
        [PUT, op("1", "delete", 3, 4, revision=2), op("2", "get not-found", 5, 6, revision=2)],
        [PUT, op("1", "delete conflict", 3, 4, expected=7, revision=1, entry=1)],
        [op("1", "get not-found", 1, 2, revision=0)],
    ],
)
def test_a_history_that_is_right_is_told_so(history: list[Op]) -> None:
    assert check_revisions(history).verdict is Verdict.LINEARIZABLE


@pytest.mark.parametrize(
    ("history", "why"),
    [
        (
            [PUT, at_key("other", op("2", "put y", 3, 4, revision=1, entry=1))],
            (
                "put other 'y' by client 2 was done at revision 1, after put k 'x' by client 1 "
                "had been answered at revision 1"
            ),
        ),
        (
            [PUT, at_key("other", op("2", "put y", 1, 2, revision=1, entry=1))],
            "revision 1 was made twice, at last by put other 'y' by client 2",
        ),
        (
            [PUT, op("2", "get not-found", 3, 4, revision=0)],
            (
                "get k by client 2 found no such key at revision 0, after put k 'x' by client 1 "
                "had been answered at revision 1"
            ),
        ),
        (
            [PUT, op("2", "get z", 3, 4, revision=1, entry=1)],
            (
                "get k by client 2 returned 'z', finding it at revision 1; "
                "in the order of revisions there was revision 1"
            ),
        ),
        (
            [PUT, op("1", "put y", 3, 4, revision=3, entry=3)],
            (
                "1 revisions, the first of them 2, were made by no answered change, and only 0 "
                "have an unknown outcome"
            ),
        ),
        (
            [PUT, op("2", "delete conflict", 3, 4, expected=1, revision=1, entry=1)],
            (
                "delete k at revision 1 by client 2 was refused as a conflict, but its revision "
                "was right"
            ),
        ),
        (
            [op("2", "delete", 3, 4, revision=1)],
            "delete k by client 2 was done, but there was no such key",
        ),
    ],
)
def test_what_is_wrong_is_said(history: list[Op], why: str) -> None:
    report = check_revisions(history)
    assert report.verdict is Verdict.NOT_LINEARIZABLE
    assert report.why == why


def test_a_change_that_was_made_twice_is_found_although_no_key_shows_it() -> None:
    """The search by key sees a put, then a put: nothing wrong. The store's revision skipped one."""
    history = [PUT, at_key("other", op("2", "put y", 3, 4, revision=3, entry=3))]
    judgement = judge(History("registry", tuple(history)))
    assert judgement.verdict is Verdict.NOT_LINEARIZABLE
    assert judgement.explanation is not None
    assert "were made by no answered change" in judgement.explanation.why


def test_a_revision_of_unknown_maker_leaves_it_open() -> None:
    lost = op("9", "put y", 1)
    later = op("1", "put z", 3, 4, revision=3, entry=3)
    assert check_revisions([PUT, lost, later]).verdict is Verdict.UNKNOWN
    read = op("2", "get y", 3, 5, revision=2, entry=2)
    assert check_revisions([PUT, lost, later, read]).verdict is Verdict.UNKNOWN
    wrong = op("2", "get w", 3, 5, revision=2, entry=2)
    assert check_revisions([PUT, lost, later, wrong]).verdict is Verdict.NOT_LINEARIZABLE


def test_a_history_without_revisions_is_left_open() -> None:
    assert check_revisions([op("1", "put x", 1, 2)]).verdict is Verdict.UNKNOWN


def executed(seed: int, lost: float) -> list[Op]:
    steps = random_steps(random.Random(seed), "registry", clients=6, count=60, keys=3, lost=lost)
    return execute(steps, "registry")


@settings(deadline=None)  # a search takes what it takes
@given(st.integers(0, 2**32), st.sampled_from([0.0, 0.2]))
def test_what_really_happened_is_never_called_wrong(seed: int, lost: float) -> None:
    verdict = check_revisions(executed(seed, lost)).verdict
    assert verdict is not Verdict.NOT_LINEARIZABLE
    assert lost or verdict is Verdict.LINEARIZABLE


@settings(deadline=None)  # a search takes what it takes
@given(st.data(), st.integers(0, 2**32), st.sampled_from([0.0, 0.2]))
def test_it_agrees_with_the_search(data: st.DataObject, seed: int, lost: float) -> None:
    """One reply is changed a little. By key the search cannot see all; what it finds wrong, this
    one must not find right."""
    history = executed(seed, lost)
    place = data.draw(st.sampled_from([n for n, each in enumerate(history) if each.output]))
    reply = history[place].output
    assert reply is not None
    assert reply.revision is not None
    field = data.draw(st.sampled_from(["revision", "entry", "value"]))
    if field == "revision":
        reply = replace(
            reply, revision=max(0, reply.revision + data.draw(st.sampled_from([-2, 2])))
        )
    elif field == "entry" and reply.entry is not None and history[place].input.action == "get":
        reply = replace(reply, entry=reply.entry + 1)
    elif reply.value is not None:
        reply = replace(reply, value="never written")
    history[place] = replace(history[place], output=reply)
    by_revision = check_revisions(history).verdict
    for key in ("k0", "k1", "k2"):
        part = [each for each in history if each.input.key == key]
        if check_key(RegistryKey(), part).verdict is Verdict.NOT_LINEARIZABLE:
            assert by_revision is not Verdict.LINEARIZABLE
