"""What the consistency manager needs of the rest of its node."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from muster_protocol.effects import Notify, Persist
from muster_protocol.partition.quorum import Verdict
from muster_protocol.raftguard.steward import Candidate
from muster_protocol.types import Address, ClusterId, NodeId

if TYPE_CHECKING:
    from muster.agents.consistency.trace import DurabilityTrace
    from muster.flight.tape import FlightLog
    from muster.net.peers import PeerStreams
    from muster.world import World


@dataclass(frozen=True, slots=True)
class CandidateView:
    """What the membership says about the founding: candidates by id, clusters of our label."""

    candidates: Mapping[NodeId, str]
    clusters: tuple[ClusterId, ...]


@dataclass(frozen=True, slots=True)
class Ports:
    """What the consistency manager needs of the rest of its node."""

    me: NodeId
    boot: str
    world: World
    streams: PeerStreams
    trace: DurabilityTrace
    recorder: FlightLog | None
    notify: Callable[[Notify], None]
    address_of: Callable[[NodeId], Address | None]
    live_voters: Callable[[], tuple[NodeId, ...]]
    """Members in reach that say they have a seat, the witness too."""
    live_replicas: Callable[[], tuple[NodeId, ...]]
    """Those of them that have the data."""
    alive_since: Callable[[NodeId], float | None]
    """Since when gossip shows a member alive; None if it does not."""
    candidates: Callable[[], CandidateView]
    members: Callable[[], Mapping[NodeId, Candidate]]
    """Those of this node's cluster, itself too."""
    verdict: Callable[[], Verdict]
    load_record: Callable[[str], bytes | None]
    """A record of this agent by name; blocks."""
    save_record: Callable[[Persist], Awaitable[None]]
    """Make a record of this agent durable."""
    joined: Callable[[ClusterId, str], None]
    """Called with the cluster id and this node's journal generation ("": no seat)."""
