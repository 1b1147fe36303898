"""One guard of three voters, given events by hand; the engine is what the test says it is."""

from __future__ import annotations

import random
from typing import Any

import pytest

from muster_protocol.effects import DeadlineReached, Effect, Notify
from muster_protocol.limits import LOG_ENTRIES_MAX, UNSYNCED_BYTES_MAX
from muster_protocol.raftguard.elections import ELECTION_MAX_S, ELECTION_MIN_S
from muster_protocol.raftguard.events import (
    Campaign,
    Claim,
    ClaimKind,
    Deliver,
    EngineSent,
    FetchSnapshot,
    FrameReceived,
    LogDurable,
    OpenGate,
    PeerDown,
    PeerUp,
    ProposalRefused,
    Role,
    RoleChanged,
    SafetyViolated,
    SendFrame,
    ShutGate,
    SnapshotFailed,
    SnapshotInstalled,
    SuspendVoting,
    TickEngine,
    TransferLeadership,
)
from muster_protocol.raftguard.guard import HEARTBEAT_S, RaftGuard
from muster_protocol.raftguard.handover import HANDOVER_S, STUCK_S
from muster_protocol.raftguard.held import HELD_FRAMES_MAX
from muster_protocol.raftguard.progress import SEND_WINDOW_BYTES
from muster_protocol.raftguard.room import ENTRY_BYTES
from muster_protocol.raftguard.translation import engine_ack
from muster_protocol.types import NodeId, Severity
from muster_protocol.wire.codec import encode
from muster_protocol.wire.raft import (
    Ack,
    Append,
    Configuration,
    Entry,
    HigherTerm,
    Manifest,
    PreVote,
    PreVoteRequest,
    ReadEcho,
    SnapshotOffer,
    TimeoutNow,
    Vote,
    Voter,
    VoteRequest,
)
from testkit.raft_log import Log, log_of

ME, A, B, STRANGER = (NodeId(letter * 32) for letter in "0abf")
TERM = 5
CONFIGURATION = Configuration(tuple(Voter(node, "0" * 16) for node in (ME, A, B)))
HEARTBEAT = Append(TERM, 1, 3, 5, ())


class Bench:
    """A guard with streams to both others, at epoch 1."""

    def __init__(self, log: Log | None = None, voters: Configuration = CONFIGURATION) -> None:
        self.log = log or log_of(0, 1, 5)
        self.log.configuration = voters
        self.now = 100.0
        self.guard = RaftGuard(me=ME, log=self.log, rng=random.Random(3), now=self.now)
        for peer in (A, B):
            self.do(PeerUp(peer, 1, "0" * 16))

    def do(self, event: Any, *, after_s: float = 0.0) -> tuple[Effect, ...]:
        self.now += after_s
        return self.guard.handle(event, now=self.now)

    def hears(self, peer: NodeId, frame: Any, *, epoch: int = 1) -> tuple[Effect, ...]:
        return self.do(FrameReceived(peer, epoch, frame))

    def sends(self, peer: NodeId, **message: Any) -> tuple[Effect, ...]:
        """The engine does."""
        return self.do(EngineSent(peer, message))

    def time_is_up(self) -> tuple[Effect, ...]:
        """The guard's own deadline passes."""
        assert self.guard.deadline is not None
        self.now = self.guard.deadline
        return self.do(DeadlineReached())

    def dropped(self) -> dict[str, int]:
        return dict(self.guard.statistics().dropped)


def a_leader(log: Log | None = None) -> Bench:
    bench = Bench(log)
    bench.do(RoleChanged(Role.CANDIDATE))
    bench.do(RoleChanged(Role.LEADER))
    return bench


def a_follower(log: Log | None = None) -> Bench:
    """Of A."""
    bench = Bench(log)
    bench.hears(A, HEARTBEAT)
    return bench


def ack(up_to: int, *, term: int = TERM) -> Ack:
    return Ack(term, up_to + 1, success=True, reset=False)


