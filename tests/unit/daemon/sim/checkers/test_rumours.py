"""What a member may make of what it is told, told truths and lies."""

from __future__ import annotations

import pytest

from muster.sim.checkers.rumours import Hearsay, SuspicionTimes
from muster.sim.checkers.violated import Violated
from muster_protocol.membership.member import Member
from muster_protocol.types import Address, NodeId
from muster_protocol.wire.membership import MemberState

ALIVE, SUSPECT, FAILED = MemberState.ALIVE, MemberState.SUSPECT, MemberState.FAILED
STOPPED, LEFT = MemberState.STOPPED, MemberState.LEFT


def n2(incarnation: int, state: MemberState = ALIVE) -> Member:
    return Member(NodeId("2" * 32), "n2", Address("10.0.0.2", 7411), incarnation, state)


@pytest.mark.parametrize(
    ("believed", "incarnation", "state"),
    [
        (n2(1), 1, ALIVE),
        (n2(2), 1, LEFT),
        (n2(1, FAILED), 1, SUSPECT),
        (n2(1, SUSPECT), 1, FAILED),
        (n2(1, LEFT), 1, STOPPED),
    ],
)
def test_belief_may_be_newer_and_a_failure_may_be_doubted(
    believed: Member, incarnation: int, state: MemberState
) -> None:
    Hearsay().said_of_another("n1", believed, incarnation, state)


@pytest.mark.parametrize(
    ("believed", "incarnation", "state"),
    [(n2(1), 2, ALIVE), (n2(1), 1, SUSPECT), (n2(1, SUSPECT), 2, SUSPECT), (n2(1), 1, FAILED)],
)
def test_belief_that_is_older_than_what_was_said_is_seen(
    believed: Member, incarnation: int, state: MemberState
) -> None:
    with pytest.raises(Violated, match="n1 was told"):
        Hearsay().said_of_another("n1", believed, incarnation, state)


def test_a_suspicion_must_be_refuted_by_a_higher_incarnation() -> None:
    Hearsay().said_of_itself(n2(2), 1, SUSPECT)
    Hearsay().said_of_itself(n2(1, LEFT), 1, STOPPED)
    for incarnation in (1, 2):
        with pytest.raises(Violated, match="n2 heard suspect"):
            Hearsay().said_of_itself(n2(1), incarnation, SUSPECT)


def test_a_failure_after_its_time_is_right() -> None:
    times = SuspicionTimes(shortest_s=1.0)
    times.suspected("life", "n2", 1, 10.0)
    times.suspected("life", "n2", 1, 12.0)
    times.failed("n1", "life", "n2", 1, 10.5)


def test_a_failure_without_a_suspicion_is_seen() -> None:
    times = SuspicionTimes(shortest_s=1.0)
    times.suspected("life", "n2", 1, 10.0)
    times.cleared("life", "n2")
    with pytest.raises(Violated, match="n1 failed n2 at 1 without a suspicion"):
        times.failed("n1", "life", "n2", 1, 20.0)


@pytest.mark.parametrize(("incarnation", "at"), [(1, 10.4), (2, 20.0)])
def test_a_timer_of_another_time_or_incarnation_is_seen(incarnation: int, at: float) -> None:
    times = SuspicionTimes(shortest_s=1.0)
    times.suspected("life", "n2", 1, 10.0)
    with pytest.raises(Violated, match="n1 failed n2"):
        times.failed("n1", "life", "n2", incarnation, at)
