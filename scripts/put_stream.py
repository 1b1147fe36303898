"""Puts of given keys, pipelined and bounded, over one socket: to fill a store or to keep it busy.

So many are outstanding at once, each of a session of its own, as those of so many clients that wait
for their answers. A put that is refused ends the stream: what it was to bring about would be
missing.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Iterator

from put_wires import MusterWire

from muster_protocol.errors import LocalError


class PutStream(asyncio.Protocol):
    """One connection that puts all keys, or those until it is told to `stop`."""

    def __init__(self, keys: Iterable[str], *, value_bytes: int, outstanding: int) -> None:
        self._keys: Iterator[str] = iter(keys)
        self._value_bytes = value_bytes
        self._outstanding = outstanding
        self._wire = MusterWire()
        self._clients: dict[int, int] = {}
        self._number = 0
        self._transport: asyncio.Transport | None = None
        self._running = outstanding
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._is_over = False
        self.done = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(self._wire.opening())
        for client in range(self._outstanding):
            self._next(client)

    def _next(self, client: int) -> None:
        key = None if self._is_over else next(self._keys, None)
        if key is None or self._transport is None:
            self._running -= 1
            if self._running == 0 and not self._ended.done():
                self._ended.set_result(None)
            return
        self._number += 1
        self._clients[self._number] = client
        value = os.urandom(self._value_bytes)
        self._transport.write(self._wire.put(self._number, client, key.encode(), value))

    def data_received(self, data: bytes) -> None:
        for number, refused in self._wire.receive(data)[0]:
            client = self._clients.pop(number)
            if refused:
                self._fail(f"a put was refused: {refused}")
                return
            self.done += 1
            self._next(client)

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self._fail(f"the connection was lost: {error or 'closed by the daemon'}")

    def _fail(self, reason: str) -> None:
        if not self._ended.done():
            self._ended.set_exception(LocalError(reason))

    def stop(self) -> None:
        """No put is begun from here on."""
        self._is_over = True

    async def wait(self) -> None:
        """Until all that were begun are answered, and the keys are at their end or it was told to
        stop. Errors: LocalError."""
        try:
            await self._ended
        finally:
            if self._transport is not None:
                self._transport.close()


async def open_stream(path: str, stream: PutStream) -> PutStream:
    """Begin to put at this control socket."""
    await asyncio.get_running_loop().create_unix_connection(lambda: stream, path)
    return stream
