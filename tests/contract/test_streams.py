"""What every `StreamListener` and `ByteStream` does: TCP, TLS over it, and the simulator's."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import trio

from muster.clock import TrioClock
from muster.entropy import SeededEntropy, SystemEntropy
from muster.net.endpoints import ByteStream, Network, StreamListener
from muster.net.network import RealNetwork
from muster.net.tls import TlsSecurity
from muster.sim.clock import SimClock
from muster.sim.network import SimFabric
from muster_protocol.crypto.keyring import Keyring
from muster_protocol.errors import LocalError
from muster_protocol.types import Address, NodeId

WAIT_S = 5.0
HOST = "127.0.0.1"
MUCH = bytes(range(256)) * 32_768  # 8 MiB: more than any buffer on the way holds


class TlsListener:
    """Accepts streams inside TLS."""

    def __init__(self, inner: StreamListener, security: TlsSecurity) -> None:
        self._inner = inner
        self._security = security

    @property
    def address(self) -> Address:
        return self._inner.address

    async def accept(self) -> ByteStream:
        secured = await self._security.secure(await self._inner.accept(), is_server=True)
        return secured.stream

    def close(self) -> None:
        self._inner.close()


class TlsNetwork(RealNetwork):
    """The real network with TLS around every stream."""

    def __init__(self) -> None:
        super().__init__(TrioClock())
        self._security = TlsSecurity(
            Keyring([b"s" * 32], label="lab"),
            node_id=NodeId("a" * 32),
            clock=TrioClock(),
            entropy=SystemEntropy(),
        )

    async def listen(self, bind: Address) -> StreamListener:  # type: ignore[override]
        return TlsListener(await super().listen(bind), self._security)

    async def dial(self, to: Address) -> ByteStream:  # type: ignore[override]
        return (await self._security.secure(await super().dial(to), is_server=False)).stream


@pytest.fixture(params=["tcp", "tls", "simulated"])
def network(request: pytest.FixtureRequest) -> Network:
    if request.param == "simulated":
        return SimFabric(SeededEntropy("contract").stream("net")).host(HOST, SimClock())
    return TlsNetwork() if request.param == "tls" else RealNetwork(TrioClock())


@dataclass
class Line:
    """A listener and one connection to it."""

    listener: StreamListener
    dialler: ByteStream
    acceptor: ByteStream


@pytest.fixture
async def line(network: Network) -> AsyncIterator[Line]:
    listener = await network.listen(Address(HOST, 0))
    ends: list[ByteStream] = []
    with trio.fail_after(WAIT_S):
        async with trio.open_nursery() as nursery:

            async def accept() -> None:
                ends.append(await listener.accept())

            nursery.start_soon(accept)
            dialler = await network.dial(listener.address)
        yield Line(listener, dialler, ends[0])
    await dialler.aclose()
    await ends[0].aclose()
    listener.close()


async def read_all(stream: ByteStream) -> bytes:
    data = bytearray()
    while piece := await stream.receive_some(65_536):
        data += piece
    return bytes(data)


async def send_for_ever(stream: ByteStream) -> None:
    while True:
        await stream.send_all(b"x")


async def send_at_once_for_ever(stream: ByteStream) -> None:
    while True:
        stream.send_nowait(b"x")
        await stream.send_all(b"")


async def test_bytes_go_both_ways(line: Line) -> None:
    await line.dialler.send_all(b"ping")
    assert await line.acceptor.receive_some(100) == b"ping"
    await line.acceptor.send_all(b"pong")
    assert await line.dialler.receive_some(100) == b"pong"


async def test_what_is_sent_at_once_arrives_in_its_order(line: Line) -> None:
    assert line.dialler.send_nowait(b"one ")
    assert line.dialler.send_nowait(b"two ")
    await line.dialler.send_all(b"three")
    await line.dialler.aclose()
    assert await read_all(line.acceptor) == b"one two three"


async def test_what_is_not_taken_at_once_leaves_with_what_is_sent_next(line: Line) -> None:
    assert not line.dialler.send_nowait(MUCH)
    assert not line.dialler.send_nowait(b"more")
    async with trio.open_nursery() as nursery:

        async def send() -> None:
            await line.dialler.send_all(b"")
            await line.dialler.send_all(b"last")
            await line.dialler.aclose()

        nursery.start_soon(send)
        assert await read_all(line.acceptor) == MUCH + b"morelast"


async def test_each_end_knows_the_other(line: Line) -> None:
    assert line.dialler.remote == line.listener.address
    assert line.acceptor.remote.host == HOST


async def test_no_more_is_received_than_was_asked_for(line: Line) -> None:
    await line.dialler.send_all(b"abcdef")
    got = b""
    while len(got) < 6:
        piece = await line.acceptor.receive_some(4)
        assert 1 <= len(piece) <= 4
        got += piece
    assert got == b"abcdef"


async def test_order_is_kept_and_nothing_is_lost(line: Line) -> None:
    async with trio.open_nursery() as nursery:

        async def send() -> None:
            await line.dialler.send_all(MUCH)
            await line.dialler.aclose()

        nursery.start_soon(send)
        assert await read_all(line.acceptor) == MUCH


async def test_sender_waits_while_the_other_side_does_not_read(line: Line) -> None:
    with trio.move_on_after(0.05) as scope:
        await line.dialler.send_all(MUCH)
    assert scope.cancelled_caught


async def test_both_may_send_much_at_once_if_both_read(line: Line) -> None:
    """Whoever reads must not wait for whoever sends, or the two ends wait for each other."""

    async def send(stream: ByteStream) -> None:
        for _ in range(4):
            await stream.send_all(MUCH)

    async def receive(stream: ByteStream) -> None:
        count = 0
        while count < 4 * len(MUCH):
            count += len(await stream.receive_some(65_536))

    async with trio.open_nursery() as nursery:
        for end in (line.dialler, line.acceptor):
            nursery.start_soon(send, end)
            nursery.start_soon(receive, end)


async def test_end_comes_after_what_was_sent_and_stays(line: Line) -> None:
    await line.dialler.send_all(b"bye")
    await line.dialler.aclose()
    assert await read_all(line.acceptor) == b"bye"
    assert await line.acceptor.receive_some(10) == b""


async def test_close_does_not_wait_for_a_peer_that_does_not_read(line: Line) -> None:
    with trio.move_on_after(0.02):
        await line.dialler.send_all(MUCH)
    with trio.fail_after(1.0):
        await line.dialler.aclose()


async def test_closed_stream_refuses_everything_and_may_be_closed_again(line: Line) -> None:
    await line.dialler.aclose()
    await line.dialler.aclose()
    with pytest.raises(trio.ClosedResourceError):
        await line.dialler.send_all(b"x")
    with pytest.raises(trio.ClosedResourceError):
        line.dialler.send_nowait(b"x")
    with pytest.raises(trio.ClosedResourceError):
        await line.dialler.receive_some(1)


async def test_waiting_receiver_is_told_of_its_own_sides_close(line: Line) -> None:
    async def take() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await line.dialler.receive_some(1)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(take)
        await trio.testing.wait_all_tasks_blocked()
        await line.dialler.aclose()


async def test_sending_to_a_peer_that_has_closed_breaks(line: Line) -> None:
    await line.acceptor.aclose()
    with pytest.raises(trio.BrokenResourceError):
        await send_for_ever(line.dialler)


async def test_sending_at_once_to_a_peer_that_has_closed_breaks(line: Line) -> None:
    await line.acceptor.aclose()
    with pytest.raises(trio.BrokenResourceError):
        await send_at_once_for_ever(line.dialler)


async def test_close_with_unread_input_resets_the_other_side(network: Network, line: Line) -> None:
    if isinstance(network, TlsNetwork):
        pytest.skip("TLS says goodbye first, and that is what is read")
    await line.dialler.send_all(b"unread")
    await line.acceptor.aclose()
    with pytest.raises(trio.BrokenResourceError):
        await read_all(line.dialler)


async def test_dial_where_nobody_listens_is_refused(network: Network, line: Line) -> None:
    line.listener.close()
    with pytest.raises(ConnectionRefusedError):
        await network.dial(line.listener.address)


async def test_accepted_connection_outlives_its_listener(line: Line) -> None:
    line.listener.close()
    await line.dialler.send_all(b"still here")
    assert await line.acceptor.receive_some(100) == b"still here"


async def test_waiting_acceptor_is_told_of_the_close(line: Line) -> None:
    async def take() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await line.listener.accept()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(take)
        await trio.testing.wait_all_tasks_blocked()
        line.listener.close()
    with pytest.raises(trio.ClosedResourceError):
        await line.listener.accept()


async def test_address_in_use_is_one_clear_line(network: Network, line: Line) -> None:
    address = line.listener.address
    with pytest.raises(LocalError, match=f"^cannot listen on TCP {address}: Address already in"):
        await network.listen(address)
