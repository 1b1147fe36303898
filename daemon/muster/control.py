"""The control socket: requests of the host's own people and programs.

A unix socket in a directory that only the service may enter, with a mode and a group: who may
connect is decided by the file system, and who did is read from the peer credentials and logged
with every change. Each connection has its session machine, a bounded number of requests at once,
and a limit on how long it may leave its replies unread.

What the methods do stands in the table that the node gives (`muster.handlers`). A request is a
task, but for changes of the store, of which there may be tens of thousands in a second: all that
came in one turn of the loop are handed over together, each as an `Ask` that is answered by a call.
Replies are written at once, as far as the socket takes them, all of one turn in one write.
"""

from __future__ import annotations

import collections
import contextlib
import errno
import functools
import grp
import os
import socket
import stat
import struct
import traceback
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
import trio

from muster.sockets import SocketSet
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


@dataclass(slots=True, eq=False)
class Ask:
    """A request that is answered by a call, and costs no task."""

    id: int
    method: str
    params: Any
    caller: Caller
    connection: _Connection

    def answer(self, outcome: Result | Exception | Callable[[], Awaitable[Result]]) -> None:
        """Once: with a result, with an error, or with what has to be awaited for either. Nothing
        happens if the client has cancelled the request, or is gone."""
        self.connection.answer(self, outcome)


Handler = Callable[[Any, Caller], Awaitable[Result]]
StreamHandler = Callable[[Any, Caller], AsyncGenerator[Result]]
ChangesHandler = Callable[[Sequence[Ask]], None]