def a_manifest(index: int, term: int) -> Manifest:
    previous, last = Entry(b"\x01", index - 1, term), Entry(b"\x01", index, term)
    return Manifest(previous, last, CONFIGURATION, 10, b"\0" * 32)


def engine_append(previous: int = 3, *commands: bytes) -> dict[str, Any]:
    return {
        "type": "append_entries",
        "term": TERM,
        "commit_index": 3,
        "prevLogIdx": previous,
        "prevLogTerm": 5,
        "entries": [(c, previous + 1 + i, TERM) for i, c in enumerate(commands)],
    }


# --- who is heard -------------------------------------------------------------------------------


def test_d23_what_a_node_without_a_seat_answers_does_not_count() -> None:
    leader = a_leader()
    assert leader.do(PeerUp(STRANGER, 1, "0" * 16)) == ()
    for answer in (ack(3), ReadEcho(TERM, 1), Vote(TERM), PreVote(TERM, 1, granted=True)):
        assert leader.hears(STRANGER, answer) == ()
    assert leader.dropped() == {"not-a-voter": 4}
    assert STRANGER not in leader.guard.connected()


def test_d23_neither_does_that_of_a_voter_whose_journal_is_another_one() -> None:
    leader = a_leader()
    assert leader.do(PeerUp(A, 2, "1" * 16)) == ()
    assert leader.hears(A, ack(3), epoch=2) == ()
    assert leader.dropped() == {"not-a-voter": 1}
    assert leader.guard.connected() == (B,)


def test_a_leader_of_a_newer_electorate_is_followed_and_a_candidate_answered() -> None:
    bench = Bench()
    bench.do(PeerUp(STRANGER, 1, "0" * 16))
    (deliver,) = bench.hears(STRANGER, HEARTBEAT)
    assert isinstance(deliver, Deliver)
    assert bench.guard.leader == STRANGER
    assert bench.hears(STRANGER, VoteRequest(TERM + 1, 3, TERM)) != ()


def test_what_an_older_connection_still_delivers_is_ignored() -> None:
    bench = Bench()
    bench.do(PeerUp(A, 2, "0" * 16))
    assert bench.hears(A, HEARTBEAT, epoch=1) == ()
    assert bench.dropped() == {"old-connection": 1}
    assert bench.do(PeerDown(A, 1)) == ()
    assert bench.guard.connected() == (A, B)


# --- terms --------------------------------------------------------------------------------------


def test_d03_an_answer_of_another_term_does_not_count() -> None:
    leader = a_leader()
    assert leader.hears(A, ack(3, term=TERM - 1)) == ()
    assert leader.dropped() == {"stale-ack": 1}
    assert leader.guard.acknowledged()[A] == (0, None)


@pytest.mark.parametrize(
    "frame",
    [
        Append(TERM - 1, 1, 3, 5, ()),
        VoteRequest(TERM - 1, 9, 9),
        PreVoteRequest(TERM - 1, TERM, 9, 9, 1),
        SnapshotOffer(TERM - 1, a_manifest(9, 4)),
    ],
)
def test_d25_a_stale_leader_or_candidate_is_told_the_higher_term(frame: Any) -> None:
    assert Bench().hears(A, frame) == (SendFrame(A, HigherTerm(TERM)),)


@pytest.mark.parametrize(
    "frame", [HigherTerm(9), ack(3, term=9), PreVote(9, 1, granted=True)], ids=repr
)
def test_d25_a_higher_term_is_adopted_without_a_vote(frame: Any) -> None:
    (deliver,) = a_leader().hears(A, frame)
    assert isinstance(deliver, Deliver)
    assert deliver.message["type"] == "request_vote"
    assert deliver.message["term"] == 9
    assert deliver.message["last_log_index"] == 0


def test_a_second_leader_in_the_same_term_stops_the_node() -> None:
    (effect,) = a_leader().hears(A, HEARTBEAT)
    assert isinstance(effect, SafetyViolated)


# --- acknowledgements ---------------------------------------------------------------------------


