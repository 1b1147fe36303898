"""The ways between hosts: when does what is sent over one arrive, how often, or not at all.

Pure: no trio, no sockets; the time is an argument, chance comes from one seeded stream. A *way*
leads from one host to another; the way back is another one, which may behave differently.

- **Delay**: constant, plus uniform jitter, plus an exponential tail. The uniform part alone is a
  quiet switch; the tail is what queues, wireless and virtual machines add.
- **Bandwidth**: packets and streams of one way queue behind each other. A packet that would wait
  longer than `QUEUE_S` is dropped, as by a router; a stream's own window bounds what it queues.
- **Cut**: nothing gets over the way, silently. **Clog**: what is sent waits for the clog's end and
  arrives then (a stalled switch, a live migration). Both leave alone what is already under way.
- **Off**: a host without power answers nothing at all, not even with a refusal.

Chances that are zero draw nothing, so the default costs one draw for each thing that travels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Final

import msgspec

if TYPE_CHECKING:
    from muster_protocol.types import Rng

MTU_BYTES: Final = 1_472
"""The largest UDP payload in one Ethernet frame over IPv4. Real hosts would send fragments; a
node that needs them has a bug."""

QUEUE_S: Final = 1.0
"""What the buffer of a router holds at most: ten times the usual advice, as home routers do."""

RTO_S: Final = 0.2
"""TCP's first retransmission time-out on a LAN: Linux's TCP_RTO_MIN."""

LOST_IN_A_ROW_MAX: Final = 8
"""Of one piece of a stream, so that `loss=1.0` delays it by 51 s at most; `cut` stops it."""

Way = tuple[str, str]
"""Two hosts: from, to."""

Chance = Annotated[float, msgspec.Meta(ge=0, le=1)]
Delay = Annotated[float, msgspec.Meta(ge=0, le=60)]
MtuBytes = Annotated[int, msgspec.Meta(ge=0, le=65_535)]
BytesPerSecond = Annotated[float, msgspec.Meta(ge=0, le=1e12)]
"""As in scenario files, where they are checked; `Link` believes whoever makes it in code."""


@dataclass(frozen=True, slots=True)
class Link:
    """How one way behaves. The default is a switched LAN: 0.2 to 0.3 ms, nothing lost.

    Chances are 0.0 to 1.0, per packet. Times are in seconds, one way.
    """

    delay_s: Delay = 0.000_2
    jitter_s: Delay = 0.000_1
    """Uniform, 0 to this, drawn each time: more than the pause between two packets reorders."""
    tail_s: Delay = 0.0
    """Mean of an exponential addition: one packet in a thousand takes seven times as much."""
    loss: Chance = 0.0
    """Of a packet. A piece of a stream that is lost comes a retransmission time-out later."""
    duplicate: Chance = 0.0
    reorder: Chance = 0.0
    """Chance that others overtake it, because it takes up to `reorder_s` longer."""
    reorder_s: Delay = 0.005
    """Longer than a burst of packets takes on a LAN, shorter than any time-out of ours."""
    mtu_bytes: MtuBytes = MTU_BYTES
    """Larger packets vanish, as in a tunnel that swallows the "too big" messages. Above
    `MTU_BYTES` it changes nothing: the sending host itself refuses."""
    bandwidth_bytes_s: BytesPerSecond = 0.0
    """0: without limit, which a LAN is for the kilobytes that a cluster says in a second."""


LAN: Final = Link()
WAN: Final = Link(delay_s=0.04, jitter_s=0.005, tail_s=0.005, loss=0.001)
"""Two sites on one continent."""


@dataclass(frozen=True, slots=True)
class FabricStatistics:
    """What became of packets, over all hosts."""

    sent: int
    lost: int
    duplicated: int
    cut: int


class Ways:
    """The state of all ways of a run."""

    def __init__(self, rng: Rng, link: Link) -> None:
        """`link` is how all ways behave that `set_link` does not say otherwise of."""
        self.link = link
        self.are_whole = True
        """Is no way cut, and has every host power? Spares streams the look at each way."""
        self._rng = rng
        self._links: dict[Way, Link] = {}
        self._cuts: dict[Way, int] = {}
        """By how many faults at once."""
        self._clogged_until: dict[Way, float] = {}
        self._busy_until: dict[Way, float] = {}
        self._off: dict[str, None] = {}
        self._sent = self._lost = self._duplicated = self._cut = 0

    # --- faults ------------------------------------------------------------------------------

    def set_link(self, source: str, target: str, link: Link) -> None:
        self._links[source, target] = link

    def reset_link(self, source: str, target: str) -> None:
        self._links.pop((source, target), None)

    def reset_links(self) -> None:
        self._links.clear()

    def cut(self, source: str, target: str) -> None:
        self._cuts[source, target] = self._cuts.get((source, target), 0) + 1
        self._look()

    def uncut(self, source: str, target: str) -> None:
        """One cut less; the way is whole when it was the last."""
        left = self._cuts.pop((source, target), 1) - 1
        if left:
            self._cuts[source, target] = left
        self._look()

    def clog(self, source: str, target: str, *, until: float) -> None:
        """What is sent from `source` to `target` from now on leaves at `until`, not before."""
        self._clogged_until[source, target] = max(
            until, self._clogged_until.get((source, target), 0.0)
        )

    def heal(self, source: str, target: str) -> None:
        """The way is neither cut, however often it was, nor clogged. What waits in a clog stays
        until its end."""
        self._cuts.pop((source, target), None)
        self._clogged_until.pop((source, target), None)
        self._look()

    def heal_all(self) -> None:
        self._cuts.clear()
        self._clogged_until.clear()
        self._look()

    def set_power(self, host: str, *, is_on: bool) -> None:
        """Does the host answer, if only with a refusal?"""
        if is_on:
            self._off.pop(host, None)
        else:
            self._off[host] = None
        self._look()

    def _look(self) -> None:
        self.are_whole = not self._cuts and not self._off

    # --- what travels ------------------------------------------------------------------------

    def is_cut(self, source: str, target: str) -> bool:
        return (source, target) in self._cuts

    def has_power(self, host: str) -> bool:
        return host not in self._off

    def is_open(self, source: str, target: str) -> bool:
        """Does something that leaves now get to a host that takes it?"""
        return (source, target) not in self._cuts and target not in self._off

    def packet(self, source: str, target: str, size: int, *, now: float) -> tuple[float, ...]:
        """The instants at which a packet of `size` bytes arrives: none, one or two."""
        self._sent += 1
        way = (source, target)
        if way in self._cuts:
            self._cut += 1
            return ()
        link = self._links.get(way, self.link)
        if size > link.mtu_bytes or (link.loss and self._rng.random() < link.loss):
            self._lost += 1
            return ()
        leaves = self._leaves(way, now) if self._clogged_until else now
        if link.bandwidth_bytes_s:
            if self._busy_until.get(way, 0.0) > leaves + QUEUE_S:
                self._lost += 1
                return ()
            leaves = self._through(way, link, size, leaves)
        arrives = leaves + self._delay_s(link)
        if link.reorder and self._rng.random() < link.reorder:
            arrives += self._rng.random() * link.reorder_s
        if link.duplicate and self._rng.random() < link.duplicate:
            self._duplicated += 1
            return arrives, leaves + self._delay_s(link)
        return (arrives,)

    def piece(self, source: str, target: str, size: int, *, now: float) -> float:
        """The instant at which `size` bytes of a stream arrive over a way that is open."""
        way = (source, target)
        link = self._links.get(way, self.link)
        leaves = self._leaves(way, now) if self._clogged_until else now
        if link.loss:
            for number in range(LOST_IN_A_ROW_MAX):
                if self._rng.random() >= link.loss:
                    break
                leaves += RTO_S * 2**number
        if link.bandwidth_bytes_s:
            leaves = self._through(way, link, size, leaves)
        return leaves + self._delay_s(link)

    def retransmission_s(self) -> float:
        """The first retransmission time-out of a stream, drawn: what the kernel has measured of
        the way's round trip differs from stream to stream."""
        return RTO_S * (1.0 + self._rng.random())

    def late_s(self, bounds_s: tuple[float, float]) -> float:
        """By how much a slow reader reads one packet later than it arrives."""
        return self._rng.uniform(*bounds_s)

    def statistics(self) -> FabricStatistics:
        return FabricStatistics(self._sent, self._lost, self._duplicated, self._cut)

    def _leaves(self, way: Way, now: float) -> float:
        return max(now, self._clogged_until.get(way, 0.0))

    def _through(self, way: Way, link: Link, size: int, leaves: float) -> float:
        """When the last byte has left, behind all that was sent before."""
        begins = max(leaves, self._busy_until.get(way, 0.0))
        self._busy_until[way] = begins + size / link.bandwidth_bytes_s
        return self._busy_until[way]

    def _delay_s(self, link: Link) -> float:
        delay_s = link.delay_s + link.jitter_s * self._rng.random()
        if link.tail_s:
            delay_s -= link.tail_s * math.log(1.0 - self._rng.random())
        return delay_s
