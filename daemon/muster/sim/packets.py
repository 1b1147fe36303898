"""A datagram socket of a simulated host.

What is under way to an address stands in a heap of the fabric, by the instant at which it can be
read; so a packet that a clog held back reaches whatever process has the port by then.
"""

from __future__ import annotations

import heapq
import math
from typing import TYPE_CHECKING, Final

import trio

from muster.sim.links import MTU_BYTES

if TYPE_CHECKING:
    from muster.sim.network import SimFabric, SimNetwork
    from muster_protocol.types import Address

BUFFER_PACKETS: Final = 512
"""A receive buffer: Linux's default of 212,992 bytes holds about as many small packets."""


class Mailbox:
    """What is under way to one address, or has arrived and is not read."""

    __slots__ = ("arrivals", "changed", "overflowed")

    def __init__(self) -> None:
        self.arrivals: list[tuple[float, int, bytes, Address]] = []
        self.changed: trio.Event | None = None
        """Of the socket that is bound, if there is one."""
        self.overflowed = 0

    def put(self, at: float, serial: int, data: bytes, source: Address, *, now: float) -> None:
        """`serial` orders what arrives at the same instant."""
        if self.changed is None:
            self.drop_arrived(now)
        if len(self.arrivals) >= BUFFER_PACKETS:
            self.overflowed += 1
            return
        heapq.heappush(self.arrivals, (at, serial, data, source))
        if self.changed is not None:
            self.changed.set()

    def arrived(self, now: float) -> int:
        """How many could be read now."""
        return sum(at <= now for at, _, _, _ in self.arrivals)

    def drop_arrived(self, now: float) -> None:
        """Nobody had the port when they came."""
        while self.arrivals and self.arrivals[0][0] <= now:
            heapq.heappop(self.arrivals)


class SimPackets:
    """A `PacketEndpoint`."""

    def __init__(self, fabric: SimFabric, host: SimNetwork, address: Address) -> None:
        self._fabric = fabric
        self._host = host
        self._address = address
        self._mailbox = fabric.mailbox(address)
        self._mailbox.drop_arrived(fabric.time.now())
        self._mailbox.overflowed = 0
        self._mailbox.changed = trio.Event()
        self._is_closed = False

    @property
    def address(self) -> Address:
        return self._address

    @property
    def overflowed(self) -> int:
        """Packets that found the buffer full."""
        return self._mailbox.overflowed

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
            changed = self._mailbox.changed = trio.Event()
            arrivals = self._mailbox.arrivals
            with self._fabric.time.move_on_at(arrivals[0][0] if arrivals else math.inf):
                await changed.wait()

    def receive_nowait(self) -> tuple[bytes, Address] | None:
        self._check_open()
        arrivals = self._mailbox.arrivals
        if not arrivals or arrivals[0][0] > self._fabric.time.now():
            return None
        _, _, data, source = heapq.heappop(arrivals)
        if self._fabric.on_delivery is not None:
            self._fabric.on_delivery("packet", source, self._address, data)
        return data, source

    def close(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            if self._mailbox.changed is not None:
                self._mailbox.changed.set()
            self._mailbox.changed = None
            self._mailbox.drop_arrived(self._fabric.time.now())
            del self._host.packets[self._address.port]

    def _check_open(self) -> None:
        if self._is_closed:
            raise trio.ClosedResourceError("packet socket closed")
