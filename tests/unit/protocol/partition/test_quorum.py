"""Quorum: at most one side may act."""

from __future__ import annotations

import itertools

import pytest

from muster_protocol.effects import DeadlineReached, Emit
from muster_protocol.partition.quorum import (
    CONFIRM_AFTER_S,
    Evidence,
    EvidenceSeen,
    PartitionWatch,
    Standing,
    judge,
)
from muster_protocol.types import NodeId

VOTERS = tuple(NodeId(f"{i:032x}") for i in range(9))


def evidence(reachable: int, total: int, *, hears: bool = True, is_voter: bool = True) -> Evidence:
    return Evidence(VOTERS[:total], VOTERS[:reachable], is_voter, hears, VOTERS[0])


@pytest.mark.parametrize("total", range(1, 10))
def test_no_split_leaves_two_sides_that_may_act(total: int) -> None:
    """Every split into up to three groups, by size; the seed's fixed 3 fails from six nodes on."""
    for sizes in itertools.product(range(total + 1), repeat=3):
        if sum(sizes) == total:
            acting = [size for size in sizes if size and judge(evidence(size, total)).may_act]
            assert len(acting) <= 1


def test_quorum_size_can_only_raise_the_bar() -> None:
    assert judge(evidence(3, 6), quorum_size=3).standing is Standing.MINORITY
    assert judge(evidence(3, 4), quorum_size=4).standing is Standing.MINORITY
    assert judge(evidence(2, 3), quorum_size=1).standing is Standing.QUORATE


def test_a_majority_without_a_leader_is_electing() -> None:
    verdict = judge(evidence(2, 3, hears=False))
    assert (verdict.standing, verdict.may_act) == (Standing.ELECTING, True)


def test_a_node_without_a_seat_goes_by_the_voters_it_reaches() -> None:
    assert judge(evidence(2, 3, hears=False, is_voter=False)).standing is Standing.QUORATE
    assert judge(evidence(1, 3, hears=False, is_voter=False)).standing is Standing.MINORITY


def test_the_reason_names_the_numbers() -> None:
    assert judge(evidence(1, 3)).reason == "1 of 3 voters in reach, 2 needed"


def test_a_minority_is_suspected_at_once_confirmed_later_and_recovers_once() -> None:
    watch = PartitionWatch(me=VOTERS[0], quorum_size=0, now=0.0)

    def emitted(event: object, now: float) -> list[str]:
        return [e.type for e in watch.handle(event, now=now) if isinstance(e, Emit)]  # type: ignore[arg-type]

    assert emitted(EvidenceSeen(evidence(3, 3)), 1.0) == []
    assert emitted(EvidenceSeen(evidence(1, 3)), 2.0) == ["cluster.partition.suspected"]
    assert watch.deadline == 2.0 + CONFIRM_AFTER_S
    assert emitted(EvidenceSeen(evidence(1, 3)), 3.0) == []
    assert emitted(DeadlineReached(), 7.0) == ["cluster.partition.confirmed"]
    assert watch.deadline is None
    assert emitted(EvidenceSeen(evidence(2, 3, hears=False)), 8.0) == []
    assert emitted(EvidenceSeen(evidence(2, 3)), 9.0) == ["cluster.partition.recovered"]
