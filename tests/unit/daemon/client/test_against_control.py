"""Both clients against the real control server: the fake daemon is true to it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.lowlevel

from muster.client.aio import connect
from muster.client.blocking import Client
from muster.client.errors import BadRequest, Failed, NotFound, Unknown, Unsupported
from muster.clock import TrioClock
from muster.control import UNSENT_MAX, Caller, ControlServer, greeting
from muster_protocol.effects import Notify
from muster_protocol.errors import OutcomeUnknown, Refused
from muster_protocol.limits import CONTROL_FRAME_BYTES_MAX, VALUE_BYTES_MAX
from muster_protocol.session.machine import REQUESTS_AT_ONCE_MAX, to_bytes
from muster_protocol.session.messages import (
    FROM_SERVER,
    PROTOCOL_MAJOR,
    PROTOCOL_MINOR,
    ClientHello,
    Failure,
    FromServer,
    Request,
)
from muster_protocol.session.methods import SignalItem, TailParams
from muster_protocol.wire.framing import FrameDecoder
from testkit.fake_daemon import a_key, a_kv_result, a_status


async def _status(_params: Any, _caller: Caller) -> Any:
    return a_status()


async def _get(params: Any, _caller: Caller) -> Any:
    raise Refused("not-found", f"there is no key {params.key!r}")


class _Store:
    """Does not know the outcome the first time."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int]] = []
        self.notices: list[Notify] = []

    async def put(self, params: Any, _caller: Caller) -> Any:
        self.asked.append((params.session, params.request))
        if len(self.asked) == 1:
            raise OutcomeUnknown("a retry will tell")
        entry = a_key(value=bytes(VALUE_BYTES_MAX)) if params.key == "large" else None
        return a_kv_result(entry, repeated=True)


async def _leave(_params: Any, _caller: Caller) -> Any:
    raise OutcomeUnknown("who knows")


async def _raft(_params: Any, _caller: Caller) -> Any:
    raise IndexError("a bug")


async def _tail(params: TailParams, _caller: Caller) -> AsyncGenerator[SignalItem]:
    for number in range(2):
        yield SignalItem(
            id=str(number),
            type="a.b",
            source="",
            subject="",
            wall=0.0,
            priority="low",
            scope="node",
            data={"pattern": params.pattern},
        )


@pytest.fixture
async def served(tmp_path: Path, nursery: trio.Nursery) -> tuple[str, _Store]:
    store = _Store()
    path = tmp_path / "muster.sock"
    server = ControlServer(
        path=path,
        group="",
        clock=TrioClock(),
        handlers={
            "status": _status,
            "kv.get": _get,
            "kv.put": store.put,
            "leave": _leave,
            "raft": _raft,
        },
        stream_handlers={"signals.tail": _tail},
        greeting=lambda: greeting(node="a" * 32, name="web1", build="0.1.0", revision=12),
        notify=store.notices.append,
    )
    await nursery.start(server.run)
    return str(path), store


async def test_the_trio_client_and_the_control_server_agree(served: tuple[str, _Store]) -> None:
    path, store = served
    async with connect(path) as cluster:
        assert await cluster.call("status") == a_status()
        with pytest.raises(NotFound, match="no key 'k'"):
            await cluster.call("kv.get", key="k")
        with pytest.raises(BadRequest, match="key"):
            await cluster.call("kv.get", key=7)
        assert (await cluster.call("kv.put", key="k", value=b"\xff")).repeated
        with pytest.raises(Unknown):
            await cluster.call("leave")
        async with cluster.stream("signals.tail", pattern="a.*") as signals:
            assert [item.data["pattern"] async for item in signals] == ["a.*", "a.*"]
    assert store.asked[0] == store.asked[1]


async def test_the_blocking_client_and_the_control_server_agree(served: tuple[str, _Store]) -> None:
    path, store = served

    def ask() -> None:
        with Client(path, timeout_s=5.0) as client:
            assert client.call("status") == a_status()
            with pytest.raises(NotFound, match="no key 'k'"):
                client.call("kv.get", key="k")
            with pytest.raises(BadRequest, match="key"):
                client.call("kv.get", key=7)
            assert client.call("kv.put", key="k", value=b"\xff").repeated
            with pytest.raises(Unknown):
                client.call("leave")
            assert len(list(client.stream("signals.tail"))) == 2

    await trio.to_thread.run_sync(ask)
    assert store.asked[0] == store.asked[1]


