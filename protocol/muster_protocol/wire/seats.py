"""What is said about seats: what an operator wants of the leader, and a leader of a member.

A member without a seat has no journal. The leader asks it to make one, over a stream of purpose
`enlist`, and then proposes an electorate in which it learns.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from muster_protocol.types import OptionalHexId, UInt
from muster_protocol.wire.codec import Decoder
from muster_protocol.wire.raft import Configuration, Generation


class SeatRequest(msgspec.Struct, frozen=True, array_like=True):
    """`size`: so many shall vote. `add`, `remove`: this node shall have a seat, or none any more.
    `leave`: it gives its seat back, because it goes. `transfer`: another one shall lead."""

    what: Literal["size", "add", "remove", "leave", "transfer"]
    node: OptionalHexId = ""
    size: UInt = 0


class EnlistRequest(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """Make a journal. `configuration`: the electorate, which is committed. `as_witness`: or, at a
    node that is to be the witness, what that needs instead."""

    configuration: Configuration
    as_witness: bool = False


class Enlisted(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """It is there, durably, and nothing is in it."""

    generation: Generation


class NotEnlisted(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """For this reason."""

    reason: str


EnlistMessage = EnlistRequest | Enlisted | NotEnlisted
_DECODER: Decoder[EnlistMessage] = Decoder(EnlistMessage)


def decode_enlist(data: bytes) -> EnlistMessage:
    """Errors: RemoteError("garbage")."""
    return _DECODER.decode(data)
