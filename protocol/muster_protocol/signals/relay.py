"""Carries signals of scope cluster to every member.

**Pull.** Every member subscribes at every other member: "send me all after sequence S of your life
B". The origin keeps a ring of its last `RING_SIGNALS_MAX` own signals, and of each subscriber only
how far it was sent to and how far it acknowledged. So a broken stream costs nothing: the
subscriber comes back and says where it stood.

**What is promised**, per origin: order (FIFO), no duplicates (by origin, life and sequence), and
no *silent* loss while both relays live. A subscriber that fell out of the ring is told where the
signals go on, and emits `cluster.signals.missed` with their number on its own node. Between
origins there is no order. A member that joins later starts at the present: signals are facts
about now, and whoever needs history asks the store. What an origin published in the last moments
before it died may be lost unseen: it lived in that process' memory only.

**Life** is a random name for one instance of this machine. It is not the boot of the daemon: a
relay that its supervisor restarted has forgotten its ring, and must not be believed to go on
counting where the old one stopped. It also has forgotten its subscribers; they learn of it from
its own `Subscribe`, which carries its life, and subscribe again.

**Overload.** The ring drops its oldest, and a slow subscriber has at most `WINDOW_SIGNALS_MAX`
unacknowledged signals on their way; nobody waits for it. Priorities do not reorder: an alert that
overtakes the suspicion which led to it would arrive before its cause, a cumulative sequence could
no longer tell what is a duplicate, and a stream of high priorities would starve the rest unseen.
Priority is for those who are told, not for the road.

**Contract with the shell.** Messages to one peer travel in order over one stream. One that cannot
be queued closes that stream: the shell then reports `PeerDown`, and `PeerUp` for the next. So
nothing inside a connection is ever lost and nothing has to be sent twice; only an unanswered
`Subscribe` is repeated, for a peer whose relay was just being restarted.

Rejected: pushing to all members from the origin (it has to remember what each has, for members
that may never come back), gossip (no order, and a signal does not fit in a packet), and putting
signals through the log (a quorum write for every load report).
"""

from __future__ import annotations

import collections
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

import msgspec

from muster_protocol.effects import DeadlineReached, Effect, Emit, Notify
from muster_protocol.errors import RemoteError, UsageError
from muster_protocol.limits import PUSH_PULL_MEMBERS_MAX
from muster_protocol.signals.patterns import SIGNALS_MISSED
from muster_protocol.signals.signal import Signal, decode, encode
from muster_protocol.types import NodeId, Priority, Scope, Severity
from muster_protocol.wire.relay import (
    BATCH_SIGNALS_MAX,
    Ack,
    Position,
    RelayMessage,
    Signals,
    Subscribe,
)

RING_SIGNALS_MAX: Final = 1_024
"""Own signals kept: some minutes of a busy node, longer than a stream takes to come back."""

RING_BYTES_MAX: Final = 16 * 1024 * 1024
"""And their size: 1,024 of the largest would be 64 MiB. A usual signal has 500 bytes."""

WINDOW_SIGNALS_MAX: Final = 64
"""Unacknowledged signals per subscriber: two full messages, so that the next is on its way while
the last is acknowledged; at most 4 MiB each. On a LAN (0.5 ms) 100,000 signals a second."""

RETRY_S: Final = 10.0
"""An unanswered Subscribe is sent again: longer than a supervisor's first restarts take."""


@dataclass(frozen=True, slots=True)
class LocalSignal:
    """Event: this node published a signal of scope cluster."""

    signal: Signal


@dataclass(frozen=True, slots=True)
class PeerUp:
    """Event: there is a stream to this member. A second one replaces the first."""

    node: NodeId


@dataclass(frozen=True, slots=True)
class PeerDown:
    """Event: the stream is gone. Where we stood is kept; the member may come back."""

    node: NodeId


@dataclass(frozen=True, slots=True)
class PeerForgotten:
    """Event: the member left for good; a node that returns under its id starts at the present."""

    node: NodeId


@dataclass(frozen=True, slots=True)
class RelayReceived:
    """Event: a message came from a member."""

    peer: NodeId
    message: RelayMessage


@dataclass(frozen=True, slots=True)
class SendRelay(Effect):
    """Send one message over the stream to `peer`, in order, or close that stream."""

    peer: NodeId
    message: RelayMessage


@dataclass(frozen=True, slots=True)
class Deliver(Effect):
    """Publish another member's signal on this node's bus, and nowhere else."""

    signal: Signal


@dataclass(frozen=True, slots=True)
class RelayStatistics:
    """What the relay did in this life. `signals_refused` counts what could not be read."""

    signals_published: int
    signals_dropped_from_ring: int
    signals_sent: int
    signals_skipped: int
    signals_delivered: int
    signals_duplicate: int
    signals_missed: int
    signals_refused: int
    ring_signals: int
    ring_bytes: int
    subscribers: int
    peers_up: int


@dataclass(slots=True)
class _Subscriber:
    """Somebody who pulls from us: all up to `sent` is on its way, up to `acked` has arrived."""

    sent: int
    acked: int


