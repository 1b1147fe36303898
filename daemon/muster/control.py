"""The control socket: requests of the host's own people and programs.

A unix socket in a directory that only the service may enter, with a mode and a group: who may
connect is decided by the file system, and who did is read from the peer credentials and logged
with every change. Each connection has its session machine, a bounded number of requests at once,
and a limit on how long it may leave its replies unread.

What the methods do stands in the table that the node gives (`muster.handlers`).
"""

from __future__ import annotations

import contextlib
import errno
import grp
import os
import socket
import stat
import struct
import traceback
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
import trio

from muster_protocol.effects import Notify
from muster_protocol.errors import (
    LocalError,
    OutcomeForgotten,
    OutcomeUnknown,
    Refused,
    RemoteError,
    UsageError,
    first_of,
)
from muster_protocol.session.machine import ServerSession, to_bytes
from muster_protocol.session.messages import (
    FORGOTTEN,
    PROTOCOL_MAJOR,
    PROTOCOL_MINOR,
    Cancel,
    ClientHello,
    Code,
    End,
    Failure,
    FromClient,
    FromServer,
    Item,
    Reply,
    Request,
    ServerHello,
)
from muster_protocol.session.methods import METHODS, Params, Result
from muster_protocol.types import Severity

if TYPE_CHECKING:
    from muster.clock import Clock

UNSENT_MAX: Final = 64
"""Replies of one connection that wait for their turn on the socket: past it no more requests are
read. A client that asks and does not read would otherwise have up to `UNREAD_S` of them kept."""

CONNECTIONS_MAX: Final = 4_096
"""Idle ones cost about 10 KiB each; a thousand forgotten shells must not shut an operator out."""

HELLO_S: Final = 30.0
"""For the first frame: scripts that connect by hand and then think."""

UNREAD_S: Final = 10.0
"""How long a reply may stay unread before its connection is closed."""

RECEIVE_BYTES: Final = 64 * 1024
BACKLOG: Final = 1_024
SOCKET_MODE: Final = 0o660
_UCRED: Final = struct.Struct("3i")


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, from SO_PEERCRED."""

    pid: int
    uid: int
    gid: int


Handler = Callable[[Any, Caller], Awaitable[Result]]
StreamHandler = Callable[[Any, Caller], AsyncGenerator[Result]]

_REFUSAL_CODES: Final[Mapping[str, Code]] = {
    "not-quorate": Code.NOT_QUORATE,
    "not-found": Code.NOT_FOUND,
    "conflict": Code.CONFLICT,
    "timed-out": Code.TIMED_OUT,
    "permission": Code.PERMISSION,
    "unsupported": Code.UNSUPPORTED,
}


@dataclass(slots=True)
class ControlStatistics:
    """Counters of the control socket."""

    connections: int = 0
    accepted: int = 0
    requests: int = 0
    failed: int = 0
    dropped: int = 0


class ControlServer:
    """Listens, and answers from a table of handlers."""

    def __init__(
        self,
        *,
        path: Path,
        group: str,
        clock: Clock,
        handlers: Mapping[str, Handler],
        stream_handlers: Mapping[str, StreamHandler],
        greeting: Callable[[], ServerHello],
        notify: Callable[[Notify], None],
    ) -> None:
        """`greeting()` is what a new connection is told first."""
        assert handlers.keys() | stream_handlers.keys() <= METHODS.keys()
        self._path = path
        self._group = group
        self.statistics = ControlStatistics()
        self._service = _Service(
            clock, handlers, stream_handlers, greeting, notify, self.statistics
        )

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled. Errors: LocalError if the socket cannot be made."""
        listener = bind_control_socket(self._path, self._group)
        try:
            async with trio.open_nursery() as nursery:
                task_status.started()
                while True:
                    sock = await _accept(listener, self._service.clock)
                    if self.statistics.connections >= CONNECTIONS_MAX:
                        self.statistics.dropped += 1
                        sock.close()
                        continue
                    nursery.start_soon(self._serve, trio.SocketStream(sock))
        finally:
            listener.close()
            with contextlib.suppress(OSError):
                self._path.unlink()

    async def _serve(self, stream: trio.SocketStream) -> None:
        self.statistics.connections += 1
        self.statistics.accepted += 1
        connection = _Connection(self._service, stream, _caller(stream.socket))
        try:
            await connection.run()
        except* RemoteError as group:
            self.statistics.dropped += 1
            await connection.refuse(first_of(group))
        except* (trio.BrokenResourceError, trio.ClosedResourceError):
            self.statistics.dropped += 1
        finally:
            self.statistics.connections -= 1
            with trio.CancelScope(shield=True):
                await trio.aclose_forcefully(stream)


