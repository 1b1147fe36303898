"""Raft voters on an event heap: the production guard, engine and journal on simulated disks.

Frames are values with a delay; they keep their order within a connection, as on the real streams,
unless a run asks for worse. A group commit is an event with a duration: what it took when it began
is durable when it ends, and lost if the power goes before, or in the midst of it. Snapshots are in
`snapshots`. Every decision comes from one seed.

The checkers of Raft's safety look at every step: who leads, and each entry as it is applied.
"""

from __future__ import annotations

import contextlib
import itertools
import random
from collections.abc import Callable, Iterable
from typing import Any, Final, TypeVar

from muster.agents.consistency.links import SILENCE_S
from muster.agents.consistency.raft.core import Propose
from muster.agents.consistency.raft.engine import FIRST_ENTRY
from muster.sim.checkers.bounds import within_bounds
from muster.sim.checkers.durability import Claims
from muster.sim.checkers.raft import CommittedOnMajority, CommittedPrefixes, ElectionSafety
from muster.sim.checkers.reads import FreshReads
from muster.sim.checkers.storage import EqualReplicas
from muster.sim.checkers.violated import Violated
from muster.sim.disk import SimDisk
from muster.sim.machines.heap import EventHeap
from muster.sim.machines.snapshots import SnapshotPlan, Snapshots
from muster.sim.machines.voter import GENERATION, Birth, SimVoter, Watcher
from muster.sim.machines.ways import Way, Ways
from muster.sim.machines.witness import SimWitness
from muster.sim.sizes import sizes_of_core
from muster_protocol.effects import DeadlineReached, Effect, Notify, Persist
from muster_protocol.errors import StorageCorrupt, StorageError
from muster_protocol.raftguard.electorate import at_index
from muster_protocol.raftguard.events import (
    Claim,
    FetchSnapshot,
    FrameReceived,
    LogDurable,
    PeerDown,
    PeerUp,
    ProposalRefused,
    ReadsConfirmed,
    ReadsRefused,
    ReadWanted,
    Role,
    SafetyViolated,
    SendFrame,
)
from muster_protocol.types import NodeId
from muster_protocol.wire.raft import Append, Configuration, SnapshotOffer, Voter

R = TypeVar("R")

WITH_DATA: Final = (Append, SnapshotOffer)
NOBODY: Final = Configuration(())


