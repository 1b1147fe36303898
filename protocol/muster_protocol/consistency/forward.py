"""Requests that travel to the leader, on streams of purpose `propose`.

Any node, with a seat or without, keeps one such stream to the voter that it takes for the leader.
Requests and replies are matched by number; a voter that does not lead says who does.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from muster_protocol.consistency.commands import Command, Result
from muster_protocol.types import OptionalHexId, UInt
from muster_protocol.wire.codec import Decoder
from muster_protocol.wire.raft import Configuration

FORWARD_COMMANDS_MAX = 1_000
"""Commands in one forwarded request: one loop turn of a busy node."""


class Forward(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """Propose these commands. `within_s`: after that nobody waits for the answer any more."""

    number: UInt
    within_s: float
    commands: Annotated[tuple[Command, ...], msgspec.Meta(max_length=FORWARD_COMMANDS_MAX)]


class Committed(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """All committed; one result for each command."""

    number: UInt
    results: tuple[Result, ...]


class NotLeader(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """Nothing was proposed. `leader` may know more; "" means that none is known."""

    number: UInt
    leader: OptionalHexId


class Unknown(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """Proposed, and not known to be committed in time."""

    number: UInt


class AskConfiguration(msgspec.Struct, frozen=True, array_like=True, tag=5):
    """Who has a seat?"""

    number: UInt


class ConfigurationIs(msgspec.Struct, frozen=True, array_like=True, tag=6):
    """The committed configuration as this voter knows it, and the leader it follows."""

    number: UInt
    configuration: Configuration
    leader: OptionalHexId


ForwardMessage = Forward | Committed | NotLeader | Unknown | AskConfiguration | ConfigurationIs

_DECODER: Decoder[ForwardMessage] = Decoder(ForwardMessage)


def decode_forward(data: bytes) -> ForwardMessage:
    """Errors: RemoteError("garbage")."""
    return _DECODER.decode(data)
