"""Actions: validated parameters, pure and effectful ones, retries and back-off."""

from __future__ import annotations

import itertools
import random
from typing import Any

import msgspec
import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from muster.clock import TrioClock
from muster.runtime.actions import (
    Action,
    ActionContext,
    ActionParamsInvalid,
    ActionTimedOut,
    Backoff,
    PureActionInvalid,
    action,
    apply,
    attempt,
)
from muster_protocol.effects import Notify
from muster_protocol.errors import Refused, StorageCorrupt

CONTEXT = ActionContext(agent="a", node="n", now=0.0)


class Params(msgspec.Struct, frozen=True):
    count: int
    name: str = "x"


@action(name="Count", params=Params)
def count(state: int, params: Params, context: ActionContext) -> tuple[int, tuple[Notify, ...]]:
    return state + params.count, (Notify("counted"),)


def an_action(function: Any, **options: Any) -> Action:
    return action(name="Try", **options)(function)


async def run(declared: Action) -> Any:
    return await attempt(declared, None, None, CONTEXT, clock=TrioClock(), rng=random.Random(1))


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ({"count": "1"}, "parameter 'count': Expected `int`"),
        ({}, "required field `count`"),
        ({"count": 1, "name": None}, "parameter 'name'"),
        ({"count": 1, "size": 2}, "unknown parameter 'size'"),
        ([1], "expected named parameters, got list"),
        (None, "expected named parameters, got NoneType"),
    ],
)
def test_parameters_that_do_not_fit_are_refused_by_name(raw: Any, reason: str) -> None:
    with pytest.raises(ActionParamsInvalid, match="action Count: .*" + reason):
        count.validate(raw, allow_unknown=False)


def test_fields_of_a_newer_member_are_skipped_where_that_is_allowed() -> None:
    assert count.validate({"count": 1, "size": 2}, allow_unknown=True) == Params(1)


def test_a_struct_is_validated_like_a_mapping() -> None:
    assert count.validate(Params(1), allow_unknown=False) == Params(1)
    with pytest.raises(ActionParamsInvalid):
        count.validate(Params("1"), allow_unknown=False)  # type: ignore[arg-type]


def test_an_action_can_be_called_like_the_function_that_it_is() -> None:
    assert count(1, Params(2), CONTEXT) == (3, (Notify("counted"),))
    assert not count.is_effectful


@pytest.mark.parametrize("returned", [None, 3, (1,), (1, [Notify("x")]), (1, ("x",)), (1, 2, 3)])
def test_a_pure_action_that_returns_something_else_is_a_bug(returned: Any) -> None:
    with pytest.raises(PureActionInvalid, match="action Try"):
        apply(an_action(lambda *_: returned), 0, None, CONTEXT)


async def test_an_effectful_action_returns_its_result() -> None:
    async def work(*_: Any) -> int:
        return 7

    declared = an_action(work)
    outcome = await run(declared)
    assert declared.is_effectful
    assert (outcome.result, outcome.error, outcome.attempts) == (7, None, 1)


async def test_a_bound_async_method_is_effectful() -> None:
    class Prober:
        async def probe(self, *_: Any) -> int:
            return 1

    assert an_action(Prober().probe).is_effectful


async def test_an_error_of_the_world_is_tried_again_after_a_growing_wait(
    autojump_clock: trio.testing.MockClock,
) -> None:
    times: list[float] = []

    async def work(*_: Any) -> str:
        times.append(trio.current_time())
        if len(times) < 4:
            raise OSError("unreachable")
        return "done"

    outcome = await run(an_action(work, retries=3, backoff=Backoff(first_s=1.0, jitter=0.0)))
    assert (outcome.result, outcome.attempts) == ("done", 4)
    waits = [second - first for first, second in itertools.pairwise(times)]
    assert waits == [1.0, 2.0, 4.0]


async def test_the_last_error_is_the_outcome_when_all_attempts_failed(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def work(*_: Any) -> None:
        raise OSError("unreachable")

    outcome = await run(an_action(work, retries=2))
    assert isinstance(outcome.error, OSError)
    assert outcome.attempts == 3


async def test_a_refusal_is_an_outcome_and_not_tried_again() -> None:
    async def work(*_: Any) -> None:
        raise Refused("no", "no")

    outcome = await run(an_action(work, retries=5))
    assert isinstance(outcome.error, Refused)
    assert outcome.attempts == 1


async def test_an_attempt_that_takes_too_long_is_cancelled_and_retried(
    autojump_clock: trio.testing.MockClock,
) -> None:
    started = trio.current_time()

    async def work(*_: Any) -> None:
        await trio.sleep_forever()

    declared = an_action(work, timeout_s=2.0, retries=1, backoff=Backoff(first_s=1.0, jitter=0.0))
    outcome = await run(declared)
    assert isinstance(outcome.error, ActionTimedOut)
    assert trio.current_time() - started == 5.0


@pytest.mark.parametrize("bug", [ZeroDivisionError, StorageCorrupt, KeyError])
async def test_an_error_that_was_not_declared_is_a_bug(bug: type[Exception]) -> None:
    async def work(*_: Any) -> None:
        raise bug

    with pytest.raises(bug):
        await run(an_action(work))


async def test_a_declared_error_in_a_nurserys_group_is_still_declared(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def work(*_: Any) -> None:
        async with trio.open_nursery():
            raise OSError("inside")

    outcome = await run(an_action(work, retries=0))
    assert isinstance(outcome.error, OSError)


async def test_a_bug_in_a_nurserys_group_is_still_a_bug() -> None:
    async def work(*_: Any) -> None:
        async with trio.open_nursery():
            raise KeyError("inside")

    with pytest.RaisesGroup(KeyError):
        await run(an_action(work))


async def test_cancellation_goes_through_an_action(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def work(*_: Any) -> None:
        await trio.sleep_forever()

    with trio.move_on_after(1.0) as scope:
        await run(an_action(work, timeout_s=60.0))
    assert scope.cancelled_caught


@given(st.integers(0, 10_000), st.randoms(use_true_random=False))
def test_a_backoff_stays_within_its_bounds(attempt_number: int, rng: random.Random) -> None:
    backoff = Backoff(first_s=0.25, factor=2.0, max_s=30.0, jitter=0.5)
    delay_s = backoff.delay_s(attempt_number, rng)
    whole = min(30.0, 0.25 * 2.0 ** min(attempt_number, 20))
    assert whole / 2 <= delay_s <= whole
