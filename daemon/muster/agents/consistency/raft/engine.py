"""The engine: a `SyncObj` with one replicated method, no thread, no socket and no file.

It is a passive object. `RaftCore` calls it, and while it runs it calls back: `on_send` for every
message, `on_role` for every change of role, `on_apply` for every committed batch. Two of its
private names are used, both here: `__newAppendEntriesTime` (send entries now instead of with the
next heartbeat) and, for the electorate's changes, `__doChangeCluster`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import pysyncobj
from pysyncobj.node import Node
from pysyncobj.transport import Transport

from muster.agents.consistency.raft import rebound
from muster.storage.journal import EngineEntry, Journal
from muster_protocol.raftguard.elections import ELECTION_MAX_S, ELECTION_MIN_S
from muster_protocol.raftguard.events import Role
from muster_protocol.raftguard.guard import HEARTBEAT_S
from muster_protocol.types import NodeId
from muster_protocol.wire.raft import Configuration

LEADER_FALLBACK_S: Final = 1.5
"""A leader that a majority has not answered for so long steps down; one election time-out, so
that it is gone when the other side may have elected its own."""

APPEND_BATCH_BYTES: Final = 1024 * 1024
"""Above every entry (`limits.BATCH_BYTES_MAX`): larger ones would be sent in pieces, and some
sizes never arrive (D30)."""

NEVER: Final = 10**12
"""For thresholds of the engine's own compaction, which is off."""

FIRST_ENTRY: Final[EngineEntry] = (b"\x01", 1, 0)
"""The engine's no-op, with which every log begins."""


class PeerNode(Node):  # type: ignore[misc]  # the library has no types
    """A voter as the engine knows it. Its hash comes from its id, so that the engine's sets of
    nodes have the same order in every process."""

    def __init__(self, node: NodeId) -> None:
        super().__init__(node)
        self._hash = int(node[:15], 16)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PeerNode) and self.id == other.id


class _EngineTransport(Transport):  # type: ignore[misc]  # the library has no types
    """Hands every message out; the guard and the streams do the rest."""

    def __init__(self, on_send: Callable[[NodeId, Mapping[str, Any]], None]) -> None:
        super().__init__(None, None, [])
        self._on_send = on_send

    @property
    def ready(self) -> bool:
        return True

    def send(self, node: PeerNode, message: Mapping[str, Any]) -> bool:
        self._on_send(node.id, message)
        return True

    def addNode(self, node: PeerNode) -> None:  # noqa: N802 (the library's name)
        """The configuration is reconciled by the core; nothing to do."""

    def dropNode(self, node: PeerNode) -> None:  # noqa: N802 (the library's name)
        """As `addNode`."""

    def destroy(self) -> None:
        """There is nothing to close."""


