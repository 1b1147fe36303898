"""Frames over a byte stream: `wire.framing` with the stream attached."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import trio

from muster.locks import take
from muster_protocol.errors import RemoteError
from muster_protocol.wire.framing import FrameDecoder, frame

if TYPE_CHECKING:
    from muster.net.endpoints import ByteStream

READ_BYTES: Final = 64 * 1024
"""Read at a time: what a socket buffer usually holds."""

AT_ONCE_BYTES_MAX: Final = 256 * 1024
"""Of a frame that is sent without waiting: what a socket takes, and little beside that is kept."""


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
        self.has_unsent = False
        """Is there anything that `flush` would send?"""

    def raise_limit(self, bytes_max: int) -> None:
        """Allow larger frames, once the peer is known."""
        self._bytes_max = bytes_max
        self._decoder.raise_limit(bytes_max)

    async def send(self, payload: bytes) -> None:
        """Send one frame, waiting while the other side does not read. Senders queue in order.

        Errors: trio.BrokenResourceError, trio.ClosedResourceError. Cancellation: a frame that was
        begun and not finished ends the stream; whoever sends next gets BrokenResourceError.
        """
        await self._send(frame(payload, bytes_max=self._bytes_max))

    def send_nowait(self, payload: bytes) -> bool:
        """Send one frame in this turn of the loop, if nothing else is being sent and it is not very
        large. False: it was not sent. What of it the network did not take is for `flush`.

        Errors: as `send`.
        """
        data = frame(payload, bytes_max=self._bytes_max)
        is_busy = self.has_unsent or self._send_lock.locked()
        if is_busy or len(data) > AT_ONCE_BYTES_MAX:
            return False
        self._check_whole()
        try:
            self.has_unsent = not self._stream.send_nowait(data)
        except trio.BrokenResourceError:
            self.is_cut = True
            raise
        return True

    async def flush(self) -> None:
        """Send what `send_nowait` left behind. Errors and cancellation: as `send`."""
        await self._send(b"")

    async def _send(self, data: bytes) -> None:
        await take(self._send_lock)
        try:
            self._check_whole()
            try:
                await self._stream.send_all(data)
            except BaseException:
                self.is_cut = True
                raise
            self.has_unsent = False
        finally:
            self._send_lock.release()

    def _check_whole(self) -> None:
        if self.is_cut:
            raise trio.BrokenResourceError("an earlier frame was cut short")

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
