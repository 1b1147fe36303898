"""When this side refuses, and when it does not know yet whether it has to."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from muster.agents.consistency.fence import DOWN, NOBODY_YET, TOLD_WITHIN_S, Fence
from muster_protocol.errors import OutcomeUnknown, Refused
from muster_protocol.partition.quorum import Standing, Verdict


class Node:
    """A member without a seat, which has just read what an earlier start left behind, at 0."""

    def __init__(self, standing: Standing = Standing.FOUNDING, why_no_cluster: str = "") -> None:
        self.time = 0.0
        clock = SimpleNamespace(now=lambda: self.time)
        verdict = Verdict(standing, 1, 3, 2, "1 of 3")
        ports: Any = SimpleNamespace(world=SimpleNamespace(clock=clock), verdict=lambda: verdict)
        self.seat: Any = SimpleNamespace(committed_configuration=None, suspended="")
        self.fence = Fence(ports, self.seat, why_no_cluster=lambda: why_no_cluster)
        self.fence.resumed()

    def refusal(self) -> str:
        with pytest.raises(Refused) as caught:
            self.fence.check(was_proposed=False)
        return str(caught.value)


def test_a_member_that_has_just_started_waits_for_who_tells_it_who_votes() -> None:
    node = Node()
    assert node.fence.is_resuming
    node.time = TOLD_WITHIN_S
    assert not node.fence.is_resuming
    assert node.refusal() == f"not quorate: {NOBODY_YET}"


def test_who_was_told_or_belongs_to_no_cluster_does_not_wait() -> None:
    told = Node()
    told.seat.committed_configuration = object()
    assert not told.fence.is_resuming
    stranger = Node(why_no_cluster="1 of 3 expected candidates are here")
    assert not stranger.fence.is_resuming
    assert stranger.refusal().startswith("there is no cluster yet: 1 of 3")


def test_a_minority_and_a_suspended_voter_refuse_with_the_reason() -> None:
    assert Node(Standing.MINORITY).refusal() == "not quorate: 1 of 3"
    suspended = Node(Standing.QUORATE)
    suspended.fence.check(was_proposed=False)
    suspended.seat.suspended = "it lives twice"
    assert suspended.refusal() == "not quorate: it lives twice"


def test_what_may_have_been_done_is_unknown_and_not_refused() -> None:
    node = Node(Standing.MINORITY)
    with pytest.raises(OutcomeUnknown, match="the quorum was lost meanwhile"):
        node.fence.check(was_proposed=True)
    node.fence.has_ended = True
    with pytest.raises(OutcomeUnknown, match="failed meanwhile"):
        node.fence.check(was_proposed=True)
    assert node.refusal() == DOWN
    assert not node.fence.is_resuming
