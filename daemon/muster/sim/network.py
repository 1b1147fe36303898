"""A network in memory: packets and streams between simulated hosts, with faults from a seed.

Nothing runs in the background. What is sent is put into the receiver's queue with the instant at
which it arrives, and the receiver waits for that instant; so the same seed gives the same run, and
a thousand nodes need no task of their own here.

- **Packets** are delayed, lost, repeated and therefore reordered; larger than the MTU they are
  refused, and a full socket buffer drops them.
- **Streams** are delayed and keep their order, hold at most `WINDOW_BYTES` in flight, and are reset
  when the path is cut or a host goes away. They lose nothing.
- **Cuts** are one way or both ways, between two hosts. A packet already under way arrives. A stream
  needs both ways.

Host names are IP addresses. A paused host (`SimClock.pause`) reads nothing, but the network goes
on filling its buffers.
"""

from __future__ import annotations

import errno
import heapq
import ipaddress
import itertools
import math
import os
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import trio

from muster.clock import TrioClock
from muster_protocol.errors import LocalError
from muster_protocol.types import Address

if TYPE_CHECKING:
    from muster.sim.clock import SimClock
    from muster_protocol.types import Rng

MTU_BYTES: Final = 1_472
"""The largest UDP payload in one Ethernet frame over IPv4. Real hosts would send fragments; a
node that needs them has a bug."""

BUFFER_PACKETS: Final = 512
"""A receive buffer: Linux's default of 212,992 bytes holds about as many small packets."""

WINDOW_BYTES: Final = 256 * 1024
"""What a stream holds between a sender and a receiver that does not read."""

UNREACHABLE_S: Final = 3.0
"""Until a connection attempt into a cut fails: after two lost SYNs, where Linux goes on longer."""

PORT_FIRST: Final = 49_152
"""The dynamic ports of RFC 6335."""


@dataclass(frozen=True, slots=True)
class Link:
    """How the way from one host to another behaves. Chances are 0.0 to 1.0, per packet."""

    delay_s: float = 0.000_2
    jitter_s: float = 0.000_1
    loss: float = 0.0
    duplicate: float = 0.0


@dataclass(frozen=True, slots=True)
class FabricStatistics:
    """What became of packets, over all hosts."""

    sent: int
    lost: int
    duplicated: int
    cut: int


class SimFabric:
    """The cables between all hosts of a run."""

    def __init__(self, rng: Rng, *, link: Link | None = None) -> None:
        """`link` is how all ways behave that `set_link` does not say otherwise of."""
        self.time = TrioClock()
        self.link = link or Link()
        self._rng = rng
        self._links: dict[tuple[str, str], Link] = {}
        self._cuts: dict[tuple[str, str], None] = {}
        self._serial = itertools.count()
        self._hosts: dict[str, SimNetwork] = {}
        self._streams: dict[int, _Pair] = {}
        self._sent = self._lost = self._duplicated = self._cut = 0

    def host(self, ip: str, clock: SimClock) -> SimNetwork:
        """The network as a process on host `ip` sees it. A new one kills the old one."""
        previous = self._hosts.get(ip)
        if previous is not None:
            previous.kill()
        self._hosts[ip] = SimNetwork(self, ip, clock)
        return self._hosts[ip]

    def set_link(self, source: str, target: str, link: Link) -> None:
        """One way between two hosts."""
        self._links[source, target] = link

    def cut(self, source: str, target: str, *, one_way: bool = False) -> None:
        """Nothing gets from `source` to `target`, nor back unless `one_way`; resets streams."""
        self._cuts[source, target] = None
        if not one_way:
            self._cuts[target, source] = None
        for pair in list(self._streams.values()):
            if pair.connects(source, target):
                pair.reset()

    def heal(self, source: str, target: str) -> None:
        """Both ways between two hosts are whole again."""
        self._cuts.pop((source, target), None)
        self._cuts.pop((target, source), None)

    def heal_all(self) -> None:
        self._cuts.clear()

    def statistics(self) -> FabricStatistics:
        return FabricStatistics(self._sent, self._lost, self._duplicated, self._cut)

    # --- for hosts and streams -------------------------------------------------------------

    def find(self, ip: str) -> SimNetwork | None:
        return self._hosts.get(ip)

    def is_cut(self, source: str, target: str) -> bool:
        return (source, target) in self._cuts

    def next_serial(self) -> int:
        """Orders what arrives at the same instant."""
        return next(self._serial)

    def travel_s(self, source: str, target: str) -> float:
        link = self._links.get((source, target), self.link)
        return link.delay_s + link.jitter_s * self._rng.random()

    def carry(self, data: bytes, source: Address, target: Address) -> None:
        """One packet on its way, which may end anywhere."""
        self._sent += 1
        if self.is_cut(source.host, target.host):
            self._cut += 1
            return
        link = self._links.get((source.host, target.host), self.link)
        if self._rng.random() < link.loss:
            self._lost += 1
            return
        copies = 1
        if self._rng.random() < link.duplicate:
            self._duplicated += 1
            copies = 2
        host = self.find(target.host)
        endpoint = host.packets.get(target.port) if host is not None else None
        for _ in range(copies):
            arrives_at = self.time.now() + self.travel_s(source.host, target.host)
            if endpoint is not None:
                endpoint.arrive(arrives_at, data, source)

    def connect(
        self, dialler: SimNetwork, source: Address, acceptor: SimNetwork, target: Address
    ) -> tuple[SimStream, SimStream]:
        """Both ends of a new stream: the dialler's and the acceptor's."""
        pair = _Pair(self, (dialler, acceptor), (source, target))
        self._streams[pair.serial] = pair
        return pair.ends

    def forget(self, serial: int) -> None:
        self._streams.pop(serial, None)


