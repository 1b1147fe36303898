"""One connection as the kernels of two hosts see it: what TCP does when the network is bad.

Pure: no trio; the time is an argument. Nothing is scheduled: an end says when it has to be looked
at again (`wake_to_read_at`), and whoever waits on it does so. Between two looks nothing may change
that decides about retransmissions, so the fabric settles all stalled ends *before* it cuts, heals,
or takes or gives power.

- What is sent over an open way arrives, in order. Over a cut way, or to a host without power, it
  is held and retransmitted with pauses that double from 0.2-0.4 s to 120 s. So after a heal it
  arrives late, maybe behind what a *new* connection brought, and after `STREAM_TIMEOUT_S` the
  sender gives up. Nobody is told of a cut: an end that sends nothing never learns of it.
- Where only the way back is cut, the acknowledgements are missing: the first pieces arrive, and
  from the first retransmission on nothing new is sent.
- A process that ends resets its connections, over whatever ways are open. A host that loses power
  does not: to its peers the connections stay half-open. What reaches a host that does not know
  the connection (any more) is answered with a reset; that is how they end once it is back.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from muster.sim.links import Ways

RTO_MAX_S: Final = 120.0
"""Linux's TCP_RTO_MAX: the longest pause between two retransmissions."""

STREAM_TIMEOUT_S: Final = 924.6
"""How long data stays unacknowledged until a connection breaks: Linux's 15 retransmissions
(tcp_retries2) from 0.2 s, doubling up to 120 s. muster sets no TCP_USER_TIMEOUT."""


@dataclass(slots=True)
class _Stall:
    """Something is not acknowledged. `pause_s` lies between the next attempt and the one after."""

    next_at: float
    pause_s: float
    gives_up_at: float
    sends_until: float
    """The first retransmission; from then on nothing new goes out."""


