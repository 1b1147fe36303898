"""What members say to each other: the messages of the failure detector, one class each.

A packet carries a few of these in a sealed body; a stream carries one `SyncTable` each way. Every
message is an array whose first element is its kind:

    A asks C directly                 A ── Ping ──▶ C          C ── Ack ──▶ A
    no answer: A asks through B       A ── PingReq ──▶ B ── Ping ──▶ C
                                      C ── Ack ──▶ B ── IndirectAck ──▶ A
    B has not heard C in time         B ── Nack ──▶ A          (B and A's network are well)

    A suspects C                      Suspect(C, by A) travels on whatever packet goes out
    C hears of it                     Alive(C) with a higher incarnation travels after it
    nobody hears C                    Failed(C)

    do our tables differ?             A ── Digest ──▶ B        B ── DigestDiffers ──▶ A
                                      A ══ SyncTable ══ B      (a stream, both ways)

    somebody at this address?         A ── JoinRequest ──▶ address     B ── JoinReply ──▶ A

Kinds 1-9 probe, 10-19 are updates of a member's state, 20-29 reconcile, 30-39 introduce. A kind is
never used again for something else. Fields that a later minor version appends are skipped by an
earlier one; a field that an earlier version does not send has a default. A kind that is not known
is `RemoteError("unknown-kind")`: the caller skips that message, counts it, and reads the rest of
the packet, which is how a newer minor version may add kinds.
"""

from __future__ import annotations

import enum
import functools
import ipaddress
from typing import Annotated, Any, Final, get_args

import msgspec

from muster_protocol.errors import RemoteError
from muster_protocol.limits import META_BYTES_MAX, PUSH_PULL_MEMBERS_MAX
from muster_protocol.types import (
    NO_CLUSTER,
    Address,
    NameText,
    NodeId,
    OptionalHexId,
)
from muster_protocol.wire.codec import Decoder, encode

INCARNATION_END: Final = 2**48
"""No incarnation reaches it: at a refutation per millisecond it would take nine thousand years."""

SEQUENCE_END: Final = 2**32
"""Sequence numbers wrap here; only those of the last few seconds are ever compared."""

TAGS_MAX: Final = 32
"""Tags of one member. Their bytes are bounded by META_BYTES_MAX; this bounds the decoding."""

ALIVE_BYTES_MAX: Final = META_BYTES_MAX + 192
"""An encoded `Alive`: the metadata, a node id (34), a name (65), an address (51), an incarnation
(9) and the array around them (5), with room for fields that a later version appends."""

HOSTS_CACHED: Final = 4_096
"""Addresses whose form is remembered: those of a large cluster and some strangers."""

Incarnation = Annotated[int, msgspec.Meta(ge=0, lt=INCARNATION_END)]
Sequence = Annotated[int, msgspec.Meta(ge=0, lt=SEQUENCE_END)]
Digest63 = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
BootText = Annotated[str, msgspec.Meta(pattern=r"^([0-9a-f]{2}){0,32}\Z")]
ReasonText = Annotated[str, msgspec.Meta(pattern=r"^[a-z-]{0,24}\Z")]
VersionNumber = Annotated[int, msgspec.Meta(ge=0, lt=2**16)]
TagKey = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
TagValue = Annotated[str, msgspec.Meta(max_length=256)]
WireNodeId = Annotated[NodeId, msgspec.Meta(pattern=r"^[0-9a-f]{32}\Z")]
OptionalNodeId = Annotated[NodeId, msgspec.Meta(pattern=r"^([0-9a-f]{32})?\Z")]

NOBODY: Final = NodeId("")


class MemberState(enum.IntEnum):
    """What a member is taken for. The number is the rank: at one incarnation the higher wins.

    STOPPED outranks FAILED because only the member itself says so, and knows better than those who
    merely miss it. LEFT outranks all: nothing said of that incarnation brings the member back.
    """

    ALIVE = 0
    SUSPECT = 1
    FAILED = 2
    STOPPED = 3
    LEFT = 4


