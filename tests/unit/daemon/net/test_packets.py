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


Channel = PacketChannel[list[Any]]
Arrived = list[Inbound[list[Any]]]


async def listen(channel: Channel, arrived: Arrived) -> None:
    """A channel answers challenges while somebody waits for its next message."""
    while True:
        arrived.append(await channel.next())


async def settle() -> None:
    """Let everything that is under way arrive."""
    await TrioClock().sleep(0.1)


async def test_messages_arrive_on_first_contact_both_ways(
    lan: Lan, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    a, b = await lan.channel("a"), await lan.channel("b")
    at_a: Arrived = []
    nursery.start_soon(listen, a, at_a)
    assert a.send(b.address, [["said", "hello"]], None)
    inbound = await b.next()
    assert inbound == Inbound(NodeId("a" * 32), a.address, (["said", "hello"],), False)
    assert b.send(a.address, [["said", "back"], ["said", "more"]], inbound.sender)
    await settle()
    b.next_nowait()
    await settle()
    assert [one.messages for one in at_a] == [(["said", "back"], ["said", "more"])]
    assert at_a[0].is_bound
    assert lan.told == []


async def test_next_nowait_is_none_until_something_is_there(
    lan: Lan, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    a, b = await lan.channel("a"), await lan.channel("b")
    nursery.start_soon(listen, a, [])
    assert b.next_nowait() is None
    a.send(b.address, [["said", 1]], NodeId("b" * 32))
    await settle()
    assert b.next_nowait() is None, "held: the challenge went out"
    await settle()
    inbound = b.next_nowait()
    assert inbound is not None
    assert inbound.messages == (["said", 1],)


async def test_no_two_boots_are_challenged_with_the_same_bytes(
    lan: Lan, autojump_clock: MockClock
) -> None:
    b = await lan.channel("b")
    for name in "acd":
        (await lan.channel(name)).send(b.address, [["said", 1]], None)
    await settle()
    assert b.next_nowait() is None
    nonces = [candidate.nonce for candidate in b.sealer._candidates.values()]
    assert len(set(nonces)) == 3


async def test_statistics_count_packets_and_refusals_by_cause(
    lan: Lan, autojump_clock: MockClock
) -> None:
    a, b = await lan.channel("a"), await lan.channel("b")
    stranger = await lan.channel("c", Keyring([b"o" * 32], label="lab"))
    for _ in range(3):
        stranger.send(b.address, [["said", 1]], None)
    a._endpoint.send_nowait(b"noise", b.address)
    a._endpoint.send_nowait(b"", b.address)
    await settle()
    assert b.next_nowait() is None
    statistics = b.statistics()
    assert statistics.refused == (("foreign-key", 3), ("truncated", 1), ("version", 1))
    assert (statistics.packets_received, statistics.packets_sent) == (5, 0)
    assert sorted(line.fields["cause"] for line in lan.told) == [
        "foreign-key",
        "truncated",
        "version",
    ]
    assert stranger.statistics().packets_sent == 3
    assert stranger.statistics().bytes_sent == statistics.bytes_received - len(b"noise")


async def established(lan: Lan, nursery: trio.Nursery) -> tuple[Channel, Channel, Arrived]:
    a, b = await lan.channel("a"), await lan.channel("b")
    arrived: Arrived = []
    nursery.start_soon(listen, a, [])
    nursery.start_soon(listen, b, arrived)
    a.send(b.address, [["said", "first"]], NodeId("b" * 32))
    await settle()
    assert len(arrived) == 1
    return a, b, arrived


async def test_packet_of_another_cluster_is_refused_and_of_a_newcomer_is_not(
    lan: Lan, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    a, b, arrived = await established(lan, nursery)
    lan.clusters["b"] = ClusterId("1" * 32)
    a.send(b.address, [["said", "from none"]], NodeId("b" * 32))
    lan.clusters["a"] = ClusterId("2" * 32)
    a.send(b.address, [["said", "from another"]], NodeId("b" * 32))
    await settle()
    assert [one.messages[0][1] for one in arrived] == ["first", "from none"]
    assert b.statistics().refused == (("foreign-cluster", 1),)


async def test_who_is_of_a_recovered_cluster_hears_of_the_new_one_and_both_say_no_more(
    lan: Lan, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    a, b, arrived = await established(lan, nursery)
    lan.clusters.update(a=ClusterId("1" * 32), b=ClusterId("2" * 32))
    b.ancestors = (ClusterId("1" * 32),)
    a.ancestors = (ClusterId("2" * 32),)  # even where each thinks so of the other
    a.send(b.address, [["said", "from what was"]], NodeId("b" * 32))
    await settle()
    assert len(arrived) == 1
    assert (a.foreign, b.foreign) == (b.address, a.address)
    assert a.statistics().refused == b.statistics().refused == (("foreign-cluster", 1),)


async def test_unknown_messages_are_skipped_and_counted(
    lan: Lan, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    a, b, arrived = await established(lan, nursery)
    a.send(b.address, [["new", 1], ["said", 2], ["newer"]], NodeId("b" * 32))
    a.send(b.address, [["new", 3]], NodeId("b" * 32))
    await settle()
    assert [one.messages for one in arrived[1:]] == [(["said", 2],)]
    assert b.statistics().messages_skipped == 3
    assert b.statistics().refused == ()


async def test_authentic_body_that_is_garbage_is_refused(
    lan: Lan, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    a, b, arrived = await established(lan, nursery)
    now = TrioClock().now()
    for body in (b"\xc1", encode(["x"])):
        a._endpoint.send_nowait(a.sealer.seal(body, NodeId("b" * 32), now=now), b.address)
    await settle()
    assert len(arrived) == 1
    assert b.statistics().refused == (("garbage", 2),)


async def test_channel_renews_its_boot_when_the_counter_is_used_up(
    lan: Lan, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    a, b, arrived = await established(lan, nursery)
    salt = a.sealer.boot_salt
    a.sealer._counter = COUNTER_MAX - 1
    for number in range(3):
        assert a.send(b.address, [["said", number]], NodeId("b" * 32))
    await settle()
    assert a.sealer.boot_salt != salt
    assert sorted(one.messages[0][1] for one in arrived[1:]) == [0, 1, 2]


async def test_flood_of_refused_packets_does_not_hold_next_nowait(
    lan: Lan, autojump_clock: MockClock
) -> None:
    a, b = await lan.channel("a"), await lan.channel("b")
    for _ in range(REFUSED_PER_LOOK_MAX + 10):
        a._endpoint.send_nowait(b"noise", b.address)
    await settle()
    assert b.next_nowait() is None
    assert b.statistics().packets_received == REFUSED_PER_LOOK_MAX
    assert b.next_nowait() is None
    assert b.statistics().packets_received == REFUSED_PER_LOOK_MAX + 10


async def test_packet_that_cannot_be_handed_over_is_counted(
    lan: Lan, autojump_clock: MockClock
) -> None:
    a = await lan.channel("a")
    a._endpoint = Unplugged(a.address)
    assert not a.send(a.address, [["said", 1]], None)
    assert (a.statistics().sends_failed, a.statistics().packets_sent) == (1, 0)


async def test_close_ends_whoever_waits(lan: Lan, autojump_clock: MockClock) -> None:
    a = await lan.channel("a")
    a.close()
    with pytest.raises(trio.ClosedResourceError):
        await a.next()


class Unplugged:
    """An endpoint that takes nothing."""

    def __init__(self, address: Address) -> None:
        self.address = address

    def send_nowait(self, data: bytes, to: Address) -> bool:
        return False

    async def receive(self) -> tuple[bytes, Address]:
        raise trio.ClosedResourceError

    def receive_nowait(self) -> None:
        return None

    def close(self) -> None:
        pass


class Recorder:
    """A machine that only remembers."""

    deadline = None

    def __init__(self) -> None:
        self.events: list[Any] = []

    def handle(self, event: Any, *, now: float) -> tuple[Effect, ...]:
        self.events.append(event)
        return ()


async def test_channel_is_a_source_of_a_driver(
    lan: Lan, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    a, b = await lan.channel("a"), await lan.channel("b")
    machine = Recorder()
    driver = Driver(machine, name="test", clock=TrioClock(), perform=lambda _: None, sources=[b])
    nursery.start_soon(listen, a, [])
    await nursery.start(driver.run)
    a.send(b.address, [["said", "to a machine"]], NodeId("b" * 32))
    await settle()
    assert [event.messages for event in machine.events] == [(["said", "to a machine"],)]
