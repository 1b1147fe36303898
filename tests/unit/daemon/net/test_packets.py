"""Packet channels over the simulated network: endpoint, sealer and codec together."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
import trio
from trio.testing import MockClock

from muster.clock import TrioClock
from muster.driver import Driver
from muster.entropy import SeededEntropy
from muster.net.packets import REFUSED_PER_LOOK_MAX, Inbound, PacketChannel
from muster.sim.clock import SimClock
from muster.sim.network import SimFabric
from muster_protocol.crypto.keyring import Keyring
from muster_protocol.crypto.sealing import COUNTER_MAX, PacketSealer
from muster_protocol.effects import Effect, Notify
from muster_protocol.errors import RemoteError
from muster_protocol.types import NO_CLUSTER, Address, ClusterId, NodeId
from muster_protocol.wire.codec import Decoder, encode

RING = Keyring([b"s" * 32], label="lab")
_MESSAGES: Decoder[list[Any]] = Decoder(list[Any])


def decode_message(raw: msgspec.Raw) -> list[Any]:
    message = _MESSAGES.decode(raw)
    if message[:1] != ["said"]:
        raise RemoteError("unknown-kind", "skip me")
    return message


class Lan:
    """Channels on one fabric."""

    def __init__(self) -> None:
        self.fabric = SimFabric(SeededEntropy("lan").stream("net"))
        self.told: list[Notify] = []
        self.clusters: dict[str, ClusterId] = {}

    async def channel(self, name: str, keys: Keyring = RING) -> PacketChannel[list[Any]]:
        entropy = SeededEntropy(f"lan/{name}")
        node = NodeId(name * 32)
        host = self.fabric.host(f"127.0.0.{ord(name)}", SimClock())
        return PacketChannel(
            await host.open_packets(Address(host.ip, 7411)),
            PacketSealer(keys, node_id=node, boot_salt=entropy.token_bytes(12)),
            clock=TrioClock(),
            entropy=entropy,
            cluster=lambda: self.clusters.get(name, NO_CLUSTER),
            decode_message=decode_message,
            notify=self.told.append,
        )


@pytest.fixture
def lan() -> Lan:
    return Lan()


async def test_message_arrives_on_first_contact_both_ways(
    lan: Lan, autojump_clock: MockClock
) -> None:
    a, b = await lan.channel("a"), await lan.channel("b")
    assert a.send(b.address, [["said", "hello"]], None)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_answer_challenges, a)
        inbound = await b.next()
        assert inbound == Inbound(NodeId("a" * 32), a.address, (["said", "hello"],), False)
        b.send(a.address, [["said", "back"]], inbound.sender)
        while not (got := _answer_challenges.got):  # type: ignore[attr-defined]
            await trio.sleep(0.001)
        nursery.cancel_scope.cancel()
    assert got == [Inbound(NodeId("b" * 32), b.address, (["said", "back"],), True)]


async def _answer_challenges(channel: PacketChannel[list[Any]]) -> None:
    """A channel answers challenges while somebody waits for its next message."""
    _answer_challenges.got = []  # type: ignore[attr-defined]
    while True:
        _answer_challenges.got.append(await channel.next())  # type: ignore[attr-defined]
