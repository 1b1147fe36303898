"""Packets over UDP: a plain non-blocking socket in the hands of trio.

Not trio's own socket, because a driver must be able to ask for a packet that is already there
without waiting (`receive_nowait` reads the socket), which keeps a late loop from firing a time-out
whose answer lies in the kernel's buffer.

A send can fail for a packet that went out *earlier*: after a refusal by X, the next `sendto` to Y
may raise ECONNREFUSED, and Y's packet is not sent. The error says nothing of Y and is consumed by
raising it, so the send is repeated, once. All other errors are counted by name: to the protocols
above, a packet that was not sent is a packet that was lost.

Linux tells an unconnected socket of such refusals only if it asks for them (IP_RECVERR), which is
evidence that a process died: `on_refused` asks. *Who* refused stands in the error queue and nowhere
else. Reading the queue is also what keeps the socket from being "ready" for ever.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import trio

from muster_protocol.errors import LocalError
from muster_protocol.types import Address

RECEIVE_BYTES_MAX: Final = 2_048
"""Read at most this much: more than any valid packet, so an oversized one is seen to be one."""

RECEIVE_BUFFER_BYTES: Final = 1024 * 1024
"""Asked of the kernel, which may grant less (net.core.rmem_max): a second of gossip of a large
cluster while the loop is stalled."""

_RECVERR: Final = {
    socket.AF_INET: (socket.IPPROTO_IP, 11),
    socket.AF_INET6: (socket.IPPROTO_IPV6, 25),
}
"""IP_RECVERR and IPV6_RECVERR of linux/in.h, for which Python 3.11 has no names."""

_ERRNO: Final = struct.Struct("=I")
"""The first field of `struct sock_extended_err` (linux/errqueue.h)."""


@dataclass(frozen=True, slots=True)
class UdpStatistics:
    """Packets since the socket was opened; `send_errors` by errno name, sorted."""

    sent: int
    received: int
    send_errors: tuple[tuple[str, int], ...]


class UdpEndpoint:
    """A `PacketEndpoint` on a UDP socket. IPv6 sockets are IPv6 only: bind both for both."""

    def __init__(
        self, bind: Address, *, on_refused: Callable[[Address], None] | None = None
    ) -> None:
        """`on_refused` hears of addresses whose host said that nobody listens there. A firewall
        or a liar can say so too: a reason to look, never a proof.

        Errors: LocalError, one line, when the address cannot be had.
        """
        self._socket = _bound_socket(bind)
        self._on_refused = on_refused
        if on_refused is not None:
            level, option = _RECVERR[self._socket.family]
            self._socket.setsockopt(level, option, 1)
        host, port = self._socket.getsockname()[:2]
        self._address = Address(host, port)
        self._sent = self._received = 0
        self._send_errors: dict[str, int] = {}

    @property
    def address(self) -> Address:
        return self._address

    def send_nowait(self, data: bytes, to: Address) -> bool:
        if self._is_closed:
            raise trio.ClosedResourceError("packet socket closed")
        failure = self._try_send(data, to)
        if failure == errno.ECONNREFUSED:
            failure = self._try_send(data, to)
        if failure:
            return False
        self._sent += 1
        return True

    async def receive(self) -> tuple[bytes, Address]:
        await trio.lowlevel.checkpoint()
        while True:
            packet = self.receive_nowait()
            if packet is not None:
                return packet
            await trio.lowlevel.wait_readable(self._socket)

    def receive_nowait(self) -> tuple[bytes, Address] | None:
        if self._is_closed:
            raise trio.ClosedResourceError("packet socket closed")
        try:
            data, source = self._socket.recvfrom(RECEIVE_BYTES_MAX)
        except BlockingIOError:
            self._read_error_queue()
            return None
        except OSError:  # of a packet sent earlier; whose, says the error queue
            self._read_error_queue()
            return None
        self._received += 1
        return data, Address(source[0], source[1])

    def close(self) -> None:
        if not self._is_closed:
            trio.lowlevel.notify_closing(self._socket)
            self._socket.close()

    def statistics(self) -> UdpStatistics:
        return UdpStatistics(self._sent, self._received, tuple(sorted(self._send_errors.items())))

    def _read_error_queue(self) -> None:
        if self._on_refused is None:
            return
        while True:
            try:
                _, control, _, target = self._socket.recvmsg(0, 512, socket.MSG_ERRQUEUE)
            except OSError:
                return  # empty
            for level, kind, data in control:
                if (level, kind) == _RECVERR[self._socket.family]:
                    (error,) = _ERRNO.unpack_from(data)
                    if error == errno.ECONNREFUSED:
                        self._on_refused(Address(target[0], target[1]))

    @property
    def _is_closed(self) -> bool:
        return self._socket.fileno() < 0

    def _try_send(self, data: bytes, to: Address) -> int:
        """0 when the kernel took it, else the errno, counted."""
        try:
            self._socket.sendto(data, (to.host, to.port))
        except OSError as error:
            name = errno.errorcode.get(error.errno or 0, "unknown")
            self._send_errors[name] = self._send_errors.get(name, 0) + 1
            return error.errno or errno.EIO
        return 0


def _bound_socket(bind: Address) -> socket.socket:
    family = ip_family(bind)
    udp = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        if family == socket.AF_INET6:
            udp.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        udp.bind((bind.host, bind.port))
    except OSError as error:
        udp.close()
        raise LocalError(f"cannot bind UDP {bind}: {error.strerror}") from error
    return udp


def ip_family(address: Address) -> socket.AddressFamily:
    """AF_INET or AF_INET6."""
    is_v6 = ipaddress.ip_address(address.host).version == 6
    return socket.AF_INET6 if is_v6 else socket.AF_INET
