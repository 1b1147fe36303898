"""MessagePack and typed values, with one rule for hostile input.

Whatever does not decode into exactly the expected type is a `RemoteError` with a cause that is
counted; nothing else leaves this module (msgspec raises `DecodeError`, `ValidationError` and, for
absurd nesting, `RecursionError`). Size limits are checked by the callers *before* decoding.

Messages are msgspec structs in array form with a tag. A field that a later minor version appended
is skipped; one that it needs and an earlier version does not send has a default.
"""

from __future__ import annotations

from typing import Any, Generic, TypeVar

import msgspec

from muster_protocol.errors import RemoteError

T = TypeVar("T")

_ENCODER = msgspec.msgpack.Encoder()


def encode(value: Any) -> bytes:
    """`value` (structs, plain containers, bytes, text, numbers) as MessagePack."""
    return _ENCODER.encode(value)


class Decoder(Generic[T]):
    """Decodes one type; reuse it, building one is slow."""

    def __init__(self, kind: type[T] | Any) -> None:
        self._decoder = msgspec.msgpack.Decoder(kind)

    def decode(self, data: bytes | memoryview | msgspec.Raw) -> T:
        """Errors: RemoteError("garbage") for anything that is not exactly one such value."""
        try:
            value: T = self._decoder.decode(data)
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
            raise RemoteError("garbage", f"undecodable message: {error}") from error
        return value
