"""A cluster of Raft cores on an event heap: virtual time, real journals, seeded faults.

No trio run, no sockets: frames are values with a delay, a group commit is an event with a delay,
and `Files` is whatever the test gives (the simulator's disk loses what was not synced). Every
decision comes from one seed.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import trio

from muster.agents.consistency.raft.core import Propose, RaftCore
from muster.agents.consistency.raft.engine import FIRST_ENTRY
from muster.sim.disk import SimDisk
from muster.storage.journal import Journal, create_journal, open_journal
from muster.storage.superblock import Superblock
from muster_protocol.effects import DeadlineReached, Effect, Notify
from muster_protocol.raftguard.events import (
    Claim,
    FrameReceived,
    LogDurable,
    PeerDown,
    PeerUp,
    ProposalRefused,
    Role,
    SendFrame,
)
from muster_protocol.types import NodeId
from muster_protocol.wire.raft import Configuration, Voter

CLUSTER = "c" * 32
GENERATION = "0" * 16


class InlineOffload:
    """Runs the work at once: the heap decides when."""

    async def run(self, work: Callable[[], Any], *, kind: str) -> Any:
        return work()


def commit_now(journal: Journal) -> None:
    """A group commit without a trio run of the caller's own."""
    trio.run(journal.commit, InlineOffload())


@dataclass
class Node:
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


class RaftCluster:
    """`n` voters. Drive it with `run_until`; hurt it with `crash`, `isolate`, `heal`."""

    def __init__(self, n: int, *, seed: int, sync_s_max: float = 0.02) -> None:
        self.rng = random.Random(seed)
        self.now = 0.0
        self.sync_s_max = sync_s_max
        self.ids = [NodeId(f"{i + 1:032x}") for i in range(n)]
        self.configuration = Configuration(tuple(Voter(i, GENERATION) for i in self.ids))
        self.nodes: dict[NodeId, Node] = {}
        self.cut: dict[tuple[NodeId, NodeId], None] = {}
        self.acknowledged: dict[bytes, int] = {}
        self.refused = 0
        self._heap: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._order = itertools.count()
        self._epochs = itertools.count(1)
        for node_id in self.ids:
            self._boot(node_id)

    # --- time -------------------------------------------------------------------------------

    def at(self, delay_s: float, action: Callable[..., None], *args: Any) -> None:
        heapq.heappush(self._heap, (self.now + delay_s, next(self._order), action, args))

    def run_until(self, instant: float, condition: Callable[[], bool] | None = None) -> bool:
        """Run to `instant`, or until `condition`; says whether it came true."""
        while self._heap and self._heap[0][0] <= instant:
            if condition is not None and condition():
                return True
            self.now, _, action, args = heapq.heappop(self._heap)
            action(*args)
        self.now = instant
        return condition is not None and condition()

    def stop_timers(self, *actions: Callable[..., None]) -> None:
        """These actions are not done any more."""
        kept = [item for item in self._heap if item[2] not in actions]
        self._heap = kept
        heapq.heapify(self._heap)

    # --- nodes ------------------------------------------------------------------------------

    def leaders(self) -> list[Node]:
        return [n for n in self.nodes.values() if n.up and n.core.role is Role.LEADER]

    def live(self) -> list[Node]:
        return [n for n in self.nodes.values() if n.up]

    def propose(self, node: Node, data: bytes) -> None:
        self.step(node, Propose(data))

    def step(self, node: Node, event: Any) -> None:
        for effect in node.core.handle(event, now=self.now):
            self._perform(node, effect)
        if node.journal.is_dirty and not node.committing:
            node.committing = True
            self.at(self.rng.uniform(0.0005, self.sync_s_max), self._commit, node, node.life)
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
                self.cut[(other, node_id)] = None
                if not one_way:
                    self.cut[(node_id, other)] = None
                    self._disconnect(node_id, other)

    def heal(self) -> None:
        self.cut.clear()
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
            commit_now(journal)
        applied: list[tuple[int, bytes]] = []

        def apply(data: bytes, index: int) -> None:
            applied.append((index, data))
            self.acknowledged_if_leading(node_id, data, index)

        core = RaftCore(
            me=node_id,
            configuration=self.configuration,
            journal=journal,
            rng=random.Random(self.rng.random()),
            now=self.now,
            apply=apply,
        )
        life = old.life + 1 if old else 0
        self.nodes[node_id] = Node(node_id, disk, core, journal, life=life, applied=applied)
        for other in self.ids:
            if other in self.nodes and other != node_id:
                self._connect(node_id, other)
        self._arm(self.nodes[node_id])

    def acknowledged_if_leading(self, node_id: NodeId, data: bytes, index: int) -> None:
        """A leader that applies a batch would answer its client now."""
        node = self.nodes.get(node_id)
        if node is not None and node.core.role is Role.LEADER:
            self.acknowledged.setdefault(data, index)

    def _connect(self, a: NodeId, b: NodeId) -> None:
        one, two = self.nodes[a], self.nodes[b]
        if (a, b) in self.cut or not one.up or not two.up or b in one.links:
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

    def _commit(self, node: Node, life: int) -> None:
        if node.up and self.nodes[node.id].life == life:
            commit_now(node.journal)
            node.committing = False
            self.step(node, LogDurable())

    def _arm(self, node: Node) -> None:
        deadline = node.core.deadline
        if deadline is not None:
            self.at(max(0.0, deadline - self.now), self._fire, node, node.life, deadline)

    def _fire(self, node: Node, life: int, deadline: float) -> None:
        is_current = self.nodes[node.id].life == life and node.core.deadline == deadline
        if node.up and is_current:
            self.step(node, DeadlineReached())

    def _perform(self, node: Node, effect: Effect) -> None:
        if isinstance(effect, SendFrame):
            epoch = node.links.get(effect.peer)
            if epoch is not None and (node.id, effect.peer) not in self.cut:
                delay_s = self.rng.uniform(0.0002, 0.003)
                self.at(delay_s, self._receive, node.id, effect.peer, epoch, effect.frame)
        elif isinstance(effect, Claim):
            assert node.journal.term_is_durable or effect.kind != "ack"
            assert effect.kind != "ack" or effect.index <= node.journal.durable_index
        elif isinstance(effect, Notify):
            node.notes.append(effect)
        elif isinstance(effect, ProposalRefused):
            self.refused += 1
        else:
            raise AssertionError(f"unexpected effect {effect}")

    def _receive(self, sender: NodeId, receiver: NodeId, epoch: int, frame: Any) -> None:
        node = self.nodes[receiver]
        if node.up and node.links.get(sender) == epoch:
            self.step(node, FrameReceived(sender, epoch, frame))
