"""One probe, and one relay: what is known of a question that is on its way.

A probe of C passes these stages, all times stretched by the local health at its start:

    0          a ping to C
    timeout    no ack: k others are asked to ping C, and a stream to C is tried
    interval   still nothing: C is suspected, and the next round begins

An ack by any way ends it. So does a refused stream once C has been silent for the timeout: C's host
lives and C does not, and there is nothing to wait for.
"""

from __future__ import annotations

from dataclasses import dataclass

from muster_protocol.types import Address, NodeId


@dataclass(slots=True)
class Probe:
    """A probe in flight. `indirect_at` is None once others were asked."""

    sequence: int
    target: NodeId
    indirect_at: float | None
    ends_at: float
    nacks_expected: int = 0
    nacks_received: int = 0

    @property
    def is_indirect(self) -> bool:
        return self.indirect_at is None

    @property
    def deadline(self) -> float:
        return self.ends_at if self.indirect_at is None else self.indirect_at

    def postpone(self, seconds: float) -> None:
        """Our loop stood still: the ack may wait unread."""
        self.ends_at += seconds
        if self.indirect_at is not None:
            self.indirect_at += seconds


@dataclass(slots=True)
class Relay:
    """A ping that we sent for somebody else. `nack_at` is None once said, or if not wanted."""

    sequence: int
    target: NodeId
    origin: NodeId
    origin_address: Address
    origin_sequence: int
    nack_at: float | None
    ends_at: float

    @property
    def deadline(self) -> float:
        return self.ends_at if self.nack_at is None else self.nack_at
