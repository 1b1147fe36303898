"""The guard: every message to and from the Raft engine passes it, and it holds the rules.

pysyncobj 0.3.17 is a Raft engine with known deviations (D1-D34). The guard is a pure machine
around it that lets only those messages through on which the engine is right:

* **Terms** (D3, D25): every frame carries its sender's term. An answer of another term is
  dropped. A stale leader is told the higher term and steps down: its engine is given a vote
  request that it can only refuse.
* **Followers** (D1, D2): `appends` reduces what arrives.
* **Acknowledgements** (D6, D11, D14): they are clamped to what is on the disk. Where the sync is
  still running, the rest is acknowledged when it ends; what says nothing new waits for that, but
  not for long, because a leader takes a silent follower for a dead one (`answers`). On the leader
  incoming ones are clamped to its own disk too (`progress`).
* **Room**: `room` says how much is taken into memory before it is on the disk. What finds none is
  dropped; the leader still hears from us, and is asked for it again by the next append behind it.
* **Votes** (D4, D5, D7): a vote, and the request for one, leaves after the sync that makes the
  term and the vote durable (`held`). A vote counts once per member and term.
* **Elections** (D24): `elections`; the gate (`OpenGate`, `ShutGate`) is open while leader and for
  the moment in which a campaign starts. Left open, lost elections raised the term from 1 to 17 in
  20 s; so it is shut inside the very call in which the engine becomes candidate or follower.
* **Members** (D20-D23, D30): the electorate is the log's newest (`electorate`), and changes by one
  voter at a time. Only a voter with its own journal counts (`peers`); a learner gets the log. An
  old connection's frames carry an old epoch and are ignored.
* **The witness** gets no log, and is asked for its word where it is needed (`witnessing`).
* **Reads** (D26): `reads` asks a majority whether we still lead.
* **Snapshots** (D9, D10, D13-D15, D32, D33): none travels through the engine. Where it would send
  one, the guard offers the manifest; the follower fetches the data on a stream of its own.
* **Forwarding** (D29): the engine forwards nothing and is given no callbacks.

The engine calls back while it runs (`EngineSent`, `RoleChanged`); such events return only effects
that do not call the engine again, except for opening and shutting the gate.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from muster_protocol.effects import DeadlineReached, Effect, Notify
from muster_protocol.errors import RemoteError
from muster_protocol.raftguard.answers import Answers, keep_alive
from muster_protocol.raftguard.appends import CommittedEntryConflict, FollowerLog
from muster_protocol.raftguard.causes import Causes, ElectionCause
from muster_protocol.raftguard.changes import why_not_change
from muster_protocol.raftguard.elections import Elections
from muster_protocol.raftguard.events import (
    Campaign,
    Claim,
    ClaimKind,
    Deliver,
    EngineSent,
    FetchSnapshot,
    FrameReceived,
    LogDurable,
    LogView,
    OpenGate,
    PeerDown,
    PeerUp,
    ProposalRefused,
    ReadsRefused,
    ReadWanted,
    Reconfigure,
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
from muster_protocol.raftguard.handover import Handover
from muster_protocol.raftguard.held import Held
from muster_protocol.raftguard.peers import Peers
from muster_protocol.raftguard.progress import Progress
from muster_protocol.raftguard.reads import ReadIndex
from muster_protocol.raftguard.reports import GuardStatistics, electorate_changed, role_changed
from muster_protocol.raftguard.room import Room
from muster_protocol.raftguard.translation import (
    append_of,
    engine_step_up,
    engine_vote_request,
    vote_request_of,
)
from muster_protocol.raftguard.witnessing import Witnessing
from muster_protocol.types import NodeId, Rng, Severity
from muster_protocol.wire.raft import (
    Ack,
    Append,
    Configuration,
    HigherTerm,
    Manifest,
    PreVote,
    PreVoteRequest,
    ReadEcho,
    ReadProbe,
    SnapshotOffer,
    TimeoutNow,
    Vote,
    VoteRequest,
)

HEARTBEAT_S: Final = 0.25
"""How often a leader speaks when idle: 0.5 % of a core and 850 B/s measured at three nodes."""

VOTERS_WORD: Final = (Vote, PreVote, ReadEcho)
"""What counts towards a majority."""

Effects = tuple[Effect, ...]


class RaftGuard:
    """One voter's guard. `handle` events in, effects out; `deadline` as everywhere."""

    def __init__(self, *, me: NodeId, log: LogView, rng: Rng, now: float) -> None:
        self.me = me
        self.peers = Peers(me=me, generation=log.generation, configuration=log.configuration)
        self.role = Role.FOLLOWER
        self.leader: NodeId | None = None
        self.suspended = ""
        self._log = log
        self._progress = Progress(log.configuration, me=me, log=log)
        self._follower = FollowerLog(log)
        self._elections = Elections(log=log, rng=rng, now=now)
        self._held = Held(log)
        self._room = Room(log)
        self._answers = Answers(log)
        self._installing: Manifest | None = None
        self._handover = Handover(log=log)
        self._witnessing = Witnessing(
            log.configuration, me=me, log=log, matched=self._progress.matched
        )
        self._reads = ReadIndex(majority=log.configuration.majority, log=log)
        self._heartbeat_at = now
        self._dropped: dict[str, int] = {}
        self._causes = Causes()
        self._elections_won = self._pre_vote_rounds = 0
        self._handlers: dict[type[Any], Callable[[Any, float], Effects]] = {
            PeerUp: self._on_peer_up,
            PeerDown: self._on_peer_down,
            FrameReceived: self._on_frame,
            EngineSent: self._on_engine_sent,
            RoleChanged: self._on_role_changed,
            LogDurable: self._on_log_durable,
            SnapshotInstalled: self._on_snapshot_installed,
            SnapshotFailed: self._on_snapshot_failed,
            TransferLeadership: self._on_transfer,
            ReadWanted: self._on_read_wanted,
            SuspendVoting: self._on_suspend,
            DeadlineReached: self._on_deadline,
        }
        self._frame_handlers: dict[type[Any], Callable[[NodeId, Any, float], Effects]] = {
            Append: self._on_append,
            Ack: self._on_ack,
            VoteRequest: self._on_vote_request,
            Vote: self._on_vote,
            PreVoteRequest: self._on_pre_vote_request,
            PreVote: self._on_pre_vote,
            HigherTerm: self._on_higher_term,
            TimeoutNow: self._on_timeout_now,
            SnapshotOffer: self._on_snapshot_offer,
            ReadProbe: self._on_read_probe,
            ReadEcho: self._on_read_echo,
        }
        self._engine_handlers: dict[str, Callable[[NodeId, Mapping[str, Any]], Effects]] = {
            "append_entries": self._send_append,
            "next_node_idx": self._send_ack,
            "request_vote": self._send_vote_request,
            "response_vote": self._send_vote,
            "timeout_now": self._send_timeout_now,
            "apply_command": self._refuse_forwarding,
        }

    # --- the machine ------------------------------------------------------------------------

    @property
    def deadline(self) -> float | None:
        if self.suspended or not self.peers.may_campaign:
            return None
        return self._heartbeat_at if self.role is Role.LEADER else self._elections.deadline

    def handle(self, event: Any, *, now: float) -> Effects:
        return self._handlers[type(event)](event, now)

    def after_engine(self) -> Effects:
        """What has become possible by what the engine did: to be called after each event."""
        return self._reads.go_on(self.connected()) if self.role is Role.LEADER else ()

    def reconfigured(self, now: float) -> Effects:
        """To be called when the log's newest electorate is another one than before, after the call
        into the engine that made it so, and never during one."""
        was_voter = self.peers.may_campaign
        self.peers.reconfigured(self._log.configuration)
        self._progress.reconfigured(self.configuration)
        self._witnessing.reconfigured(self.configuration)
        self._reads.reconfigured(self.configuration.majority)
        if self.peers.may_campaign and not was_voter:
            self._elections.leadership_lost(now)  # a full time-out before the first campaign
        told = electorate_changed(self.configuration)
        if self.role is not Role.LEADER or self.suspended:
            return (Reconfigure(self.configuration), told)
        opened = OpenGate(self.peers.followers())
        return (Reconfigure(self.configuration), opened, told, *self.after_engine())

    def why_not_change(self, wanted: Configuration) -> str:
        """Why `wanted` cannot be proposed as the next electorate now; "" if it can be."""
        if self.role is not Role.LEADER or self.suspended or self._handover.is_wanted:
            return "this node does not lead"
        matched = self._progress.matched
        return why_not_change(wanted, me=self.me, log=self._log, matched=matched)

    def statistics(self) -> GuardStatistics:
        return GuardStatistics(
            dropped=dict(self._dropped),
            campaigns=sum(self._causes.campaigns.values()),
            elections_won=self._elections_won,
            campaigns_by_cause=self._causes.campaigns,
            leaderships_lost=self._causes.losses,
            pre_vote_rounds=self._pre_vote_rounds,
            held_frames=len(self._held),
            unsynced_bytes=self._room.unsynced_bytes,
        )

    @property
    def is_handing_over(self) -> bool:
        """Leadership is about to go to somebody else: nothing new may be proposed."""
        return self._handover.is_wanted

    @property
    def is_witness_called(self) -> bool:
        """As leader: is the witness asked for its word, because too few others give theirs?"""
        return self.role is Role.LEADER and self._witnessing.is_called

    @property
    def configuration(self) -> Configuration:
        """The electorate in force."""
        return self.peers.configuration

    def connected(self) -> tuple[NodeId, ...]:
        """The other voters to which a stream is open, in order of their ids."""
        return self.peers.connected()

    def acknowledged(self) -> Mapping[NodeId, tuple[int, float | None]]:
        """As leader: index and time of each follower's latest answer."""
        return self._progress.acknowledged()

    def hears_quorum(self, now: float, within_s: float) -> bool:
        """Leader: a majority answered within that time. Follower: a leader spoke within it."""
        if self.suspended:
            return False
        if self.role is Role.LEADER:
            heard_at = self._progress.majority_heard_at()
            return heard_at is not None and now - heard_at <= within_s
        return self.leader is not None and self._elections.hears_leader(now)

    def quorum_heard_at(self) -> float | None:
        """When this node last heard the quorum: as leader when the last answer came that makes a
        majority, as follower when the leader spoke. None if it does not hear it at all."""
        if self.role is not Role.LEADER:
            return self._elections.leader_heard_at
        return self._progress.majority_heard_at()

    # --- connections and the gate -----------------------------------------------------------

    def _on_peer_up(self, event: PeerUp, now: float) -> Effects:
        del now
        self.peers.up(event.peer, event.epoch, event.generation)
        gets_log = event.peer in self.peers.followers()
        if self.role is Role.LEADER and not self.suspended and gets_log:
            return (OpenGate((event.peer,)),)
        return ()

    def _on_peer_down(self, event: PeerDown, now: float) -> Effects:
        if not self.peers.down(event.peer, event.epoch):
            return ()
        if self.leader == event.peer:
            self._forget_leader()
            self._elections.leader_lost(now)
        return (ShutGate((event.peer,)), *self._ask_witness(now))

    def _on_role_changed(self, event: RoleChanged, now: float) -> Effects:
        was, self.role = self.role, event.role
        self._causes.role_changed(
            was, event.role, term=self._log.current_term, handed_over=self.is_handing_over
        )
        self._handover.role_changed(now)
        told = role_changed(was, event.role, self._log.current_term)
        shut = ShutGate(self.peers.seated)
        if event.role is Role.LEADER:
            self._elections_won += 1
            self.leader = self.me
            self._heartbeat_at = now + HEARTBEAT_S
            self._progress.leadership_began()
            self._witnessing.leadership_began()
            return (OpenGate(self.peers.followers()), told)
        if event.role is Role.CANDIDATE or self.leader == self.me:
            self._forget_leader()  # else: it is the append of this leader that made us follow
        if was is Role.LEADER:
            self._elections.leadership_lost(now)
        return (shut, told, *self._reads.refuse())

    def _forget_leader(self) -> None:
        self.leader = None
        self._answers.leader_forgotten()

    # --- timers and elections ---------------------------------------------------------------

    def _on_deadline(self, event: DeadlineReached, now: float) -> Effects:
        del event
        if self.suspended:
            return ()
        if self.role is Role.LEADER:
            if now < self._heartbeat_at:
                return ()
            self._heartbeat_at = now + HEARTBEAT_S
            self._progress.heartbeat_due()
            return (
                OpenGate(self.peers.followers()),
                TickEngine(flush=True),
                *self._give_up_if_stuck(now),
                *self._reads.ask_again(self.connected()),
                *self._ask_witness(now, is_heartbeat=True),
            )
        if now < self._elections.deadline:
            return ()
        self._forget_leader()
        pre_vote = self._elections.start_round(now)
        self._pre_vote_rounds += 1
        if self.configuration.majority == 1:
            return self._campaign(now, self._elections.cause)
        request = PreVoteRequest(
            term=self._log.current_term,
            next_term=pre_vote.next_term,
            last_index=self._log.last_index,
            last_term=self._last_term(),
            round=pre_vote.number,
        )
        return tuple(SendFrame(peer, request) for peer in self.connected())

    def _campaign(self, now: float, cause: ElectionCause) -> Effects:
        """Open the gate for the one tick that makes the engine a candidate. It is shut again here
        too: the engine does not report a change when a candidate becomes one once more."""
        self._causes.campaigned(cause)
        self._elections.campaign_started(now)
        return (OpenGate(self.connected()), Campaign(), ShutGate(self.peers.seated))

    def _on_pre_vote_request(self, peer: NodeId, frame: PreVoteRequest, now: float) -> Effects:
        if frame.term < self._log.current_term:
            return (SendFrame(peer, HigherTerm(self._log.current_term)),)
        granted = self.role is not Role.LEADER and self._elections.supports(frame, now)
        return (SendFrame(peer, PreVote(self._log.current_term, frame.round, granted)),)

    def _on_pre_vote(self, peer: NodeId, frame: PreVote, now: float) -> Effects:
        if frame.term > self._log.current_term:
            return self._step_up_to(frame.term)
        if self.role is Role.LEADER or not (frame.granted and self.peers.may_campaign):
            return ()
        if 1 + self._elections.count_pre_vote(frame.round, peer) == self.configuration.majority:
            return self._campaign(now, self._elections.cause)
        return ()

    def _on_timeout_now(self, peer: NodeId, frame: TimeoutNow, now: float) -> Effects:
        is_stale = frame.term != self._log.current_term or peer != self.leader
        if is_stale or not self.peers.may_campaign:
            return self._drop("stale-timeout-now")
        return self._campaign(now, ElectionCause.HANDED_OVER)

    def _on_vote_request(self, peer: NodeId, frame: VoteRequest, now: float) -> Effects:
        del now
        if frame.term < self._log.current_term:
            return (SendFrame(peer, HigherTerm(self._log.current_term)),)
        return (Deliver(peer, engine_vote_request(frame)),)

    def _on_vote(self, peer: NodeId, frame: Vote, now: float) -> Effects:
        del now
        if frame.term != self._log.current_term or self.role is not Role.CANDIDATE:
            return self._drop("stale-vote")
        if not self._elections.is_first_vote(peer):
            return self._drop("repeated-vote")
        return (Deliver(peer, {"type": "response_vote", "term": frame.term}),)

    def _on_higher_term(self, peer: NodeId, frame: HigherTerm, now: float) -> Effects:
        del peer, now
        return self._step_up_to(frame.term)

    def _step_up_to(self, term: int) -> Effects:
        """Adopt a higher term and be a follower in it, without voting: a vote request that must be
        refused is the one public way in which the engine takes over a term."""
        return (Deliver(None, engine_step_up(term)),) if term > self._log.current_term else ()

    def _on_transfer(self, event: TransferLeadership, now: float) -> Effects:
        if self.role is Role.LEADER:
            self._handover.begin(now, event.avoid)
        return self._hand_over()

    def _give_up_if_stuck(self, now: float) -> Effects:
        """A leader whose disk hangs commits nothing, and is not missed by anybody."""
        self._handover.expire(now)
        if not self.peers.voters or not self._handover.looks_at_disk(now):
            return self._hand_over()
        return (Notify("raft.disk.stuck", Severity.WARNING), *self._hand_over())

    def _hand_over(self) -> Effects:
        return self._handover.tell(self.peers.connected_replicas(), self._progress.is_level)

    def _on_suspend(self, event: SuspendVoting, now: float) -> Effects:
        del now
        self.suspended = event.reason
        self._held.clear()
        self._forget_leader()
        return (
            ShutGate(self.peers.seated),
            *self._reads.refuse(),
            Notify("raft.voting.suspended", Severity.ERROR, {"reason": event.reason}),
        )

    # --- frames in --------------------------------------------------------------------------

    def _on_frame(self, event: FrameReceived, now: float) -> Effects:
        if not self.peers.is_current(event.peer, event.epoch):
            return self._drop("old-connection")
        if self.suspended:
            return self._drop("suspended")
        if isinstance(event.frame, VOTERS_WORD) and not self.peers.counts(event.peer):
            return self._drop("not-a-voter")
        if isinstance(event.frame, Ack) and not self.peers.has_seat(event.peer):
            return self._drop("not-a-voter")
        handler = self._frame_handlers.get(type(event.frame))
        if handler is None:
            return self._drop("not-for-a-replica")
        return handler(event.peer, event.frame, now)

    def _on_append(self, peer: NodeId, frame: Append, now: float) -> Effects:
        if (refusal := self._refuse_as_leader(peer, frame.term)) is not None:
            return refusal
        self._leader_spoke(peer, now)
        if self._installing is not None:
            return self._step_up_to(frame.term) or (keep_alive(peer, self._log),)
        if frame.entries and not self._room.take_up(frame.entries):
            self._drop("no-room")
            return self._step_up_to(frame.term) or (keep_alive(peer, self._log),)
        try:
            reduced = self._follower.reduce(frame)
        except CommittedEntryConflict as conflict:
            return (SafetyViolated(str(conflict)),)
        except RemoteError as error:
            return self._drop(error.cause)
        deliver = Deliver(peer, reduced.message)
        if reduced.acknowledge is not None:
            return (deliver, *self._acknowledge(peer, reduced.acknowledge, frame.term))
        if reduced.start_again_from is not None and self._room.is_still_full():
            return (
                deliver,
                keep_alive(peer, self._log),
            )  # else it would come again, and again in vain
        if reduced.start_again_from is not None:
            reset = Ack(frame.term, reduced.start_again_from, success=False, reset=True)
            return (deliver, SendFrame(peer, reset))
        return (deliver,)

    def _refuse_as_leader(self, peer: NodeId, term: int) -> Effects | None:
        """Why `peer` cannot lead us in `term`, or None."""
        if term < self._log.current_term:
            return (SendFrame(peer, HigherTerm(self._log.current_term)),)
        if term == self._log.current_term and self.role is Role.LEADER:
            return (SafetyViolated(f"{peer} leads in term {term}, and so do we"),)
        return None

    def _leader_spoke(self, peer: NodeId, now: float) -> None:
        self.leader = peer
        self._elections.leader_heard(now)

    def _on_ack(self, peer: NodeId, frame: Ack, now: float) -> Effects:
        if frame.term > self._log.current_term:
            return self._step_up_to(frame.term)
        if frame.term < self._log.current_term or self.role is not Role.LEADER:
            return self._drop("stale-ack")
        if not 1 <= frame.next_index <= self._log.last_index + 1:
            return self._drop("ack-beyond-log")
        frame = self._progress.forward(peer, frame)
        must_go_on = self._progress.answered(peer, frame, now)
        deliver = Deliver(peer, self._progress.clamped(frame))
        if not must_go_on or peer == self.configuration.witness:
            return (deliver, *self._hand_over(), *self._ask_witness(now))
        return (deliver, OpenGate((peer,)), TickEngine(flush=True))

    # --- reads ------------------------------------------------------------------------------

    def _on_read_wanted(self, event: ReadWanted, now: float) -> Effects:
        del now
        if self.role is not Role.LEADER or self.suspended:
            return (ReadsRefused(event.ticket),)
        return self._reads.wanted(event.ticket, self.connected())

    def _on_read_probe(self, peer: NodeId, frame: ReadProbe, now: float) -> Effects:
        del now
        if (refusal := self._refuse_as_leader(peer, frame.term)) is not None:
            return refusal
        if frame.term > self._log.current_term:
            return self._step_up_to(frame.term)  # it asks again with its next heartbeat
        return (SendFrame(peer, ReadEcho(frame.term, frame.round)),)

    def _on_read_echo(self, peer: NodeId, frame: ReadEcho, now: float) -> Effects:
        del now
        if frame.term != self._log.current_term or self.role is not Role.LEADER:
            return self._drop("stale-read-echo")
        return self._reads.echoed(peer, frame, self.connected())

    # --- durability -------------------------------------------------------------------------

    def _on_log_durable(self, event: LogDurable, now: float) -> Effects:
        del event
        self._room.forget_synced()
        if self.suspended:
            return ()
        released = self._held.released()
        if self.role is not Role.LEADER:
            owed = self._answers.after_sync(heard_at=self._elections.leader_heard_at)
            return (*released, *owed, TickEngine())
        acks = (Deliver(peer, ack) for peer, ack in self._progress.after_sync())
        return (*released, *acks, *self._ask_witness(now), TickEngine())

    def _acknowledge(self, peer: NodeId, index: int, term: int) -> Effects:
        heard_at = self._elections.leader_heard_at
        return self._answers.acknowledge(peer, index, term, heard_at=heard_at)

    def _after_sync(self, *effects: Effect) -> Effects:
        """These effects, once everything in the journal up to now is durable."""
        if self._held.is_full:
            return self._drop("held-frames-overflow")
        return self._held.after_sync(*effects)

    # --- snapshots --------------------------------------------------------------------------

    def _on_snapshot_offer(self, peer: NodeId, frame: SnapshotOffer, now: float) -> Effects:
        if (refusal := self._refuse_as_leader(peer, frame.term)) is not None:
            return refusal
        if frame.term > self._log.current_term:
            return self._step_up_to(frame.term)  # the leader offers again with its next heartbeat
        self._leader_spoke(peer, now)
        last = frame.manifest.last
        if last.index <= self._log.commit_index or self._log.term_at(last.index) == last.term:
            # Not newer than the log: answered, not installed.
            self._follower.verify(frame.term, last.index)
            return self._acknowledge(peer, last.index, frame.term)
        if self._installing is not None:
            return (keep_alive(peer, self._log),)
        self._installing = frame.manifest
        return (FetchSnapshot(peer, frame.manifest), keep_alive(peer, self._log))

    def _on_snapshot_installed(self, event: SnapshotInstalled, now: float) -> Effects:
        del now
        self._installing = None
        if self.leader is None or self.role is Role.LEADER:
            return ()
        return self._acknowledge(self.leader, event.manifest.last.index, self._log.current_term)

    def _on_snapshot_failed(self, event: SnapshotFailed, now: float) -> Effects:
        del now
        self._installing = None
        return (Notify("raft.snapshot.failed", Severity.WARNING, {"reason": event.reason}),)

    # --- the engine's messages out ----------------------------------------------------------

    def _on_engine_sent(self, event: EngineSent, now: float) -> Effects:
        if self.suspended:
            return ()
        if event.message["type"] == "response_vote":
            self._elections.vote_granted(now)
        return self._engine_handlers[event.message["type"]](event.peer, event.message)

    def _send_append(self, peer: NodeId, message: Mapping[str, Any]) -> Effects:
        if "prevLogIdx" not in message:
            manifest = self._log.manifest
            # The engine repeats this until the peer is disconnected or its period has passed;
            # the gate is opened again with the next heartbeat.
            shut = ShutGate((peer,))
            if manifest is None:
                return (shut, *self._drop("no-snapshot-yet"))
            return (shut, SendFrame(peer, SnapshotOffer(message["term"], manifest)))
        frame = append_of(message)
        if self._progress.sent(peer, sum(len(entry.command) for entry in frame.entries)):
            return (SendFrame(peer, frame), ShutGate((peer,)))
        return (SendFrame(peer, frame),)

    def _send_ack(self, peer: NodeId, message: Mapping[str, Any]) -> Effects:
        term = self._log.current_term
        if message["success"]:
            return self._acknowledge(peer, message["next_node_idx"] - 1, term)
        ack = Ack(
            term=term,
            next_index=message["next_node_idx"],
            success=False,
            reset=message["reset"],
        )
        return (SendFrame(peer, ack),)

    def _send_vote_request(self, peer: NodeId, message: Mapping[str, Any]) -> Effects:
        request = vote_request_of(message)
        claim = Claim(ClaimKind.VOTE_REQUEST, request.term, request.last_index)
        return self._after_sync(claim, SendFrame(peer, request))

    def _send_vote(self, peer: NodeId, message: Mapping[str, Any]) -> Effects:
        term = message["term"]
        return self._after_sync(Claim(ClaimKind.VOTE, term, 0), SendFrame(peer, Vote(term)))

    def _send_timeout_now(self, peer: NodeId, message: Mapping[str, Any]) -> Effects:
        return (SendFrame(peer, TimeoutNow(message["term"])),)

    def _refuse_forwarding(self, peer: NodeId, message: Mapping[str, Any]) -> Effects:
        del peer
        return (ProposalRefused(message["command"]),)

    # --- small things -----------------------------------------------------------------------

    def _ask_witness(self, now: float, *, is_heartbeat: bool = False) -> Effects:
        if self.role is not Role.LEADER or self.suspended:
            return ()
        return self._witnessing.ask(self.connected(), now, is_heartbeat=is_heartbeat)

    def _last_term(self) -> int:
        return self._log.term_at(self._log.last_index) or 0

    def _drop(self, cause: str) -> Effects:
        self._dropped[cause] = self._dropped.get(cause, 0) + 1
        return ()
