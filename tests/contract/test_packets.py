"""What every `PacketEndpoint` does: the UDP socket and the simulator's."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio

from muster.clock import TrioClock
from muster.entropy import SeededEntropy
from muster.net.endpoints import Network, PacketEndpoint
from muster.net.network import RealNetwork
from muster.sim.clock import SimClock
from muster.sim.network import SimFabric
from muster_protocol.errors import LocalError
from muster_protocol.types import Address

WAIT_S = 5.0
HOST = "127.0.0.1"


@pytest.fixture(params=["real", "simulated"])
def network(request: pytest.FixtureRequest) -> Network:
    if request.param == "real":
        return RealNetwork(TrioClock())
    return SimFabric(SeededEntropy("contract").stream("net")).host(HOST, SimClock())


@pytest.fixture
async def pair(network: Network) -> AsyncIterator[tuple[PacketEndpoint, PacketEndpoint]]:
    one = await network.open_packets(Address(HOST, 0))
    two = await network.open_packets(Address(HOST, 0))
    with trio.fail_after(WAIT_S):
        yield one, two
    one.close()
    two.close()


Pair = tuple[PacketEndpoint, PacketEndpoint]


async def test_packet_arrives_with_its_source(pair: Pair) -> None:
    one, two = pair
    assert one.send_nowait(b"hello", two.address)
    assert await two.receive() == (b"hello", one.address)


async def test_endpoint_has_a_real_port(pair: Pair) -> None:
    one, two = pair
    assert one.address.host == HOST
    assert one.address.port not in (0, two.address.port)


async def test_receive_waits_for_what_comes_later(pair: Pair) -> None:
    one, two = pair
    got: list[bytes] = []

    async def take() -> None:
        got.append((await two.receive())[0])

    async with trio.open_nursery() as nursery:
        nursery.start_soon(take)
        await trio.testing.wait_all_tasks_blocked()
        one.send_nowait(b"late", two.address)
    assert got == [b"late"]


async def test_receive_nowait_finds_a_packet_without_another_task_having_waited(pair: Pair) -> None:
    one, two = pair
    assert two.receive_nowait() is None
    one.send_nowait(b"first", two.address)
    one.send_nowait(b"second", two.address)
    got: list[bytes] = []
    while len(got) < 2:
        packet = two.receive_nowait()
        if packet is not None:
            got.append(packet[0])
        else:
            await trio.sleep(0.001)
    assert sorted(got) == [b"first", b"second"]
    assert two.receive_nowait() is None


async def test_send_to_nobody_is_silence(pair: Pair) -> None:
    one, two = pair
    assert one.send_nowait(b"anybody?", Address(HOST, 9))
    assert one.send_nowait(b"and now", two.address)
    assert await two.receive() == (b"and now", one.address)


async def test_packet_that_is_too_large_is_refused_and_breaks_nothing(pair: Pair) -> None:
    one, two = pair
    assert not one.send_nowait(bytes(70_000), two.address)
    assert one.send_nowait(bytes(1_400), two.address)
    assert len((await two.receive())[0]) == 1_400


async def test_empty_packet_is_a_packet(pair: Pair) -> None:
    one, two = pair
    assert one.send_nowait(b"", two.address)
    assert await two.receive() == (b"", one.address)


async def test_waiting_receiver_is_told_of_the_close(pair: Pair) -> None:
    one, _ = pair

    async def take() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await one.receive()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(take)
        await trio.testing.wait_all_tasks_blocked()
        one.close()


async def test_closed_endpoint_refuses_everything_and_may_be_closed_again(pair: Pair) -> None:
    one, two = pair
    one.close()
    one.close()
    with pytest.raises(trio.ClosedResourceError):
        one.send_nowait(b"x", two.address)
    with pytest.raises(trio.ClosedResourceError):
        one.receive_nowait()
    with pytest.raises(trio.ClosedResourceError):
        await one.receive()


async def test_address_in_use_is_one_clear_line(network: Network, pair: Pair) -> None:
    address = pair[0].address
    with pytest.raises(LocalError, match=f"^cannot bind UDP {address}: Address already in use$"):
        await network.open_packets(address)


async def test_address_of_another_host_is_one_clear_line(network: Network) -> None:
    with pytest.raises(
        LocalError, match=r"^cannot bind UDP 192\.0\.2\.1:0: Cannot assign requested"
    ):
        await network.open_packets(Address("192.0.2.1", 0))


async def test_port_is_free_after_the_close(network: Network, pair: Pair) -> None:
    pair[0].close()
    again = await network.open_packets(pair[0].address)
    assert again.address == pair[0].address
    again.close()