def test_d06_a_follower_acknowledges_what_is_durable_and_owes_the_rest() -> None:
    bench = a_follower()
    bench.log.durable_index = 2
    assert bench.sends(A, type="next_node_idx", next_node_idx=4, success=True, reset=False) == (
        Claim(ClaimKind.ACK, TERM, 2),
        SendFrame(A, ack(2)),
    )
    bench.log.durable_index = 3
    assert bench.do(LogDurable()) == (
        Claim(ClaimKind.ACK, TERM, 3),
        SendFrame(A, ack(3)),
        TickEngine(),
    )
    assert bench.do(LogDurable()) == (TickEngine(),)


def test_d06_nothing_is_acknowledged_in_a_term_that_is_not_durable() -> None:
    bench = a_follower()
    bench.log.term_is_durable = False
    (kept_alive,) = bench.sends(A, type="next_node_idx", next_node_idx=4, success=True, reset=False)
    assert kept_alive == SendFrame(A, Ack(TERM, 4, success=False, reset=False))


def test_what_was_owed_to_a_leader_that_is_gone_is_not_sent() -> None:
    bench = a_follower()
    bench.log.durable_index = 2
    bench.sends(A, type="next_node_idx", next_node_idx=4, success=True, reset=False)
    bench.do(PeerDown(A, 1))
    bench.log.durable_index = 3
    assert bench.do(LogDurable()) == (TickEngine(),)


def test_d06_a_leader_counts_its_followers_only_as_far_as_its_own_disk() -> None:
    leader = a_leader()
    leader.log.durable_index = 2
    (deliver,) = leader.hears(A, ack(3))
    assert isinstance(deliver, Deliver)
    assert deliver.message["next_node_idx"] == 3
    leader.log.durable_index = 3
    counted, tick = leader.do(LogDurable())
    assert isinstance(counted, Deliver)
    assert (counted.peer, counted.message["next_node_idx"]) == (A, 4)
    assert tick == TickEngine()


def test_a_sync_is_no_answer_of_a_follower() -> None:
    """Counted again with each sync, old answers hid from a cut-off leader that none came."""
    leader = a_leader()
    leader.hears(A, ack(3))
    assert leader.do(LogDurable()) == (TickEngine(),)


def test_an_acknowledgement_beyond_the_log_is_dropped() -> None:
    leader = a_leader()
    assert leader.hears(A, ack(9)) == ()
    assert leader.dropped() == {"ack-beyond-log": 1}


def test_who_has_an_entry_is_not_sent_it_again_because_of_a_late_answer() -> None:
    """The engine would never come forward again, and offer a snapshot of what is there."""
    leader = a_leader()
    leader.hears(A, ack(3))
    deliver, *_ = leader.hears(A, Ack(TERM, 2, success=False, reset=True))
    assert deliver == Deliver(A, engine_ack(next_index=4, success=False, reset=True))


def test_d28_a_follower_that_asks_for_more_is_sent_it_at_once() -> None:
    leader = a_leader()
    effects = leader.hears(A, Ack(TERM, 2, success=False, reset=True))
    assert effects[1:] == (OpenGate((A,)), TickEngine(flush=True))


# --- the window ---------------------------------------------------------------------------------


