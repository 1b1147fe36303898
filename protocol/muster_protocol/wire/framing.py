"""Length-prefixed frames on a byte stream, without a stream.

A frame is four bytes of big-endian length and then that many bytes. The length is checked
against the cap before a single byte is buffered for it, so a peer cannot make us allocate.
"""

from __future__ import annotations

import struct
from typing import Final

from muster_protocol.errors import RemoteError

_PREFIX: Final = struct.Struct(">I")
PREFIX_BYTES: Final = _PREFIX.size


def frame(payload: bytes, *, bytes_max: int) -> bytes:
    """`payload` with its length in front. Our own oversized frame is our own bug: an assert."""
    assert 0 < len(payload) <= bytes_max, f"frame of {len(payload)} bytes, at most {bytes_max}"
    return _PREFIX.pack(len(payload)) + payload


class FrameDecoder:
    """Turns received bytes into frames: `receive` what came, then `next_frame` until None.

    The first frame may have a cap of its own (`raise_limit` lifts it once the peer is known).
    """

    def __init__(self, *, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._buffer = bytearray()
        self._offset = 0

    def raise_limit(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max

    @property
    def is_between_frames(self) -> bool:
        """False when the stream ended inside a frame: what came was truncated."""
        return self._offset == len(self._buffer)

    def receive(self, data: bytes) -> None:
        if self._offset:
            del self._buffer[: self._offset]
            self._offset = 0
        self._buffer += data

    def next_frame(self) -> bytes | None:
        """The next whole frame. Errors: RemoteError "oversized" or "garbage" (an empty frame)."""
        buffer, start = self._buffer, self._offset + PREFIX_BYTES
        if len(buffer) < start:
            return None
        (length,) = _PREFIX.unpack_from(buffer, self._offset)
        if not 0 < length <= self._bytes_max:
            if length == 0:
                raise RemoteError("garbage", "empty frame")
            raise RemoteError("oversized", f"frame of {length} bytes, at most {self._bytes_max}")
        end = start + length
        if len(buffer) < end:
            return None
        self._offset = end
        return bytes(memoryview(buffer)[start:end])