@dataclass(frozen=True, slots=True)
class _Service:
    """What every connection needs of its server."""

    clock: Clock
    handlers: Mapping[str, Handler]
    stream_handlers: Mapping[str, StreamHandler]
    greeting: Callable[[], ServerHello]
    notify: Callable[[Notify], None]
    statistics: ControlStatistics


class _Connection:
    """One client."""

    def __init__(self, service: _Service, stream: trio.SocketStream, caller: Caller) -> None:
        self._service = service
        self._stream = stream
        self._caller = caller
        self._session = ServerSession()
        self._sending = trio.Lock()
        self._scopes: dict[int, trio.CancelScope] = {}
        self._unsent = 0
        self._sent = trio.Event()

    async def run(self) -> None:
        """Read and answer until the client closes. Errors: RemoteError, trio's stream errors."""
        clock = self._service.clock
        async with trio.open_nursery() as nursery:
            hello_by = clock.now() + HELLO_S
            while True:
                with clock.move_on_at(hello_by if self._session.client is None else float("inf")):
                    data = await self._stream.receive_some(RECEIVE_BYTES)
                    if not data:
                        break
                    for message in self._session.receive(data):
                        await self._take(message, nursery)
                    while self._unsent >= UNSENT_MAX:
                        self._sent = trio.Event()
                        await self._sent.wait()
                    continue
                raise RemoteError("protocol", "no hello came")
            nursery.cancel_scope.cancel()
        self._session.close()

    async def refuse(self, error: RemoteError) -> None:
        """Tell the client why the connection is closed, if it still listens."""
        code = Code.UNSUPPORTED if error.cause == "version" else Code.FAILED
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await self._send(Failure(0, code, str(error)))

    async def _take(self, message: FromClient, nursery: trio.Nursery) -> None:
        if isinstance(message, ClientHello):
            await self._send(self._service.greeting())
        elif isinstance(message, Cancel):
            scope = self._scopes.get(message.id)
            if scope is not None:
                scope.cancel()
        else:
            assert isinstance(message, Request)
            nursery.start_soon(self._answer, message)

    async def _answer(self, request: Request) -> None:
        self._service.statistics.requests += 1
        with trio.CancelScope() as scope:
            self._scopes[request.id] = scope
            last = await self._last_message(request)
        self._scopes.pop(request.id, None)
        self._session.answered(request.id)
        self._unsent += 1
        await self._send(End(request.id) if scope.cancelled_caught else last)
        self._unsent -= 1
        self._sent.set()

    async def _last_message(self, request: Request) -> FromServer:
        """Do what is asked; stream items on the way; the message that ends the request."""
        service = self._service
        try:
            params = _params(request)
            if request.method in service.stream_handlers:
                items = service.stream_handlers[request.method](params, self._caller)
                async with contextlib.aclosing(items) as stream:
                    async for item in stream:
                        await self._send(Item(request.id, item))
                return End(request.id)
            return Reply(request.id, await service.handlers[request.method](params, self._caller))
        except (UsageError, Refused, OutcomeUnknown, LocalError, RemoteError) as error:
            service.statistics.failed += 1
            return _failure(request, error)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise  # the client is gone
        except Exception as error:  # noqa: BLE001 (a bug in one request is not worth the daemon)
            service.statistics.failed += 1
            fields = {"method": request.method, "traceback": traceback.format_exception(error)}
            service.notify(Notify("control.request.failed", Severity.ERROR, fields))
            return Failure(request.id, Code.FAILED, "internal error; the daemon's log has more")

    async def _send(self, message: FromServer) -> None:
        """Errors: trio.ClosedResourceError after closing a connection that is never read."""
        data = to_bytes(message)
        async with self._sending:
            with self._service.clock.move_on_after(UNREAD_S) as scope:
                await self._stream.send_all(data)
            if scope.cancelled_caught:
                self._service.notify(
                    Notify(
                        "control.client.unread",
                        Severity.WARNING,
                        {"pid": self._caller.pid, "uid": self._caller.uid},
                    )
                )
                await trio.aclose_forcefully(self._stream)
                raise trio.ClosedResourceError("the client does not read its replies")