CHANGES: Final = ("kv.put", "kv.delete")
"""What is handed over by the turn, where there is a handler for it."""

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
        changes: ChangesHandler | None = None,
    ) -> None:
        """`greeting()` is what a new connection is told first; `changes` answers `CHANGES`."""
        assert handlers.keys() | stream_handlers.keys() <= METHODS.keys()
        self._path = path
        self._group = group
        self.statistics = ControlStatistics()
        self._service = _Service(
            clock,
            handlers,
            stream_handlers,
            greeting,
            notify,
            self.statistics,
            SocketSet(self._turn_ended),
            changes,
        )

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled. Errors: LocalError if the socket cannot be made."""
        listener = bind_control_socket(self._path, self._group)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._service.sockets.run)
                nursery.start_soon(self._write)
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

    def _turn_ended(self) -> None:
        """All that was there has been read."""
        service = self._service
        asks, service.asks = service.asks, []
        if not asks:
            return
        assert service.changes is not None
        try:
            service.changes(asks)
        except Exception as error:  # noqa: BLE001 (a bug in one request is not worth the daemon)
            _tell_bug(service, "changes", error)
            for ask in asks:
                ask.answer(OutcomeUnknown("internal error; the daemon's log has more"))

    async def _write(self) -> None:
        """Write the replies of each turn."""
        service = self._service
        while True:
            await service.is_filled.wait()
            service.is_filled = trio.Event()
            connections, service.filled = service.filled, []
            for connection in connections:
                connection.flush()


@dataclass(slots=True)
class _Service:
    """What every connection needs of its server."""

    clock: Clock
    handlers: Mapping[str, Handler]
    stream_handlers: Mapping[str, StreamHandler]
    greeting: Callable[[], ServerHello]
    notify: Callable[[Notify], None]
    statistics: ControlStatistics
    sockets: SocketSet
    changes: ChangesHandler | None
    asks: list[Ask] = field(default_factory=list)
    """Read in this turn, to be handed over at its end."""
    filled: list[_Connection] = field(default_factory=list)
    """Those with replies that nobody has tried to write."""
    is_filled: trio.Event = field(default_factory=trio.Event)


class _Connection:
    """One client."""

    def __init__(self, service: _Service, stream: trio.SocketStream, caller: Caller) -> None:
        self._service = service
        self._stream = stream
        self._fd = stream.socket.fileno()
        self._caller = caller
        self._session = ServerSession()
        self._requests: dict[int, trio.CancelScope | Ask] = {}
        self._nursery: trio.Nursery | None = None
        self._greeted = trio.Event()
        self._ended = trio.Event()
        self._failure: Exception | None = None
        self._outbox: collections.deque[bytes] = collections.deque()
        self._queued = self._written = 0
        """Messages so far."""
        self._is_filled = self._is_writing = self._is_held = False
        self._emptied = trio.Event()

    async def run(self) -> None:
        """Answer until the client closes. Errors: RemoteError, trio's stream errors."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            self._service.sockets.add(self._fd, self._read)
            try:
                with self._service.clock.move_on_after(HELLO_S) as waiting:
                    await self._greeted.wait()
                if waiting.cancelled_caught:
                    raise RemoteError("protocol", "no hello came")
                await self._ended.wait()
            finally:
                self._stop()  # before the nursery is closed to new tasks
            nursery.cancel_scope.cancel()
        if self._failure is not None:
            raise self._failure
        self._session.close()

    def _read(self) -> None:
        """Take what has come."""
        try:
            data = os.read(self._fd, RECEIVE_BYTES)
            for message in self._session.receive(data):
                self._take(message)
        except BlockingIOError:
            return
        except OSError as error:
            self._end(trio.BrokenResourceError(str(error)))
        except RemoteError as error:
            self._end(error)
        else:
            if not data:
                self._end(None)
            elif self._queued - self._written >= UNSENT_MAX:
                self._is_held = True
                self._service.sockets.hold(self._fd)

    def _stop(self) -> None:
        """Nothing more is read, or begun to be written: to be called before the socket is closed,
        whose number may be another connection's a moment later."""
        if self._nursery is not None:
            self._nursery = None
            self._service.sockets.remove(self._fd)

    def _end(self, failure: Exception | None) -> None:
        """It is over."""
        self._stop()
        self._failure = failure
        self._greeted.set()
        self._ended.set()

    async def refuse(self, error: RemoteError) -> None:
        """Tell the client why the connection is closed, if it still listens."""
        if self._is_writing:
            return  # inside a frame
        code = Code.UNSUPPORTED if error.cause == "version" else Code.FAILED
        last = to_bytes(Failure(0, code, str(error)))
        with (
            self._service.clock.move_on_after(UNREAD_S),
            contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError),
        ):
            await self._stream.send_all(b"".join([*self._outbox, last]))

    # --- requests -----------------------------------------------------------------------------

    def _take(self, message: FromClient) -> None:
        if isinstance(message, Request):
            self._service.statistics.requests += 1
            try:
                self._begin(message, _params(message))
            except (UsageError, Refused) as error:
                self._answered(message.id, self._failure_of(message.id, message.method, error))
        elif isinstance(message, ClientHello):
            self._greeted.set()
            self._send(self._service.greeting())
        else:
            assert isinstance(message, Cancel)
            request = self._requests.get(message.id)
            if isinstance(request, Ask):
                self._answered(request.id, End(request.id))
            elif request is not None:
                request.cancel()

    def _begin(self, request: Request, params: Params) -> None:
        service, method = self._service, request.method
        if service.changes is not None and method in CHANGES:
            ask = Ask(request.id, method, params, self._caller, self)
            self._requests[request.id] = ask
            service.asks.append(ask)
            return
        if method in service.stream_handlers:
            items = service.stream_handlers[method](params, self._caller)
            work = functools.partial(self._stream_items, request.id, items)
        else:
            asked = functools.partial(service.handlers[method], params, self._caller)
            work = functools.partial(self._reply, request.id, asked)
        self._start(request.id, method, work)

    def _start(
        self, request_id: int, method: str, work: Callable[[], Awaitable[FromServer]]
    ) -> None:
        """Make a request a task. It can be cancelled from now on, not from its first turn on."""
        assert self._nursery is not None, "nothing is read after the end"
        scope = self._requests[request_id] = trio.CancelScope()
        self._nursery.start_soon(self._answer, request_id, method, work, scope)

    def answer(
        self, ask: Ask, outcome: Result | Exception | Callable[[], Awaitable[Result]]
    ) -> None:
        """See `Ask.answer`."""
        if self._nursery is None or self._requests.get(ask.id) is not ask:
            return
        if isinstance(outcome, Result):
            self._answered(ask.id, Reply(ask.id, outcome))
        elif isinstance(outcome, Exception):
            self._answered(ask.id, self._failure_of(ask.id, ask.method, outcome))
        else:
            self._start(ask.id, ask.method, functools.partial(self._reply, ask.id, outcome))

    async def _answer(
        self,
        request_id: int,
        method: str,
        work: Callable[[], Awaitable[FromServer]],
        scope: trio.CancelScope,
    ) -> None:
        """A request that is a task. Errors: trio's, when the client is gone."""
        with scope:
            try:
                last = await work()
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                raise  # the client is gone
            except Exception as error:  # noqa: BLE001 (a bug in one request is not worth the daemon)
                last = self._failure_of(request_id, method, error)
        self._answered(request_id, End(request_id) if scope.cancelled_caught else last)

    async def _reply(self, request_id: int, asked: Callable[[], Awaitable[Result]]) -> FromServer:
        return Reply(request_id, await asked())

    async def _stream_items(self, request_id: int, items: AsyncGenerator[Result]) -> FromServer:
        async with contextlib.aclosing(items) as stream:
            async for item in stream:
                number = self._send(Item(request_id, item))
                while self._written < number:
                    await self._emptied.wait()
        return End(request_id)

    def _answered(self, request_id: int, last: FromServer) -> None:
        self._requests.pop(request_id, None)
        self._session.answered(request_id)
        self._send(last)

    def _failure_of(self, request_id: int, method: str, error: Exception) -> Failure:
        self._service.statistics.failed += 1
        if isinstance(error, (UsageError, Refused, OutcomeUnknown, LocalError, RemoteError)):
            return _failure(request_id, error)
        _tell_bug(self._service, method, error)
        return Failure(request_id, Code.FAILED, "internal error; the daemon's log has more")

    # --- replies ------------------------------------------------------------------------------

    def _send(self, message: FromServer) -> int:
        """Leave a message to be written with all others of this turn; its number."""
        self._outbox.append(to_bytes(message))
        self._queued += 1
        if not self._is_filled:
            self._is_filled = True
            self._service.filled.append(self)
            self._service.is_filled.set()
        return self._queued

    def flush(self) -> None:
        """Write what the socket takes; a task of its own writes the rest."""
        self._is_filled = False
        while self._outbox and not self._is_writing and self._nursery is not None:
            data, count = self._next_write()
            try:
                sent = os.write(self._fd, data)
            except BlockingIOError:
                sent = 0
            except OSError as error:
                self._end(trio.BrokenResourceError(str(error)))
                return
            if sent < len(data):
                self._is_writing = True
                self._nursery.start_soon(self._write_rest, data[sent:], count)
            else:
                self._has_written(count)

    async def _write_rest(self, data: bytes, count: int) -> None:
        """Errors: trio.BrokenResourceError; trio.ClosedResourceError after closing a connection
        that is never read."""
        while data:
            with self._service.clock.move_on_after(UNREAD_S) as scope:
                await self._stream.send_all(data)
            if scope.cancelled_caught:
                await self._give_up()
            self._has_written(count)
            data, count = self._next_write()
        self._is_writing = False

    def _next_write(self) -> tuple[bytes, int]:
        """What to write next, and how many messages that is."""
        messages: list[bytes] = []
        size = 0
        while self._outbox and size < WRITE_BYTES:
            messages.append(self._outbox.popleft())
            size += len(messages[-1])
        return b"".join(messages), len(messages)

    def _has_written(self, count: int) -> None:
        self._written += count
        self._emptied.set()
        self._emptied = trio.Event()
        if self._is_held and self._queued - self._written < UNSENT_MAX:
            self._is_held = False
            self._service.sockets.go_on(self._fd)

    async def _give_up(self) -> None:
        who = {"pid": self._caller.pid, "uid": self._caller.uid}
        self._service.notify(Notify("control.client.unread", Severity.WARNING, who))
        self._stop()
        await trio.aclose_forcefully(self._stream)
        raise trio.ClosedResourceError("the client does not read its replies")


