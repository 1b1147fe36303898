"""What gossip must not get wrong, told truths and lies."""

from __future__ import annotations

import pytest

from muster.sim.checkers.membership import (
    MembershipViews,
    accused_with_input_unread,
    converged,
)
from muster.sim.checkers.violated import Violated


def seen(*views: tuple[int, str], life: str = "1") -> MembershipViews:
    checker = MembershipViews()
    for incarnation, state in views:
        checker.sees("n1", life, "n2", incarnation, state)
    return checker


def test_a_member_may_be_suspected_fail_and_come_back_with_a_higher_incarnation() -> None:
    seen((1, "alive"), (1, "suspect"), (1, "alive"), (1, "failed"), (2, "alive"), (2, "left"))


def test_an_incarnation_that_goes_back_is_seen() -> None:
    with pytest.raises(Violated, match="n1 saw n2 at incarnation 3, then at 2"):
        seen((3, "alive"), (2, "failed"))


@pytest.mark.parametrize("state", ["failed", "stopped", "left"])
def test_a_resurrection_is_seen(state: str) -> None:
    with pytest.raises(Violated, match=f"n1 saw n2 {state} and then alive, both at 1"):
        seen((1, state), (1, "alive"))


def test_each_life_of_an_observer_begins_anew() -> None:
    checker = seen((3, "failed"))
    checker.sees("n1", "2", "n2", 1, "alive")


def test_views_that_differ_are_named() -> None:
    views = {"n1": {"n1": "alive", "n2": "suspect"}, "n2": {"n2": "alive"}}
    assert converged(views) == ["n1 sees n2 suspect", "n2 sees n1 not at all"]
    whole = {"n1": "alive", "n2": "alive", "gone": "left"}
    assert converged({"n1": whole, "n2": whole}) == []


def test_an_accusation_with_input_unread_is_seen() -> None:
    accused_with_input_unread("n1", "n2", 0)
    with pytest.raises(Violated, match="n1 accused n2 with 3 packets unread"):
        accused_with_input_unread("n1", "n2", 3)
