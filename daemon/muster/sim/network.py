"""A network in memory: packets and streams between simulated hosts, with faults from a seed.

Nothing runs in the background. What is sent gets the instant at which it arrives, and the receiver
waits for that instant; so the same seed gives the same run, and a thousand nodes need no task of
their own here.

- `links`: how the ways between hosts behave, and what is cut, clogged or without power;
- `packets`: delayed, lost, repeated and reordered; a full socket buffer drops them;
- `connection` and `streams`: in order, with retransmissions; a cut is silent, so a stream that is
  cut goes on after the heal, breaks after a quarter of an hour, or is reset by a host that does
  not know it any more.

Host names are IP addresses. A paused host (`SimClock.pause`) reads nothing, but the network goes
on filling its buffers. A host without power answers nothing; one without a process refuses.
"""

from __future__ import annotations

import errno
import ipaddress
import itertools
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final, Literal

from muster.clock import TrioClock
from muster.sim.connection import STREAM_TIMEOUT_S, End
from muster.sim.links import LAN, MTU_BYTES, WAN, FabricStatistics, Link, Ways
from muster.sim.packets import BUFFER_PACKETS, Mailbox, SimPackets
from muster.sim.streams import WINDOW_BYTES, SimListener, SimStream
from muster_protocol.errors import LocalError
from muster_protocol.types import Address

if TYPE_CHECKING:
    from muster.sim.clock import SimClock
    from muster_protocol.types import Rng

__all__ = ["BUFFER_PACKETS", "LAN", "MTU_BYTES", "STREAM_TIMEOUT_S", "WAN", "WINDOW_BYTES",
           "FabricStatistics", "Link", "SimFabric", "SimListener", "SimNetwork", "SimPackets",
           "SimStream"]  # fmt: skip

UNREACHABLE_S: Final = 3.0
"""Until a connection attempt into a cut fails: after two lost SYNs, where Linux goes on longer."""

PORT_FIRST: Final = 49_152
"""The dynamic ports of RFC 6335."""

Delivery = Callable[[Literal["packet", "stream"], Address, Address, bytes], None]
"""What came, from where, to where, and the bytes."""


