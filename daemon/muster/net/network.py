"""The real network: UDP and TCP of this host (`endpoints.Network`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from muster.net.tcp import CONNECTIONS_MAX, TcpListener, TcpStream, dial_tcp, listen_tcp
from muster.net.udp import UdpEndpoint
from muster_protocol.types import Address

if TYPE_CHECKING:
    from muster.clock import Clock


class RealNetwork:
    """Makes real endpoints."""

    def __init__(self, clock: Clock, *, connections_max: int = CONNECTIONS_MAX) -> None:
        self._clock = clock
        self._connections_max = connections_max

    async def open_packets(self, bind: Address) -> UdpEndpoint:
        return UdpEndpoint(bind)

    async def listen(self, bind: Address) -> TcpListener:
        return await listen_tcp(bind, clock=self._clock, connections_max=self._connections_max)

    async def dial(self, to: Address) -> TcpStream:
        return await dial_tcp(to)
