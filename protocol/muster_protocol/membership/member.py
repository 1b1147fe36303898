"""A member and the order of what is said of it.

All that is ever said of a member is a `Member` value, and of two such values one supersedes the
other. The order is total, so taking the greater is commutative, associative and idempotent, and
tables that have heard the same, in whatever order and how often, are equal:

1. the higher incarnation wins: only the member itself raises it;
2. then the higher state (`MemberState`): a suspicion beats what it doubts, a failure the suspicion;
3. then, at equal incarnation and state, the greater encoding of the rest. That decides nothing in
   normal life. It is there because a restarted node begins again at incarnation 0 and may for a
   moment say something else of itself under a number that it used before.

The paper lets "confirm" override everything for ever. Here a failure holds for its incarnation,
as in memberlist, so that a node that was cut off, or restarted, comes back by raising its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from muster_protocol.types import Address, NodeId
from muster_protocol.wire.codec import encode
from muster_protocol.wire.membership import (
    NOBODY,
    Alive,
    Failed,
    Left,
    MemberRecord,
    MemberState,
    NodeMeta,
    Stopped,
    Suspect,
    Update,
)


class Member(msgspec.Struct, frozen=True):
    """Who a member is, where, and what it is taken for."""

    id: NodeId
    name: str
    address: Address
    incarnation: int = 0
    state: MemberState = MemberState.ALIVE
    meta: NodeMeta = NodeMeta()

    def supersedes(self, other: Member) -> bool:
        """Whether this is what to believe when both were said. False when they are equal."""
        mine, theirs = (self.incarnation, self.state), (other.incarnation, other.state)
        if mine != theirs:
            return mine > theirs
        return self != other and encode(self) > encode(other)

    def claimed(self, state: MemberState, incarnation: int) -> Member:
        """The same member in another state: what an update without name and address says."""
        return msgspec.structs.replace(self, state=state, incarnation=incarnation)

    def says_the_same_of_itself(self, other: Member) -> bool:
        """Equal name, address and metadata."""
        return (self.name, self.address, self.meta) == (other.name, other.address, other.meta)

    @property
    def is_present(self) -> bool:
        """Alive, or only suspected not to be."""
        return self.state <= MemberState.SUSPECT


@dataclass(frozen=True, slots=True)
class Accusation:
    """Who could not reach a member, and how that looked: "silent" or "refused"."""

    by: NodeId
    reason: str


@dataclass(frozen=True, slots=True)
class MemberView:
    """A member as this node sees it. Instants are of this node's monotonic clock.

    `since` is when it came into its state, as far as known; `last_seen` when it last sent us
    anything itself, None for never. `suspected_by` tells who accuses it and why; it is kept when
    the suspicion has become a failure.
    """

    id: NodeId
    name: str
    address: Address
    incarnation: int
    state: MemberState
    since: float
    last_seen: float | None
    meta: NodeMeta
    suspected_by: tuple[Accusation, ...]


def merge(left: Member, right: Member) -> Member:
    """What to believe when both were said of one member."""
    return left if left.supersedes(right) else right


def alive_update(member: Member) -> Alive:
    """What the member says of itself."""
    return Alive(member.id, member.name, member.address, member.incarnation, member.meta)


def update_of(member: Member, *, by: NodeId, reason: str = "") -> Update:
    """What gossip says of a member in its state; `by` stands for it where somebody has to."""
    match member.state:
        case MemberState.ALIVE:
            return alive_update(member)
        case MemberState.SUSPECT:
            return Suspect(member.id, member.incarnation, by, reason)
        case MemberState.FAILED:
            return Failed(member.id, member.incarnation, by, reason)
        case MemberState.STOPPED:
            return Stopped(member.id, member.incarnation)
        case MemberState.LEFT:
            return Left(member.id, member.incarnation)


def member_of(record: Alive | MemberRecord) -> Member:
    """The value that a message describes."""
    state = record.state if isinstance(record, MemberRecord) else MemberState.ALIVE
    return Member(record.node, record.name, record.address, record.incarnation, state, record.meta)


def record_of(member: Member, *, age_s: float, by: NodeId = NOBODY) -> MemberRecord:
    """A member as a row of a `SyncTable`; `by` could not reach it, if somebody could not."""
    return MemberRecord(
        member.id,
        member.name,
        member.address,
        member.incarnation,
        member.state,
        member.meta,
        max(0, int(age_s)),
        by,
    )
