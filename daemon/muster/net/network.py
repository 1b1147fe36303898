"""The real network: UDP and TCP of this host (`endpoints.Network`)."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Final

from muster.net.tcp import CONNECTIONS_MAX, TcpListener, TcpStream, dial_tcp, listen_tcp
from muster.net.udp import UdpEndpoint
from muster_protocol.types import Address

if TYPE_CHECKING:
    from muster.clock import Clock


_ANYWHERE: Final = Address("192.0.2.1", 1)
_ANYWHERE_V6: Final = Address("2001:db8::1", 1)
"""Addresses of documentation (RFC 5737, 3849): any default route will do."""


class RealNetwork:
    """Makes real endpoints."""

    def __init__(self, clock: Clock, *, connections_max: int = CONNECTIONS_MAX) -> None:
        self._clock = clock
        self._connections_max = connections_max

    async def open_packets(self, bind: Address) -> UdpEndpoint:
        return UdpEndpoint(bind)

    async def listen(self, bind: Address) -> TcpListener:
        return await listen_tcp(bind, clock=self._clock, connections_max=self._connections_max)

    def own_host(self, towards: Address | None, bound: str) -> str | None:
        is_v6 = ":" in bound
        target = towards or (_ANYWHERE_V6 if is_v6 else _ANYWHERE)
        family = socket.AF_INET6 if is_v6 else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            try:
                probe.connect((target.host, target.port or 1))  # chooses a route, sends nothing
            except OSError:
                return None
            return str(probe.getsockname()[0])

    async def dial(self, to: Address) -> TcpStream:
        return await dial_tcp(to)