class SimNetwork:
    """A `Network` for the process on one host."""

    def __init__(self, fabric: SimFabric, ip: str, clock: SimClock) -> None:
        self.ip = ip
        self.clock = clock
        self.packets: dict[int, SimPackets] = {}
        self.listeners: dict[int, SimListener] = {}
        self.streams: dict[int, SimStream] = {}
        self._fabric = fabric
        self._next_port = PORT_FIRST

    async def open_packets(self, bind: Address) -> SimPackets:
        endpoint = SimPackets(self._fabric, self, self._bound(bind, "bind UDP", self.packets))
        self.packets[endpoint.address.port] = endpoint
        return endpoint

    async def listen(self, bind: Address) -> SimListener:
        listener = SimListener(self, self._bound(bind, "listen on TCP", self.listeners))
        self.listeners[listener.address.port] = listener
        return listener

    async def dial(self, to: Address) -> SimStream:
        """Errors: ConnectionRefusedError where nobody listens, TimeoutError into a cut."""
        fabric, here = self._fabric, Address(self.ip, self._take_port())
        await self.clock.sleep(fabric.travel_s(self.ip, to.host))
        host = fabric.find(to.host)
        if host is None or fabric.is_cut(self.ip, to.host) or fabric.is_cut(to.host, self.ip):
            await self.clock.sleep(UNREACHABLE_S)
            raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
        listener = host.listeners.get(to.port)
        if listener is None:
            raise ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
        ours, theirs = fabric.connect(self, here, host, to)
        listener.arrive(theirs)
        try:
            await self.clock.sleep(fabric.travel_s(to.host, self.ip))
        except BaseException:  # nobody is there any more to hold the stream
            ours.pair.reset()
            raise
        return ours

    def own_host(self, towards: Address | None, bound: str) -> str | None:  # noqa: ARG002
        return self.ip

    def kill(self) -> None:
        """The process is gone: ports are free, streams are reset, waiting tasks get errors."""
        for endpoint in list(self.packets.values()):
            endpoint.close()
        for listener in list(self.listeners.values()):
            listener.close()
        for stream in list(self.streams.values()):
            stream.pair.reset()

    def _take_port(self) -> int:
        port, self._next_port = self._next_port, self._next_port + 1
        return port

    def _bound(self, bind: Address, action: str, taken: Mapping[int, object]) -> Address:
        """Where a socket gets bound. Errors: LocalError, as a real one."""
        error = 0
        if bind.host != self.ip and not ipaddress.ip_address(bind.host).is_unspecified:
            error = errno.EADDRNOTAVAIL
        elif bind.port in taken:
            error = errno.EADDRINUSE
        if error:
            raise LocalError(f"cannot {action} {bind}: {os.strerror(error)}")
        return Address(self.ip, bind.port or self._take_port())


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


class _Pair:
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

    def __init__(self, pair: _Pair, host: SimNetwork, *, local: Address, remote: Address) -> None:
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
