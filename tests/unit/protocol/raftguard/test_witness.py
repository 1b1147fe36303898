"""What a witness promises, and that it keeps it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster_protocol.effects import Persist
from muster_protocol.errors import StorageCorrupt
from muster_protocol.raftguard.elections import ELECTION_MIN_S
from muster_protocol.raftguard.events import (
    FrameReceived,
    PeerDown,
    PeerUp,
    SendFrame,
    SuspendVoting,
)
from muster_protocol.raftguard.witness import Promises, Witness, load_promises, persist
from muster_protocol.types import NodeId
from muster_protocol.wire.raft import (
    Ack,
    Append,
    HigherTerm,
    Mark,
    PreVote,
    PreVoteRequest,
    RaftFrame,
    ReadEcho,
    ReadProbe,
    Vote,
    VoteRequest,
)

A, B = NodeId("a" * 32), NodeId("b" * 32)
NOW = 100.0
FRESH = Promises(1, "f" * 32, "c" * 32, "1" * 16, term=5)


class Bench:
    """A witness in term 5 with streams to A and B."""

    def __init__(self, promises: Promises = FRESH) -> None:
        self.witness = Witness(promises)
        for peer in (A, B):
            self.witness.handle(PeerUp(peer, 1, "0" * 16), now=NOW)

    def hears(self, peer: NodeId, frame: RaftFrame, *, now: float = NOW, epoch: int = 1) -> Any:
        """What it stores before it answers (None: nothing), and what it answers (None: nothing)."""
        effects = self.witness.handle(FrameReceived(peer, epoch, frame), now=now)
        stored = load_promises(effects[0].data, path="") if _is_stored(effects) else None
        rest = effects[1:] if stored else effects
        assert all(isinstance(each, SendFrame) and each.peer == peer for each in rest)
        assert len(rest) <= 1
        return stored, rest[0].frame if rest else None


def _is_stored(effects: Any) -> bool:
    return bool(effects) and isinstance(effects[0], Persist)


def test_a_mark_is_on_the_disk_before_it_is_acknowledged() -> None:
    stored, answer = Bench().hears(A, Mark(5, 7, 5))
    assert stored is not None
    assert stored.mark == (5, 7)
    assert answer == Ack(5, 8, success=True, reset=False)


def test_a_heartbeat_is_answered_and_writes_nothing() -> None:
    stored, answer = Bench().hears(A, Mark(5))
    assert (stored, answer) == (None, Ack(5, 1, success=False, reset=False))


def test_what_is_promised_already_is_acknowledged_again_without_a_write() -> None:
    bench = Bench()
    bench.hears(A, Mark(5, 7, 5))
    assert bench.hears(A, Mark(5, 6, 4)) == (None, Ack(5, 7, success=True, reset=False))
    assert bench.witness.promises.mark == (5, 7)


def test_it_votes_for_nobody_whose_log_ends_before_the_mark() -> None:
    bench = Bench()
    bench.hears(A, Mark(5, 7, 5))
    stored, answer = bench.hears(B, VoteRequest(6, last_index=9, last_term=4))
    assert (stored.term, stored.vote, answer) == (6, "", None)
    assert bench.hears(B, PreVoteRequest(6, 7, 6, 5, 3), now=NOW + 9)[1] == PreVote(6, 3, False)
    stored, answer = bench.hears(B, VoteRequest(6, last_index=7, last_term=5))
    assert (stored.vote, answer) == (B, Vote(6))


def test_it_votes_once_in_a_term_and_says_so_again() -> None:
    bench = Bench()
    assert bench.hears(A, VoteRequest(6, 1, 0))[1] == Vote(6)
    assert bench.hears(B, VoteRequest(6, 9, 5)) == (None, None)
    assert bench.hears(A, VoteRequest(6, 1, 0)) == (None, Vote(6))
    assert bench.hears(B, VoteRequest(7, 9, 5))[1] == Vote(7)


def test_it_supports_nobody_while_it_hears_a_leader() -> None:
    bench = Bench()
    bench.hears(A, Mark(5))
    request = PreVoteRequest(5, 6, 1, 0, 1)
    assert bench.hears(B, request, now=NOW + 0.1)[1] == PreVote(5, 1, False)
    assert bench.hears(B, request, now=NOW + ELECTION_MIN_S)[1] == PreVote(5, 1, True)


def test_the_end_of_a_leaders_stream_is_the_end_of_the_leader() -> None:
    bench = Bench()
    bench.hears(A, Mark(5))
    bench.witness.handle(PeerDown(A, 1), now=NOW)
    assert bench.hears(B, PreVoteRequest(5, 6, 1, 0, 1))[1] == PreVote(5, 1, True)


@pytest.mark.parametrize(
    "frame", [Mark(4, 9, 4), VoteRequest(4, 9, 4), PreVoteRequest(4, 5, 9, 4, 1), ReadProbe(4, 1)]
)
def test_who_lives_in_an_earlier_term_is_told(frame: RaftFrame) -> None:
    bench = Bench()
    assert bench.hears(A, frame) == (None, HigherTerm(5))
    assert bench.witness.promises == FRESH


@pytest.mark.parametrize("frame", [Mark(8), VoteRequest(8, 0, 0), ReadProbe(8, 1), HigherTerm(8)])
def test_a_later_term_is_on_the_disk_before_anything_is_said_in_it(frame: RaftFrame) -> None:
    stored, _ = Bench().hears(A, frame)
    assert stored is not None
    assert stored.term == 8


def test_a_read_is_confirmed_in_the_leaders_own_term() -> None:
    assert Bench().hears(A, ReadProbe(5, 3)) == (None, ReadEcho(5, 3))


def test_what_comes_over_an_old_connection_or_holds_data_is_not_heard() -> None:
    bench = Bench()
    assert bench.hears(A, Mark(9, 9, 9), epoch=2) == (None, None)
    assert bench.hears(A, Append(9, 1, 1, 0, ())) == (None, None)
    bench.witness.handle(PeerUp(A, 3, "0" * 16), now=NOW)
    bench.witness.handle(PeerDown(A, 1), now=NOW)  # of the connection before
    assert bench.hears(A, Mark(5), epoch=3)[1] is not None


def test_a_suspended_witness_says_nothing_more_and_that_once() -> None:
    bench = Bench()
    (told,) = bench.witness.handle(SuspendVoting("it lives twice"), now=NOW)
    assert told.fields == {"reason": "it lives twice"}
    assert bench.witness.handle(SuspendVoting("again"), now=NOW) == ()
    assert bench.hears(A, VoteRequest(6, 9, 5)) == (None, None)
    assert bench.hears(A, Mark(6)) == (None, None)


def test_a_restart_forgets_nothing() -> None:
    bench = Bench()
    bench.hears(A, Mark(5, 7, 5))
    bench.hears(A, VoteRequest(6, 7, 5))
    stored = load_promises(persist(bench.witness.promises).data, path="")
    assert stored == bench.witness.promises
    assert Bench(stored).hears(B, VoteRequest(6, 9, 5)) == (None, None)


def test_a_record_that_is_none_is_refused_by_its_path() -> None:
    assert load_promises(None, path="/x") is None
    with pytest.raises(StorageCorrupt, match="/x: not the record of a witness"):
        load_promises(b"\xc1", path="/x")
    later = persist(Promises(2, "f" * 32, "c" * 32, "1" * 16)).data
    with pytest.raises(StorageCorrupt, match="format 2, this version knows 1"):
        load_promises(later, path="/x")


TERMS = st.integers(4, 8)
INDEXES = st.integers(1, 4)
FRAMES = st.one_of(
    st.builds(Mark, TERMS, st.integers(0, 4), TERMS),
    st.builds(VoteRequest, TERMS, INDEXES, TERMS),
    st.builds(PreVoteRequest, TERMS, TERMS, INDEXES, TERMS, INDEXES),
    st.builds(ReadProbe, TERMS, INDEXES),
    st.builds(HigherTerm, TERMS),
)


@given(st.lists(st.tuples(st.sampled_from([A, B]), FRAMES), max_size=30))
def test_no_promise_is_ever_taken_back(heard: list[tuple[NodeId, RaftFrame]]) -> None:
    bench, votes = Bench(), dict[int, NodeId]()
    for peer, frame in heard:
        before = bench.witness.promises
        stored, answer = bench.hears(peer, frame)
        after = bench.witness.promises
        assert (stored is not None) == (after != before), "what changes is stored"
        assert after.term >= before.term
        assert after.mark >= before.mark
        if isinstance(answer, Vote):
            assert votes.setdefault(answer.term, peer) == peer
        if isinstance(answer, Ack) and answer.success:
            assert isinstance(frame, Mark)
            assert after.mark >= (frame.index_term, frame.index)
