"""What goes into the membership machine, beside `effects.DeadlineReached`.

Frozen values that msgspec can encode, so that the flight recorder can keep them.
"""

from __future__ import annotations

from dataclasses import dataclass

from muster_protocol.effects import DeadlineReached
from muster_protocol.types import Address, NodeId
from muster_protocol.wire.membership import MembershipMessage, NodeMeta, SyncTable


@dataclass(frozen=True, slots=True)
class PacketReceived:
    """A sealed packet was opened: who sent it, whence, and the messages that were understood.

    Packets of a sender with this node's *own* id are delivered too, if their boot is another: that
    is how a copied identity shows.
    """

    sender: NodeId
    source: Address
    messages: tuple[MembershipMessage, ...]


@dataclass(frozen=True, slots=True)
class SyncReceived:
    """The peer's half of a push-pull; on both sides, whoever opened the stream."""

    peer: NodeId
    table: SyncTable


@dataclass(frozen=True, slots=True)
class StreamProbeSucceeded:
    """`ProbeByStream` of that sequence: the peer was reached and said hello."""

    sequence: int


@dataclass(frozen=True, slots=True)
class StreamProbeFailed:
    """`ProbeByStream` of that sequence: the peer was not reached in time, or said something else.

    `refused`: the connection was refused by the peer's host (ECONNREFUSED), so the host is up and
    no process listens. Never set it for a time-out, a reset or an unreachable network.
    """

    sequence: int
    refused: bool = False


@dataclass(frozen=True, slots=True)
class LoopLagged:
    """A deadline of this machine fired so much too late."""

    seconds: float


@dataclass(frozen=True, slots=True)
class JoinHint:
    """Members may be found at these addresses: asked again and again until they answer."""

    addresses: tuple[Address, ...]


@dataclass(frozen=True, slots=True)
class UpdateMeta:
    """Tell the others something new about this node."""

    meta: NodeMeta


@dataclass(frozen=True, slots=True)
class AddressChanged:
    """This node is reached somewhere else from now on."""

    address: Address


@dataclass(frozen=True, slots=True)
class StopRequested:
    """The daemon is being stopped: tell the others that it is no failure."""


@dataclass(frozen=True, slots=True)
class LeaveRequested:
    """This node leaves for good."""


@dataclass(frozen=True, slots=True)
class ForgetRequested:
    """An operator gives up on a failed or stopped member: it is shown as left everywhere."""

    node: NodeId


MembershipEvent = (
    PacketReceived
    | SyncReceived
    | StreamProbeSucceeded
    | StreamProbeFailed
    | LoopLagged
    | JoinHint
    | UpdateMeta
    | AddressChanged
    | StopRequested
    | LeaveRequested
    | ForgetRequested
    | DeadlineReached
)
