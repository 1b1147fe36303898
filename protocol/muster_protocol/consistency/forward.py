"""Requests that travel to the leader, on streams of purpose `propose`.

Any node, with a seat or without, keeps one such stream to the voter that it takes for the leader.
Requests and replies are matched by number; a voter that does not lead says who does. What is said
in one turn of the loop goes into one frame (`Together`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final

import msgspec

from muster_protocol.consistency.commands import Command, Result
from muster_protocol.types import OptionalHexId, UInt
from muster_protocol.wire.codec import Decoder, encode
from muster_protocol.wire.raft import Configuration
from muster_protocol.wire.seats import SeatRequest


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


class ChangeSeats(msgspec.Struct, frozen=True, array_like=True, tag=9):
    """Change who votes. The answer may be `NotLeader`, `Declined` or `Unknown`, too."""

    number: UInt
    within_s: float
    request: SeatRequest


class SeatsChanged(msgspec.Struct, frozen=True, array_like=True, tag=10):
    """That is committed."""

    number: UInt


ForwardMessage = (
    Forward
    | Committed
    | NotLeader
    | Unknown
    | Declined
    | AskConfiguration
    | ConfigurationIs
    | ChangeSeats
    | SeatsChanged
)

TOGETHER_MAX: Final = 256
"""Messages in one frame: as many requests as a leader takes from one stream at a time."""

TOGETHER_BYTES_MAX: Final = 512 * 1024
"""And about their size: a batch's worth, so far below a frame's limit that a value more fits."""


class Together(msgspec.Struct, frozen=True, array_like=True, tag=8):
    """Several at once, in order; nothing else is said by it."""

    messages: Annotated[tuple[ForwardMessage, ...], msgspec.Meta(max_length=TOGETHER_MAX)]


_DECODER: Decoder[ForwardMessage | Together] = Decoder(ForwardMessage | Together)


def decode_forward(data: bytes) -> tuple[ForwardMessage, ...]:
    """What one frame holds. Errors: RemoteError("garbage")."""
    message = _DECODER.decode(data)
    return message.messages if isinstance(message, Together) else (message,)


def encode_forward(number: int, within_s: float, command: bytes) -> bytes:
    """A `Forward` whose command is encoded already."""
    return encode([1, number, within_s, msgspec.Raw(command)])


def frames_of(messages: Sequence[bytes]) -> list[bytes]:
    """Encoded messages, brought into as few frames as hold them."""
    frames: list[bytes] = []
    part: list[bytes] = []
    size = 0
    for message in messages:
        if part and (len(part) == TOGETHER_MAX or size + len(message) > TOGETHER_BYTES_MAX):
            frames.append(_frame_of(part))
            part, size = [], 0
        part.append(message)
        size += len(message)
    if part:
        frames.append(_frame_of(part))
    return frames


def _frame_of(part: Sequence[bytes]) -> bytes:
    return part[0] if len(part) == 1 else encode([8, [msgspec.Raw(each) for each in part]])
