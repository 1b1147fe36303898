"""What only the membership machine asks of the world."""

from __future__ import annotations

from dataclasses import dataclass

from muster_protocol.effects import Effect
from muster_protocol.types import Address, NodeId


@dataclass(frozen=True, slots=True)
class StartSync(Effect):
    """Open a stream to the peer and exchange `SyncTable`s: send `table_for_sync()`, and post
    `SyncReceived` with what comes back. The side that is dialled does the same. A failure needs
    no event: the next round asks somebody else."""

    peer: NodeId
    address: Address


@dataclass(frozen=True, slots=True)
class ProbeByStream(Effect):
    """Try to reach the peer by a stream, hello included, and post `StreamProbeSucceeded` or
    `StreamProbeFailed` with the sequence. An answer later than the probe's end is ignored, so the
    time-out may be any; the probe interval is sensible."""

    peer: NodeId
    address: Address
    sequence: int
