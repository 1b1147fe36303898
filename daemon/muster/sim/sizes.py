"""How much a node keeps of all that can grow, and where that stands.

| what grows | where | what happens at its limit |
|---|---|---|
| an agent's mailbox, timers, calls, actions | `runtime/host` | dropped, refused, or a bug |
| effects behind a sync | `driver` | no more input is taken |
| signals for a reader, and readers | `runtime/bus` | the oldest is dropped; refused |
| members, graves, accusers, hints, probes | `membership` | not taken up; the oldest goes |
| broadcasts, and how often each is sent | `membership/broadcasts` | replaced; sent enough |
| signals for other members | `signals/relay` | the oldest is dropped and counted |
| senders of sealed packets | `crypto/sealing` | the one unused for longest goes |
| streams of others | `net/peers` | turned away |
| the log, and its unsynced end | `raftguard/room`, `voter` | no more is taken; refused |
| what of the log a snapshot covers | `storage/journal` | trimmed |
| votes and requests behind a sync | `raftguard/held` | dropped |
| frames for another voter | `consistency/links` | its link is closed |
| commands and reads without an outcome | `proposals`, `forwarding` | refused |
| sessions and the store | `consistency/registry` | the oldest goes; rejected |
| the flight recorder's buffer | `recorder` | dropped and counted |

The limits are imported from there. Clients of the control socket and of HTTP are bounded too
(`control`, `http`), but no simulated node has any.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from muster.agents.consistency.links import QUEUE_BYTES_MAX, QUEUE_FRAMES_MAX
from muster.agents.relay import QUEUE_MESSAGES_MAX
from muster.recorder import BUFFER_BYTES_MAX
from muster.runtime.bus import SUBSCRIPTIONS_MAX
from muster_protocol.crypto.sealing import CANDIDATES_MAX, PEERS_MAX
from muster_protocol.limits import (
    LOG_ENTRIES_MAX,
    PUSH_PULL_MEMBERS_MAX,
    UNSYNCED_BYTES_MAX,
    WAITING_BYTES_MAX,
    WAITING_COMMANDS_MAX,
)
from muster_protocol.raftguard.held import HELD_FRAMES_MAX
from muster_protocol.signals.relay import RING_BYTES_MAX, RING_SIGNALS_MAX
from muster_protocol.types import Size

if TYPE_CHECKING:
    from muster.agents.consistency.compaction import SnapshotPolicy
    from muster.agents.consistency.raft.core import RaftCore
    from muster.node import Node, Parts


def sizes_of_core(core: RaftCore, policy: SnapshotPolicy) -> Iterator[Size]:
    """A voter's log and its guard. What waits to be proposed may come on top of a follower's."""
    journal, guard = core.journal, core.guard.statistics()
    yield Size("log entries", len(journal), LOG_ENTRIES_MAX + WAITING_COMMANDS_MAX)
    yield Size("log entries before the snapshot", journal.covered, policy.keep_entries)
    bytes_max = UNSYNCED_BYTES_MAX + WAITING_BYTES_MAX
    yield Size("journal bytes without a sync", journal.buffered_bytes, bytes_max)
    yield Size("bytes of appends without a sync", guard.unsynced_bytes, UNSYNCED_BYTES_MAX)
    yield Size("held frames", guard.held_frames, HELD_FRAMES_MAX)


def sizes_of_voter(voter: Any) -> Iterator[Size]:
    """A whole voter."""
    yield from sizes_of_core(voter.core, voter.compaction.policy)
    yield Size("waiting reads", voter.reads.waiting, WAITING_COMMANDS_MAX)
    proposals, registry = voter.proposals, voter.replica.registry
    yield Size("pending commands", proposals.pending, WAITING_COMMANDS_MAX)
    yield Size("pending command bytes", proposals.pending_bytes, WAITING_BYTES_MAX)
    yield Size("sessions", registry.sessions, registry.sessions_max)
    yield Size("store bytes", registry.store_bytes, registry.store_bytes_max)
    for peer, frames, size in voter.links.queued():
        yield Size(f"frames for {peer}", frames, QUEUE_FRAMES_MAX)
        yield Size(f"frame bytes for {peer}", size, QUEUE_BYTES_MAX)


def sizes_of_node(node: Node) -> Iterator[Size]:
    """A node that runs, but for its voter."""
    parts = node.parts
    assert parts is not None
    for host in parts.supervisor.hosts():
        for what, size, limit in host.sizes():
            yield Size(f"{host.name}: {what}", size, limit)
    bus = parts.bus.statistics().subscriptions
    queues = [held for held in bus if held.queue_max is not None]
    yield Size("subscriptions", len(queues), SUBSCRIPTIONS_MAX)
    for held in queues:
        yield Size(f"signals for {held.name}", held.queue_length, held.queue_max or 0)
    yield from _sizes_of_network(parts)
    yield from _sizes_of_agents(parts)
    yield Size("recorder bytes", node.recorder.buffered_bytes, BUFFER_BYTES_MAX)


def _sizes_of_network(parts: Parts) -> Iterator[Size]:
    sealer, streams = parts.channel.sealer.statistics(), parts.streams.statistics()
    yield Size("senders of packets", sealer.peers, PEERS_MAX)
    yield Size("senders to be challenged", sealer.candidates, CANDIDATES_MAX)
    yield Size("accepted streams", streams.slots, parts.streams.limits.total)
    yield Size("strangers' streams", streams.pending, parts.streams.limits.pending)


def _sizes_of_agents(parts: Parts) -> Iterator[Size]:
    failure, signals = parts.agents.failure, parts.agents.signals
    consistency = parts.agents.consistency
    if failure is not None:
        yield from failure.swim.sizes()
    if signals is not None:
        relay = signals.relay.statistics()
        yield Size("signals in the ring", relay.ring_signals, RING_SIGNALS_MAX)
        yield Size("bytes of signals in the ring", relay.ring_bytes, RING_BYTES_MAX)
        yield Size("subscribers to the ring", relay.subscribers, PUSH_PULL_MEMBERS_MAX)
        for peer, waiting in signals.queued():
            yield Size(f"relay messages for {peer}", waiting, QUEUE_MESSAGES_MAX)
    if consistency is not None:
        forwarder = consistency.forwarder
        yield Size("forwarded commands", forwarder.waiting, WAITING_COMMANDS_MAX)
        yield Size("forwarded command bytes", forwarder.waiting_bytes, WAITING_BYTES_MAX)
        yield Size("streams to voters", forwarder.channels, PUSH_PULL_MEMBERS_MAX)
