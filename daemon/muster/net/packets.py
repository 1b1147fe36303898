"""Messages in sealed packets: endpoint, sealer and codec in one place.

    send:  messages -> body (wire.datagram) -> sealed packet (crypto.sealing) -> endpoint
    next:  endpoint -> opened -> [challenge or answer goes back] -> body -> messages

A `PacketChannel` is a `driver.Source`: `next` waits, `next_nowait` looks whether something is there
already. Whatever does not fit is counted by cause and dropped; nothing that a packet holds can
make either raise.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

import msgspec

from muster.net.refusals import Refusals
from muster_protocol.crypto.sealing import (
    BOOT_SALT_BYTES,
    NONCE_BYTES,
    Delivery,
    PacketSealer,
    SealerStatistics,
)
from muster_protocol.effects import Notify
from muster_protocol.errors import RemoteError
from muster_protocol.types import Address, ClusterId, NodeId
from muster_protocol.wire.datagram import check_cluster, decode_datagram, encode_datagram

if TYPE_CHECKING:
    from muster.clock import Clock
    from muster.entropy import Entropy
    from muster.net.endpoints import PacketEndpoint

M = TypeVar("M")

REFUSED_PER_LOOK_MAX: Final = 256
"""Refused packets that one `next_nowait` reads over: a flood must not keep it from returning."""


@dataclass(frozen=True, slots=True)
class Inbound(Generic[M]):
    """The messages of one packet. `is_bound` is False where it was sealed for anybody: believe
    only messages that are meant for anybody."""

    sender: NodeId
    source: Address
    messages: tuple[M, ...]
    is_bound: bool


@dataclass(frozen=True, slots=True)
class PacketStatistics:
    """Packets and bytes since start, challenges and answers included. `refused`: (cause, count)."""

    packets_sent: int
    bytes_sent: int
    sends_failed: int
    packets_received: int
    bytes_received: int
    messages_skipped: int
    refused: tuple[tuple[str, int], ...]
    sealer: SealerStatistics


class PacketChannel(Generic[M]):
    """Sends and receives messages of type `M`."""

    def __init__(
        self,
        endpoint: PacketEndpoint,
        sealer: PacketSealer,
        *,
        clock: Clock,
        entropy: Entropy,
        cluster: Callable[[], ClusterId],
        decode_message: Callable[[msgspec.Raw], M],
        notify: Callable[[Notify], None],
    ) -> None:
        """`cluster` says in which cluster this node is now; `decode_message` as `wire.datagram`."""
        self.sealer = sealer
        self._endpoint = endpoint
        self._clock = clock
        self._entropy = entropy
        self._cluster = cluster
        self._decode_message = decode_message
        self._refusals = Refusals("packets.refused", clock=clock, notify=notify)
        self.ancestors: tuple[ClusterId, ...] = ()
        """Clusters that ours was recovered from: who is still of one is answered, so that it hears
        of ours."""
        self.foreign: Address | None = None
        """Whence the newest packet of another cluster came."""
        self._nonce = entropy.token_bytes(NONCE_BYTES)
        self._ready: collections.deque[Inbound[M]] = collections.deque()
        self._packets_sent = self._bytes_sent = self._sends_failed = 0
        self._packets_received = self._bytes_received = self._skipped = 0

    @property
    def address(self) -> Address:
        return self._endpoint.address

    def send(self, to: Address, messages: Sequence[Any], receiver: NodeId | None) -> bool:
        """One packet with `messages`; False when it could not be handed to the network."""
        self._renew_if_exhausted()
        body = encode_datagram(messages, self._cluster())
        return self._hand_over(self.sealer.seal(body, receiver, now=self._clock.now()), to)

    async def next(self) -> Inbound[M]:
        """The next packet's messages. trio.ClosedResourceError after `close`."""
        while not self._ready:
            self._take(*await self._endpoint.receive())
        return self._ready.popleft()

    def next_nowait(self) -> Inbound[M] | None:
        """Messages that are here already, or None."""
        for _ in range(REFUSED_PER_LOOK_MAX):
            if self._ready:
                return self._ready.popleft()
            received = self._endpoint.receive_nowait()
            if received is None:
                return None
            self._take(*received)
        return None

    def close(self) -> None:
        self._endpoint.close()

    def statistics(self) -> PacketStatistics:
        return PacketStatistics(
            packets_sent=self._packets_sent,
            bytes_sent=self._bytes_sent,
            sends_failed=self._sends_failed,
            packets_received=self._packets_received,
            bytes_received=self._bytes_received,
            messages_skipped=self._skipped,
            refused=self._refusals.totals(),
            sealer=self.sealer.statistics(),
        )

    def _take(self, packet: bytes, source: Address) -> None:
        """Open one packet: put what it delivers into `_ready`, send what it asks for."""
        self._packets_received += 1
        self._bytes_received += len(packet)
        self._renew_if_exhausted()
        try:
            opened = self.sealer.open(packet, source, now=self._clock.now(), nonce8=self._nonce)
        except RemoteError as error:
            self._refusals.count(error, source)
            return
        if opened.used_nonce:
            self._nonce = self._entropy.token_bytes(NONCE_BYTES)
        for reply, to in opened.replies:
            self._hand_over(reply, to)
        for delivery in opened.delivered:
            self._deliver(delivery)

    def _deliver(self, delivery: Delivery) -> None:
        try:
            datagram = decode_datagram(delivery.body, self._decode_message)
        except RemoteError as error:
            self._refusals.count(error, delivery.source)
            return
        try:
            check_cluster(self._cluster(), datagram.cluster)
        except RemoteError as error:
            self._refusals.count(error, delivery.source)
            self.foreign = delivery.source
            if datagram.cluster in self.ancestors and datagram.messages:
                self.send(delivery.source, (), delivery.sender)
            return
        self._skipped += datagram.skipped
        if datagram.messages:
            self._ready.append(
                Inbound(delivery.sender, delivery.source, datagram.messages, delivery.is_bound)
            )

    def _hand_over(self, packet: bytes, to: Address) -> bool:
        if not self._endpoint.send_nowait(packet, to):
            self._sends_failed += 1
            return False
        self._packets_sent += 1
        self._bytes_sent += len(packet)
        return True

    def _renew_if_exhausted(self) -> None:
        if self.sealer.is_exhausted:
            self.sealer.renew(self._entropy.token_bytes(BOOT_SALT_BYTES))