def _tell_bug(service: _Service, method: str, error: Exception) -> None:
    fields = {"method": method, "traceback": traceback.format_exception(error)}
    service.notify(Notify("control.request.failed", Severity.ERROR, fields))


def _params(request: Request) -> Params:
    """Typed parameters. Errors: UsageError naming the field; Refused for an unknown method."""
    method = METHODS.get(request.method)
    if method is None:
        raise Refused("unsupported", f"this daemon does not know the method {request.method!r}")
    try:
        return msgspec.convert(request.params, method[0])
    except msgspec.ValidationError as error:
        raise UsageError(f"{request.method}: {error}") from error


def _failure(request_id: int, error: Exception) -> Failure:
    if isinstance(error, Refused):
        code = _REFUSAL_CODES.get(error.reason, Code.FAILED)
        hint = getattr(error, "hint", "")
        return Failure(request_id, code, str(error), hint, dict(error.details))
    if isinstance(error, OutcomeForgotten):
        hint, details = "look at what is there now", {FORGOTTEN: True}
        return Failure(request_id, Code.UNKNOWN_OUTCOME, str(error), hint, details)
    if isinstance(error, OutcomeUnknown):
        return Failure(request_id, Code.UNKNOWN_OUTCOME, str(error))
    if isinstance(error, UsageError):
        return Failure(request_id, Code.USAGE, str(error))
    return Failure(request_id, Code.FAILED, str(error))


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
