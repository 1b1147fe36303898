"""The client for trio programs.

    async with connect() as cluster:
        await cluster.call("kv.put", key="colour", value=b"blue")
        async with cluster.stream("signals.tail") as signals:
            async for signal in signals:
                ...

What may be tried again, and what is known at the end, is decided in `calls`. Each call and each
stream has a connection of its own, so any number of tasks may share a client and a cancelled call
leaves nothing behind; on a unix socket a connection costs less than what it is opened for.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio

from muster.client import calls
from muster.client.calls import RETRY_MAX_S, RETRY_MIN_S, TIMEOUT_S, Call, Identity
from muster.client.errors import Unreachable, error_of
from muster.clock import Clock, TrioClock
from muster.config.paths import client_socket
from muster_protocol.session.machine import ClientSession, to_bytes
from muster_protocol.session.messages import End, Failure, FromServer, Item, Reply, ServerHello
from muster_protocol.session.methods import METHODS, KvChangeParams, Params


class _Lost(Exception):
    """The connection ended or broke."""


@asynccontextmanager
async def connect(
    path: str | None = None,
    *,
    timeout_s: float = TIMEOUT_S,
    name: str = "python",
    clock: Clock | None = None,
) -> AsyncGenerator[AsyncClient]:
    """A client of the daemon at `path` ($MUSTER_SOCKET, or where a daemon is by default).

    It has said hello once when the block begins, so a daemon that is not there is known at once.
    Errors: Unreachable, Incompatible, TimedOut.
    """
    clock = clock or TrioClock()
    client = AsyncClient(path or client_socket(os.environ), timeout_s, name, clock)
    await client.greet()
    yield client


class AsyncClient:
    """Made by `connect`."""

    def __init__(self, path: str, timeout_s: float, name: str, clock: Clock) -> None:
        self.path = path
        self.server: ServerHello | None = None
        """Who answered last."""
        self._timeout_s = timeout_s
        self._name = name
        self._clock = clock
        self._identity = Identity()
        self._changing = trio.Lock()

    async def greet(self) -> ServerHello:
        """Say hello and no more. Errors: Unreachable, Incompatible, TimedOut."""
        with self._clock.move_on_after(self._timeout_s):
            async with self._connection() as connection:
                return connection.server
        raise calls.no_answer(self._timeout_s)

    async def call(
        self,
        method: str,
        params: Params | None = None,
        /,
        *,
        timeout_s: float | None = None,
        **fields: Any,
    ) -> Any:
        """The result of a method of `METHODS`, of the type that stands there.

        Changes of the store are made one after the other, in the order of the calls.
        Errors: as `blocking.Client.call`. Cancelling leaves the outcome of a change unknown.
        """
        params = calls.parameters(method, params, fields)
        timeout_s = self._timeout_s if timeout_s is None else timeout_s
        if not isinstance(params, KvChangeParams):
            return await self._call(Call(method, params), timeout_s)
        async with self._changing:
            return await self._call(Call(method, self._identity.numbered(params)), timeout_s)

    @asynccontextmanager
    async def stream(
        self, method: str, params: Params | None = None, /, **fields: Any
    ) -> AsyncGenerator[AsyncIterator[Any]]:
        """The items of a method that streams. The time-out holds until the daemon said hello.
        Errors: as `call`; a lost connection is Unreachable."""
        params = calls.parameters(method, params, fields)
        request = to_bytes(calls.build_request(method, params))
        with self._clock.move_on_after(self._timeout_s) as greeting:
            async with self._connection() as connection:
                greeting.deadline = float("inf")
                await connection.send(request)
                items = self._items(connection, method)
                try:
                    yield items
                finally:
                    await items.aclose()
        if greeting.cancelled_caught:
            raise calls.no_answer(self._timeout_s)

    async def _call(self, call: Call, timeout_s: float) -> Any:
        with self._clock.move_on_after(timeout_s):
            wait_s = RETRY_MIN_S
            while True:
                try:
                    answer = await self._attempt(call)
                except _Lost:
                    error = call.lost()
                except Unreachable:
                    if not call.attempts_lost:
                        raise
                    error = None  # it was there a moment ago: it is being restarted
                else:
                    if isinstance(answer, Reply):
                        return call.replied(answer)
                    error = call.failed(answer)
                if error is not None:
                    raise error
                await self._clock.sleep(wait_s)
                wait_s = min(2 * wait_s, RETRY_MAX_S)
        raise call.out_of_time(timeout_s)

    async def _attempt(self, call: Call) -> Reply | Failure:
        async with self._connection() as connection:
            await connection.send(call.sending(1, revision=connection.server.revision))
            while True:
                message = await connection.receive()
                if isinstance(message, Failure) and message.id == 0:
                    raise _Lost  # the daemon gave up on the connection, not on this request
                if isinstance(message, Reply | Failure):
                    return message

    async def _items(self, connection: _Connection, method: str) -> AsyncGenerator[Any]:
        kind = METHODS[method][1]
        try:
            while not isinstance(message := await connection.receive(), End):
                if isinstance(message, Failure):
                    raise error_of(message)
                if isinstance(message, Item):
                    yield calls.typed(message.value, kind)
        except _Lost:
            raise Unreachable(f"the daemon at {self.path} closed the connection") from None

    @asynccontextmanager
    async def _connection(self) -> AsyncGenerator[_Connection]:
        try:
            stream = await trio.open_unix_socket(self.path)
        except OSError as error:
            raise calls.unreachable(self.path, error) from error
        try:
            connection = _Connection(stream)
            await connection.send(calls.hello(self._name))
            try:
                connection.server = calls.greeted(await connection.receive())
            except _Lost:
                raise calls.turned_away(self.path) from None
            self.server = connection.server
            yield connection
        finally:
            await trio.aclose_forcefully(stream)


class _Connection:
    """One connection; `server` is set once the daemon has said hello."""

    server: ServerHello

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._session = ClientSession()
        self._received: list[FromServer] = []

    async def send(self, data: bytes) -> None:
        # If it broke, the daemon may have said why before it closed: that is read next.
        with contextlib.suppress(trio.BrokenResourceError):
            await self._stream.send_all(data)

    async def receive(self) -> FromServer:
        while not self._received:
            try:
                data = await self._stream.receive_some(calls.RECEIVE_BYTES)
            except trio.BrokenResourceError:
                raise _Lost from None
            if not data:
                raise _Lost
            self._received.extend(calls.messages(self._session, data))
        return self._received.pop(0)
