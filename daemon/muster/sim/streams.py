"""Listeners and byte streams of simulated hosts."""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING, Final

import trio

if TYPE_CHECKING:
    from muster.sim.network import SimFabric, SimNetwork
    from muster_protocol.types import Address

WINDOW_BYTES: Final = 256 * 1024
"""What a stream holds between a sender and a receiver that does not read."""


class SimListener:
    """A `StreamListener`."""

    def __init__(self, host: SimNetwork, address: Address) -> None:
        self._host = host
        self._address = address
        self._waiting: deque[SimStream] = deque()
        self._changed = trio.Event()
        self._is_closed = False

    @property
    def address(self) -> Address:
        return self._address

    async def accept(self) -> SimStream:
        await trio.lowlevel.checkpoint()
        while True:
            await self._host.clock.wait_running()
            if self._is_closed:
                raise trio.ClosedResourceError("listener closed")
            if self._waiting:
                return self._waiting.popleft()
            self._changed = trio.Event()
            await self._changed.wait()

    def close(self) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        self._changed.set()
        del self._host.listeners[self._address.port]
        for stream in self._waiting:
            stream.pair.reset()

    def arrive(self, stream: SimStream) -> None:
        self._waiting.append(stream)
        self._changed.set()


class Pair:
    """The two ends of one stream."""

    def __init__(
        self,
        fabric: SimFabric,
        hosts: tuple[SimNetwork, SimNetwork],
        addresses: tuple[Address, Address],
    ) -> None:
        self.fabric = fabric
        self.serial = fabric.next_serial()
        self._ips = (hosts[0].ip, hosts[1].ip)
        dialler, acceptor = addresses
        self.ends = (
            SimStream(self, hosts[0], local=dialler, remote=acceptor),
            SimStream(self, hosts[1], local=acceptor, remote=dialler),
        )

    def connects(self, one: str, other: str) -> bool:
        return self._ips in ((one, other), (other, one))

    def other(self, end: SimStream) -> SimStream:
        return self.ends[1] if end is self.ends[0] else self.ends[0]

    def reset(self) -> None:
        """Both ends are broken; what is in flight is lost."""
        for end in self.ends:
            end.on_reset()
        self.fabric.forget(self.serial)


class SimStream:
    """A `ByteStream`: what its other end sent stands in `_arrivals`, in order; b"" is the end."""

    def __init__(self, pair: Pair, host: SimNetwork, *, local: Address, remote: Address) -> None:
        self.pair = pair
        self._host = host
        self._local = local
        self._remote = remote
        self._serial = pair.fabric.next_serial()
        self._arrivals: deque[tuple[float, bytes]] = deque()
        self._unread_bytes = 0
        self._last_arrival = 0.0
        self._changed = trio.Event()
        self._is_closed = False
        self._is_reset = False
        host.streams[self._serial] = self

    @property
    def remote(self) -> Address:
        return self._remote

    async def send_all(self, data: bytes) -> None:
        await trio.lowlevel.checkpoint()
        target = self.pair.other(self)
        rest = memoryview(data)
        while rest:
            await self._host.clock.wait_running()
            self._check_usable()
            room = WINDOW_BYTES - target.unread_bytes
            if target.is_closed:
                self.pair.reset()  # as the other host's kernel does
            elif room > 0:
                target.arrive(bytes(rest[:room]))
                rest = rest[room:]
            else:
                await target.wait_changed()

    async def receive_some(self, bytes_max: int) -> bytes:
        await trio.lowlevel.checkpoint()
        while True:
            await self._host.clock.wait_running()
            if self._is_closed:
                raise trio.ClosedResourceError("stream closed")
            if self._arrivals and self._arrivals[0][0] <= self.pair.fabric.time.now():
                return self._read(bytes_max)
            self._check_usable()
            until = self._arrivals[0][0] if self._arrivals else math.inf
            with self.pair.fabric.time.move_on_at(until):
                await self.wait_changed()

    async def aclose(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            self._host.streams.pop(self._serial, None)
            other = self.pair.other(self)
            if self._unread_bytes:
                self.pair.reset()  # as TCP does when input was not read
            elif other.is_closed:
                self.pair.fabric.forget(self.pair.serial)
            elif not self._is_reset:
                other.arrive(b"")
            self._changed.set()
        await trio.lowlevel.checkpoint()

    # --- for the other end -----------------------------------------------------------------

    @property
    def is_closed(self) -> bool:
        return self._is_closed

    @property
    def unread_bytes(self) -> int:
        return self._unread_bytes

    async def wait_changed(self) -> None:
        """Until something was read, arrived, or ended."""
        if self._changed.is_set():
            self._changed = trio.Event()
        await self._changed.wait()

    def arrive(self, data: bytes) -> None:
        fabric = self.pair.fabric
        at = fabric.time.now() + fabric.travel_s(self._remote.host, self._local.host)
        self._last_arrival = max(at, self._last_arrival)
        self._arrivals.append((self._last_arrival, data))
        self._unread_bytes += len(data)
        self._changed.set()

    def on_reset(self) -> None:
        """What has arrived can still be read, as from a real socket; the rest is gone."""
        now = self.pair.fabric.time.now()
        self._is_reset = True
        self._arrivals = deque(entry for entry in self._arrivals if entry[0] <= now)
        self._unread_bytes = sum(len(data) for _, data in self._arrivals)
        self._host.streams.pop(self._serial, None)
        self._changed.set()

    def _check_usable(self) -> None:
        if self._is_closed:
            raise trio.ClosedResourceError("stream closed")
        if self._is_reset:
            raise trio.BrokenResourceError("connection reset")

    def _read(self, bytes_max: int) -> bytes:
        at, data = self._arrivals[0]
        taken, rest = data[:bytes_max], data[bytes_max:]
        if rest:
            self._arrivals[0] = (at, rest)
        elif data:
            self._arrivals.popleft()
        self._unread_bytes -= len(taken)
        self._changed.set()
        return taken
