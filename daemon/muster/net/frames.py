"""Frames over a byte stream: `wire.framing` with the stream attached."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import trio

from muster.net.locks import take
from muster_protocol.errors import RemoteError
from muster_protocol.wire.framing import FrameDecoder, frame

if TYPE_CHECKING:
    from muster.net.endpoints import ByteStream

READ_BYTES: Final = 64 * 1024
"""Read at a time: what a socket buffer usually holds."""


class FrameStream:
    """Sends and receives whole frames. Any number of tasks may send, one may receive."""

    def __init__(self, stream: ByteStream, *, bytes_max: int) -> None:
        """`bytes_max`: of a frame's payload, in both directions."""
        self._stream = stream
        self._bytes_max = bytes_max
        self._decoder = FrameDecoder(bytes_max=bytes_max)
        self._send_lock = trio.Lock()
        self.is_cut = False
        """A frame was begun and not finished: nothing more can be sent."""

    def raise_limit(self, bytes_max: int) -> None:
        """Allow larger frames, once the peer is known."""
        self._bytes_max = bytes_max
        self._decoder.raise_limit(bytes_max)

    async def send(self, payload: bytes) -> None:
        """Send one frame, waiting while the other side does not read. Senders queue in order.

        Errors: trio.BrokenResourceError, trio.ClosedResourceError. Cancellation: a frame that was
        begun and not finished ends the stream; whoever sends next gets BrokenResourceError.
        """
        data = frame(payload, bytes_max=self._bytes_max)
        await take(self._send_lock)
        try:
            if self.is_cut:
                raise trio.BrokenResourceError("an earlier frame was cut short")
            try:
                await self._stream.send_all(data)
            except BaseException:
                self.is_cut = True
                raise
        finally:
            self._send_lock.release()

    async def receive(self) -> bytes:
        """The next frame's payload; b"" when the other side ended the stream between frames.

        Errors: RemoteError "oversized", "garbage", or "truncated" (ended inside a frame);
        trio.BrokenResourceError, trio.ClosedResourceError.
        """
        while (payload := self._decoder.next_frame()) is None:
            data = await self._stream.receive_some(READ_BYTES)
            if data:
                self._decoder.receive(data)
            elif self._decoder.is_between_frames:
                return b""
            else:
                raise RemoteError("truncated", "the stream ended inside a frame")
        return payload

    async def aclose(self) -> None:
        await self._stream.aclose()