class RaftVoters(EventHeap):
    """`n` voters. Drive them with `run_until`; hurt them with `crash`, `isolate`, `heal`."""

    def __init__(
        self,
        n: int,
        *,
        seed: int,
        sync_s_max: float = 0.02,
        frame_s: tuple[float, float] = (0.0002, 0.003),
        is_fifo: bool = False,
        repeated: float = 0.0,
        straggling: float = 0.0,
        snapshots: SnapshotPlan | None = None,
        spares: int = 0,
        with_witness: bool = False,
    ) -> None:
        """`spares` more nodes have no journal until they are enlisted, and one more may be a
        witness. `frame_s`: least and longest
        delay of a frame. Without `is_fifo`, frames of a connection overtake each other, and with a
        chance of `repeated` they come twice, of `straggling` seconds late: the real streams never
        let them, but the guard's rules (D2, D3, D4) must not depend on that."""
        super().__init__()
        self.rng = random.Random(seed)
        self._tears = random.Random(f"{seed}/tears")
        self.sync_s_max = sync_s_max
        self.ways = Ways(
            self.rng, frame_s=frame_s, is_fifo=is_fifo, repeated=repeated, straggling=straggling
        )
        self.elections = ElectionSafety()
        self.claims = Claims()
        self.prefixes = CommittedPrefixes()
        self.replicas = EqualReplicas()
        self.majorities = CommittedOnMajority()
        self.reads = FreshReads()
        self.ids = [NodeId(f"{i + 1:032x}") for i in range(n + spares)]
        self._disks = {each: SimDisk(random.Random(self.rng.random())) for each in self.ids}
        self._plan = snapshots or SnapshotPlan()
        self.snapshots = Snapshots(self, self._plan)
        self.on_power_failed: Callable[[NodeId], None] = lambda _: None
        """Told of voters whose disk lost its power at work (`SimDisk.power_off_in`), or failed
        (`fail_sync`)."""
        self._failing: dict[NodeId, None] = {}
        founders = self.ids[:n]
        self.witness: SimWitness | None = None
        if with_witness:
            self.ids.append(NodeId(f"{n + spares + 1:032x}"))
            self.witness = SimWitness(self.ids[-1], random.Random(f"{seed}/witness"))
        seats = (*founders, self.witness.id) if self.witness is not None else founders
        self.configuration = Configuration(
            tuple(Voter(i, GENERATION) for i in seats),
            witness=self.witness.id if self.witness is not None else "",
        )
        self._births = dict.fromkeys(founders, Birth(0, self.configuration))
        self._born = itertools.count(1)
        self.nodes: dict[NodeId, SimVoter] = {}
        self.acknowledged: dict[bytes, int] = {}
        self.refused = 0
        self._epochs = itertools.count(1)
        self._tickets = itertools.count(1)
        for node_id in founders:
            self._boot(node_id)

    # --- nodes ------------------------------------------------------------------------------

    def leaders(self) -> list[SimVoter]:
        return [n for n in self.nodes.values() if n.up and n.core.role is Role.LEADER]

    def live(self) -> list[SimVoter]:
        return [n for n in self.nodes.values() if n.up]

    def is_up(self, node_id: NodeId) -> bool:
        """Does a voter, or the witness, of this id run?"""
        party = self._party(node_id)
        return party is not None and party.up

    def propose(self, node: SimVoter, data: bytes) -> None:
        self.step(node, Propose(data))

    def read(self, node: SimVoter) -> None:
        """A client asks this voter for a linearizable read."""
        ticket = next(self._tickets)
        self.reads.asked(node.name, ticket)
        self.step(node, ReadWanted(ticket))

    def step(self, node: SimVoter, event: Any) -> None:
        for effect in node.core.handle(event, now=self.now):
            self._perform(node, effect)
        self.claims.holds(node.name, node.journal)
        if node.journal.is_dirty and not node.committing:
            node.committing = True
            work = node.under_way = node.journal.begin_commit()
            delay_s = self.rng.uniform(0.0005, self.sync_s_max)
            self.at(delay_s, self._commit, node, work)
        self._arm(node)

    def crash(self, node_id: NodeId, *, lose_unsynced: bool = True) -> None:
        if (witness := self._witness(node_id)) is not None:
            witness.crash()
            for other in list(witness.links):
                self._disconnect(node_id, other)
            return
        node = self.nodes[node_id]
        node.up = False
        if lose_unsynced and node.under_way is not None:
            self._tear(node, node.under_way)
        node.journal.close()
        for other in list(node.links):
            self._disconnect(node_id, other)
        if lose_unsynced:
            node.disk.power_off(tear=self.rng.random() < 0.5)

    def _tear(self, node: SimVoter, commit: Callable[[], None]) -> None:
        """The power fails between any two operations of a commit."""
        if not node.files.is_mounted:
            return
        node.disk.power_off_in(self._tears.randrange(4))
        with contextlib.suppress(StorageError):
            commit()
        node.disk.power_off_in(None)

    def restart(self, node_id: NodeId) -> None:
        """Errors: StorageCorrupt, and StorageError that is not a loss of power."""
        if (witness := self._witness(node_id)) is not None:
            self._restart_witness(witness)
            return
        disk = self._disks[node_id]
        generation = disk.generation
        if node_id not in self.nodes or self.nodes[node_id].up:
            return
        try:
            self._boot(node_id)
        except StorageCorrupt:
            raise
        except StorageError as error:
            if disk.generation == generation:
                self._fails(node_id, error)
            self.on_power_failed(node_id)

    def enlist(self, node_id: NodeId, told: Configuration) -> Voter | None:
        """A spare node makes a journal, as a learner that is told of this electorate. Returns the
        seat that it may be given, or None: who has a journal that is not new must find out that it
        has no seat and forget it first, or a change that it has not heard of may dismiss it when
        it already votes again."""
        if node_id not in self.nodes:
            self._births[node_id] = Birth(next(self._born), at_index(told, 0))
            self._boot(node_id)
        is_new = self.nodes[node_id].journal.last_index == FIRST_ENTRY[1]
        return Voter(node_id, self._births[node_id].generation) if is_new else None

    def retire(self, node_id: NodeId) -> None:
        """A node that knows that it has no seat any more forgets all, and is a spare one."""
        if self.nodes[node_id].up:
            self.crash(node_id)
        del self.nodes[node_id]
        self._disks[node_id] = SimDisk(random.Random(self.rng.random()))
        self._failing.pop(node_id, None)

    def off_loop(self, node: SimVoter, work: Callable[[], R]) -> R | None:
        """Disk work of a voter; None if the power or the disk fails during it, which ends the
        voter."""
        try:
            return work()
        except StorageError as error:
            if node.files.is_mounted:
                self._fails(node.id, error)
            self.crash(node.id, lose_unsynced=False)  # the disk has lost it already
            self.on_power_failed(node.id)
            return None

    def fail_sync(self, node_id: NodeId) -> None:
        """The next sync of its disk fails, and what it was to save is lost with the next loss of
        power, whatever a later sync says."""
        if node_id not in self._failing:
            self._failing[node_id] = None
            self._disks[node_id].fail("sync")

    def stop_failing(self) -> None:
        """Disks that were to fail, and did not yet, do not."""
        for node_id in self._failing:
            self._disks[node_id].stop_failing()
        self._failing.clear()

    def _fails(self, node_id: NodeId, error: StorageError) -> None:
        """Its disk refused something. Errors: that, if it was not to."""
        if node_id not in self._failing:
            raise error
        del self._failing[node_id]

    def isolate(self, node_id: NodeId, *, one_way: bool = False) -> None:
        """Cut a node off; one way: it is heard, and hears nothing."""
        for other in self.ids:
            if other != node_id:
                self.ways.cut[(other, node_id)] = None
                if not one_way:
                    self.ways.cut[(node_id, other)] = None
                    self._disconnect(node_id, other)

    def hold(self, ways: Iterable[Way], for_s: float) -> None:
        """What is sent on these ways arrives when that time is over; the connections stay."""
        self.ways.hold(ways, self.now + for_s)

    def release(self) -> None:
        """Nothing is held any more. A connection on which nothing would come for longer than the
        real links wait (`SILENCE_S`) is made anew, as they would."""
        self.ways.release()
        for way in self.ways.late(self.now + SILENCE_S):
            self._disconnect(*way)
            self.ways.forget(way)

    def heal(self) -> None:
        self.ways.cut.clear()
        for a, b in itertools.combinations(self.ids, 2):
            self._connect(a, b)

    # --- inside -----------------------------------------------------------------------------

    def _boot(self, node_id: NodeId) -> None:
        """Errors: StorageError, StorageCorrupt."""
        node = SimVoter(
            node_id,
            self._disks[node_id],
            self._births[node_id],
            policy=self._plan.policy,
            segment_bytes_max=self._plan.segment_bytes_max,
            rng=random.Random(self.rng.random()),
            now=self.now,
            watcher=Watcher(self._applied, self._replaced),
        )
        self.nodes[node_id] = node
        self.claims.holds(node.name, node.journal)
        for other in self.ids:
            if other != node_id:
                self._connect(node_id, other)
        self._arm(node)

    def _witness(self, node_id: NodeId) -> SimWitness | None:
        is_it = self.witness is not None and self.witness.id == node_id
        return self.witness if is_it else None

    def _restart_witness(self, witness: SimWitness) -> None:
        if not witness.up:
            witness.restart()
            for other in self.nodes:
                self._connect(witness.id, other)

    def _applied(self, node: SimVoter, index: int, data: bytes) -> None:
        term = node.journal.entry_at(index).term
        self.prefixes.committed(node.name, index, term, data)
        self._is_on_majority(node, index, term)
        self.replicas.holds(node.name, index, node.history.digest)
        if node.core.role is Role.LEADER:  # it would answer its client now
            self.acknowledged.setdefault(data, index)
            self.reads.acknowledged(index)
        self.snapshots.applied(node, index)

    def _is_on_majority(self, node: SimVoter, index: int, term: int) -> None:
        parties = (*self.nodes.values(), *([self.witness] if self.witness is not None else ()))
        holders = (each.name for each in parties if each.holds(index, term))
        known = node.journal.electorates
        since = known.all.index(known.at(index))
        voters = ([_name(v) for v in made.voters] for made in known.all[since:])
        if node.core.role is Role.LEADER:  # it commits; others may not know yet who votes by now
            self.majorities.committed(node.name, index, holders, voters)

    def _replaced(self, node: SimVoter) -> None:
        if node.history.items:
            self.replicas.holds(node.name, node.history.last_index, node.history.digest)

    def _connect(self, a: NodeId, b: NodeId) -> None:
        one, two = self._party(a), self._party(b)
        if (
            one is None
            or two is None
            or (a, b) in self.ways.cut
            or not one.up
            or not two.up
            or b in one.links
        ):
            return
        epoch = next(self._epochs)
        one.links[b] = two.links[a] = epoch
        self._tell(one, PeerUp(b, epoch, two.generation))
        self._tell(two, PeerUp(a, epoch, one.generation))

    def _disconnect(self, a: NodeId, b: NodeId) -> None:
        one, two = self._party(a), self._party(b)
        if one is None or two is None:
            return
        epoch = one.links.pop(b, None)
        two.links.pop(a, None)
        if epoch is None:
            return
        for here, there in ((one, b), (two, a)):
            if here.up:
                self._tell(here, PeerDown(there, epoch))

    def _party(self, node_id: NodeId) -> SimVoter | SimWitness | None:
        return self.nodes.get(node_id) or self._witness(node_id)

    def _tell(self, party: SimVoter | SimWitness, event: Any) -> None:
        if isinstance(party, SimVoter):
            self.step(party, event)
        else:
            self._step_witness(party, event)

    def _step_witness(self, witness: SimWitness, event: Any) -> None:
        for effect in witness.machine.handle(event, now=self.now):
            if witness.outbox or isinstance(effect, Persist):
                witness.outbox.append(effect)
                if len(witness.outbox) == 1:
                    self._persist(witness)
            else:
                self._say(witness, effect)

    def _persist(self, witness: SimWitness) -> None:
        delay_s = self.rng.uniform(0.0005, self.sync_s_max)
        self.at(delay_s, self._persisted, witness, witness.outbox[0])

    def _persisted(self, witness: SimWitness, effect: Effect) -> None:
        if not witness.up or not witness.outbox or witness.outbox[0] is not effect:
            return  # it died meanwhile
        witness.persisted()
        while witness.outbox and not isinstance(witness.outbox[0], Persist):
            self._say(witness, witness.outbox.popleft())
        if witness.outbox:
            self._persist(witness)

    def _say(self, witness: SimWitness, effect: Effect) -> None:
        assert isinstance(effect, SendFrame), f"unexpected effect {effect}"
        self._send(witness, effect)

    def _commit(self, node: SimVoter, work: Callable[[], None]) -> None:
        if not node.up:
            return
        self.off_loop(node, work)
        node.under_way = None
        if node.up:
            node.journal.end_commit()
            node.committing = False
            self._close_batch(node)
        if node.up:
            within_bounds(node.name, sizes_of_core(node.core, self._plan.policy))
            self.step(node, LogDurable())
            self.snapshots.committed(node)

    def _close_batch(self, node: SimVoter) -> None:
        """As if nothing came behind it for long, now and then."""
        work = node.journal.begin_mark() if node.journal.commits % 3 == 0 else None
        if work is not None:
            self.off_loop(node, work)

    def _arm(self, node: SimVoter) -> None:
        deadline = node.core.deadline
        if deadline is not None:
            self.at(max(0.0, deadline - self.now), self._fire, node, deadline)

    def _fire(self, node: SimVoter, deadline: float) -> None:
        if node.up and node.core.deadline == deadline:
            self.step(node, DeadlineReached())

    def _perform(self, node: SimVoter, effect: Effect) -> None:
        if isinstance(effect, SendFrame):
            self._send(node, effect)
        elif isinstance(effect, Claim):
            self.claims.claims(node.name, node.journal, effect)
        elif isinstance(effect, Notify):
            node.notes.append(effect)
            if effect.event == "raft.role.changed" and effect.fields["role"] == "leader":
                self.elections.leads(node.name, effect.fields["term"])
        elif isinstance(effect, SafetyViolated):
            raise Violated("raft safety", effect.reason)
        elif isinstance(effect, FetchSnapshot):
            self.snapshots.fetch(node, effect.peer, effect.manifest)
        elif isinstance(effect, ProposalRefused):
            self.refused += 1
        elif isinstance(effect, ReadsConfirmed):
            self.reads.is_confirmed(node.name, effect.ticket, effect.index)
        elif isinstance(effect, ReadsRefused):
            self.reads.is_refused(node.name, effect.ticket)
        else:
            raise AssertionError(f"unexpected effect {effect}")

    def _send(self, node: SimVoter | SimWitness, effect: SendFrame) -> None:
        if self._witness(effect.peer) is not None and isinstance(effect.frame, WITH_DATA):
            raise Violated("witness without data", f"{node.name} sent it {effect.frame}")
        epoch = node.links.get(effect.peer)
        if epoch is not None:
            for delay_s in self.ways.delays((node.id, effect.peer), self.now):
                self.at(delay_s, self._receive, node.id, effect.peer, epoch, effect.frame)

    def _receive(self, sender: NodeId, receiver: NodeId, epoch: int, frame: Any) -> None:
        node = self._party(receiver)
        if node is not None and node.up and node.links.get(sender) == epoch:
            self._tell(node, FrameReceived(sender, epoch, frame))


def _name(seat: Voter) -> str:
    """Of the voter that holds it."""
    return f"n{int(seat.node, 16)}{Birth(int(seat.generation, 16), NOBODY).mark}"
