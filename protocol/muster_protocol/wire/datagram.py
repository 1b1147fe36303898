"""The body of a packet: whose cluster, which minor version, and the messages.

    [minor version, cluster id, [message, …]]

Each message is an array whose first element is its kind. A reader takes what it knows: a message of
a kind that a later minor version added is skipped and counted, and so are elements that it appended
to the body. A message of a known kind that does not fit is a reason to refuse the whole packet:
half of what somebody said is worse than nothing.

The body is what `crypto.sealing` seals; this module knows nothing of that but the room it leaves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Generic, TypeVar

import msgspec

from muster_protocol.errors import RemoteError
from muster_protocol.limits import PACKET_BYTES_MAX, PACKET_MESSAGES_MAX
from muster_protocol.types import NO_CLUSTER, ClusterId
from muster_protocol.wire.codec import Decoder, encode

M = TypeVar("M")

MINOR_VERSION: Final = 0
"""What this release speaks. A higher one in a packet means: there may be more than we know."""

BODY_BYTES_MAX: Final = PACKET_BYTES_MAX - 54
"""What the header and the tag of a sealed packet leave (a test compares it with the sealer's)."""

BODY_BYTES_MIN: Final = 18
"""A challenge's body. A smaller packet of an unknown boot would not be challenged, lest we send
more than came; so a smaller body is padded with a fourth element, which readers skip."""

MESSAGES_BYTES_MAX: Final = BODY_BYTES_MAX - (1 + 5 + 34 + 3)
"""Room for all encoded messages of a packet: the rest is the array, the version, the cluster id and
the array of messages at their longest."""

ClusterText = Annotated[str, msgspec.Meta(pattern=r"^([0-9a-f]{32})?\Z")]
MinorVersion = Annotated[int, msgspec.Meta(ge=0, lt=2**16)]


class _Body(msgspec.Struct, frozen=True, array_like=True):
    minor: MinorVersion
    cluster: ClusterText
    messages: Annotated[list[msgspec.Raw], msgspec.Meta(max_length=PACKET_MESSAGES_MAX)]


_BODIES: Final[Decoder[_Body]] = Decoder(_Body)


@dataclass(frozen=True, slots=True)
class Datagram(Generic[M]):
    """A decoded body. `skipped` counts messages of kinds that we do not know."""

    minor: int
    cluster: ClusterId
    messages: tuple[M, ...]
    skipped: int


def encode_datagram(messages: Sequence[Any], cluster: ClusterId) -> bytes:
    """The body that carries `messages` (structs, or already encoded as `msgspec.Raw`).

    More than fits is a mistake of ours: callers count bytes (`MESSAGES_BYTES_MAX`).
    """
    assert len(messages) <= PACKET_MESSAGES_MAX, f"{len(messages)} messages in one packet"
    body = encode((MINOR_VERSION, cluster, messages))
    if len(body) < BODY_BYTES_MIN:
        body = encode((MINOR_VERSION, cluster, messages, bytes(BODY_BYTES_MIN - len(body))))
    assert len(body) <= BODY_BYTES_MAX, f"packet body of {len(body)} bytes"
    return body


def decode_datagram(body: bytes, decode_message: Callable[[msgspec.Raw], M]) -> Datagram[M]:
    """What `body` holds. `decode_message` raises RemoteError "unknown-kind" for what it may skip.

    Errors: RemoteError "oversized" or "garbage", or what `decode_message` raises.
    """
    if len(body) > BODY_BYTES_MAX:
        raise RemoteError("oversized", f"packet body of {len(body)} bytes")
    raw = _BODIES.decode(body)
    messages: list[M] = []
    for item in raw.messages:
        try:
            messages.append(decode_message(item))
        except RemoteError as error:
            if error.cause != "unknown-kind":
                raise
    skipped = len(raw.messages) - len(messages)
    return Datagram(raw.minor, ClusterId(raw.cluster), tuple(messages), skipped)


def check_cluster(mine: ClusterId, theirs: ClusterId) -> None:
    """Nothing is accepted across two clusters; a node that is in none yet may talk to any.

    Errors: RemoteError "foreign-cluster".
    """
    if mine != theirs and mine != NO_CLUSTER and theirs != NO_CLUSTER:
        raise RemoteError("foreign-cluster", f"from cluster {theirs}, this is {mine}")
