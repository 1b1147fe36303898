"""The consistency manager: the seed's ConsistencyManager, with Raft underneath.

It founds or joins the cluster (`bootstrap`), runs this node's voter if it has a seat (`voter`), and
brings everybody's requests to the leader (`requests`, `forwarding`). Clients' requests do not cross
the bus: `control` calls the port (`submit`, `begin`, `read_stale`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

import msgspec
import trio

from muster.agents.consistency.adopting import adopt
from muster.agents.consistency.evidence import QuorumEvidence
from muster.agents.consistency.fence import DOWN, Fence
from muster.agents.consistency.forwarding import RETRY_S, Forwarder, ForwardServer
from muster.agents.consistency.founding import Founding
from muster.agents.consistency.ports import Ports
from muster.agents.consistency.proposals import Change, Told
from muster.agents.consistency.requests import Requests
from muster.agents.consistency.seat import Seat
from muster.agents.consistency.voter import Voter
from muster.runtime.actions import action
from muster.runtime.agent import Agent, Every
from muster.storage.files import write_atomically
from muster.storage.succession import CLUSTER_NAME
from muster_protocol.consistency.bootstrap import (
    RECORD_NAME,
    Answer,
    Ask,
    Bootstrap,
    CandidatesSeen,
    Found,
    FoundingDone,
    JoinCluster,
    ResetRequested,
    load_record,
)
from muster_protocol.consistency.commands import (
    Command,
    Operation,
    Result,
    check_operation,
)
from muster_protocol.effects import Effect
from muster_protocol.errors import OutcomeUnknown, Refused
from muster_protocol.partition.quorum import Evidence
from muster_protocol.raftguard.steward import REPLACE_S
from muster_protocol.raftguard.witness import Promises
from muster_protocol.types import NO_CLUSTER, ClusterId, NodeId
from muster_protocol.wire.hello import Purpose
from muster_protocol.wire.raft import Configuration
from muster_protocol.wire.seats import SeatRequest

if TYPE_CHECKING:
    from muster.net.peers import PeerConnection

HANDOVER_S: Final = 2.0
"""For so long a request waits where this side may not act any more: who leads, and who votes, may
be changing because of it."""

LOOK_AFTER_SEAT_S: Final = 0.5
ASK_CONFIGURATION_S: Final = 3.0
CANDIDATES_PERIOD_S: Final = 2.0


class NoParams(msgspec.Struct, frozen=True):
    """For actions without parameters."""


class ConsistencyManager(Agent):
    """See the module."""

    name = "consistency"

    def __init__(
        self,
        ports: Ports,
        *,
        expect: int,
        voters: int = 0,
        replace_after_s: float = REPLACE_S,
        is_witness: bool = False,
    ) -> None:
        """`expect` nodes found the cluster. `voters`, `replace_after_s`: see `Steward`;
        `is_witness`: see `Seat`."""
        look = action(name="CoordinateConsensus", params=NoParams)(self._look_for_candidates)
        self.actions = (look,)
        self.routes = {"cluster.node.*": look}
        self.schedules = (Every(CANDIDATES_PERIOD_S, look),)
        super().__init__()
        self._ports = ports
        self._clock = ports.world.clock
        self._expect = expect
        self._files = ports.world.files
        self._asked_leader: NodeId | None = None
        self._evidence = QuorumEvidence(ports)
        self._nursery: trio.Nursery | None = None
        self._founding: Founding | None = None
        self.cluster = NO_CLUSTER
        self._bootstrap: Bootstrap | None = None
        self.forwarder = Forwarder(
            me=ports.me,
            streams=ports.streams,
            clock=self._clock,
            leader=self.leader,
            learned=self._learned_leader,
            voters_in_reach=ports.live_replicas,
            address_of=ports.address_of,
        )
        self._seat = Seat(
            ports,
            forwarder=self.forwarder,
            size=voters,
            replace_after_s=replace_after_s,
            is_witness=is_witness,
        )
        self._fence = Fence(
            ports,
            self._seat,
            why_no_cluster=lambda: "" if self.cluster else self.founding_hint(),
        )
        self._requests = Requests(
            clock=self._clock, fence=self._fence, seat=self._seat, forwarder=self.forwarder
        )

    # --- the machine ------------------------------------------------------------------------

    @property
    def deadline(self) -> float | None:
        return self._bootstrap.deadline if self._bootstrap is not None else None

    def handle_event(self, event: Any, *, now: float) -> tuple[Effect, ...]:
        if self._bootstrap is None:
            return ()
        return self._bootstrap.handle(event, now=now)

    def effect_handlers(self) -> Mapping[type[Effect], Callable[[Any], None]]:
        return {
            Ask: self._ask,
            Answer: self._answer,
            Found: lambda effect: self._start(self._found, effect),
            JoinCluster: lambda effect: self._start(self._join, effect),
        }

    def _ask(self, effect: Ask) -> None:
        assert self._founding is not None, "the bootstrap machine is made after its shell"
        self._founding.ask(effect)

    def _answer(self, effect: Answer) -> None:
        assert self._founding is not None
        self._founding.answer(effect)

    def _look_for_candidates(
        self, state: Any, params: NoParams, context: Any
    ) -> tuple[Any, tuple[Effect, ...]]:
        """Has the gossip view changed what the founding depends on, or come a voter back?"""
        del params
        if context.signal is not None and self.voter is not None:
            self.voter.links.retry_now(NodeId(context.signal.data.get("node", "")))
        if self._bootstrap is None:
            return state, ()
        view = self._ports.candidates()
        seen = CandidatesSeen(view.candidates, view.clusters)
        return state, self._bootstrap.handle(seen, now=context.now)

    # --- the shell --------------------------------------------------------------------------

    async def serve(self) -> None:
        """Recover, then run until cancelled. Errors: StorageCorrupt, StorageError: the node ends.
        LocalError or an exception of the engine: the agent is restarted from the journal."""
        try:
            await self._serve()
        finally:
            self._fence.has_ended = True

    async def _serve(self) -> None:
        assert self.surroundings is not None
        offload = self._ports.world.offload
        await self._seat.recover()
        stored = await offload.run(lambda: self._ports.load_record(RECORD_NAME), kind="read")
        record = load_record(stored, path=self._files.describe(RECORD_NAME))
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            nursery.start_soon(self.forwarder.run)
            self._founding = Founding(
                me=self._ports.me,
                world=self._ports.world,
                streams=self._ports.streams,
                address_of=self._ports.address_of,
                post=self.surroundings.post,
                nursery=nursery,
            )
            with self._registered():
                await self._resume(nursery)
                self._fence.resumed()
                self._bootstrap = Bootstrap(
                    me=self._ports.me,
                    expect=self._expect,
                    record=record,
                    founded=self.has_seat,
                    fresh_id=lambda: self._ports.world.entropy.token_bytes(16).hex(),
                    now=self._clock.now(),
                )
                self._bootstrap.is_member = bool(self.cluster)
                try:
                    await self._keep_asking_for_configuration()
                finally:
                    self._nursery = None  # what comes from now on comes too late

    async def _resume(self, nursery: trio.Nursery) -> None:
        """Take up the seat, or the membership without one, that an earlier start left behind."""
        if (block := self._seat.superblock) is not None:
            self.cluster = block.cluster_id
            await self._seat.take(block, nursery)
            return
        data = await self._ports.world.offload.run(
            lambda: self._files.read(CLUSTER_NAME), kind="read"
        )
        if data:
            self.cluster = ClusterId(data.decode("ascii"))
            self._ports.joined(self.cluster, "")
            await self._seat.witness.resume(self.cluster, nursery)

    async def _found(self, effect: Found) -> None:
        assert self._founding is not None
        assert self.surroundings is not None
        assert self._nursery is not None
        block = await self._founding.found(effect)
        self.cluster = block.cluster_id
        await self._seat.take(block, self._nursery)
        while not self.surroundings.post(FoundingDone()):
            await self._clock.sleep(RETRY_S)  # the mailbox is full, and it waits for nothing else

    async def _join(self, effect: JoinCluster) -> None:
        data = effect.cluster.encode("ascii")
        await self._ports.world.offload.run(
            lambda: write_atomically(self._files, CLUSTER_NAME, data), kind="fsync"
        )
        self.cluster = effect.cluster
        self._ports.joined(effect.cluster, "")

    def _start(self, work: Callable[..., Any], *args: Any) -> None:
        assert self._nursery is not None
        self._nursery.start_soon(work, *args)

    async def _keep_asking_for_configuration(self) -> None:
        """A node without a seat asks the voters who has one, and who leads; who may have lost its
        own asks for that. Soon, where what it knows keeps it from acting: it may be outdated."""
        ask_at = self._clock.now()
        while True:
            is_due = self._clock.now() >= ask_at or not self._ports.verdict().may_act
            if self.cluster and not self.has_seat and is_due:
                ask_at = self._clock.now() + ASK_CONFIGURATION_S
                for voter in self._ports.live_replicas():
                    answer = await self.forwarder.ask_configuration(voter)
                    if answer is not None:
                        self._seat.told(answer.configuration)
                        self._asked_leader = NodeId(answer.leader) if answer.leader else None
                        break
            await self._seat.look_after()
            await self._clock.sleep(LOOK_AFTER_SEAT_S)

    # --- who has a seat -----------------------------------------------------------------------

    async def _serve_enlist(self, connection: PeerConnection) -> None:
        """A leader wants us to make a journal. Errors: RemoteError."""
        nursery = self._nursery
        if nursery is None:
            return

        async def serve(accepted: PeerConnection) -> None:
            await self._seat.answer_enlisting(accepted, self.cluster, nursery)

        await adopt(nursery, serve, connection, cause="enlist")

    async def change_seats(self, request: SeatRequest, *, deadline: float) -> None:
        """Have the leader change who votes, wherever it is; returns when that is committed.

        Errors: UsageError; Refused("not-quorate", "conflict", "timed-out"); OutcomeUnknown.
        """
        was_sent, patient_until = False, 0.0
        await self._fence.until_resumed(deadline)
        while (now := self._clock.now()) < deadline:
            if self._ports.verdict().may_act or now >= patient_until:
                self._fence.check(was_proposed=was_sent)
                patient_until = now + HANDOVER_S
                outcome = await self._attempt_change(request, deadline)
                if outcome:
                    return
                was_sent = was_sent or outcome is False
            await self._clock.sleep(RETRY_S)
        if was_sent:
            raise OutcomeUnknown("not known to be done in time; it is harmless to repeat")
        raise Refused("timed-out", "no leader answered in time; nothing was changed")

    async def _attempt_change(self, request: SeatRequest, deadline: float) -> bool | None:
        """As `Forwarder.change_seats`. Errors: UsageError; Refused; OutcomeUnknown."""
        stewardship = self._seat.stewardship
        if not self.leads() or stewardship is None:
            return await self.forwarder.change_seats(request, deadline=deadline)
        try:
            await stewardship.change(request, deadline=deadline)
        except Refused as refused:
            if refused.reason != "not-leader":
                raise
            return False  # leadership goes to somebody else, perhaps for this
        return True

    async def _change_seats_here(self, request: SeatRequest, *, deadline: float) -> None:
        """Another node asks. Errors: as `Stewardship.change`."""
        stewardship = self._seat.stewardship
        if stewardship is None or not self._ports.verdict().may_act:
            raise Refused("not-leader", "this side may not act")
        await stewardship.change(request, deadline=deadline)

    # --- streams of others --------------------------------------------------------------------

    @contextlib.contextmanager
    def _registered(self) -> Iterator[None]:
        """The streams of this agent's purposes come to this instance while it serves."""
        handlers = {
            Purpose.BOOTSTRAP: self._serve_bootstrap,
            Purpose.RAFT: self._seat.serve_raft,
            Purpose.PROPOSE: self._serve_propose,
            Purpose.SNAPSHOT: self._serve_snapshot,
            Purpose.ENLIST: self._serve_enlist,
        }
        self._ports.streams.handlers.update(handlers)
        try:
            yield
        finally:
            for purpose in handlers:
                self._ports.streams.handlers.pop(purpose, None)

    async def _serve_bootstrap(self, connection: PeerConnection) -> None:
        assert self._founding is not None
        await adopt(self._nursery, self._founding.serve, connection, cause="bootstrap")

    async def _serve_snapshot(self, connection: PeerConnection) -> None:
        if self.voter is not None:
            await self.voter.serve_snapshot(connection)

    async def _serve_propose(self, connection: PeerConnection) -> None:
        if (voter := self.voter) is not None:
            server = ForwardServer(
                clock=self._clock,
                configuration=lambda: voter.committed_configuration,
                leader=self.leader,
                submit=self._submit_forwarded,
                begin=self._begin_forwarded,
                change_seats=self._change_seats_here,
            )
            await voter.adopt(server.serve, connection)

    async def _submit_forwarded(self, command: Command, *, deadline: float) -> Result:
        """Another node's command passes the same fence. Errors: as `Proposals.submit`."""
        if self.voter is None or not self._ports.verdict().may_act:
            raise Refused("not-leader", "this side may not act")
        return await self.voter.submit(command, deadline=deadline)

    def _begin_forwarded(self, changes: Sequence[Change]) -> None:
        """The same for changes, without a wait: each is settled with a result or an error."""
        if self.voter is not None and self._ports.verdict().may_act:
            self.voter.begin(changes, _settle)
            return
        for change in changes:
            change.settle(change, Refused("not-leader", "this side may not act"))

    # --- the port -----------------------------------------------------------------------------

    @property
    def has_seat(self) -> bool:
        """Has this node a journal, as a voter or a learner?"""
        return self._seat.superblock is not None

    @property
    def voter(self) -> Voter | None:
        """This node's voter, while it runs. One that has ended says what was true then."""
        return self._seat.voter

    @property
    def role(self) -> str:
        """The voter's; "learner" where its vote does not count, "down" while it does not run,
        "member" without a seat, "witness"."""
        if not self.has_seat:
            return "witness" if self.promises is not None else "member"
        if self.voter is None:
            return "down"
        return self.voter.core.role.name.lower() if self.is_voter else "learner"

    @property
    def promises(self) -> Promises | None:
        """Of this node as a witness."""
        return self._seat.witness.promises

    @property
    def term(self) -> int:
        """In which this node is, as a voter or a witness; 0 without a seat."""
        voter, promises = self.voter, self.promises
        without = promises.term if promises is not None else 0
        return voter.core.term if voter is not None else without

    def leader(self) -> NodeId | None:
        """Who leads, as far as this node knows."""
        if not self.has_seat:
            return self._asked_leader
        return self.voter.core.leader if self.voter is not None else None

    def _learned_leader(self, leader: NodeId) -> None:
        """Somebody whom we took for the leader says who is."""
        if not self.has_seat:
            self._asked_leader = leader

    def revision(self) -> int:
        """The newest revision of the store that this node knows of; any older one is as true."""
        here = self.voter.replica.registry.revision if self.voter is not None else 0
        return max(here, self._requests.revision_heard)

    async def submit(self, command: Command, *, is_first: bool, deadline: float) -> Result:
        """See `Requests.submit`."""
        return await self._requests.submit(command, is_first=is_first, deadline=deadline)

    def begin(self, changes: Sequence[Change]) -> None:
        """See `Requests.begin`."""
        self._requests.begin(changes)

    def founding_hint(self) -> str:
        """Why there is no cluster yet, in a few words."""
        if not self._expect:
            return "waiting to be joined to one (bootstrap_expect is 0)"
        seen = len(self._ports.candidates().candidates) + 1
        return f"{seen} of {self._expect} expected candidates are here"

    def read_stale(self, operation: Operation) -> tuple[Result, float | None]:
        """Read this node's own replica: the result, and how many seconds ago the quorum was last
        heard (0.0 on a leader that hears it now, None if not since the start).

        Errors: Refused("unsupported") on a node that keeps no replica.
        """
        if not self.has_seat:
            raise Refused("unsupported", "this node keeps no replica: read without --stale")
        if self.voter is None:
            raise Refused("down", DOWN)
        check_operation(operation)
        heard = self.voter.core.guard.quorum_heard_at()
        age = None if heard is None else max(0.0, self._clock.now() - heard)
        return self.voter.replica.read(operation), age

    def evidence(self) -> Evidence:
        """What this node knows about the quorum now."""
        return self._evidence.now(self._seat if self.cluster else None, self.leader())

    @property
    def configuration(self) -> Configuration | None:
        """The committed electorate, as far as this node knows it."""
        return self._seat.committed_configuration

    @property
    def is_voter(self) -> bool:
        """Does this node's vote count? Not that of a learner, nor of a journal without a seat."""
        return self._seat.is_voter

    def leads(self) -> bool:
        """Is this node the leader, as far as it knows?"""
        return self._seat.leads

    def transfer_leadership(self) -> None:
        """Hand over to the most caught-up follower."""
        if self.voter is not None:
            self.voter.transfer_leadership()

    @property
    def suspended(self) -> str:
        """Why this node takes no more part, as a voter or a witness; "" if it does."""
        return self._seat.suspended

    def suspend_voting(self, reason: str) -> None:
        """This identity is alive elsewhere too: take no more part."""
        self._seat.suspend_voting(reason)

    def reset_bootstrap(self) -> None:
        """Void this node's promise to a founding that never came about.

        Errors: Refused("conflict") if there is none that could be voided.
        """
        if self.cluster:
            raise Refused("conflict", f"this node belongs to cluster {self.cluster[:8]}")
        if self._bootstrap is None or not self._bootstrap.has_open_promise:
            raise Refused("conflict", "this node has made no promise that is still open")
        assert self.surroundings is not None
        self.surroundings.post(ResetRequested())

    def statistics(self) -> Mapping[str, Any]:
        if self.voter is None:
            return {"seat": self.has_seat, "forwarded": self.forwarder.forwarded}
        guard = asdict(self.voter.core.guard.statistics())
        return {
            "seat": True,
            "role": self.voter.core.role.name.lower(),
            "term": self.voter.core.term,
            "commits": self.voter.journal.commits,
            "proposals_pending": self.voter.proposals.pending,
            "snapshots_taken": self.voter.compaction.taken,
            "snapshots_installed": self.voter.compaction.installed,
            "forwarded": self.forwarder.forwarded,
            **guard,
        }


def _settle(change: Change, outcome: Told | None) -> None:
    """For a change of which there is only one attempt, and that by the leader."""
    assert outcome is not None
    change.settle(change, outcome)
