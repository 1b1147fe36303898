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
import ipaddress
import itertools
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from muster.clock import TrioClock
from muster.sim.links import Link
from muster.sim.packets import BUFFER_PACKETS, MTU_BYTES, SimPackets
from muster.sim.streams import WINDOW_BYTES, Pair, SimListener, SimStream
from muster_protocol.errors import LocalError
from muster_protocol.types import Address

if TYPE_CHECKING:
    from muster.sim.clock import SimClock
    from muster_protocol.types import Rng

__all__ = ["BUFFER_PACKETS", "MTU_BYTES", "WINDOW_BYTES", "FabricStatistics", "Link", "SimFabric",
           "SimListener", "SimNetwork", "SimPackets", "SimStream"]  # fmt: skip

UNREACHABLE_S: Final = 3.0
"""Until a connection attempt into a cut fails: after two lost SYNs, where Linux goes on longer."""

PORT_FIRST: Final = 49_152
"""The dynamic ports of RFC 6335."""


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
        self._streams: dict[int, Pair] = {}
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
        pair = Pair(self, (dialler, acceptor), (source, target))
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
