"""A client without trio: for the CLI, scripts and threads.

    with Client() as client:
        client.call("kv.put", key="colour", value=b"blue")
        for signal in client.stream("signals.tail", pattern="cluster.**"):
            ...

One connection is opened when it is needed and kept. A client is for one thread. When a call ends
without its answer (time is up), the connection is closed: what still comes on it belongs to
nobody.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Generator
from types import TracebackType
from typing import Any

from muster.client import calls
from muster.client.calls import RETRY_MAX_S, RETRY_MIN_S, TIMEOUT_S, Call, Identity
from muster.client.errors import Unreachable, error_of
from muster.config.paths import client_socket
from muster_protocol.session.machine import ClientSession, to_bytes
from muster_protocol.session.messages import (
    End,
    Failure,
    FromServer,
    Item,
    Reply,
    ServerHello,
)
from muster_protocol.session.methods import METHODS, Params


class _Lost(Exception):
    """The connection ended or broke."""


class _TimeUp(Exception):
    """The deadline passed while we waited."""


class Client:
    """Asks the daemon at `path` ($MUSTER_SOCKET, or where a daemon is by default)."""

    def __init__(
        self, path: str | None = None, *, timeout_s: float = TIMEOUT_S, name: str = "muster"
    ) -> None:
        """`name` is for the daemon's log. Nothing is opened yet."""
        self.path = path or client_socket(os.environ)
        self._timeout_s = timeout_s
        self._name = name
        self._identity = Identity()
        self._connection: _Connection | None = None

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; the next call opens another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def call(
        self,
        method: str,
        params: Params | None = None,
        /,
        *,
        timeout_s: float | None = None,
        **fields: Any,
    ) -> Any:
        """The result of a method of `METHODS`, of the type that stands there.

        Errors: Unreachable, Incompatible, RequestError and its children, UsageError, RemoteError.
        """
        params = self._identity.numbered(calls.parameters(method, params, fields))
        timeout_s = self._timeout_s if timeout_s is None else timeout_s
        deadline = time.monotonic() + timeout_s
        call, wait_s = Call(method, params), RETRY_MIN_S
        while True:
            try:
                answer = self._attempt(call, deadline)
            except _TimeUp:
                self.close()
                raise call.out_of_time(timeout_s) from None
            except _Lost:
                self.close()
                error = call.lost()
            except Unreachable:
                if not call.attempts_lost:
                    raise
                error = None  # it was there a moment ago: it is being restarted
            except BaseException:
                self.close()
                raise
            else:
                if isinstance(answer, Reply):
                    return call.replied(answer)
                error = call.failed(answer)
            if error is not None:
                raise error
            if time.monotonic() + wait_s >= deadline:
                raise call.out_of_time(timeout_s)
            time.sleep(wait_s)  # this client blocks; `aio` is the one that does not
            wait_s = min(2 * wait_s, RETRY_MAX_S)

    def stream(
        self, method: str, params: Params | None = None, /, **fields: Any
    ) -> Generator[Any, None, None]:
        """The items of a method that streams, on a connection of its own, which closing the
        iterator closes. The time-out holds until the daemon has said hello; items come when they
        come. Errors: as `call`; a lost connection is Unreachable."""
        params = calls.parameters(method, params, fields)
        request = calls.build_request(method, params)
        deadline = time.monotonic() + self._timeout_s
        connection = None
        try:
            connection = _Connection(self.path, self._name, deadline)
            connection.send(to_bytes(request), deadline)
            while not isinstance(message := connection.receive(None), End):
                if isinstance(message, Failure):
                    raise error_of(message)
                if isinstance(message, Item):
                    yield calls.typed(message.value, METHODS[method][1])
        except _Lost:
            raise Unreachable(f"the daemon at {self.path} closed the connection") from None
        except _TimeUp:
            raise calls.no_answer(self._timeout_s) from None
        finally:
            if connection is not None:
                connection.close()

    @property
    def server(self) -> ServerHello | None:
        """Who answered last; None before the first answer."""
        return self._connection.server if self._connection else None

    def _attempt(self, call: Call, deadline: float) -> Reply | Failure:
        if self._connection is None:
            self._connection = _Connection(self.path, self._name, deadline)
        connection = self._connection
        request_id = connection.next_request_id()
        connection.send(call.sending(request_id, revision=connection.server.revision), deadline)
        while True:
            message = connection.receive(deadline)
            if isinstance(message, Failure) and message.id == 0:
                raise _Lost  # the daemon gave up on the connection, not on this request
            if isinstance(message, Reply | Failure) and message.id == request_id:
                return message


class _Connection:
    """One connection after the hellos."""

    def __init__(self, path: str, name: str, deadline: float) -> None:
        """Errors: Unreachable, Incompatible, RequestError, _Lost, _TimeUp."""
        self._session = ClientSession()
        self._received: list[FromServer] = []
        self._request_id = 0
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._connect(path, deadline)
            self.send(calls.hello(name), deadline)
            self.server = calls.greeted(self.receive(deadline))
        except _Lost:
            self.close()
            raise calls.turned_away(path) from None
        except BaseException:
            self.close()
            raise

    def _connect(self, path: str, deadline: float) -> None:
        self._socket.settimeout(_left_s(deadline))
        try:
            self._socket.connect(path)
        except TimeoutError:
            raise _TimeUp from None
        except OSError as error:
            raise calls.unreachable(path, error) from error

    def next_request_id(self) -> int:
        self._request_id += 1
        return self._request_id

    def send(self, data: bytes, deadline: float) -> None:
        self._socket.settimeout(_left_s(deadline))
        try:
            self._socket.sendall(data)
        except TimeoutError:
            raise _TimeUp from None
        except OSError:
            # The daemon may have said why before it closed: that is read next.
            pass

    def receive(self, deadline: float | None) -> FromServer:
        """The next message; without a deadline it may take for ever."""
        while not self._received:
            self._socket.settimeout(None if deadline is None else _left_s(deadline))
            try:
                data = self._socket.recv(calls.RECEIVE_BYTES)
            except TimeoutError:
                raise _TimeUp from None
            except OSError:
                raise _Lost from None
            if not data:
                raise _Lost
            self._received.extend(calls.messages(self._session, data))
        return self._received.pop(0)

    def close(self) -> None:
        self._socket.close()


def _left_s(deadline: float) -> float:
    """Seconds until the deadline. Errors: _TimeUp; a time-out of 0 would mean "do not wait"."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise _TimeUp
    return left