class NodeMeta(msgspec.Struct, frozen=True, array_like=True):
    """What a member tells of itself; at most META_BYTES_MAX encoded.

    `protocol_min` and `protocol_max` are the minor versions that it speaks, `build` its release
    for people to read, `cluster_id` the cluster it belongs to ("" for none yet),
    `bootstrap_expect` how many candidates it waits for before the one bootstrap (0: it does not
    bootstrap), `voter` whether it holds a seat in the consensus. `tags` are free, for operators
    and for what other agents announce (the HTTP address, for one). `witness`: it can be the
    witness of the consensus, and nothing else.
    """

    protocol_min: VersionNumber = 0
    protocol_max: VersionNumber = 0
    build: Annotated[str, msgspec.Meta(max_length=64)] = ""
    cluster_id: OptionalHexId = NO_CLUSTER
    bootstrap_expect: Annotated[int, msgspec.Meta(ge=0, le=255)] = 0
    voter: bool = False
    tags: Annotated[dict[TagKey, TagValue], msgspec.Meta(max_length=TAGS_MAX)] = {}
    witness: bool = False


class Ping(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """Are you there? `target` is who is meant: another node may have the address by now."""

    sequence: Sequence
    target: WireNodeId


class Ack(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """I am. The answer to a `Ping` that is meant for the sender, with the ping's sequence.

    `boot` (hexadecimal) and `uptime_ms` name the running process. They are sent only to a sender
    that has the answerer's own node id, which is how two copies of one identity find each other
    out; to everybody else they are left at their defaults and cost two bytes.
    """

    sequence: Sequence
    boot: BootText = ""
    uptime_ms: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)] = 0


