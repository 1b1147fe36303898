"""The control server's connections where they end at the wrong moment; clients are bare frames."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import trio

from muster.clock import TrioClock
from muster.control import UNREAD_S, Ask, Caller, ControlServer, Handler, greeting
from muster.sockets import SocketSet
from muster_protocol.effects import Notify
from muster_protocol.limits import CONTROL_FRAME_BYTES_MAX, VALUE_BYTES_MAX
from muster_protocol.session.machine import to_bytes
from muster_protocol.session.messages import (
    FROM_SERVER,
    PROTOCOL_MAJOR,
    PROTOCOL_MINOR,
    Cancel,
    ClientHello,
    End,
    FromServer,
    Reply,
    Request,
    ServerHello,
)
from muster_protocol.session.methods import DoneResult
from muster_protocol.wire.framing import FrameDecoder
from testkit.fake_daemon import a_key, a_kv_result

HELLO = to_bytes(ClientHello(PROTOCOL_MAJOR, PROTOCOL_MINOR, "test"))
PUT = {"key": "k", "value": b"", "session": "5" * 32, "request": 1}
ROUNDS = 8


async def _done(_params: Any, _caller: Caller) -> Any:
    return DoneResult(message="done")


async def _large(_params: Any, _caller: Caller) -> Any:
    return a_kv_result(a_key(value=bytes(VALUE_BYTES_MAX)), repeated=False)


async def _for_ever(_params: Any, _caller: Caller) -> Any:
    await trio.sleep_forever()


async def _gone(_params: Any, _caller: Caller) -> Any:
    raise trio.BrokenResourceError("the client is gone")


class Impatient(TrioClock):
    """Does not wait for a client that does not read."""

    def move_on_after(self, seconds: float) -> trio.CancelScope:
        return super().move_on_after(0.0 if seconds == UNREAD_S else seconds)


class Server:
    """A control server, and what it said to its operator."""

    def __init__(self, path: Path, handlers: Mapping[str, Handler], **more: Any) -> None:
        self.path = path
        self.server = ControlServer(
            path=path,
            group="",
            clock=more.pop("clock", TrioClock()),
            handlers=handlers,
            stream_handlers={},
            greeting=lambda: greeting(node="a" * 32, name="web1", build="0.1.0", revision=12),
            notify=more.pop("notify", _quiet),
            **more,
        )


def _quiet(_notice: Notify) -> None:
    """Nobody listens."""


class BareClient:
    """Sends what the test says, as one write."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self._decoder = FrameDecoder(bytes_max=CONTROL_FRAME_BYTES_MAX)

    @classmethod
    async def connect(cls, server: Server) -> BareClient:
        client = cls(await trio.open_unix_socket(server.path))
        await client.stream.send_all(HELLO)
        assert isinstance(await client.next(), ServerHello)
        return client

    async def send(self, *messages: Request | Cancel) -> None:
        await self.stream.send_all(b"".join(to_bytes(message) for message in messages))

    async def next(self) -> FromServer:
        while (frame := self._decoder.next_frame()) is None:
            data = bytes(await self.stream.receive_some(65_536))
            assert data, "the daemon has closed the connection"
            self._decoder.receive(data)
        return FROM_SERVER.decode(frame)


async def test_a_request_that_is_cancelled_in_the_same_write_ends(
    tmp_path: Path, nursery: trio.Nursery
) -> None:
    server = Server(tmp_path / "s", {"status": _for_ever})
    await nursery.start(server.server.run)
    client = await BareClient.connect(server)
    await client.send(Request(1, "status", {}), Cancel(1))
    assert await client.next() == End(1)
    await client.stream.aclose()


async def test_a_change_whose_outcome_takes_longer_is_cancelled_once(
    tmp_path: Path, nursery: trio.Nursery
) -> None:
    """Between the first attempt and the task that goes on asking the client may give up: the
    request's number is free then, and the next one to have it is answered for itself."""
    asked: list[Ask] = []
    server = Server(tmp_path / "s", {"status": _done}, changes=asked.extend)
    await nursery.start(server.server.run)
    client = await BareClient.connect(server)
    await client.send(Request(1, "kv.put", PUT))
    while not asked:
        await trio.lowlevel.checkpoint()
    put = asked[0]

    async def go_on() -> Any:
        return DoneResult(message="too late")

    put.answer(go_on)
    put.connection._take(Cancel(1))  # as if it had been read in the same turn
    await client.send(Request(2, "status", {}))
    said = [await client.next(), await client.next()]
    assert [message.id for message in said] == [1, 2]
    await client.stream.aclose()


async def test_a_connection_that_is_ending_is_not_read(
    tmp_path: Path, nursery: trio.Nursery
) -> None:
    """It may take a while: another of its requests is not done with cleaning up."""
    cleaned = trio.Event()

    async def slow_end(_params: Any, _caller: Caller) -> Any:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await cleaned.wait()

    handlers = {"status": _done, "members": slow_end, "raft": _gone}
    server = Server(tmp_path / "s", handlers)
    await nursery.start(server.server.run)
    client = await BareClient.connect(server)
    await client.send(Request(1, "members", {}), Request(2, "status", {}))
    assert isinstance(await client.next(), Reply)
    await client.send(Request(3, "raft", {}))
    for number in range(4, 40):
        await client.send(Request(number, "status", {}))
        await trio.lowlevel.checkpoint()
    other = await BareClient.connect(server)
    await other.send(Request(1, "status", {}))
    assert isinstance(await other.next(), Reply)
    cleaned.set()
    await other.stream.aclose()
    await client.stream.aclose()


async def test_who_gets_the_socket_number_of_a_client_that_was_given_up_is_served(
    tmp_path: Path, nursery: trio.Nursery
) -> None:
    path = tmp_path / "s"
    next_ones: list[socket.socket] = []

    def notify(_notice: Notify) -> None:
        """The unread client's socket is closed in a moment: the next one is there already."""
        following = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        following.connect(str(path))
        following.sendall(HELLO)
        next_ones.append(following)

    handlers = {"kv.get": _large}
    server = Server(path, handlers, clock=Impatient(), notify=notify)
    await nursery.start(server.server.run)
    for _ in range(ROUNDS):
        unread = await BareClient.connect(server)
        await unread.send(*(Request(number, "kv.get", {"key": "k"}) for number in range(1, 20)))
        while not next_ones:
            await trio.lowlevel.checkpoint()
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(next_ones.pop()))
        assert isinstance(await BareClient(stream).next(), ServerHello)
        await stream.aclose()
        await unread.stream.aclose()


async def test_a_client_that_comes_as_the_server_ends_is_left_alone() -> None:
    sockets = SocketSet(lambda: None)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sockets.run)
            nursery.cancel_scope.cancel()
        sockets.add(ours.fileno(), lambda: pytest.fail("nobody reads any more"))
        sockets.remove(ours.fileno())
