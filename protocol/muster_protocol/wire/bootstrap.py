"""What candidates say to each other before there is a cluster, on streams of purpose `bootstrap`.

Each is a question with one answer; all of them may be repeated without harm.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from muster_protocol.limits import VOTERS_MAX
from muster_protocol.types import HexId
from muster_protocol.wire.codec import Decoder
from muster_protocol.wire.raft import Configuration, Generation

Founders = Annotated[tuple[HexId, ...], msgspec.Meta(min_length=1, max_length=VOTERS_MAX)]


class Propose(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """Promise your one bootstrap to this set of founders and this cluster id."""

    proposal: HexId
    cluster: HexId
    founders: Founders


class Promised(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """Durably promised; my journal will have this generation."""

    proposal: HexId
    generation: Generation


class Declined(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """Not promised, and why."""

    proposal: HexId
    reason: str


class Decide(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """All promised: this is the first configuration of the cluster."""

    proposal: HexId
    cluster: HexId
    configuration: Configuration


class Founded(msgspec.Struct, frozen=True, array_like=True, tag=5):
    """The receiver of `Decide` has its journal, durably."""

    proposal: HexId


class AskOutcome(msgspec.Struct, frozen=True, array_like=True, tag=6):
    """What became of the proposal that I promised myself to?"""

    proposal: HexId


class Undecided(msgspec.Struct, frozen=True, array_like=True, tag=7):
    """Still waiting for promises."""

    proposal: HexId


class Aborted(msgspec.Struct, frozen=True, array_like=True, tag=8):
    """Durably given up: your promise is void."""

    proposal: HexId


class UnknownProposal(msgspec.Struct, frozen=True, array_like=True, tag=9):
    """I never made it, or my state is lost. Your promise stands until an operator resets it."""

    proposal: HexId


BootstrapMessage = (
    Propose
    | Promised
    | Declined
    | Decide
    | Founded
    | AskOutcome
    | Undecided
    | Aborted
    | UnknownProposal
)

_DECODER: Decoder[BootstrapMessage] = Decoder(BootstrapMessage)


def decode_bootstrap(data: bytes) -> BootstrapMessage:
    """Errors: RemoteError("garbage")."""
    return _DECODER.decode(data)