class PingReq(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """Ping `target` at `address` for me, and answer with an `IndirectAck` of my `sequence`.

    If it has not answered after `nack_after_ms`, tell me so with a `Nack` (0: do not).
    """

    sequence: Sequence
    target: WireNodeId
    address: Address
    nack_after_ms: Annotated[int, msgspec.Meta(ge=0, le=600_000)] = 0


class Nack(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """I asked for you and have no answer yet: you and I are well, the target may not be."""

    sequence: Sequence


class IndirectAck(msgspec.Struct, frozen=True, array_like=True, tag=5):
    """I asked for you and the target answered."""

    sequence: Sequence


class Alive(msgspec.Struct, frozen=True, array_like=True, tag=10):
    """The member lives, under this name, at this address, with this metadata.

    Only the member itself raises its incarnation, so this is its own word, passed on.
    """

    node: WireNodeId
    name: NameText
    address: Address
    incarnation: Incarnation
    meta: NodeMeta = NodeMeta()


class Suspect(msgspec.Struct, frozen=True, array_like=True, tag=11):
    """`by` could not reach `node` at this incarnation. The node may refute it; others confirm.

    `reason` is one word: "silent" (no answer at all) or "refused" (the node's host answered that
    no process listens there).
    """

    node: WireNodeId
    incarnation: Incarnation
    by: WireNodeId
    reason: ReasonText = ""


class Failed(msgspec.Struct, frozen=True, array_like=True, tag=12):
    """No refutation came. `by` is one of those who could not reach `node` themselves."""

    node: WireNodeId
    incarnation: Incarnation
    by: WireNodeId
    reason: ReasonText = ""


class Stopped(msgspec.Struct, frozen=True, array_like=True, tag=13):
    """The member says that it is being shut down. It keeps its identity and its seat."""

    node: WireNodeId
    incarnation: Incarnation


class Left(msgspec.Struct, frozen=True, array_like=True, tag=14):
    """The member has left for good: it says so itself, or an operator did through `by`."""

    node: WireNodeId
    incarnation: Incarnation
    by: OptionalNodeId = NOBODY


class Digest(msgspec.Struct, frozen=True, array_like=True, tag=20):
    """My table in short: how many members, and a checksum of who, which incarnation, what state.

    A suspicion counts as alive in it: suspicions come and go by gossip, and a table that differs
    in nothing else need not be sent.
    """

    count: Annotated[int, msgspec.Meta(ge=0, lt=2**32)]
    checksum: Digest63


class DigestDiffers(msgspec.Struct, frozen=True, array_like=True, tag=21):
    """Mine is another. Open a stream and we exchange `SyncTable`s."""


class JoinRequest(msgspec.Struct, frozen=True, array_like=True, tag=30):
    """Here is a node that knows an address and nothing else: take me in.

    The packet is bound to no receiver, so it may be redirected; it only introduces its sender.
    `boot` lets a node recognise its own request, sent to one of its own addresses.
    """

    sequence: Sequence
    boot: BootText
    record: Alive


class JoinReply(msgspec.Struct, frozen=True, array_like=True, tag=31):
    """Welcome: who I am, and my table in short, so that the joiner may ask for all of it."""

    sequence: Sequence
    record: Alive
    digest: Digest


class MemberRecord(msgspec.Struct, frozen=True, array_like=True):
    """One row of a `SyncTable`. `age_s` is how long the sender has seen it in that state, so that
    a failure is forgotten everywhere at about the same time, without a common clock. `by` is the
    first who could not reach a suspected or failed member, so that hearsay of one accusation is
    not taken for two."""

    node: WireNodeId
    name: NameText
    address: Address
    incarnation: Incarnation
    state: MemberState
    meta: NodeMeta = NodeMeta()
    age_s: Annotated[int, msgspec.Meta(ge=0, lt=2**40)] = 0
    by: OptionalNodeId = NOBODY


class SyncTable(msgspec.Struct, frozen=True, array_like=True, tag=32):
    """One side of a push-pull: everybody that the sender knows. The only message of a stream."""

    members: Annotated[tuple[MemberRecord, ...], msgspec.Meta(max_length=PUSH_PULL_MEMBERS_MAX)]


Update = Alive | Suspect | Failed | Stopped | Left
"""What gossip carries: one member's state."""

MembershipMessage = (
    Ping
    | Ack
    | PingReq
    | Nack
    | IndirectAck
    | Alive
    | Suspect
    | Failed
    | Stopped
    | Left
    | Digest
    | DigestDiffers
    | JoinRequest
    | JoinReply
)


class _Kind(msgspec.Struct, array_like=True):
    """Reads the kind of any message and skips the rest."""

    kind: int


_MESSAGES: Final[Decoder[MembershipMessage]] = Decoder(MembershipMessage)
_TABLES: Final[Decoder[SyncTable]] = Decoder(SyncTable)
_KINDS: Final[Decoder[_Kind]] = Decoder(_Kind)
_KNOWN_KINDS: Final = frozenset(
    message.__struct_config__.tag for message in get_args(MembershipMessage)
)


def decode_message(raw: msgspec.Raw | bytes) -> MembershipMessage:
    """One message of a packet.

    Errors: RemoteError "unknown-kind" for a kind that a newer minor version may have added,
    "oversized" for metadata above META_BYTES_MAX, "garbage" for everything else that does not fit.
    """
    try:
        message = _MESSAGES.decode(raw)
    except RemoteError:
        kind = _KINDS.decode(raw).kind
        if kind not in _KNOWN_KINDS:
            raise RemoteError("unknown-kind", f"membership message of kind {kind}") from None
        raise
    _check(message)
    return message


def decode_sync_table(raw: msgspec.Raw | bytes) -> SyncTable:
    """The table that a push-pull stream carries.

    Errors: RemoteError "garbage", or "oversized" when a member's metadata is.
    """
    table = _TABLES.decode(raw)
    for record in table.members:
        _check_address(record.address)
        _check_meta(record.meta)
    return table


def meta_bytes(meta: NodeMeta) -> int:
    """The encoded length, which may not pass META_BYTES_MAX."""
    return len(encode(meta))


def _check(message: Any) -> None:
    """What a type cannot say: metadata is small as a whole, an address is an address."""
    if isinstance(message, Alive):
        _check_address(message.address)
        _check_meta(message.meta)
    elif isinstance(message, JoinRequest | JoinReply):
        _check(message.record)
    elif isinstance(message, PingReq):
        _check_address(message.address)


def _check_meta(meta: NodeMeta) -> None:
    if meta_bytes(meta) > META_BYTES_MAX:
        raise RemoteError("oversized", f"member metadata above {META_BYTES_MAX} bytes")


def _check_address(address: Address) -> None:
    _check_host(address.host)
    if address.port == 0:
        raise RemoteError("garbage", "a member's address with port 0")


@functools.lru_cache(HOSTS_CACHED)
def _check_host(host: str) -> None:
    """Cached, as the same few hosts are named again and again; what is refused is not."""
    try:
        ipaddress.ip_address(host)
    except ValueError as error:
        raise RemoteError("garbage", f"not an IP address: {host!r}") from error
