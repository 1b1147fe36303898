"""When a leader gives leadership away: it is asked to, or its disk is stuck.

The follower that gets it must have the whole log, by its own word, and is then told to campaign
(Ongaro's thesis, 3.10). Meanwhile nothing new is taken into the log: under load it would never be
whole anywhere else, and what is appended after the word was given would be lost (D34). Who asks is
refused, and asks again at the next leader. If nobody takes over within `HANDOVER_S`, all goes on.

**A stuck disk** would otherwise keep its leader for as long as it hangs: the leader answers, so
nobody elects another one, and commits nothing, because it counts only what is on its own disk. Who
takes over has proved that his disk works: he has acknowledged what ours has not. So disks that are
all equally slow do not pass leadership round.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from muster_protocol.raftguard.elections import ELECTION_MAX_S
from muster_protocol.raftguard.events import LogView, SendFrame
from muster_protocol.types import NodeId
from muster_protocol.wire.raft import TimeoutNow

HANDOVER_S: Final = 1.0
"""How long a handover may take. With a level follower it takes a round trip and two syncs."""

STUCK_S: Final = ELECTION_MAX_S
"""A leader whose sync takes so long is as good as one that is silent for so long."""


class Handover:
    """One leader's wish to be one no more."""

    def __init__(self, *, log: LogView) -> None:
        self._log = log
        self._until: float | None = None
        self._is_told = False
        self._avoid: tuple[NodeId, ...] = ()
        self._durable_lsn = 0
        self._stuck_since = 0.0
        self._is_stuck = False

    @property
    def is_wanted(self) -> bool:
        """Nothing new may be proposed."""
        return self._until is not None

    def begin(self, now: float, avoid: tuple[NodeId, ...] = ()) -> None:
        """Leadership is to be given away, but to none of `avoid`."""
        self._until, self._is_told, self._avoid = now + HANDOVER_S, False, avoid

    def tell(
        self, followers: Iterable[NodeId], is_level: Callable[[NodeId], bool]
    ) -> tuple[SendFrame, ...]:
        """Tell the first follower that has everything to campaign; later, if none has it yet."""
        if self._until is None or self._is_told:
            return ()
        for peer in followers:
            if is_level(peer) and peer not in self._avoid:
                self._is_told = True
                return (SendFrame(peer, TimeoutNow(self._log.current_term)),)
        return ()

    def role_changed(self, now: float) -> None:
        """What was wanted is done, or has become pointless."""
        self._until = None
        self._stuck_since = now

    def expire(self, now: float) -> None:
        """Give up what nobody took over in time."""
        if self._until is not None and now >= self._until:
            self._until = None

    def looks_at_disk(self, now: float) -> bool:
        """To be called with every heartbeat. A disk is stuck that has taken nothing for too long,
        though something waits for it: then leadership is to be given away, until it moves. True
        when that begins."""
        was_stuck, durable, log = self._is_stuck, self._durable_lsn, self._log
        self._durable_lsn = log.durable_lsn
        if log.durable_lsn >= log.lsn or log.durable_lsn != durable:
            self._stuck_since = now
        self._is_stuck = now - self._stuck_since >= STUCK_S
        if self._is_stuck and self._until is None:
            self.begin(now)
        return self._is_stuck and not was_stuck
