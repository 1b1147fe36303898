"""Listeners and byte streams of simulated hosts: what a process holds of a `connection`.

A stream keeps its order and holds at most `WINDOW_BYTES` on the way. It loses nothing as long as
it lives; how it ends, and how long it does not, stands in `connection`.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

import trio

if TYPE_CHECKING:
    from muster.sim.connection import End
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
            stream.die()

    def arrive(self, stream: SimStream) -> None:
        self._waiting.append(stream)
        self._changed.set()


class SimStream:
    """A `ByteStream`."""

    def __init__(
        self, fabric: SimFabric, host: SimNetwork, end: End, *, local: Address, remote: Address
    ) -> None:
        self.end = end
        self.peer = self
        """The stream of the other side."""
        self._fabric = fabric
        self._host = host
        self._local = local
        self._remote = remote
        self.readable = trio.Event()
        self.room = trio.Event()
        self._is_closed = False
        self._unsent = b""
        host.streams[end.serial] = self

    @property
    def remote(self) -> Address:
        return self._remote

    async def send_all(self, data: bytes) -> None:
        await trio.lowlevel.checkpoint()
        unsent, self._unsent = self._unsent, b""
        rest = unsent + data
        while rest:
            await self._host.clock.wait_running()
            if sent := self._send_some(rest):
                rest = rest[sent:]
            else:
                self.room = trio.Event()
                with self._fabric.time.move_on_at(self.end.wake_to_send_at()):
                    await self.room.wait()

    def send_nowait(self, data: bytes) -> bool:
        if self._unsent:
            self._unsent += data
            return False
        self._unsent = data[self._send_some(data) :]
        return not self._unsent

    def _send_some(self, data: bytes) -> int:
        """How many bytes are on their way now."""
        now = self._settle()
        self._check_usable(now)
        room = WINDOW_BYTES - self.end.peer.unread_bytes
        if room <= 0:
            return 0
        part = data[:room]
        self.end.send(part, now)
        self.peer.readable.set()
        if self.end.is_in_trouble:  # our own reader has to wake earlier than it knows
            self.readable.set()
        return len(part)

    async def receive_some(self, bytes_max: int) -> bytes:
        await trio.lowlevel.checkpoint()
        while True:
            await self._host.clock.wait_running()
            now = self._settle()
            end = self.end
            if self._is_closed:
                raise trio.ClosedResourceError("stream closed")
            if end.arrivals and end.arrivals[0][0] <= min(now, end.breaks_at):
                return self._read(bytes_max)
            self._check_usable(now)
            self.readable = trio.Event()
            with self._fabric.time.move_on_at(end.wake_to_read_at()):
                await self.readable.wait()

    async def aclose(self) -> None:
        if not self._is_closed:
            now = self._settle()
            self._leave()
            self.end.close(now)
            self.look_again()
            self._fabric.forget_if_over(self.end)
        await trio.lowlevel.checkpoint()

    # --- for the fabric and the other end ------------------------------------------------------

    def look_again(self) -> None:
        """Something was sent, or has ended: who waits on either side computes anew until when."""
        for stream in (self, self.peer):
            stream.readable.set()
            stream.room.set()

    def die(self) -> None:
        """Its process has ended, on a host that lives."""
        self._leave()
        self.end.die(self._settle())
        self.look_again()
        self._fabric.forget_if_over(self.end)

    def lose_power(self) -> None:
        """Its host is gone; the other end is not told."""
        self._leave()
        self.end.lose_power(self._fabric.time.now())
        self.look_again()

    def reset(self) -> None:
        """Something in between resets both ends."""
        now = self._settle()
        self.end.reset(now)
        self.end.peer.reset(now)
        self.look_again()

    def break_off(self) -> None:
        """This side takes it for broken, and the other one is not told: what was sent over it still
        arrives there."""
        self.end.reset(self._settle())
        self.look_again()

    def _leave(self) -> None:
        self._is_closed = True
        self._host.streams.pop(self.end.serial, None)

    def _settle(self) -> float:
        now = self._fabric.time.now()
        self.end.settle(now)
        self.end.peer.settle(now)
        return now

    def _check_usable(self, now: float) -> None:
        if self._is_closed:
            raise trio.ClosedResourceError("stream closed")
        if self.end.breaks_at <= now:
            raise trio.BrokenResourceError("connection reset")

    def _read(self, bytes_max: int) -> bytes:
        taken = self.end.read(bytes_max)
        self.peer.room.set()
        if self._fabric.on_delivery is not None and taken:
            self._fabric.on_delivery("stream", self._remote, self._local, taken)
        return taken
