"""Forwarded requests: hostile ones are the sender's fault, a stuck stream is not used again."""

from __future__ import annotations

import math
from typing import Any

import pytest
import trio

from muster.agents.consistency.forwarding import ForwardServer, _Channel
from muster.clock import TrioClock
from muster.net.frames import FrameStream
from muster_protocol.consistency.forward import AskConfiguration, Committed, Forward, decode_forward
from muster_protocol.errors import RemoteError
from muster_protocol.wire.codec import encode
from muster_protocol.wire.raft import Configuration


class Requests:
    """A connection that brings these frames and then nothing."""

    def __init__(self, *frames: bytes) -> None:
        self._frames = list(frames)
        self.sent: list[bytes] = []

    async def receive(self) -> bytes:
        await trio.lowlevel.checkpoint()
        if not self._frames:
            await trio.sleep_forever()
        return self._frames.pop(0)

    async def send(self, data: bytes) -> None:
        await trio.lowlevel.checkpoint()
        self.sent.append(data)


async def serve(connection: Requests) -> None:
    async def submit(commands: Any, *, deadline: float) -> tuple[()]:
        await trio.sleep(0.1)
        return ()

    server = ForwardServer(
        clock=TrioClock(), configuration=Configuration(()), leader=lambda: None, submit=submit
    )
    await server.serve(connection)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "frames",
    [
        (Forward(1, math.nan, ()),),
        (Forward(1, math.inf, ()),),
    ],
    ids=["nan", "endless"],
)
async def test_a_hostile_request_ends_its_stream_as_the_senders_fault(
    autojump_clock: object, frames: tuple[Forward, ...]
) -> None:
    with trio.fail_after(10), pytest.RaisesGroup(RemoteError, flatten_subgroups=True):
        await serve(Requests(*map(encode, frames)))


async def test_requests_of_one_number_are_each_answered(autojump_clock: object) -> None:
    request = encode(Forward(1, 1.0, ()))
    connection = Requests(request, request)
    with trio.move_on_after(10):
        await serve(connection)
    assert [decode_forward(reply) for reply in connection.sent] == [Committed(1, ())] * 2


class StuckStream:
    """Takes no data while it is stuck."""

    is_stuck = True

    async def send_all(self, data: bytes) -> None:
        if self.is_stuck:
            await trio.sleep_forever()

    async def receive_some(self, bytes_max: int | None = None) -> bytes:
        await trio.sleep_forever()
        raise AssertionError

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


class StuckConnection:
    def __init__(self) -> None:
        self.stream = StuckStream()
        self._frames = FrameStream(self.stream, bytes_max=1000)  # type: ignore[arg-type]

    async def send(self, data: bytes) -> None:
        await self._frames.send(data)

    async def receive(self) -> bytes | None:
        return await self._frames.receive()

    async def aclose(self) -> None:
        await self.stream.aclose()


async def test_a_channel_with_half_a_frame_sent_is_not_used_again(autojump_clock: object) -> None:
    connection = StuckConnection()
    channel = _Channel(connection)  # type: ignore[arg-type]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(channel.read)
        with trio.move_on_after(0.1):
            await channel.call(AskConfiguration)
        connection.stream.is_stuck = False
        assert not channel.is_open
        nursery.cancel_scope.cancel()
