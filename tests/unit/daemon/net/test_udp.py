"""What only the real UDP socket does."""

from __future__ import annotations

import pytest
import trio

from muster.net.udp import UdpEndpoint
from muster_protocol.errors import LocalError
from muster_protocol.types import Address

LOCALHOST = Address("127.0.0.1", 0)


async def closed_port() -> Address:
    gone = UdpEndpoint(LOCALHOST)
    gone.close()
    return gone.address


async def test_refusal_by_one_does_not_lose_the_packet_to_the_next() -> None:
    """The error of a packet to X is raised by the send to Y, and only the queue names X."""
    refused: list[Address] = []
    sender = UdpEndpoint(LOCALHOST, on_refused=refused.append)
    receiver, dead = UdpEndpoint(LOCALHOST), await closed_port()
    with trio.fail_after(5.0):
        for number in range(20):
            assert sender.send_nowait(b"to nobody", dead)
            assert sender.send_nowait(bytes([number]), receiver.address)
        got = [(await receiver.receive())[0] for _ in range(20)]
    assert got == [bytes([number]) for number in range(20)]
    assert dict(sender.statistics().send_errors)["ECONNREFUSED"] >= 1
    assert sender.receive_nowait() is None
    assert set(refused) == {dead}
    sender.close()
    receiver.close()


async def test_refusal_neither_breaks_nor_spins_a_waiting_receiver() -> None:
    refused: list[Address] = []
    one, two = UdpEndpoint(LOCALHOST, on_refused=refused.append), UdpEndpoint(LOCALHOST)
    dead, got = await closed_port(), list[bytes]()

    async def take() -> None:
        got.append((await one.receive())[0])

    with trio.fail_after(5.0):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(take)
            await trio.testing.wait_all_tasks_blocked()
            one.send_nowait(b"x", dead)
            await trio.testing.wait_all_tasks_blocked(0.01)
            assert refused == [dead]
            two.send_nowait(b"alive", one.address)
    assert got == [b"alive"]
    one.close()
    two.close()


async def test_send_errors_are_counted_by_name() -> None:
    one = UdpEndpoint(LOCALHOST)
    assert not one.send_nowait(bytes(70_000), one.address)
    assert one.statistics().send_errors == (("EMSGSIZE", 1),)
    assert one.statistics().sent == 0
    one.close()


async def test_ipv6_works_where_the_host_has_it() -> None:
    try:
        one, two = UdpEndpoint(Address("::1", 0)), UdpEndpoint(Address("::1", 0))
    except LocalError as error:
        pytest.skip(f"no IPv6 loopback: {error}")
    assert one.send_nowait(b"six", two.address)
    with trio.fail_after(5.0):
        assert await two.receive() == (b"six", one.address)
    one.close()
    two.close()
