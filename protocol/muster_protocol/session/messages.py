"""What daemon and client say to each other on the control socket.

Length-prefixed frames of one MessagePack value each. The client speaks first (`ClientHello`), the
daemon answers with `ServerHello` or `Failure` and closes. Then requests go one way, and for each
of them either one `Reply`, or any number of `Item`s and one `End`, or a `Failure` come back, in any
order between requests. Unknown keys in parameters are errors: a client that asks for what this
daemon does not know must hear of it.
"""

from __future__ import annotations

import enum
from typing import Annotated, Any, Final

import msgspec

from muster_protocol.types import UInt
from muster_protocol.wire.codec import Decoder

PROTOCOL_MAJOR = 1
PROTOCOL_MINOR = 0

Method = Annotated[str, msgspec.Meta(max_length=64)]
"""Looked up among `methods.METHODS`: a pattern would cost more than the rest of the decoding."""

RequestId = UInt


class Code(enum.StrEnum):
    """Why a request failed; the CLI turns each into its exit code (DESIGN 9)."""

    FAILED = "failed"
    USAGE = "usage"
    NOT_QUORATE = "not-quorate"
    NOT_FOUND = "not-found"
    PERMISSION = "permission"
    TIMED_OUT = "timed-out"
    CONFLICT = "conflict"
    UNKNOWN_OUTCOME = "unknown-outcome"
    UNSUPPORTED = "unsupported"


class ClientHello(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """`client` is a name for the daemon's log."""

    major: UInt
    minor: UInt
    client: Annotated[str, msgspec.Meta(max_length=100)]


class ServerHello(msgspec.Struct, frozen=True, array_like=True, tag=2):
    major: UInt
    minor: UInt
    node: str
    name: str
    build: str
    revision: UInt = 0
    """Which the store has reached, as far as this node knows."""


class Request(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """Request ids are the client's; one that is still being answered may not be used again."""

    id: RequestId
    method: Method
    params: dict[str, Any]


class Cancel(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """Stop answering this request; there will be an `End` or what was already under way."""

    id: RequestId


class Reply(msgspec.Struct, frozen=True, array_like=True, tag=5):
    id: RequestId
    result: Any


class Item(msgspec.Struct, frozen=True, array_like=True, tag=6):
    id: RequestId
    value: Any


class End(msgspec.Struct, frozen=True, array_like=True, tag=7):
    id: RequestId


FORGOTTEN: Final = "forgotten"
"""In the details of an unknown outcome: asking again will not tell."""


class Failure(msgspec.Struct, frozen=True, array_like=True, tag=8):
    """`message` is one line for a person; `hint` says what to do about it, where that is known."""

    id: RequestId
    code: Code
    message: str
    hint: str = ""
    details: dict[str, Any] = {}


FromClient = ClientHello | Request | Cancel
FromServer = ServerHello | Reply | Item | End | Failure

FROM_CLIENT: Decoder[FromClient] = Decoder(FromClient)
FROM_SERVER: Decoder[FromServer] = Decoder(FromServer)
