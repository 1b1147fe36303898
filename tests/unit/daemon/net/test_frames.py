"""Frames over a byte stream: those that are sent in the turn in which they were made."""

from __future__ import annotations

import trio

from muster.net.frames import AT_ONCE_BYTES_MAX, FrameStream
from muster_protocol.types import Address
from muster_protocol.wire.framing import frame

BYTES_MAX = 4 * AT_ONCE_BYTES_MAX


class Pipe:
    """The sending half of a `ByteStream` that takes so many bytes at once. What belongs to the
    other half is not implemented: a frame that is sent must not touch it."""

    def __init__(self, at_once: int) -> None:
        self.at_once = at_once
        self.sent = self.unsent = b""
        self.go_on = trio.Event()

    @property
    def remote(self) -> Address:
        raise NotImplementedError

    async def send_all(self, data: bytes) -> None:
        await self.go_on.wait()
        self.sent += self.unsent + data
        self.unsent = b""

    def send_nowait(self, data: bytes) -> bool:
        self.sent += data[: self.at_once]
        self.unsent += data[self.at_once :]
        return not self.unsent

    async def receive_some(self, bytes_max: int) -> bytes:
        raise NotImplementedError

    async def aclose(self) -> None:
        raise NotImplementedError


def framed(*payloads: bytes) -> bytes:
    return b"".join(frame(payload, bytes_max=BYTES_MAX) for payload in payloads)


async def test_a_frame_is_sent_at_once_where_nothing_waits() -> None:
    pipe = Pipe(at_once=100)
    frames = FrameStream(pipe, bytes_max=BYTES_MAX)
    assert frames.send_nowait(b"one")
    assert frames.send_nowait(b"two")
    assert pipe.sent == framed(b"one", b"two")
    assert not frames.has_unsent


async def test_none_is_sent_at_once_before_what_was_left_is_flushed() -> None:
    pipe = Pipe(at_once=5)
    pipe.go_on.set()
    frames = FrameStream(pipe, bytes_max=BYTES_MAX)
    assert frames.send_nowait(b"one")
    assert frames.has_unsent
    assert not frames.send_nowait(b"two"), "it is for whoever may wait"
    await frames.flush()
    assert not frames.has_unsent
    await frames.send(b"two")
    assert pipe.sent == framed(b"one", b"two")


async def test_none_is_sent_at_once_while_another_is_being_sent() -> None:
    pipe = Pipe(at_once=100)
    frames = FrameStream(pipe, bytes_max=BYTES_MAX)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(frames.send, b"one")
        await trio.testing.wait_all_tasks_blocked()
        assert not frames.send_nowait(b"two")
        pipe.go_on.set()
    assert pipe.sent == framed(b"one")


async def test_a_large_frame_is_not_sent_at_once() -> None:
    pipe = Pipe(at_once=BYTES_MAX)
    frames = FrameStream(pipe, bytes_max=BYTES_MAX)
    assert not frames.send_nowait(b"x" * AT_ONCE_BYTES_MAX)
    assert pipe.sent == b""
