"""From what a machine is made: the values of its constructor, as the flight recorder keeps them.

A node makes its machines of these values and of nothing else (`Tape.begin`), so what is on the
record is by construction what they were made of. Chance is a generator's state: the generator is
the machine's own from then on.

The consistency machine's birth stands beside it (`agents/consistency/raft/birth.py`): it has a log.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from muster.entropy import RngState, rng_of
from muster.flight.memory import Memory, recall, remember
from muster_protocol.discovery.peers import KnownPeers
from muster_protocol.membership.config import MembershipConfig
from muster_protocol.membership.member import Member
from muster_protocol.membership.swim import Swim
from muster_protocol.partition.quorum import PartitionWatch
from muster_protocol.signals.relay import Relay
from muster_protocol.types import Address, NodeId

M_co = TypeVar("M_co", covariant=True)
M = TypeVar("M")


class Birth(Protocol[M_co]):
    """What one machine is made from."""

    @property
    def now(self) -> float:
        """When it was made."""

    def build(self) -> M_co:
        """The machine, each time a new one. Errors: MusterError where these values make none."""


class Line(Protocol[M]):
    """A machine's way back from the record: how it is remembered and made anew."""

    def remember(self, machine: M, birth: Any, now: float) -> tuple[Any, Memory]:
        """What makes a machine that goes on from here: a birth, and what to lay over it."""

    def revive(self, birth: Any, memory: Memory | None) -> M:
        """That machine; without a memory the one that was born. Errors: MusterError."""


class PlainLine(Generic[M]):
    """Machines that are nothing but their parts and data."""

    def remember(self, machine: M, birth: Any, now: float) -> tuple[Any, Memory]:  # noqa: ARG002
        return birth, remember(machine)

    def revive(self, birth: Birth[M], memory: Memory | None) -> M:
        machine = birth.build()
        if memory is not None:
            recall(machine, memory)
        return machine


@dataclass(frozen=True, slots=True, kw_only=True)
class SwimBirth:
    """The failure detector's machine."""

    config: MembershipConfig
    me: Member
    boot: str
    rng: RngState
    now: float

    def build(self) -> Swim:
        return Swim(
            config=self.config, me=self.me, rng=rng_of(self.rng), boot=self.boot, now=self.now
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchBirth:
    """The partition handler's machine."""

    me: NodeId
    quorum_size: int
    now: float

    def build(self) -> PartitionWatch:
        return PartitionWatch(me=self.me, quorum_size=self.quorum_size, now=self.now)


@dataclass(frozen=True, slots=True, kw_only=True)
class PeersBirth:
    """The discovery's machine."""

    me: NodeId
    own: Address
    static: tuple[Address, ...]
    stored: bytes | None
    now: float

    def build(self) -> KnownPeers:
        return KnownPeers(
            me=self.me, own=self.own, static=self.static, stored=self.stored, now=self.now
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayBirth:
    """The signal relay's machine."""

    node: NodeId
    life: str
    now: float

    def build(self) -> Relay:
        return Relay(node=self.node, life=self.life)
