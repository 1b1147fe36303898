"""The read index: when a leader may say up to where it knows."""

from __future__ import annotations

import pytest

from muster_protocol.effects import Effect
from muster_protocol.raftguard.events import ReadsConfirmed, ReadsRefused, SendFrame
from muster_protocol.raftguard.reads import ReadIndex
from muster_protocol.types import NodeId
from muster_protocol.wire.raft import ReadEcho, ReadProbe
from testkit.raft_log import Log, log_of

A, B = (NodeId(letter * 32) for letter in "ab")
TERM = 5


def a_log(*, commit: int = 3) -> Log:
    """Entries of terms 0, 1 and 5, which is ours."""
    return log_of(0, 1, TERM, commit=commit)


def probes(number: int) -> tuple[Effect, ...]:
    return tuple(SendFrame(peer, ReadProbe(TERM, number)) for peer in (A, B))


def echo(number: int) -> ReadEcho:
    return ReadEcho(TERM, number)


def test_a_read_is_confirmed_when_a_majority_has_answered() -> None:
    reads = ReadIndex(majority=2, log=a_log())
    assert reads.wanted(1, (A, B)) == probes(1)
    assert reads.echoed(A, echo(1), (A, B)) == (ReadsConfirmed(1, 3),)
    assert reads.echoed(B, echo(1), (A, B)) == ()


def test_the_index_is_that_of_the_beginning() -> None:
    log = a_log()
    reads = ReadIndex(majority=2, log=log)
    reads.wanted(1, (A, B))
    log.terms[4], log.commit_index = TERM, 4
    assert reads.echoed(A, echo(1), (A, B)) == (ReadsConfirmed(1, 3),)


def test_what_comes_during_a_round_waits_for_the_next() -> None:
    log = a_log()
    reads = ReadIndex(majority=2, log=log)
    reads.wanted(1, (A, B))
    assert reads.wanted(2, (A, B)) == ()
    assert reads.wanted(3, (A, B)) == ()
    log.terms[4], log.commit_index = TERM, 4
    assert reads.echoed(A, echo(1), (A, B)) == (ReadsConfirmed(1, 3), *probes(2))
    assert reads.echoed(A, echo(1), (A, B)) == (), "an answer to the first round says nothing of it"
    assert reads.echoed(A, echo(2), (A, B)) == (ReadsConfirmed(3, 4),)


def test_one_follower_counts_once() -> None:
    reads = ReadIndex(majority=3, log=a_log())
    reads.wanted(1, (A, B))
    assert reads.echoed(A, echo(1), (A, B)) == ()
    assert reads.echoed(A, echo(1), (A, B)) == ()
    assert reads.echoed(B, echo(1), (A, B)) == (ReadsConfirmed(1, 3),)


def test_a_new_leader_does_not_know_yet_what_is_committed() -> None:
    log = a_log(commit=2)
    reads = ReadIndex(majority=2, log=log)
    assert reads.wanted(1, (A, B)) == ()
    assert reads.go_on((A, B)) == ()
    log.commit_index = 3
    assert reads.go_on((A, B)) == probes(1)


def test_a_question_is_asked_again_and_is_the_same_one() -> None:
    reads = ReadIndex(majority=2, log=a_log())
    assert reads.ask_again((A, B)) == ()
    reads.wanted(1, (A, B))
    assert reads.ask_again((A, B)) == probes(1)


def test_a_single_voter_asks_itself() -> None:
    reads = ReadIndex(majority=1, log=a_log())
    assert reads.wanted(1, ()) == (ReadsConfirmed(1, 3),)


@pytest.mark.parametrize("is_under_way", [True, False])
def test_what_waits_is_refused_with_the_leadership(is_under_way: bool) -> None:
    log = a_log(commit=3 if is_under_way else 2)
    reads = ReadIndex(majority=2, log=log)
    assert reads.refuse() == ()
    reads.wanted(1, (A, B))
    reads.wanted(2, (A, B))
    assert reads.refuse() == (ReadsRefused(2),)
    assert reads.refuse() == ()
    assert reads.echoed(A, echo(1), (A, B)) == ()
    log.commit_index = 3
    assert reads.go_on((A, B)) == (), "nobody waits any more"
    assert reads.wanted(3, (A, B)) != ()


def test_a_round_that_is_under_way_begins_anew_with_another_electorate() -> None:
    """Else a leader that has become the only voter waits for ever for one that is gone."""
    reads = ReadIndex(majority=2, log=a_log())
    assert reads.wanted(1, [A]) != ()
    reads.reconfigured(1)
    assert [type(effect) for effect in reads.go_on([])] == [ReadsConfirmed]