class SimFabric:
    """The cables between all hosts of a run."""

    def __init__(
        self, rng: Rng, *, link: Link | None = None, on_delivery: Delivery | None = None
    ) -> None:
        """`link` is how all ways behave that `set_link` does not say otherwise of. `on_delivery`
        is called at the moment at which a receiver reads something."""
        self.time = TrioClock()
        self.ways = Ways(rng, link or LAN)
        self.on_delivery = on_delivery
        self._serial = itertools.count()
        self._hosts: dict[str, SimNetwork] = {}
        self._mailboxes: dict[Address, Mailbox] = {}
        self._late_s: dict[str, tuple[float, float]] = {}
        self._streams: dict[int, SimStream] = {}
        self._stalled: dict[int, End] = {}

    def host(self, ip: str, clock: SimClock) -> SimNetwork:
        """The network as a process on host `ip` sees it. A new one kills the old one."""
        previous = self._hosts.get(ip)
        if previous is not None:
            previous.kill()
        self._settle()
        self.ways.set_power(ip, is_on=True)
        self._hosts[ip] = SimNetwork(self, ip, clock)
        return self._hosts[ip]

    def statistics(self) -> FabricStatistics:
        return self.ways.statistics()

    # --- faults ------------------------------------------------------------------------------

    @property
    def link(self) -> Link:
        """How all ways behave that have no link of their own."""
        return self.ways.link

    @link.setter
    def link(self, link: Link) -> None:
        self.ways.link = link

    def set_link(self, source: str, target: str, link: Link) -> None:
        """One way between two hosts."""
        self.ways.set_link(source, target, link)

    def reset_link(self, source: str, target: str) -> None:
        """One way between two hosts behaves as those that have no link of their own."""
        self.ways.reset_link(source, target)

    def reset_links(self) -> None:
        """All ways do."""
        self.ways.reset_links()

    def cut(self, source: str, target: str, *, one_way: bool = False) -> None:
        """Nothing gets from `source` to `target`, nor back unless `one_way`. Silent: streams are
        not told, and what they are to carry waits for the heal."""
        self._settle()
        self.ways.cut(source, target)
        if not one_way:
            self.ways.cut(target, source)

    def uncut(self, source: str, target: str, *, one_way: bool = False) -> None:
        """One `cut` is over; others of the same ways may go on."""
        self._settle()
        self.ways.uncut(source, target)
        if not one_way:
            self.ways.uncut(target, source)

    def clog(self, source: str, target: str, for_s: float) -> None:
        """What is sent from `source` to `target` within `for_s` arrives after that. One way."""
        self.ways.clog(source, target, until=self.time.now() + for_s)

    def heal(self, source: str, target: str) -> None:
        """Both ways between two hosts are whole again."""
        self._settle()
        self.ways.heal(source, target)
        self.ways.heal(target, source)

    def heal_all(self) -> None:
        """All ways are whole; streams that are still held are reset. Links, slow readers and hosts
        without power stay as they are."""
        self._settle()
        self.ways.heal_all()
        for stream in list(self._streams.values()):
            if stream.end.not_before > self.time.now():
                stream.reset()

    def reset_streams(self, one: str, other: str) -> None:
        """Both ends of all streams between two hosts are reset, as by a firewall that lost its
        state. New ones may be dialled at once."""
        self._settle()
        for stream in list(self._streams.values()):
            if {stream.end.host, stream.end.peer.host} == {one, other}:
                stream.reset()

    def hold_streams(self, one: str, other: str, for_s: float) -> tuple[SimStream, ...]:
        """What is sent within `for_s` over the streams that lie between two hosts now arrives after
        that, both ways; streams dialled later are free. Returns the diallers' ends."""
        self._settle()
        until = self.time.now() + for_s
        held = [
            stream
            for stream in self._streams.values()
            if {stream.end.host, stream.end.peer.host} == {one, other}
        ]
        for stream in held:
            stream.end.not_before = stream.end.peer.not_before = until
        return tuple(held)

    def reads_late(self, ip: str, min_s: float, max_s: float) -> None:
        """Each packet to this host becomes readable so much later than it arrives, while its timers
        are on time: a slow event loop, as Lifeguard describes it. 0, 0 ends it."""
        if max_s:
            self._late_s[ip] = (min_s, max_s)
        else:
            self._late_s.pop(ip, None)

    def power_off(self, ip: str) -> None:
        """A host is gone, until `host` gives it a new process: nobody is told, and its streams
        stay half-open at their other ends."""
        self._settle()
        self.ways.set_power(ip, is_on=False)
        for stream in list(self._streams.values()):
            for side in (stream, stream.peer):
                if side.end.host == ip:
                    side.lose_power()
        network = self._hosts.get(ip)
        if network is not None:
            network.kill()

    # --- for hosts and streams -----------------------------------------------------------------

    def find(self, ip: str) -> SimNetwork | None:
        """Who answers at `ip`, if anybody."""
        return self._hosts.get(ip) if self.ways.has_power(ip) else None

    def is_cut(self, source: str, target: str) -> bool:
        """Does nothing get from `source` to `target`?"""
        return self.ways.is_cut(source, target)

    def mailbox(self, address: Address) -> Mailbox:
        """What is under way to `address`."""
        mailbox = self._mailboxes.get(address)
        if mailbox is None:
            mailbox = self._mailboxes[address] = Mailbox()
        return mailbox

    def travel_s(self, source: str, target: str) -> float:
        """How long a packet of a handshake takes over a way, clogs included."""
        now = self.time.now()
        return self.ways.piece(source, target, 0, now=now) - now

    def carry(self, data: bytes, source: Address, target: Address) -> None:
        """One packet on its way, which may end anywhere."""
        now = self.time.now()
        for at in self.ways.packet(source.host, target.host, len(data), now=now):
            late_s = self._late_s.get(target.host)
            read_at = at if late_s is None else at + self.ways.late_s(late_s)
            self.mailbox(target).put(read_at, next(self._serial), data, source, now=now)

    def connect(
        self, dialler: SimNetwork, source: Address, acceptor: SimNetwork, target: Address
    ) -> tuple[SimStream, SimStream]:
        """Both ends of a new stream: the dialler's and the acceptor's."""
        ends = [End(self.ways, host.ip, next(self._serial), self._stalled)
                for host in (dialler, acceptor)]  # fmt: skip
        ends[0].peer, ends[1].peer = ends[1], ends[0]
        ours = SimStream(self, dialler, ends[0], local=source, remote=target)
        theirs = SimStream(self, acceptor, ends[1], local=target, remote=source)
        ours.peer, theirs.peer = theirs, ours
        self._streams[ends[0].serial] = ours
        return ours, theirs

    def forget_if_over(self, end: End) -> None:
        """Nothing may come of a connection any more whose ends are both closed."""
        if end.is_over and end.peer.is_over:
            self._streams.pop(end.serial, None)
            self._streams.pop(end.peer.serial, None)

    def _settle(self) -> None:
        """Before anything changes that decides about retransmissions: do those that were due."""
        for end in list(self._stalled.values()):
            end.settle(self.time.now())
            self.forget_if_over(end)


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
            ours.die()
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
            stream.die()

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
