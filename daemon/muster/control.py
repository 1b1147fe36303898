"""The control socket: requests of the host's own people and programs.

A unix socket in a directory that only the service may enter, with a mode and a group: who may
connect is decided by the file system, and who did is read from the peer credentials and logged
with every change. Each connection has its session machine, a bounded number of requests at once,
and a limit on how long it may leave its replies unread.

What the methods do stands in the table that the node gives (`muster.handlers`).
"""

from __future__ import annotations

import collections
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
WRITE_BYTES: Final = 64 * 1024
"""Replies are put together up to this: what a socket takes at once."""

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
        self._scopes: dict[int, trio.CancelScope] = {}
        self._outbox: collections.deque[bytes] = collections.deque()
        self._queued = self._written = 0
        """Messages so far."""
        self._is_writing = False
        self._filled = trio.Event()
        self._emptied = trio.Event()

    async def run(self) -> None:
        """Read and answer until the client closes. Errors: RemoteError, trio's stream errors."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._write)
            with self._service.clock.move_on_after(HELLO_S) as waiting:
                while self._session.client is None and await self._read(nursery):
                    pass
            if waiting.cancelled_caught:
                raise RemoteError("protocol", "no hello came")
            while await self._read(nursery):
                pass
            nursery.cancel_scope.cancel()
        self._session.close()

    async def _read(self, nursery: trio.Nursery) -> bool:
        """Take what comes next; False at the end. Errors: as `run`."""
        data = await self._stream.receive_some(RECEIVE_BYTES)
        for message in self._session.receive(data):
            self._take(message, nursery)
        while self._queued - self._written >= UNSENT_MAX:
            await self._emptied.wait()
        return bool(data)

    async def refuse(self, error: RemoteError) -> None:
        """Tell the client why the connection is closed, if it still listens."""
        code = Code.UNSUPPORTED if error.cause == "version" else Code.FAILED
        self._send(Failure(0, code, str(error)))
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while self._outbox and not self._is_writing:  # else the writer ended inside a frame
                await self._write_some()

    def _take(self, message: FromClient, nursery: trio.Nursery) -> None:
        if isinstance(message, ClientHello):
            self._send(self._service.greeting())
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
        self._send(End(request.id) if scope.cancelled_caught else last)

    async def _last_message(self, request: Request) -> FromServer:
        """Do what is asked; stream items on the way; the message that ends the request."""
        service = self._service
        try:
            params = _params(request)
            if request.method in service.stream_handlers:
                items = service.stream_handlers[request.method](params, self._caller)
                async with contextlib.aclosing(items) as stream:
                    async for item in stream:
                        number = self._send(Item(request.id, item))
                        while self._written < number:
                            await self._emptied.wait()
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

    def _send(self, message: FromServer) -> int:
        """Leave a message to the writer; its number. What is said in one turn of the loop, as the
        replies to one batch of changes are, becomes one write."""
        self._outbox.append(to_bytes(message))
        self._queued += 1
        self._filled.set()
        return self._queued

    async def _write(self) -> None:
        """Write what is queued, until cancelled. Errors: as `_write_some`."""
        while True:
            while not self._outbox:
                self._filled = trio.Event()
                await self._filled.wait()
            await self._write_some()

    async def _write_some(self) -> None:
        """Errors: trio.BrokenResourceError; trio.ClosedResourceError after closing a connection
        that is never read."""
        messages, size = [self._outbox.popleft()], 0
        while self._outbox and size < WRITE_BYTES:
            size += len(messages[-1])
            messages.append(self._outbox.popleft())
        self._is_writing = True
        with self._service.clock.move_on_after(UNREAD_S) as scope:
            await self._stream.send_all(b"".join(messages))
        if scope.cancelled_caught:
            await self._give_up()
        self._is_writing = False
        self._written += len(messages)
        self._emptied.set()
        self._emptied = trio.Event()

    async def _give_up(self) -> None:
        who = {"pid": self._caller.pid, "uid": self._caller.uid}
        self._service.notify(Notify("control.client.unread", Severity.WARNING, who))
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