@dataclass(slots=True)
class _Subscription:
    """Our place in what another member publishes. `asked_at` is set while no answer has come."""

    life: str = ""
    last: int = 0
    is_up: bool = False
    asked_at: float | None = None


class Relay:
    """The machine. `life` must be drawn anew for every instance: 1 to 64 hexadecimal digits."""

    def __init__(self, *, node: NodeId, life: str) -> None:
        self._node = node
        self._life = life
        self._ring: collections.deque[bytes] = collections.deque()
        self._ring_bytes = 0
        self._last = 0
        self._subscribers: dict[NodeId, _Subscriber] = {}
        self._subscriptions: dict[NodeId, _Subscription] = {}
        self._retry_at: float | None = None
        self._counts: collections.Counter[str] = collections.Counter()
        self._on_event: Mapping[type[Any], Callable[[Any, float], list[Effect]]] = MappingProxyType(
            {
                LocalSignal: self._on_local_signal,
                PeerUp: self._on_peer_up,
                PeerDown: self._on_peer_down,
                PeerForgotten: self._on_peer_forgotten,
                RelayReceived: self._on_received,
                DeadlineReached: self._on_deadline,
            }
        )
        self._on_message: Mapping[type[Any], Callable[[NodeId, Any, float], list[Effect]]] = (
            MappingProxyType(
                {
                    Subscribe: self._on_subscribe,
                    Position: self._on_position,
                    Signals: self._on_signals,
                    Ack: self._on_ack,
                }
            )
        )

    @property
    def deadline(self) -> float | None:
        """When an unanswered Subscribe is to be repeated."""
        return self._retry_at

    def handle(self, event: Any, *, now: float) -> tuple[Effect, ...]:
        """One event. What a member sends can end up counted, never raised."""
        return tuple(self._on_event[type(event)](event, now))

    def statistics(self) -> RelayStatistics:
        count = self._counts
        return RelayStatistics(
            signals_published=self._last,
            signals_dropped_from_ring=self._oldest - 1,
            signals_sent=count["sent"],
            signals_skipped=count["skipped"],
            signals_delivered=count["delivered"],
            signals_duplicate=count["duplicate"],
            signals_missed=count["missed"],
            signals_refused=count["refused"],
            ring_signals=len(self._ring),
            ring_bytes=self._ring_bytes,
            subscribers=len(self._subscribers),
            peers_up=sum(place.is_up for place in self._subscriptions.values()),
        )

    # ── as an origin ────────────────────────────────────────────────────────────────────────────

    @property
    def _oldest(self) -> int:
        """The sequence of the oldest signal in the ring; one past the last where it is empty."""
        return self._last - len(self._ring) + 1

    def _on_local_signal(self, event: LocalSignal, now: float) -> list[Effect]:  # noqa: ARG002
        assert event.signal.scope is Scope.CLUSTER, "the bus hands over no other"
        try:
            data = encode(msgspec.structs.replace(event.signal, sequence=self._last + 1))
        except UsageError as error:
            # The executor refuses it before; one publisher's mistake must not end the relay.
            fields = {"type": event.signal.type, "reason": str(error)}
            return [Notify("relay.signal.unsendable", Severity.ERROR, fields)]
        self._last += 1
        self._ring.append(data)
        self._ring_bytes += len(data)
        while len(self._ring) > RING_SIGNALS_MAX or self._ring_bytes > RING_BYTES_MAX:
            self._ring_bytes -= len(self._ring.popleft())
        return [effect for peer in self._subscribers for effect in self._advance(peer)]

    def _on_subscribe(self, peer: NodeId, message: Subscribe, now: float) -> list[Effect]:
        effects: list[Effect] = []
        place = self._subscriptions[peer]
        if place.life not in ("", message.own_life) and place.asked_at is None:
            effects += self._subscribe(peer, now)
        if message.life == self._life:
            start = min(message.after, self._last)
        else:
            # Who knew an earlier life of ours was there all along and wants all of this one; who
            # knew none starts at the present.
            start = 0 if message.life else self._last
        start = max(start, self._oldest - 1)
        self._subscribers[peer] = _Subscriber(sent=start, acked=start)
        effects.append(SendRelay(peer, Position(self._life, start)))
        return effects + self._advance(peer)

    def _on_ack(self, peer: NodeId, message: Ack, now: float) -> list[Effect]:  # noqa: ARG002
        subscriber = self._subscribers.get(peer)
        if subscriber is None or message.life != self._life:
            return []
        subscriber.acked = max(subscriber.acked, min(message.sequence, subscriber.sent))
        return self._advance(peer)

    def _advance(self, peer: NodeId) -> list[Effect]:
        """Send a subscriber as much as its window has room for."""
        subscriber = self._subscribers[peer]
        effects: list[Effect] = []
        while subscriber.sent < self._last:
            room = WINDOW_SIGNALS_MAX - (subscriber.sent - subscriber.acked)
            if room <= 0:
                break
            if subscriber.sent < self._oldest - 1:
                self._counts["skipped"] += self._oldest - 1 - subscriber.sent
                # What was skipped needs no acknowledgement; the window counts what is on its way.
                subscriber.acked += self._oldest - 1 - subscriber.sent
                subscriber.sent = self._oldest - 1
                effects.append(SendRelay(peer, Position(self._life, subscriber.sent)))
            batch = self._from_ring(subscriber.sent + 1, min(room, BATCH_SIGNALS_MAX))
            effects.append(SendRelay(peer, Signals(self._life, subscriber.sent + 1, batch)))
            subscriber.sent += len(batch)
            self._counts["sent"] += len(batch)
        return effects

    def _from_ring(self, first: int, count: int) -> tuple[bytes, ...]:
        start = first - self._oldest
        if start == len(self._ring) - 1:
            return (self._ring[-1],)  # the usual case, without a walk over the ring
        return tuple(itertools.islice(self._ring, start, start + count))

    # ── as a subscriber ─────────────────────────────────────────────────────────────────────────

    def _on_peer_up(self, event: PeerUp, now: float) -> list[Effect]:
        if event.node == self._node:
            return []
        # A new stream: its cursor comes with the peer's own Subscribe, ours is asked for again.
        self._subscribers.pop(event.node, None)
        place = self._subscriptions.pop(event.node, None) or _Subscription()
        place.is_up = True
        self._subscriptions[event.node] = place
        self._forget_surplus()
        return self._subscribe(event.node, now)

    def _on_peer_down(self, event: PeerDown, now: float) -> list[Effect]:  # noqa: ARG002
        self._subscribers.pop(event.node, None)
        if (place := self._subscriptions.get(event.node)) is not None:
            place.is_up = False
            place.asked_at = None
        return []

    def _on_peer_forgotten(self, event: PeerForgotten, now: float) -> list[Effect]:  # noqa: ARG002
        self._subscribers.pop(event.node, None)
        self._subscriptions.pop(event.node, None)
        return []

    def _on_received(self, event: RelayReceived, now: float) -> list[Effect]:
        place = self._subscriptions.get(event.peer)
        if place is None or not place.is_up:
            return []  # what an older connection still delivers
        return self._on_message[type(event.message)](event.peer, event.message, now)

    def _on_position(self, peer: NodeId, message: Position, now: float) -> list[Effect]:  # noqa: ARG002
        place = self._subscriptions[peer]
        place.asked_at = None
        effects: list[Effect] = []
        known = place.last if place.life == message.life else 0
        if place.life and message.after > known:
            effects = self._missed(peer, message.after - known)
        place.last = max(known, message.after)
        place.life = message.life
        return effects

    def _on_signals(self, peer: NodeId, message: Signals, now: float) -> list[Effect]:
        place = self._subscriptions[peer]
        if message.life != place.life or place.asked_at is not None:
            return []  # of a subscription that is no longer ours
        if message.first > place.last + 1:
            return self._subscribe(peer, now)  # a hole: the shell broke its contract; ask again
        effects: list[Effect] = []
        for sequence, data in enumerate(message.signals, start=message.first):
            if sequence <= place.last:
                self._counts["duplicate"] += 1
                continue
            place.last = sequence
            effects += self._deliver(peer, sequence, data)
        effects.append(SendRelay(peer, Ack(place.life, place.last)))
        return effects

    def _deliver(self, peer: NodeId, sequence: int, data: bytes) -> list[Effect]:
        try:
            signal = decode(data)
        except RemoteError as error:
            self._counts["refused"] += 1
            fields = {"peer": peer, "cause": error.cause, "reason": str(error)}
            return [Notify("relay.signal.refused", Severity.WARNING, fields)]
        self._counts["delivered"] += 1
        whole = msgspec.structs.replace(signal, scope=Scope.CLUSTER, sequence=sequence)
        return [Deliver(whole)]

    def _missed(self, peer: NodeId, count: int) -> list[Effect]:
        self._counts["missed"] += count
        data = {"origin": peer, "count": count}
        return [Emit(SIGNALS_MISSED, data, subject=peer, priority=Priority.HIGH)]

    def _subscribe(self, peer: NodeId, now: float) -> list[Effect]:
        place = self._subscriptions[peer]
        place.asked_at = now
        if self._retry_at is None:
            self._retry_at = now + RETRY_S
        return [SendRelay(peer, Subscribe(self._life, place.life, place.last))]

    def _on_deadline(self, event: DeadlineReached, now: float) -> list[Effect]:  # noqa: ARG002
        if self._retry_at is None or now < self._retry_at:
            return []
        self._retry_at = None
        effects: list[Effect] = []
        waiting: list[float] = []
        for peer, place in self._subscriptions.items():
            if place.asked_at is None:
                continue
            if place.asked_at + RETRY_S <= now:
                effects += self._subscribe(peer, now)
            waiting.append(place.asked_at)
        self._retry_at = min(waiting) + RETRY_S if waiting else None
        return effects

    def _forget_surplus(self) -> None:
        """Places of members that are down are kept, but not without end."""
        while len(self._subscriptions) > PUSH_PULL_MEMBERS_MAX:
            down = (peer for peer, place in self._subscriptions.items() if not place.is_up)
            peer = next(down, None)
            if peer is None:
                return
            del self._subscriptions[peer]