class End:
    """One end. `arrivals`: (when, bytes) that can be read here; b"" is the end of the stream."""

    __slots__ = ("_last_arrival", "_stalled", "_ways", "arrivals", "breaks_at", "held", "host",
                 "is_closed", "not_before", "peer", "serial", "stall", "unread_bytes")  # fmt: skip

    def __init__(self, ways: Ways, host: str, serial: int, stalled: dict[int, End]) -> None:
        """`stalled` is where an end stands for as long as it is; by `serial`, which is its own."""
        self.peer: End = self
        self.arrivals: deque[tuple[float, bytes]] = deque()
        self.unread_bytes = 0
        """Sent by the peer, wherever they are, and not read here: the window that is taken."""
        self.is_closed = False
        """Its process has closed it, or there is no such process any more."""
        self._ways = ways
        self.host = host
        self.serial = serial
        self._stalled = stalled
        self.held: deque[bytes] = deque()
        self.stall: _Stall | None = None
        self._last_arrival = 0.0
        self.breaks_at = math.inf
        """From when on this end is reset, or has given up."""
        self.not_before = 0.0
        """When what is sent from here arrives at the earliest. May be changed at any time."""

    @property
    def is_over(self) -> bool:
        """Is there nothing that may still come of it?"""
        return self.is_closed and self.stall is None

    @property
    def is_in_trouble(self) -> bool:
        """Is something not acknowledged, or a reset on its way here?"""
        return self.stall is not None or self.breaks_at != math.inf

    def wake_to_read_at(self) -> float:
        """When something happens, for who wants to read, if nobody does anything."""
        at = self.wake_to_send_at()
        return min(at, self.arrivals[0][0]) if self.arrivals else at

    def wake_to_send_at(self) -> float:
        """The same for who waits for room; that the peer read is told by the peer."""
        at = self.breaks_at
        for end in (self, self.peer):
            if end.stall is not None:
                at = min(at, end.stall.next_at)
        return at

    # --- what its process does ----------------------------------------------------------------

    def send(self, data: bytes, now: float) -> None:
        """Hand over `data` to be brought to the peer; b"" says that no more comes."""
        self.peer.unread_bytes += len(data)
        stall = self.stall
        must_wait = bool(self.held) or (stall is not None and now >= stall.sends_until)
        if must_wait or not self._transmit(data, now):
            self.held.append(data)

    def read(self, bytes_max: int) -> bytes:
        """Take from what has arrived. The end of the stream stays."""
        at, data = self.arrivals[0]
        taken, rest = data[:bytes_max], data[bytes_max:]
        if rest:
            self.arrivals[0] = (at, rest)
        elif data:
            self.arrivals.popleft()
        self.unread_bytes -= len(taken)
        return taken

    def close(self, now: float) -> None:
        """The process closes it: with unread input that resets the peer, as in TCP."""
        self.is_closed = True
        if self.breaks_at <= now:
            return
        if self.unread_bytes > sum(map(len, self.peer.held)):
            self._abandon(now)
            self.send_reset(now)
        else:
            self.send(b"", now)

    def die(self, now: float) -> None:
        """The process has ended, and the kernel closes its connections: the peer is reset."""
        was_broken = self.breaks_at <= now
        self.is_closed = True
        self._abandon(now)
        if not was_broken:
            self.send_reset(now)
        self.arrivals.clear()

    def reset(self, now: float) -> None:
        """A reset comes from somewhere in between."""
        self._abandon(now)

    def lose_power(self, now: float) -> None:
        """The host is gone: nothing is said, and what is under way to it is not acknowledged."""
        self.is_closed = True
        self._abandon(now)
        self._acknowledge_nothing(now)
        self.arrivals.clear()

    # --- what time does -------------------------------------------------------------------------

    def settle(self, now: float) -> None:
        """Do the retransmissions that were due until now."""
        while self.stall is not None and self.stall.next_at <= now:
            stall, at = self.stall, self.stall.next_at
            if at >= stall.gives_up_at or self.breaks_at <= at:
                self._abandon(at)
            elif self._is_answered():
                self._end_stall()
                held, self.held = self.held, deque()
                for data in held:
                    self._transmit(data, at)
                if not held and self.peer.is_gone(at):  # what had arrived is sent again
                    self.peer.send_reset(at)
            else:
                stall.next_at = min(at + stall.pause_s, stall.gives_up_at)
                stall.pause_s = min(2.0 * stall.pause_s, RTO_MAX_S)

    def _is_answered(self) -> bool:
        return self._ways.is_open(self.host, self.peer.host) and self._ways.is_open(
            self.peer.host, self.host
        )

    def _transmit(self, data: bytes, at: float) -> bool:
        """False where it gets lost. The way back decides whether it is acknowledged."""
        ways, peer = self._ways, self.peer
        if not ways.are_whole:
            if not ways.is_open(self.host, peer.host):
                self.begin_stall(at)
                return False
            if not ways.is_open(peer.host, self.host):
                self.begin_stall(at)
        arrives = ways.piece(self.host, peer.host, len(data), now=at)
        arrives = max(arrives, self._last_arrival, self.not_before)
        self._last_arrival = arrives
        if not peer.is_gone(arrives):
            peer.arrivals.append((arrives, data))
        elif data:
            peer.send_reset(arrives)
        return True

    def is_gone(self, at: float) -> bool:
        """Does its host not know the connection (any more)?"""
        return self.is_closed or self.breaks_at <= at

    def send_reset(self, now: float) -> None:
        """Tell the peer that there is no such connection here."""
        if self._ways.is_open(self.host, self.peer.host):
            arrives = self._ways.piece(self.host, self.peer.host, 0, now=now)
            self.peer.breaks_at = min(self.peer.breaks_at, arrives)
        else:
            self._acknowledge_nothing(now)

    def _acknowledge_nothing(self, now: float) -> None:
        """What is under way to here will be retransmitted: nobody answers that it arrived."""
        under_way = [data for at, data in self.arrivals if at > now]
        if under_way and self.peer.breaks_at > now:
            self.arrivals = deque(entry for entry in self.arrivals if entry[0] <= now)
            self.peer.held.extendleft(reversed(under_way))
            self.peer.begin_stall(now)

    def begin_stall(self, now: float) -> None:
        if self.stall is None:
            pause_s = self._ways.retransmission_s()
            self.stall = _Stall(
                next_at=now + pause_s,
                pause_s=2.0 * pause_s,
                gives_up_at=now + STREAM_TIMEOUT_S,
                sends_until=now + pause_s,
            )
            self._stalled[self.serial] = self

    def _end_stall(self) -> None:
        self.stall = None
        self._stalled.pop(self.serial, None)

    def _abandon(self, at: float) -> None:
        """From `at` on it is broken here; what has not left stays unsent."""
        self.breaks_at = min(self.breaks_at, at)
        self.held.clear()
        self._end_stall()
