"""The network between membership machines on the event heap: what arrives, and when.

A packet has a delay and may be lost, repeated or cut off, each way for itself. A stream is not
simulated byte by byte: it is a question that is answered (connected, refused, nothing) after a
while. What loss does to one is reckoned as TCP would fare within the second that a stream probe
has (RFC 6298): a lost SYN or SYN-ACK costs its first retransmission time-out, which is that
second, so both must get through; each of the flights behind them (two of the TLS handshake, two
hellos) has `FLIGHT_TRIES` tries.

**The slow reader** is Lifeguard's sick member, as its replications model it: it reads each packet
0.5-2.5 s late, and its timers are on time.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

from muster_protocol.types import Address

LATENCY_S: Final = (0.0005, 0.0015)
"""One way on a LAN, through a kernel and a Python loop at either end."""

SLOW_READ_S: Final = (0.5, 2.5)

STREAM_TIMEOUT_S: Final = 0.5
"""What is left of the probe interval, on a LAN, when a stream is tried."""

FLIGHTS: Final = 4
FLIGHT_TRIES: Final = 3
"""At retransmission time-outs of 0.2 s and 0.4 s, which is what Linux's smallest comes to."""

Way = Callable[[Address, Address], bool]
Chance = Callable[[Address, Address], float]


class GossipNetwork:
    """Draws what becomes of packets and streams. Everything may be changed while it is used."""

    def __init__(self, rng: random.Random, *, loss: float = 0.0) -> None:
        self._rng = rng
        self.loss = loss
        """Chance of every packet to be lost, beside what `loss_of` says."""

        self.repeated = 0.0
        """Chance of a packet to come twice."""

        self.latency_s = LATENCY_S
        self.is_udp_blocked = False
        """Packets are dropped and streams get through, as behind a careless firewall."""

        self.is_cut: Way | None = None
        """Whether nothing gets from one address to another."""

        self.loss_of: Chance | None = None
        """Chance of loss from one address to another."""

    def cut(self, groups: dict[Address, int]) -> None:
        """Those of different groups do not reach each other."""
        self.is_cut = lambda source, to: groups.get(source) != groups.get(to)

    def heal(self) -> None:
        """No cut, no loss, no block."""
        self.is_cut = self.loss_of = None
        self.is_udp_blocked = False
        self.loss = self.repeated = 0.0
        self.latency_s = LATENCY_S

    def deliveries(self, source: Address, to: Address) -> tuple[float, ...]:
        """The delays after which one packet arrives: none, once or twice."""
        if self.is_udp_blocked or self._rng.random() < self.chance_of_loss(source, to):
            return ()
        delay_s = self._rng.uniform(*self.latency_s)
        if self.repeated and self._rng.random() < self.repeated:
            return delay_s, self._rng.uniform(*self.latency_s)
        return (delay_s,)

    def connects(self, source: Address, to: Address) -> bool:
        """Whether a stream between two hosts that are both there comes about in time."""
        there, back = self.chance_of_loss(source, to), self.chance_of_loss(to, source)
        if there == back == 0.0:
            return True
        chance = (1.0 - there) * (1.0 - back)
        for flight in range(FLIGHTS):
            chance *= 1.0 - (back if flight % 2 else there) ** FLIGHT_TRIES
        return self._rng.random() < chance

    def delay_s(self, *, is_slow: bool = False) -> float:
        """One way, once; of a slow reader with the time until he reads it."""
        delay_s = self._rng.uniform(*self.latency_s)
        return delay_s + self._rng.uniform(*SLOW_READ_S) if is_slow else delay_s

    def reading_s(self) -> float:
        """How late a slow reader reads one packet."""
        return self._rng.uniform(*SLOW_READ_S)

    def chance_of_loss(self, source: Address, to: Address) -> float:
        """1 where the way is cut."""
        if self.is_cut is not None and self.is_cut(source, to):
            return 1.0
        return self.loss if self.loss_of is None else max(self.loss, self.loss_of(source, to))