class Engine(pysyncobj.SyncObj):  # type: ignore[misc]  # the library has no types
    """One voter's Raft engine. Every call must stand inside `rebound.calling`."""

    def __init__(
        self,
        *,
        me: NodeId,
        journal: Journal,
        on_send: Callable[[NodeId, Mapping[str, Any]], None],
        on_role: Callable[[Role], None],
        on_apply: Callable[[bytes], None],
    ) -> None:
        """The electorate is that of the journal."""
        self._me = me
        self._voters, self._learners = _seats(journal.configuration, me)
        peers = [PeerNode(node) for node in self._voters]
        self._peer_transport = _EngineTransport(on_send)
        self._on_apply = on_apply
        rebound.register_journal(me, journal)
        with tempfile.TemporaryDirectory(prefix="muster-engine-") as directory:
            # The engine starts behind a snapshot only if a dump *file* exists at its first tick;
            # what is in it comes from the deserializer. The file lives for that one tick.
            dump = Path(directory) / "dump"
            if journal.manifest is not None:
                dump.touch()
            conf = self._conf(me, str(dump), journal, on_role)
            super().__init__(
                PeerNode(me),
                peers,
                conf,
                nodeClass=PeerNode,
                transport=self._peer_transport,
            )
            self.doTick(0)
        for learner in self._learners:
            self._attach(learner)

    @staticmethod
    def _conf(
        me: NodeId, dump_path: str, journal: Journal, on_role: Callable[[Role], None]
    ) -> pysyncobj.SyncObjConf:
        def deserialize(path: str) -> tuple[EngineEntry, EngineEntry, tuple[()]]:
            del path
            return (journal[1], journal[0], ())

        return pysyncobj.SyncObjConf(
            autoTick=False,
            commandsWaitLeader=False,
            dynamicMembershipChange=False,
            appendEntriesUseBatch=True,
            appendEntriesPeriod=HEARTBEAT_S,
            appendEntriesBatchSizeBytes=APPEND_BATCH_BYTES,
            raftMinTimeout=ELECTION_MIN_S,
            raftMaxTimeout=ELECTION_MAX_S,
            leaderFallbackTimeout=LEADER_FALLBACK_S,
            logCompactionMinEntries=NEVER,
            logCompactionMinTime=NEVER,
            useFork=False,
            journalFile=me,
            fullDumpFile=dump_path,
            serializer=_never_serialize,
            deserializer=deserialize,
            onStateChanged=lambda _was, state: on_role(Role(state)),
        )

    @pysyncobj.replicated  # type: ignore[untyped-decorator]  # as above
    def apply_batch(self, data: bytes) -> None:
        """The one replicated method. `on_apply` must never raise: an exception here would be
        repeated on every node and every tick (D16)."""
        self._on_apply(data)

    # --- what the core calls ------------------------------------------------------------------

    @property
    def is_leader(self) -> bool:
        return bool(self._isLeader())

    def receive(self, peer: NodeId | None, message: Mapping[str, Any]) -> None:
        """A message that the guard has let through. `peer` None: one that the guard made up."""
        node = None if peer is None else PeerNode(peer)
        # The library's transports call these; it offers them under no other name.
        self._peer_transport._onMessageReceived(node, message)  # noqa: SLF001 (see above)

    def open_gate(self, peer: NodeId) -> None:
        self._peer_transport._onNodeConnected(PeerNode(peer))  # noqa: SLF001 (see `receive`)

    def shut_gate(self, peer: NodeId) -> None:
        self._peer_transport._onNodeDisconnected(PeerNode(peer))  # noqa: SLF001 (see `receive`)

    def reconfigure(self, configuration: Configuration) -> None:
        """Make this the electorate, between two calls. The gates of who is new are shut.

        A seat with another journal is another one: nothing that the old one had is counted. A
        learner is detached before it is added as a voter: the other way round the library loses the
        new voter's index, and every later tick of the leader raises.
        """
        voters, learners = _seats(configuration, self._me)
        for node, generation in self._learners.items():
            if learners.get(node) != generation:
                self._peer_transport._onReadonlyNodeDisconnected(PeerNode(node))  # noqa: SLF001 (see `receive`)
        for node, generation in self._voters.items():
            if voters.get(node) != generation:
                self.shut_gate(node)
                self._SyncObj__doChangeCluster(["rem", node, PeerNode(node)])
        for node, generation in voters.items():
            if self._voters.get(node) != generation:
                self._SyncObj__doChangeCluster(["add", node, PeerNode(node)])
        for node, generation in learners.items():
            if self._learners.get(node) != generation:
                self._attach(node)
        self._voters, self._learners = voters, learners

    def _attach(self, learner: NodeId) -> None:
        """The library opens the gate with it, and there is only one for all purposes."""
        self._peer_transport._onReadonlyNodeConnected(PeerNode(learner))  # noqa: SLF001 (see `receive`)
        self.shut_gate(learner)

    def campaign(self) -> None:
        """Start an election with this tick. `timeout_now` from the present leader, whoever that
        is, is how the library is told so."""
        message = {"type": "timeout_now", "term": self.raftCurrentTerm}
        self._peer_transport._onMessageReceived(self._getLeader(), message)  # noqa: SLF001 (see `receive`)
        self.doTick(0)

    def propose(self, data: bytes) -> None:
        """Append a batch to the log with the next tick, if leader."""
        self.apply_batch(data)

    def flush(self) -> None:
        """Send what is in the log with the next tick."""
        self._SyncObj__newAppendEntriesTime = 0


def _seats(configuration: Configuration, me: NodeId) -> tuple[dict[NodeId, str], dict[NodeId, str]]:
    """The other voters and the other learners, each with its journal's generation."""
    voters = {NodeId(v.node): v.generation for v in configuration.voters if v.node != me}
    learners = {NodeId(v.node): v.generation for v in configuration.learners if v.node != me}
    return voters, learners


def _never_serialize(path: str, data: object) -> None:
    raise AssertionError(f"the engine wrote a snapshot to {path}: {type(data)}")
