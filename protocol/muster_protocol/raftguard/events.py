"""What happens to a guard, what it asks for, and what it must be able to see of the log."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from muster_protocol.effects import Effect
from muster_protocol.types import NodeId
from muster_protocol.wire.raft import Configuration, Manifest, RaftFrame


class Role(enum.IntEnum):
    """As the engine numbers them."""

    FOLLOWER = 0
    CANDIDATE = 1
    LEADER = 2


class LogView(Protocol):
    """Read access to the journal. All of it is the present state in memory, except where it says
    durable. LSNs count journal records, durable ones included."""

    @property
    def current_term(self) -> int: ...
    @property
    def first_index(self) -> int: ...
    @property
    def last_index(self) -> int: ...
    @property
    def commit_index(self) -> int:
        """The highest index that the engine knows to be committed."""

    @property
    def durable_index(self) -> int:
        """Every entry up to here is on the disk."""

    @property
    def term_is_durable(self) -> bool:
        """The present term, and the vote in it, are on the disk."""

    @property
    def lsn(self) -> int:
        """The newest record."""

    @property
    def durable_lsn(self) -> int:
        """The newest record that is on the disk."""

    @property
    def manifest(self) -> Manifest | None:
        """The newest durable snapshot."""

    @property
    def configuration(self) -> Configuration:
        """The newest electorate in the log, committed or not."""

    @property
    def generation(self) -> str:
        """This journal's."""

    def term_at(self, index: int) -> int | None:
        """The term of the entry at `index`; None where the log does not hold it."""


# --- events ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PeerUp:
    """A stream to a node of the cluster that has a journal is open: hello exchanged, identity
    checked. `generation` is that of its journal."""

    peer: NodeId
    epoch: int
    generation: str


@dataclass(frozen=True, slots=True)
class PeerDown:
    """That stream is gone."""

    peer: NodeId
    epoch: int


@dataclass(frozen=True, slots=True)
class FrameReceived:
    peer: NodeId
    epoch: int
    frame: RaftFrame


@dataclass(frozen=True, slots=True)
class EngineSent:
    """The engine wants `message` sent to `peer`. Handled while the engine is still running."""

    peer: NodeId
    message: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class RoleChanged:
    """The engine changed its role. Handled inside the engine's own call."""

    role: Role


@dataclass(frozen=True, slots=True)
class LogDurable:
    """A group commit ended; the durable marks of the `LogView` have moved. Where they are now
    stands here for the flight recorder: a replay has no disk to look at."""

    lsn: int = 0
    index: int = 0


@dataclass(frozen=True, slots=True)
class SnapshotInstalled:
    """The offered snapshot is in force; log and engine start behind it."""

    manifest: Manifest


@dataclass(frozen=True, slots=True)
class SnapshotFailed:
    """It could not be fetched; the leader will offer again."""

    reason: str


@dataclass(frozen=True, slots=True)
class TransferLeadership:
    """Hand over to the most caught-up follower that is connected, but to none of `avoid`."""

    avoid: tuple[NodeId, ...] = ()


@dataclass(frozen=True, slots=True)
class ReadWanted:
    """A linearizable read waits here. Tickets grow by one."""

    ticket: int


@dataclass(frozen=True, slots=True)
class SuspendVoting:
    """This identity is alive elsewhere too: say nothing more."""

    reason: str


# --- effects --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Deliver(Effect):
    """Hand a message to the engine, then tick it."""

    peer: NodeId | None
    message: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class OpenGate(Effect):
    """Tell the engine that these peers are connected: it may campaign, or send appends."""

    peers: tuple[NodeId, ...]


@dataclass(frozen=True, slots=True)
class ShutGate(Effect):
    """Tell the engine that these peers are not connected."""

    peers: tuple[NodeId, ...]


@dataclass(frozen=True, slots=True)
class Reconfigure(Effect):
    """Make this the engine's electorate."""

    configuration: Configuration


@dataclass(frozen=True, slots=True)
class Campaign(Effect):
    """Make the engine start its election with the next tick, and tick."""


@dataclass(frozen=True, slots=True)
class TickEngine(Effect):
    """Tick the engine; with `flush`, entries are sent even if no heartbeat is due."""

    flush: bool = False


@dataclass(frozen=True, slots=True)
class SendFrame(Effect):
    peer: NodeId
    frame: RaftFrame


class ClaimKind(enum.StrEnum):
    """What the outside may rely on once it has left this node."""

    ACK = "ack"
    VOTE = "vote"
    VOTE_REQUEST = "vote-request"
    REPLY = "reply"


@dataclass(frozen=True, slots=True)
class Claim(Effect):
    """A durable claim is about to leave: evidence for the durability trace, nothing else."""

    kind: ClaimKind
    term: int
    index: int


@dataclass(frozen=True, slots=True)
class FetchSnapshot(Effect):
    """Fetch and install the leader's snapshot; answer with SnapshotInstalled or SnapshotFailed."""

    peer: NodeId
    manifest: Manifest


@dataclass(frozen=True, slots=True)
class ProposalRefused(Effect):
    """The engine would have forwarded this command: it was not proposed here."""

    command: bytes


@dataclass(frozen=True, slots=True)
class ReadsConfirmed(Effect):
    """Reads up to this ticket may be answered from a state that has applied up to `index`."""

    ticket: int
    index: int


@dataclass(frozen=True, slots=True)
class ReadsRefused(Effect):
    """Reads up to this ticket that are not confirmed have to ask the next leader."""

    ticket: int


@dataclass(frozen=True, slots=True)
class SafetyViolated(Effect):
    """Something that Raft rules out has been seen. The node must stop, not guess."""

    reason: str
