"""Raft voters on an event heap: the production guard, engine and journal on simulated disks.

Frames are values with a delay; they keep their order within a connection, as on the real streams,
unless a run asks for worse. A group commit is an event with a duration: what it took when it began
is durable when it ends, and lost if the power goes before. Every decision comes from one seed.

The checkers of Raft's safety look at every step: who leads, and each entry as it is applied.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from muster.agents.consistency.raft.core import Propose, RaftCore
from muster.agents.consistency.raft.engine import FIRST_ENTRY
from muster.sim.checkers.raft import CommittedOnMajority, CommittedPrefixes, ElectionSafety
from muster.sim.checkers.violated import Violated
from muster.sim.disk import SimDisk
from muster.sim.machines.heap import EventHeap
from muster.sim.machines.ways import Way, Ways
from muster.storage.journal import Journal, create_journal, open_journal
from muster.storage.superblock import Superblock
from muster_protocol.effects import DeadlineReached, Effect, Notify
from muster_protocol.raftguard.events import (
    Claim,
    ClaimKind,
    FrameReceived,
    LogDurable,
    PeerDown,
    PeerUp,
    ProposalRefused,
    Role,
    SafetyViolated,
    SendFrame,
)
from muster_protocol.types import NodeId
from muster_protocol.wire.raft import Configuration, Voter

CLUSTER: Final = "c" * 32
GENERATION: Final = "0" * 16


@dataclass(eq=False)
class SimVoter:
    """One voter: its disk outlives its core."""

    id: NodeId
    disk: SimDisk
    core: RaftCore
    journal: Journal
    up: bool = True
    life: int = 0
    committing: bool = False
    links: dict[NodeId, int] = field(default_factory=dict)
    applied: list[tuple[int, bytes]] = field(default_factory=list)
    notes: list[Notify] = field(default_factory=list)


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
    ) -> None:
        """`frame_s`: least and longest delay of a frame. Without `is_fifo`, frames of a connection
        overtake each other, and with a chance of `repeated` they come twice, of `straggling`
        seconds late: the real streams never let them, but the guard's rules (D2, D3, D4) must not
        depend on that."""
        super().__init__()
        self.rng = random.Random(seed)
        self.sync_s_max = sync_s_max
        self.ways = Ways(
            self.rng, frame_s=frame_s, is_fifo=is_fifo, repeated=repeated, straggling=straggling
        )
        self.elections = ElectionSafety()
        self.prefixes = CommittedPrefixes()
        self.majorities = CommittedOnMajority(n // 2 + 1)
        self.ids = [NodeId(f"{i + 1:032x}") for i in range(n)]
        self.configuration = Configuration(tuple(Voter(i, GENERATION) for i in self.ids))
        self.nodes: dict[NodeId, SimVoter] = {}
        self.acknowledged: dict[bytes, int] = {}
        self.refused = 0
        self._epochs = itertools.count(1)
        for node_id in self.ids:
            self._boot(node_id)

    # --- nodes ------------------------------------------------------------------------------

    def leaders(self) -> list[SimVoter]:
        return [n for n in self.nodes.values() if n.up and n.core.role is Role.LEADER]

    def live(self) -> list[SimVoter]:
        return [n for n in self.nodes.values() if n.up]

    def propose(self, node: SimVoter, data: bytes) -> None:
        self.step(node, Propose(data))

    def step(self, node: SimVoter, event: Any) -> None:
        for effect in node.core.handle(event, now=self.now):
            self._perform(node, effect)
        if node.journal.is_dirty and not node.committing:
            node.committing = True
            work = node.journal.begin_commit()
            delay_s = self.rng.uniform(0.0005, self.sync_s_max)
            self.at(delay_s, self._commit, node, node.life, work)
        self._arm(node)

    def crash(self, node_id: NodeId, *, lose_unsynced: bool = True) -> None:
        node = self.nodes[node_id]
        node.up = False
        node.journal.close()
        for other in list(node.links):
            self._disconnect(node_id, other)
        if lose_unsynced:
            node.disk.power_off(tear=self.rng.random() < 0.5)

    def restart(self, node_id: NodeId) -> None:
        if not self.nodes[node_id].up:
            self._boot(node_id)

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

    def heal(self) -> None:
        self.ways.cut.clear()
        for a, b in itertools.combinations(self.ids, 2):
            self._connect(a, b)

    # --- inside -----------------------------------------------------------------------------

    def _boot(self, node_id: NodeId) -> None:
        old = self.nodes.get(node_id)
        disk = old.disk if old else SimDisk(random.Random(self.rng.random()))
        files = disk.mount()
        block = Superblock(1, node_id, CLUSTER, GENERATION)
        if old:
            journal, _ = open_journal(files, block, None)
        else:
            journal = create_journal(files, block, self.configuration, FIRST_ENTRY)
            _commit_now(journal)
        applied: list[tuple[int, bytes]] = []

        def apply(data: bytes, index: int) -> None:
            applied.append((index, data))
            term = journal.entry_at(index).term
            self.prefixes.committed(_name(node_id), index, term, data)
            self.majorities.committed(_name(node_id), index, self._holders(index, term))
            self._acknowledged_if_leading(node_id, data, index)

        core = RaftCore(
            me=node_id,
            configuration=self.configuration,
            journal=journal,
            rng=random.Random(self.rng.random()),
            now=self.now,
            apply=apply,
        )
        life = old.life + 1 if old else 0
        self.nodes[node_id] = SimVoter(node_id, disk, core, journal, life=life, applied=applied)
        for other in self.ids:
            if other in self.nodes and other != node_id:
                self._connect(node_id, other)
        self._arm(self.nodes[node_id])

    def _holders(self, index: int, term: int) -> Iterator[str]:
        """Who has this entry on its disk, running or not."""
        for node in self.nodes.values():
            journal = node.journal
            if index <= journal.durable_index and journal.term_at(index) == term:
                yield _name(node.id)

    def _acknowledged_if_leading(self, node_id: NodeId, data: bytes, index: int) -> None:
        """A leader that applies a batch would answer its client now."""
        node = self.nodes.get(node_id)
        if node is not None and node.core.role is Role.LEADER:
            self.acknowledged.setdefault(data, index)

    def _connect(self, a: NodeId, b: NodeId) -> None:
        one, two = self.nodes[a], self.nodes[b]
        if (a, b) in self.ways.cut or not one.up or not two.up or b in one.links:
            return
        epoch = next(self._epochs)
        one.links[b] = two.links[a] = epoch
        self.step(one, PeerUp(b, epoch))
        self.step(two, PeerUp(a, epoch))

    def _disconnect(self, a: NodeId, b: NodeId) -> None:
        epoch = self.nodes[a].links.pop(b, None)
        self.nodes[b].links.pop(a, None)
        if epoch is None:
            return
        for here, there in ((a, b), (b, a)):
            if self.nodes[here].up:
                self.step(self.nodes[here], PeerDown(there, epoch))

    def _commit(self, node: SimVoter, life: int, work: Callable[[], None]) -> None:
        if node.up and self.nodes[node.id].life == life:
            work()
            node.journal.end_commit()
            node.committing = False
            self.step(node, LogDurable())

    def _arm(self, node: SimVoter) -> None:
        deadline = node.core.deadline
        if deadline is not None:
            self.at(max(0.0, deadline - self.now), self._fire, node, node.life, deadline)

    def _fire(self, node: SimVoter, life: int, deadline: float) -> None:
        is_current = self.nodes[node.id].life == life and node.core.deadline == deadline
        if node.up and is_current:
            self.step(node, DeadlineReached())

    def _perform(self, node: SimVoter, effect: Effect) -> None:
        if isinstance(effect, SendFrame):
            self._send(node, effect)
        elif isinstance(effect, Claim):
            self._check_claim(node, effect)
        elif isinstance(effect, Notify):
            node.notes.append(effect)
            if effect.event == "raft.role.changed" and effect.fields["role"] == "leader":
                self.elections.leads(_name(node.id), effect.fields["term"])
        elif isinstance(effect, SafetyViolated):
            raise Violated("raft safety", effect.reason)
        elif isinstance(effect, ProposalRefused):
            self.refused += 1
        else:
            raise AssertionError(f"unexpected effect {effect}")

    def _send(self, node: SimVoter, effect: SendFrame) -> None:
        epoch = node.links.get(effect.peer)
        if epoch is not None:
            for delay_s in self.ways.delays((node.id, effect.peer), self.now):
                self.at(delay_s, self._receive, node.id, effect.peer, epoch, effect.frame)

    def _receive(self, sender: NodeId, receiver: NodeId, epoch: int, frame: Any) -> None:
        node = self.nodes[receiver]
        if node.up and node.links.get(sender) == epoch:
            self.step(node, FrameReceived(sender, epoch, frame))

    def _check_claim(self, node: SimVoter, claim: Claim) -> None:
        """What leaves must be on the disk: an ack's entries and its term; a vote, or a request for
        one. A vote of an older term was durable before the present term was even begun."""
        journal = node.journal
        is_durable = journal.term_is_durable or claim.term < journal.current_term
        if claim.kind is ClaimKind.ACK:
            is_durable = journal.term_is_durable and claim.index <= journal.durable_index
        if not is_durable and claim.kind is not ClaimKind.REPLY:
            raise Violated(
                "durability", f"{_name(node.id)} claims {claim.kind} {claim.index}, not durable"
            )


def _commit_now(journal: Journal) -> None:
    work = journal.begin_commit()
    assert work is not None
    work()
    journal.end_commit()


def _name(node_id: NodeId) -> str:
    return f"n{int(node_id, 16)}"