def _params(request: Request) -> Params:
    """Typed parameters. Errors: UsageError naming the field; Refused for an unknown method."""
    method = METHODS.get(request.method)
    if method is None:
        raise Refused("unsupported", f"this daemon does not know the method {request.method!r}")
    try:
        return msgspec.convert(request.params, method[0])
    except msgspec.ValidationError as error:
        raise UsageError(f"{request.method}: {error}") from error


def _failure(request: Request, error: Exception) -> Failure:
    if isinstance(error, Refused):
        code = _REFUSAL_CODES.get(error.reason, Code.FAILED)
        hint = getattr(error, "hint", "")
        return Failure(request.id, code, str(error), hint, dict(error.details))
    if isinstance(error, OutcomeForgotten):
        hint, details = "look at what is there now", {FORGOTTEN: True}
        return Failure(request.id, Code.UNKNOWN_OUTCOME, str(error), hint, details)
    if isinstance(error, OutcomeUnknown):
        return Failure(request.id, Code.UNKNOWN_OUTCOME, str(error))
    if isinstance(error, UsageError):
        return Failure(request.id, Code.USAGE, str(error))
    return Failure(request.id, Code.FAILED, str(error))


def _caller(sock: trio.socket.SocketType) -> Caller:
    data = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    return Caller(*_UCRED.unpack(data))


async def _accept(listener: trio.socket.SocketType, clock: Clock) -> trio.socket.SocketType:
    """The next connection; waits a moment when the process is out of descriptors."""
    while True:
        try:
            return (await listener.accept())[0]
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ECONNABORTED):
                raise
            await clock.sleep(0.1)


def bind_control_socket(path: Path, group: str) -> trio.socket.SocketType:
    """Bind and listen. A socket file that nobody answers on is taken over.

    Errors: LocalError, one line, if another daemon answers there or the path cannot be used.
    """
    try:
        path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        _remove_stale(path)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        previous = os.umask(0o177)  # closed to everybody until its mode and group are set
        try:
            sock.bind(str(path))
        finally:
            os.umask(previous)
        if group:
            os.chown(path, -1, grp.getgrnam(group).gr_gid)
        path.chmod(SOCKET_MODE)
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except KeyError as error:
        raise LocalError(f"control socket {path}: there is no group {group!r}") from error
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise LocalError(f"control socket {path}: {reason}") from error
    return trio.socket.from_stdlib_socket(sock)


def _remove_stale(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise LocalError(f"control socket {path}: the file is there and is no socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except OSError:
            path.unlink(missing_ok=True)
        else:
            raise LocalError(f"control socket {path}: another musterd answers there")


def greeting(*, node: str, name: str, build: str, revision: int) -> ServerHello:
    """What the daemon says first."""
    return ServerHello(PROTOCOL_MAJOR, PROTOCOL_MINOR, node, name, build, revision)
