"""Messages of the signal relay, on streams between members. `signals.relay` says how they are used.

A signal travels as its own encoded bytes, not as a nested structure: a member of another version
may send one that we cannot read, and that must cost one signal, not the stream.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from muster_protocol.limits import FRAME_BYTES_MAX, SIGNAL_BYTES_MAX
from muster_protocol.types import UInt

BATCH_SIGNALS_MAX: Final = 32
"""Signals in one message: of the largest size, they fill half a frame."""

assert BATCH_SIGNALS_MAX * SIGNAL_BYTES_MAX <= FRAME_BYTES_MAX // 2

LifeText = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{1,64}\Z")]
"""One life of a relay: random, lower-case hexadecimal."""

OptionalLifeText = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{0,64}\Z")]

SignalBytes = Annotated[bytes, msgspec.Meta(max_length=SIGNAL_BYTES_MAX)]


class Subscribe(msgspec.Struct, frozen=True, array_like=True, tag="sub"):
    """ "Send me all after `after` of your life `life`." `life` is "" when I know nothing of you.

    `own_life` is the sender's own life: a receiver that knows another one subscribes anew, too.
    """

    own_life: LifeText
    life: OptionalLifeText
    after: UInt


class Position(msgspec.Struct, frozen=True, array_like=True, tag="pos"):
    """ "The next signal that you get from my life `life` is `after` + 1." """

    life: LifeText
    after: UInt


class Signals(msgspec.Struct, frozen=True, array_like=True, tag="sig"):
    """Signals of consecutive sequence numbers; the first has `first`."""

    life: LifeText
    first: Annotated[int, msgspec.Meta(ge=1, lt=2**62)]
    signals: Annotated[
        tuple[SignalBytes, ...], msgspec.Meta(min_length=1, max_length=BATCH_SIGNALS_MAX)
    ]


class Ack(msgspec.Struct, frozen=True, array_like=True, tag="ack"):
    """ "I have all of your life `life` up to and including `sequence`." """

    life: LifeText
    sequence: UInt


RelayMessage = Subscribe | Position | Signals | Ack
"""What a frame of the relay's stream may hold: `Decoder(RelayMessage)`."""
