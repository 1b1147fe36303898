"""Which answers of a follower wait for its disk."""

from __future__ import annotations

from muster_protocol.raftguard.answers import WAIT_S, Answers
from muster_protocol.types import NodeId

A, B = NodeId("a" * 32), NodeId("b" * 32)
TERM = 5
NOW = 100.0


def answered(durable: int = 3) -> Answers:
    """Who has told A about `durable` at NOW, and owes it more."""
    answers = Answers()
    answers.owed = (A, durable + 2, TERM)
    assert answers.is_due(A, TERM, durable, heard_at=NOW)
    return answers


def test_an_answer_that_says_nothing_new_waits_for_the_sync() -> None:
    assert not answered().is_due(A, TERM, 3, heard_at=NOW + 0.001)


def test_what_the_disk_has_taken_is_told_at_once() -> None:
    answers = answered()
    assert answers.is_due(A, TERM, 4, heard_at=NOW + 0.001)
    answers.owed = None
    assert answers.is_due(A, TERM, 4, heard_at=NOW + 0.002), "there will be no other answer"


def test_a_leader_is_answered_though_the_disk_hangs() -> None:
    """It would take us for dead."""
    answers, times = answered(), [NOW + 0.01 * number for number in range(1, 101)]
    told = [at for at in times if answers.is_due(A, TERM, 3, heard_at=at)]
    pauses = [after - before for before, after in zip([NOW, *told], told, strict=False)]
    assert len(told) >= 9
    assert max(pauses) < WAIT_S + 0.02


def test_another_leader_or_term_is_answered_at_once() -> None:
    assert answered().is_due(B, TERM, 3, heard_at=NOW)
    assert answered().is_due(A, TERM + 1, 3, heard_at=NOW)


def test_who_does_not_know_when_the_leader_spoke_answers() -> None:
    assert answered().is_due(A, TERM, 3, heard_at=None)
