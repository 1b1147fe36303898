"""When a follower answers its leader, where the sync of what it was sent is still under way.

An answer says up to where its sender's disk has everything. One that is given before the sync says
nothing new, and the one after it comes a moment later; under load they were half of all frames, and
a put at one client took a fifth longer. But a leader takes a silent follower for a dead one, and a
disk may hang: so an answer that says nothing new waits for the sync, and no longer than `WAIT_S`
since the last one.

Rejected: to answer only heartbeats so. Under load every append has entries, and none would be
answered while a disk hangs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from muster_protocol.raftguard.events import Claim, ClaimKind, LogView, SendFrame
from muster_protocol.wire.raft import Ack

if TYPE_CHECKING:
    from muster_protocol.effects import Effect
    from muster_protocol.types import NodeId

WAIT_S: Final = 0.1
"""Below a heartbeat (0.25 s): a leader hears as often as without load, and its fallback time of
1.5 s is far."""


class Answers:
    """Those of one follower."""

    def __init__(self, log: LogView) -> None:
        self._log = log
        self._owed: tuple[NodeId, int, int] | None = None
        """To whom, up to which index, in which term, once the sync has ended."""
        self._to: tuple[NodeId | None, int] = (None, 0)
        self._durable = 0
        self._at = float("-inf")

    def leader_forgotten(self) -> None:
        """Nothing is owed any more."""
        self._owed = None

    def acknowledge(
        self, leader: NodeId, index: int, term: int, *, heard_at: float | None
    ) -> tuple[Effect, ...]:
        """Acknowledge up to `index`, as far as it is durable; the rest is owed. `heard_at`: when
        the leader spoke, to which this answers; None if that is unknown.

        Nothing is durable in a term that itself is not, or that the engine is only about to
        adopt with the message that is being answered.
        """
        term_is_durable = term == self._log.current_term and self._log.term_is_durable
        durable = min(index, self._log.durable_index) if term_is_durable else 0
        self._owed = (leader, index, term) if durable < index else None
        if not self._is_due(leader, term, durable, heard_at=heard_at):
            return ()
        if durable == 0:
            return (keep_alive(leader, self._log),)
        ack = Ack(term=term, next_index=durable + 1, success=True, reset=False)
        return (Claim(ClaimKind.ACK, term, durable), SendFrame(leader, ack))

    def after_sync(self, *, heard_at: float | None) -> tuple[Effect, ...]:
        """What is owed, as far as it is durable now."""
        if self._owed is None or self._owed[2] != self._log.current_term:
            return ()
        return self.acknowledge(*self._owed, heard_at=heard_at)

    def _is_due(self, leader: NodeId, term: int, durable: int, *, heard_at: float | None) -> bool:
        """Is this answer to be given now? It is taken to be, if so."""
        is_news = (leader, term) != self._to or durable > self._durable
        is_early = heard_at is not None and heard_at < self._at + WAIT_S
        if self._owed is not None and not is_news and is_early:
            return False
        self._to, self._durable = (leader, term), durable
        self._at = self._at if heard_at is None else heard_at
        return True


def keep_alive(leader: NodeId, log: LogView) -> SendFrame:
    """We are there, and acknowledge nothing."""
    return SendFrame(leader, Ack(log.current_term, log.last_index + 1, success=False, reset=False))
