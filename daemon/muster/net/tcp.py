"""Byte streams over TCP.

A listener accepts at most `CONNECTIONS_MAX` connections at a time; one more is closed at once and
counted, because a peer that is turned away tries elsewhere, while one that hangs in a backlog
waits for its time-out. Nagle's algorithm is off (trio's `SocketStream` sees to it): frames are
written whole.
"""

from __future__ import annotations

import errno
import os
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import trio

from muster.net.udp import ip_family
from muster_protocol.errors import LocalError
from muster_protocol.types import Address

if TYPE_CHECKING:
    from muster.clock import Clock

BACKLOG: Final = 128
"""Connections that the kernel holds until they are accepted: a cluster that starts at once."""

CONNECTIONS_MAX: Final = 1_024
"""Accepted and open: a stream of each of the seven purposes from every member of a cluster of 100,
with room for those that are being turned away."""

ACCEPT_PAUSE_S: Final = 0.1
"""After running out of files or memory, accepting again at once would spin (as trio does it)."""

_OVERLOAD: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class TcpStream:
    """A `ByteStream` on a connected TCP socket."""

    def __init__(self, connected: trio.socket.SocketType, listener: TcpListener | None) -> None:
        self._remote = _address_of(connected.getpeername())
        self._stream = trio.SocketStream(connected)
        self._fd = connected.fileno()
        self._unsent = b""
        self._listener = listener

    @property
    def remote(self) -> Address:
        return self._remote

    async def send_all(self, data: bytes) -> None:
        unsent, self._unsent = self._unsent, b""
        await self._stream.send_all(unsent + data)

    def send_nowait(self, data: bytes) -> bool:
        self._check_open()
        if self._unsent:
            self._unsent += data
            return False
        try:
            sent = os.write(self._fd, data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            raise trio.BrokenResourceError(f"socket connection broken: {error}") from error
        self._unsent = data[sent:]
        return not self._unsent

    async def receive_some(self, bytes_max: int) -> bytes:
        """It waits first and reads then: a reader of frames is nearly always early, and to find
        that out would be a system call and an exception for each frame."""
        while True:
            self._check_open()
            await trio.lowlevel.wait_readable(self._fd)
            self._check_open()
            try:
                return os.read(self._fd, bytes_max)
            except BlockingIOError:
                continue
            except OSError as error:
                raise trio.BrokenResourceError(f"socket connection broken: {error}") from error

    def _check_open(self) -> None:
        if self._fd < 0:
            raise trio.ClosedResourceError("stream closed")

    async def aclose(self) -> None:
        self._fd = -1
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.connection_closed()
        await self._stream.aclose()


@dataclass(frozen=True, slots=True)
class ListenerStatistics:
    """Connections of one listener."""

    open: int
    accepted: int
    turned_away: int


class TcpListener:
    """A `StreamListener` on a TCP socket."""

    def __init__(
        self, listening: trio.socket.SocketType, *, clock: Clock, connections_max: int
    ) -> None:
        self._socket = listening
        self._clock = clock
        self._connections_max = connections_max
        self._address = _address_of(listening.getsockname())
        self._open = self._accepted = self._turned_away = 0

    @property
    def address(self) -> Address:
        return self._address

    async def accept(self) -> TcpStream:
        while True:
            try:
                connected, _ = await self._socket.accept()
            except OSError as error:
                if self._socket.fileno() < 0:
                    raise trio.ClosedResourceError("listener closed") from None
                if error.errno in _OVERLOAD:
                    await self._clock.sleep(ACCEPT_PAUSE_S)
                continue  # else it is that one connection: it was reset before we took it
            stream = self._take(connected)
            if stream is not None:
                return stream

    def close(self) -> None:
        self._socket.close()

    def connection_closed(self) -> None:
        """A connection of this listener has ended; its stream says so."""
        self._open -= 1

    def statistics(self) -> ListenerStatistics:
        return ListenerStatistics(self._open, self._accepted, self._turned_away)

    def _take(self, connected: trio.socket.SocketType) -> TcpStream | None:
        if self._open >= self._connections_max:
            self._turned_away += 1
            connected.close()
            return None
        try:
            stream = TcpStream(connected, self)
        except OSError:  # reset before we took it: it has no remote address any more
            connected.close()
            return None
        self._open += 1
        self._accepted += 1
        return stream


async def listen_tcp(
    bind: Address, *, clock: Clock, connections_max: int = CONNECTIONS_MAX
) -> TcpListener:
    """A listener on `bind`. Errors: LocalError, one line, when the address cannot be had."""
    listening = trio.socket.socket(ip_family(bind), socket.SOCK_STREAM)
    try:
        if listening.family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        # Connections of the previous run in TIME_WAIT do not keep the port from us.
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        await listening.bind((bind.host, bind.port))
        listening.listen(BACKLOG)
    except OSError as error:
        listening.close()
        raise LocalError(f"cannot listen on TCP {bind}: {error.strerror}") from error
    return TcpListener(listening, clock=clock, connections_max=connections_max)


async def dial_tcp(to: Address) -> TcpStream:
    """A connection to `to`. Errors: OSError. Nothing bounds the time but the caller."""
    connecting = trio.socket.socket(ip_family(to), socket.SOCK_STREAM)
    try:
        await connecting.connect((to.host, to.port))
        return TcpStream(connecting, None)
    except BaseException:
        connecting.close()
        raise


def _address_of(name: tuple[str, int] | tuple[str, int, int, int]) -> Address:
    return Address(name[0], name[1])
