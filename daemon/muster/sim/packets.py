"""A datagram socket of a simulated host."""

from __future__ import annotations

import heapq
import math
from typing import TYPE_CHECKING, Final

import trio

if TYPE_CHECKING:
    from muster.sim.network import SimFabric, SimNetwork
    from muster_protocol.types import Address

MTU_BYTES: Final = 1_472
"""The largest UDP payload in one Ethernet frame over IPv4. Real hosts would send fragments; a
node that needs them has a bug."""

BUFFER_PACKETS: Final = 512
"""A receive buffer: Linux's default of 212,992 bytes holds about as many small packets."""


class SimPackets:
    """A `PacketEndpoint`. Arrivals stand in a heap, by the instant at which they can be read."""

    def __init__(self, fabric: SimFabric, host: SimNetwork, address: Address) -> None:
        self._fabric = fabric
        self._host = host
        self._address = address
        self._arrivals: list[tuple[float, int, bytes, Address]] = []
        self._changed = trio.Event()
        self._is_closed = False
        self.overflowed = 0

    @property
    def address(self) -> Address:
        return self._address

    def send_nowait(self, data: bytes, to: Address) -> bool:
        self._check_open()
        if len(data) > MTU_BYTES:
            return False
        self._fabric.carry(data, self._address, to)
        return True

    async def receive(self) -> tuple[bytes, Address]:
        await trio.lowlevel.checkpoint()
        while True:
            await self._host.clock.wait_running()
            packet = self.receive_nowait()
            if packet is not None:
                return packet
            self._changed = trio.Event()
            until = self._arrivals[0][0] if self._arrivals else math.inf
            with self._fabric.time.move_on_at(until):
                await self._changed.wait()

    def receive_nowait(self) -> tuple[bytes, Address] | None:
        self._check_open()
        if not self._arrivals or self._arrivals[0][0] > self._fabric.time.now():
            return None
        _, _, data, source = heapq.heappop(self._arrivals)
        return data, source

    def close(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            self._changed.set()
            del self._host.packets[self._address.port]

    def arrive(self, at: float, data: bytes, source: Address) -> None:
        if len(self._arrivals) >= BUFFER_PACKETS:
            self.overflowed += 1
            return
        heapq.heappush(self._arrivals, (at, self._fabric.next_serial(), data, source))
        self._changed.set()

    def _check_open(self) -> None:
        if self._is_closed:
            raise trio.ClosedResourceError("packet socket closed")