def test_d31_a_full_window_shuts_the_gate_until_an_answer() -> None:
    leader = a_leader()
    big = b"\0" * (SEND_WINDOW_BYTES // 2 + 1)
    assert len(leader.do(EngineSent(A, engine_append(3, big)))) == 1
    assert leader.do(EngineSent(A, engine_append(4, big)))[1:] == (ShutGate((A,)),)
    leader.log.terms |= {4: TERM, 5: TERM}
    assert leader.hears(A, ack(4))[1:] == (OpenGate((A,)), TickEngine(flush=True))
    assert len(leader.do(EngineSent(A, engine_append(5, big)))) == 1


def test_d31_a_heartbeat_opens_all_windows() -> None:
    leader = a_leader()
    leader.do(EngineSent(A, engine_append(3, b"\0" * (SEND_WINDOW_BYTES + 1))))
    assert leader.time_is_up() == (OpenGate((A, B)), TickEngine(flush=True))
    assert len(leader.do(EngineSent(A, engine_append(3, b"\0")))) == 1


# --- votes and elections ------------------------------------------------------------------------


def test_d05_a_vote_leaves_after_the_sync_that_makes_it_durable() -> None:
    bench = Bench()
    bench.log.lsn = 7
    assert bench.sends(A, type="response_vote", term=TERM) == ()
    assert bench.do(LogDurable()) == (TickEngine(),)
    bench.log.durable_lsn = 7
    assert bench.do(LogDurable()) == (
        Claim(ClaimKind.VOTE, TERM, 0),
        SendFrame(A, Vote(TERM)),
        TickEngine(),
    )


def test_who_has_voted_waits_for_his_candidate_before_trying_himself() -> None:
    """His own attempt, due within milliseconds of a dead leader, would depose the new one."""
    bench = a_follower()
    bench.time_is_up()
    bench.now += 0.9 * ELECTION_MIN_S
    bench.sends(A, type="response_vote", term=TERM)
    assert bench.guard.deadline is not None
    assert bench.guard.deadline - bench.now >= ELECTION_MIN_S
    assert bench.hears(B, PreVote(TERM, 1, granted=True)) == (), "the promise is of before"


def test_d05_a_vote_request_leaves_after_the_sync_too() -> None:
    bench = Bench()
    bench.log.lsn = 7
    request = {"type": "request_vote", "term": TERM, "last_log_index": 3, "last_log_term": 5}
    assert bench.sends(A, **request) == ()
    bench.log.durable_lsn = 7
    assert SendFrame(A, VoteRequest(TERM, 3, 5)) in bench.do(LogDurable())


def test_frames_that_wait_for_a_dead_disk_are_bounded() -> None:
    bench = Bench()
    bench.log.lsn = 7
    for _ in range(HELD_FRAMES_MAX + 1):
        bench.sends(A, type="response_vote", term=TERM)
    assert bench.guard.statistics().held_frames == HELD_FRAMES_MAX
    assert bench.dropped() == {"held-frames-overflow": 1}


def large_appends(count: int) -> list[Append]:
    """With what fits, `count` of them fill the room that there is without a sync."""
    size = UNSYNCED_BYTES_MAX // count - ENTRY_BYTES
    head = b"\x00" + encode((0, (b"",)))[:-2]  # and the length of the batch, in five bytes
    batch = bytes(size - len(head) - 5)
    command = head + b"\xc6" + len(batch).to_bytes(4, "big") + batch
    assert len(command) == size
    return [Append(TERM, 1, 3, 5, (Entry(command, 4, TERM),)) for _ in range(count)]


def test_a_follower_whose_disk_hangs_takes_no_more_than_it_may() -> None:
    """It goes on answering, so the leader sends all that is committed without it."""
    bench = a_follower()
    bench.log.lsn = 7
    for append in large_appends(8):
        assert any(isinstance(effect, Deliver) for effect in bench.hears(A, append))
    assert bench.guard.statistics().unsynced_bytes == UNSYNCED_BYTES_MAX
    refused = bench.hears(A, large_appends(8)[0])
    assert refused == (SendFrame(A, Ack(TERM, 4, success=False, reset=False)),)
    beyond = bench.hears(A, Append(TERM, 1, 4, 5, ()))
    assert SendFrame(A, Ack(TERM, 4, success=False, reset=False)) in beyond, "not asked for again"
    bench.log.durable_lsn = bench.log.lsn
    bench.do(LogDurable())
    assert bench.guard.statistics().unsynced_bytes == 0
    beyond = bench.hears(A, Append(TERM, 1, 4, 5, ()))
    assert SendFrame(A, Ack(TERM, 4, success=False, reset=True)) in beyond
    assert any(isinstance(effect, Deliver) for effect in bench.hears(A, large_appends(8)[0]))


def test_an_append_that_brings_nothing_new_takes_no_room() -> None:
    """It makes no record, so no sync will ever say that it is on the disk."""
    bench = a_follower()
    for append in large_appends(4) * 3:
        assert any(isinstance(effect, Deliver) for effect in bench.hears(A, append))
    assert bench.dropped() == {}


def test_a_log_that_no_snapshot_shortens_takes_no_more() -> None:
    bench = a_follower(log_of(*([TERM] * LOG_ENTRIES_MAX)))
    last = LOG_ENTRIES_MAX
    frame = Append(TERM, 1, last, TERM, (Entry(b"x", last + 1, TERM),))
    assert not any(isinstance(effect, Deliver) for effect in bench.hears(A, frame))
    assert bench.dropped() == {"no-room": 1}


def test_d04_a_vote_counts_once() -> None:
    bench = Bench()
    bench.time_is_up()
    bench.hears(A, PreVote(TERM, 1, granted=True))
    bench.do(RoleChanged(Role.CANDIDATE))
    assert len(bench.hears(A, Vote(TERM))) == 1
    assert bench.hears(A, Vote(TERM)) == ()
    assert bench.dropped() == {"repeated-vote": 1}
    bench.time_is_up()
    bench.hears(A, PreVote(TERM, 2, granted=True))
    assert len(bench.hears(A, Vote(TERM))) == 1


@pytest.mark.parametrize("term", [TERM - 1, TERM + 1])
def test_a_vote_of_another_term_does_not_count(term: int) -> None:
    bench = Bench()
    bench.do(RoleChanged(Role.CANDIDATE))
    assert bench.hears(A, Vote(term)) == ()


def test_d24_a_silent_leader_leads_to_a_pre_vote_and_a_majority_to_a_campaign() -> None:
    bench = a_follower()
    assert bench.guard.deadline is not None
    assert ELECTION_MIN_S <= bench.guard.deadline - bench.now <= ELECTION_MAX_S
    question = PreVoteRequest(TERM, TERM + 1, 3, 5, 1)
    assert bench.time_is_up() == (SendFrame(A, question), SendFrame(B, question))
    assert bench.guard.leader is None
    assert bench.hears(A, PreVote(TERM, 1, granted=False)) == ()
    assert bench.hears(B, PreVote(TERM, 1, granted=True)) == (
        OpenGate((A, B)),
        Campaign(),
        ShutGate((A, B)),
    )
    statistics = bench.guard.statistics()
    assert (statistics.pre_vote_rounds, statistics.campaigns, statistics.elections_won) == (1, 1, 0)


def test_d24_promises_of_an_earlier_round_start_no_campaign() -> None:
    bench = a_follower()
    bench.time_is_up()
    bench.time_is_up()
    assert bench.hears(A, PreVote(TERM, 1, granted=True)) == ()


@pytest.mark.parametrize(
    ("last", "granted"), [((3, 5), True), ((9, 5), True), ((2, 5), False), ((9, 4), False)]
)
def test_d24_a_promise_needs_a_log_as_new_as_ours(last: tuple[int, int], granted: bool) -> None:
    request = PreVoteRequest(TERM, TERM + 1, *last, 7)
    assert Bench().hears(A, request) == (SendFrame(A, PreVote(TERM, 7, granted)),)


def test_d24_who_hears_a_leader_promises_nothing() -> None:
    request = PreVoteRequest(TERM, TERM + 1, 9, 5, 7)
    refusal, promise = (SendFrame(B, PreVote(TERM, 7, granted)) for granted in (False, True))
    follower = a_follower()
    assert follower.hears(B, request) == (refusal,)
    follower.now += ELECTION_MIN_S
    assert follower.hears(B, request) == (promise,)
    assert a_leader().hears(B, request) == (refusal,)


def test_the_end_of_the_leaders_stream_is_noticed_at_once() -> None:
    bench = a_follower()
    assert bench.do(PeerDown(A, 1)) == (ShutGate((A,)),)
    assert bench.guard.leader is None
    assert bench.guard.deadline is not None
    assert bench.guard.deadline - bench.now < ELECTION_MIN_S / 2


def test_the_gate_is_shut_when_leadership_is_lost() -> None:
    shut, told = a_leader().do(RoleChanged(Role.FOLLOWER))
    assert shut == ShutGate((A, B))
    assert isinstance(told, Notify)


def test_a_stream_that_comes_up_opens_the_gate_of_a_leader_only() -> None:
    assert Bench().do(PeerUp(A, 2, "0" * 16)) == ()
    assert a_leader().do(PeerUp(A, 2, "0" * 16)) == (OpenGate((A,)),)


def test_a_single_voter_needs_nobodys_promise() -> None:
    alone = Bench(voters=Configuration((Voter(ME, "0" * 16),)))
    assert Campaign() in alone.time_is_up()
    alone.do(RoleChanged(Role.LEADER))
    assert alone.guard.hears_quorum(alone.now + 99.0, within_s=1.0)


# --- handing over -------------------------------------------------------------------------------


def test_leadership_is_handed_to_a_follower_that_has_everything() -> None:
    leader = a_leader()
    leader.hears(A, ack(2))
    assert leader.do(TransferLeadership()) == ()
    assert leader.hears(B, ack(3))[1:] == (SendFrame(B, TimeoutNow(TERM)),)
    assert leader.do(LogDurable()) == (TickEngine(),)


def test_a_hand_over_ends_with_the_leadership() -> None:
    leader = a_leader()
    leader.do(TransferLeadership())
    leader.do(RoleChanged(Role.FOLLOWER))
    leader.do(RoleChanged(Role.LEADER))
    assert len(leader.hears(B, ack(3))) == 1


def stuck(leader: Bench) -> list[Effect]:
    """What it does while a sync does not end."""
    leader.log.lsn += 1
    effects: list[Effect] = []
    until = leader.now + 2 * STUCK_S
    while leader.now < until:
        effects += leader.time_is_up()
    return effects


def test_a_leader_whose_disk_is_stuck_makes_way_for_a_follower_that_has_everything() -> None:
    leader = a_leader()
    leader.hears(B, ack(3))
    effects = stuck(leader)
    assert effects.count(Notify("raft.disk.stuck", Severity.WARNING)) == 1
    assert SendFrame(B, TimeoutNow(TERM)) in effects


def test_a_leader_whose_disk_is_stuck_stays_where_nobody_is_better() -> None:
    leader = a_leader()
    leader.hears(B, ack(2))
    assert not [each for each in stuck(leader) if isinstance(each, SendFrame)]
    assert leader.guard.is_handing_over, "and takes nothing that it cannot commit"
    leader.log.durable_lsn = leader.log.lsn
    leader.do(LogDurable())
    leader.do(DeadlineReached(), after_s=HANDOVER_S)
    assert not leader.guard.is_handing_over


def test_a_single_voter_has_nobody_to_make_way_for() -> None:
    alone = Bench(voters=Configuration((Voter(ME, "0" * 16),)))
    alone.do(RoleChanged(Role.LEADER))
    assert not [each for each in stuck(alone) if isinstance(each, Notify)]


def test_only_our_leader_can_hand_over() -> None:
    bench = a_follower()
    assert bench.hears(B, TimeoutNow(TERM)) == ()
    assert Campaign() in bench.hears(A, TimeoutNow(TERM))


# --- the quorum ---------------------------------------------------------------------------------


def test_a_leader_hears_the_quorum_while_a_majority_answers() -> None:
    leader = a_leader()
    assert not leader.guard.hears_quorum(leader.now, within_s=1.5)
    leader.hears(A, ack(3))
    heard_at = leader.now
    assert leader.guard.quorum_heard_at() == heard_at
    assert leader.guard.hears_quorum(heard_at + 1.5, within_s=1.5)
    assert not leader.guard.hears_quorum(heard_at + 1.6, within_s=1.5)


def test_answers_of_an_earlier_leadership_do_not_count() -> None:
    leader = a_leader()
    leader.hears(A, ack(3))
    leader.do(RoleChanged(Role.FOLLOWER))
    leader.do(RoleChanged(Role.LEADER))
    assert leader.guard.quorum_heard_at() is None
    assert leader.guard.acknowledged()[A] == (0, None)


# --- snapshots ----------------------------------------------------------------------------------


def test_d15_a_snapshot_is_offered_and_not_sent_through_the_engine() -> None:
    leader = a_leader()
    piece = {"type": "append_entries", "term": TERM, "commit_index": 3, "serialized": None}
    assert leader.sends(A, **piece) == (ShutGate((A,)),)
    assert leader.dropped() == {"no-snapshot-yet": 1}
    leader.log.manifest = manifest = a_manifest(3, 5)
    assert leader.sends(A, **piece) == (
        ShutGate((A,)),
        SendFrame(A, SnapshotOffer(TERM, manifest)),
    )


def test_d10_a_snapshot_that_is_not_newer_than_the_log_is_answered_and_not_fetched() -> None:
    assert a_follower().hears(A, SnapshotOffer(TERM, a_manifest(3, 5))) == (
        Claim(ClaimKind.ACK, TERM, 3),
        SendFrame(A, ack(3)),
    )


def test_a_newer_snapshot_is_fetched_once_and_acknowledged_when_installed() -> None:
    bench = a_follower()
    offer = SnapshotOffer(TERM, a_manifest(9, 5))
    fetch, _ = bench.hears(A, offer)
    assert fetch == FetchSnapshot(A, offer.manifest)
    assert [type(effect) for effect in bench.hears(A, offer)] == [SendFrame]
    (step_up,) = bench.hears(A, Append(TERM + 1, 9, 9, 5, ()))
    assert isinstance(step_up, Deliver)
    entries = Append(TERM, 9, 9, 5, (Entry(b"\x01", 10, 5),))
    assert [type(effect) for effect in bench.hears(A, entries)] == [SendFrame]
    bench.log.terms = {8: 5, 9: 5}
    assert bench.do(SnapshotInstalled(offer.manifest)) == (
        Claim(ClaimKind.ACK, TERM, 9),
        SendFrame(A, ack(9)),
    )


def test_a_snapshot_that_could_not_be_fetched_is_fetched_when_it_is_offered_again() -> None:
    bench = a_follower()
    offer = SnapshotOffer(TERM, a_manifest(9, 5))
    bench.hears(A, offer)
    (told,) = bench.do(SnapshotFailed("the stream broke"))
    assert isinstance(told, Notify)
    assert FetchSnapshot(A, offer.manifest) in bench.hears(A, offer)


# --- the rest -----------------------------------------------------------------------------------


def test_d29_the_engine_forwards_nothing() -> None:
    bench = a_follower()
    assert bench.sends(A, type="apply_command", command=b"c") == (ProposalRefused(b"c"),)


def test_a_suspended_voter_hears_and_says_nothing() -> None:
    bench = a_follower()
    bench.log.lsn = 7
    bench.sends(A, type="response_vote", term=TERM)
    bench.do(SuspendVoting("twice alive"))
    bench.log.durable_lsn = 7
    assert (bench.guard.deadline, bench.guard.leader) == (None, None)
    assert bench.do(LogDurable()) == ()
    assert bench.hears(A, HEARTBEAT) == ()
    assert bench.do(DeadlineReached(), after_s=10.0) == ()
    assert bench.sends(A, type="response_vote", term=TERM) == ()
    assert not bench.guard.hears_quorum(bench.now, within_s=99.0)


def test_heartbeats_are_due_in_their_period() -> None:
    leader = a_leader()
    assert leader.guard.deadline == leader.now + HEARTBEAT_S
    assert leader.do(DeadlineReached()) == ()
    leader.time_is_up()
    assert leader.guard.deadline == leader.now + HEARTBEAT_S