async def test_a_bug_in_one_request_is_told_and_costs_the_daemon_nothing(
    served: tuple[str, _Store],
) -> None:
    path, store = served
    async with connect(path) as cluster:
        with pytest.raises(Failed, match="internal error"):
            await cluster.call("raft")
        assert await cluster.call("status") == a_status()
    (notice,) = store.notices
    assert (notice.event, notice.fields["method"]) == ("control.request.failed", "raft")
    assert "IndexError: a bug" in notice.fields["traceback"][-1]


async def test_a_method_that_the_daemon_does_not_have_is_unsupported(tmp_path: Path) -> None:
    """As an older daemon would answer a newer client; the table of this one is complete."""
    from muster.control import _params
    from muster_protocol.session.messages import Request

    with pytest.raises(Refused) as caught:
        _params(Request(1, "kv.watch", {}))
    assert caught.value.reason == Unsupported.code.value


async def test_a_client_that_asks_and_does_not_read_is_not_read_either(
    served: tuple[str, _Store],
) -> None:
    """Its replies would be kept until the socket takes them."""
    path, store = served
    stream = await trio.open_unix_socket(path)
    await stream.send_all(to_bytes(ClientHello(PROTOCOL_MAJOR, PROTOCOL_MINOR, "test")))
    params = {"key": "large", "value": b"", "session": "5" * 32, "request": 1}
    with trio.move_on_after(1.0):
        for number in range(1, 40 * UNSENT_MAX):
            await stream.send_all(to_bytes(Request(number, "kv.put", params)))
            await trio.lowlevel.checkpoint()
        await trio.sleep_forever()
    in_the_socket = 16
    assert 0 < len(store.asked) <= UNSENT_MAX + REQUESTS_AT_ONCE_MAX + in_the_socket
    await trio.aclose_forcefully(stream)


async def greeted(path: str, decoder: FrameDecoder) -> trio.SocketStream:
    """A connection of bare frames, behind the hello."""
    stream = await trio.open_unix_socket(path)
    await stream.send_all(to_bytes(ClientHello(PROTOCOL_MAJOR, PROTOCOL_MINOR, "test")))
    while decoder.next_frame() is None:
        decoder.receive(bytes(await stream.receive_some(65_536)))
    return stream


def frames(decoder: FrameDecoder) -> list[FromServer]:
    """What has come whole."""
    return [FROM_SERVER.decode(frame) for frame in iter(decoder.next_frame, None)]


async def test_replies_of_one_turn_of_the_loop_are_one_write(served: tuple[str, _Store]) -> None:
    path, _ = served
    decoder = FrameDecoder(bytes_max=CONTROL_FRAME_BYTES_MAX)
    stream = await greeted(path, decoder)
    await stream.send_all(b"".join(to_bytes(Request(n, "status", {})) for n in range(1, 41)))
    decoder.receive(bytes(await stream.receive_some(65_536)))
    assert {message.id for message in frames(decoder)} == set(range(1, 41))
    await stream.aclose()


async def test_many_large_replies_come_whole_and_each_once(served: tuple[str, _Store]) -> None:
    """Together they are more than a socket, or one write, takes."""
    path, _ = served
    decoder = FrameDecoder(bytes_max=CONTROL_FRAME_BYTES_MAX)
    stream = await greeted(path, decoder)
    params = {"key": "large", "value": b"", "session": "5" * 32, "request": 1}
    asked = range(1, UNSENT_MAX // 2)
    await stream.send_all(b"".join(to_bytes(Request(n, "kv.put", params)) for n in asked))
    heard: list[int] = []
    while len(heard) < len(asked):
        decoder.receive(bytes(await stream.receive_some(65_536)))
        heard += [message.id for message in frames(decoder)]
    assert sorted(heard) == list(asked)
    await stream.aclose()


async def test_a_refusal_is_told_before_the_connection_ends(served: tuple[str, _Store]) -> None:
    path, _ = served
    decoder = FrameDecoder(bytes_max=CONTROL_FRAME_BYTES_MAX)
    stream = await greeted(path, decoder)
    await stream.send_all(to_bytes(ClientHello(PROTOCOL_MAJOR, PROTOCOL_MINOR, "test")))
    while data := await stream.receive_some(65_536):
        decoder.receive(bytes(data))
    (refusal,) = frames(decoder)
    assert isinstance(refusal, Failure)
    assert "second hello" in refusal.message
    await stream.aclose()
