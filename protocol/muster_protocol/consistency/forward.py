"""Requests that travel to the leader, on streams of purpose `propose`.

Any node, with a seat or without, keeps one such stream to the voter that it takes for the leader.
Requests and replies are matched by number; a voter that does not lead says who does.
"""

from __future__ import annotations

import msgspec

from muster_protocol.consistency.commands import Command, Result
from muster_protocol.types import OptionalHexId, UInt
from muster_protocol.wire.codec import Decoder
from muster_protocol.wire.raft import Configuration


class Forward(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """Propose this command. `within_s`: after that nobody waits for the answer any more."""

    number: UInt
    within_s: float
    command: Command


class Committed(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """Committed, with this result."""

    number: UInt
    result: Result


class NotLeader(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """Nothing was proposed. `leader` may know more; "" means that none is known."""

    number: UInt
    leader: OptionalHexId


class Unknown(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """Proposed, and not known to be committed in time."""

    number: UInt


class Declined(msgspec.Struct, frozen=True, array_like=True, tag=7):
    """Nothing was proposed, and to ask again would not help. `reason`: as of `errors.Refused`."""

    number: UInt
    reason: str
    message: str


class AskConfiguration(msgspec.Struct, frozen=True, array_like=True, tag=5):
    """Who has a seat?"""

    number: UInt


class ConfigurationIs(msgspec.Struct, frozen=True, array_like=True, tag=6):
    """The committed configuration as this voter knows it, and the leader it follows."""

    number: UInt
    configuration: Configuration
    leader: OptionalHexId


ForwardMessage = (
    Forward | Committed | NotLeader | Unknown | Declined | AskConfiguration | ConfigurationIs
)

_DECODER: Decoder[ForwardMessage] = Decoder(ForwardMessage)


def decode_forward(data: bytes) -> ForwardMessage:
    """Errors: RemoteError("garbage")."""
    return _DECODER.decode(data)
