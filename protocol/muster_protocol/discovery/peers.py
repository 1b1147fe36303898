"""Where to look for the others: static addresses and the peers remembered on disk.

Both are hints: whoever answers there has to prove that it belongs to the cluster. An address that
is already a live member's is not hinted. While nobody is there the hints go out often, afterwards
now and then: a partition that outlasted every failure time-out heals through them (memberlist's
issue 222: isolated members that nobody ever tries again).

Remembered are the newest addresses of members that were seen alive; a member that left is
forgotten. The record is written only when it changed, and not more often than `SAVE_PERIOD_S`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final

import msgspec

from muster_protocol.effects import DeadlineReached, Effect, Emit, Notify, Persist, earliest
from muster_protocol.errors import RemoteError
from muster_protocol.types import Address, HexId, NodeId, Severity
from muster_protocol.wire.codec import Decoder, encode

PEERS_MAX: Final = 1_000
"""The largest cluster that is simulated; 60 bytes each."""

ALONE_PERIOD_S: Final = 2.0
"""Between hints while no other node is there: a fresh node should not wait for its cluster."""

TOGETHER_PERIOD_S: Final = 10.0
"""Between hints afterwards: the seed's discovery cycle."""

SAVE_PERIOD_S: Final = 2.0

RECORD_NAME: Final = "peers"
DISCOVERED: Final = "cluster.node.discovered"
"""The signal that carries hints: data is {"addresses": [[host, port], ...]}."""


class Peer(msgspec.Struct, frozen=True, array_like=True):
    """A remembered node."""

    node: HexId
    address: Address


class _Record(msgspec.Struct, frozen=True, array_like=True):
    format: int
    peers: Annotated[tuple[Peer, ...], msgspec.Meta(max_length=PEERS_MAX)]


_RECORDS: Decoder[_Record] = Decoder(_Record)


@dataclass(frozen=True, slots=True)
class MemberSeen:
    """A member is alive at this address."""

    node: NodeId
    address: Address


@dataclass(frozen=True, slots=True)
class MemberGone:
    """A member stopped, failed (both may come back at the same address) or left for good."""

    node: NodeId
    left: bool


class KnownPeers:
    """The machine behind the discovery agent."""

    def __init__(
        self,
        *,
        me: NodeId,
        own: Address,
        static: tuple[Address, ...],
        stored: bytes | None,
        now: float,
    ) -> None:
        """`own`: our address, which operators list among the others. `stored`: the record as it was
        read; one that cannot be read is only told, as these are hints, and the static addresses
        are still there."""
        self._me = me
        self._static = tuple(address for address in static if address != own)
        self._peers: dict[NodeId, Address] = {}
        self._live: dict[NodeId, Address] = {}
        self._hint_at = now
        self._save_at: float | None = None
        self._damaged = ""
        self._load(stored)

    @property
    def deadline(self) -> float | None:
        return earliest(self._hint_at, self._save_at)

    def remembered(self) -> tuple[Peer, ...]:
        """All remembered peers, oldest first."""
        return tuple(Peer(node, address) for node, address in self._peers.items())

    def handle(
        self, event: MemberSeen | MemberGone | DeadlineReached, *, now: float
    ) -> tuple[Effect, ...]:
        if isinstance(event, MemberSeen):
            return self._on_seen(event, now)
        if isinstance(event, MemberGone):
            return self._on_gone(event, now)
        effects: list[Effect] = []
        if self._damaged:
            told = {"reason": self._damaged}
            effects.append(Notify("discovery.peers.unreadable", Severity.WARNING, told))
            self._damaged = ""
        if self._save_at is not None and now >= self._save_at:
            self._save_at = None
            effects.append(Persist(RECORD_NAME, encode(_Record(1, self.remembered()))))
        if now >= self._hint_at:
            self._hint_at = now + (TOGETHER_PERIOD_S if self._live else ALONE_PERIOD_S)
            effects.extend(self._hints())
        return tuple(effects)

    def _on_seen(self, event: MemberSeen, now: float) -> tuple[Effect, ...]:
        if event.node == self._me:
            return ()
        self._live.pop(event.node, None)
        self._live[event.node] = event.address
        if len(self._live) > PEERS_MAX:
            del self._live[next(iter(self._live))]
        if self._peers.get(event.node) != event.address:
            self._peers.pop(event.node, None)
            self._peers[event.node] = event.address
            if len(self._peers) > PEERS_MAX:
                del self._peers[next(iter(self._peers))]
            self._save_soon(now)
        return ()

    def _on_gone(self, event: MemberGone, now: float) -> tuple[Effect, ...]:
        self._live.pop(event.node, None)
        if event.left and self._peers.pop(event.node, None) is not None:
            self._save_soon(now)
        if not self._live:
            self._hint_at = min(self._hint_at, now + ALONE_PERIOD_S)
        return ()

    def _hints(self) -> list[Effect]:
        live = tuple(self._live.values())
        wanted = dict.fromkeys((*self._static, *self._peers.values()))
        addresses = [address for address in wanted if address not in live]
        if not addresses:
            return []
        return [Emit(DISCOVERED, {"addresses": [[a.host, a.port] for a in addresses]})]

    def _save_soon(self, now: float) -> None:
        if self._save_at is None:
            self._save_at = now + SAVE_PERIOD_S

    def _load(self, stored: bytes | None) -> None:
        if stored is None:
            return
        try:
            record = _RECORDS.decode(stored)
        except RemoteError as error:
            self._damaged = str(error)
            return
        self._peers = {NodeId(peer.node): peer.address for peer in record.peers}
