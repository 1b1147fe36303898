"""What a leader knows of its followers: how far each is, when it answered, what is on its way.

The rules:

* **Clamped** (D6): the engine counts itself as holding its whole log, synced or not. So an answer
  counts only up to what is on the leader's own disk, and what was cut off of it counts when the
  sync has ended. Only then: the engine takes each answer that it is given for one that just came,
  and a leader that is cut off must notice that none come (D25).
* **Forward**: what a follower has acknowledged in this term is not sent to it again.
* **Window** (D31): the engine would send all that a follower lacks in one call. Past
  `SEND_WINDOW_BYTES` no more is sent to it before it answers, or before the next heartbeat: what
  was sent may have been lost with its connection.
* **Level**: leadership is handed to a follower only that has the whole log, by its own word.

Raft's dissertation (Ongaro, 3.5 and 6.2) has the first and the last; etcd calls such a record
"progress" too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from muster_protocol.raftguard.events import LogView
from muster_protocol.raftguard.translation import engine_ack
from muster_protocol.types import NodeId
from muster_protocol.wire.raft import Ack, Configuration, Voter

SEND_WINDOW_BYTES: Final = 4 * 1024 * 1024
"""Commands on their way to one follower before it answers: a hundred milliseconds of a slow LAN."""


@dataclass(slots=True)
class _Follower:
    acknowledged: int = 0
    """The index up to which it has everything, as it says itself."""
    answered_at: float | None = None
    """When it last answered in this term."""
    is_clamped: bool = False
    """Its newest answer goes beyond our own disk."""
    sent_bytes: int = 0
    """Commands sent since its last answer."""


class Progress:
    """The followers of one voter, for when it leads."""

    def __init__(self, configuration: Configuration, *, me: NodeId, log: LogView) -> None:
        self._me = me
        self._followers: dict[NodeId, _Follower] = {}
        self._seats: dict[NodeId, Voter] = {}
        self._log = log
        self.reconfigured(configuration)

    def reconfigured(self, configuration: Configuration) -> None:
        """Another electorate is in force. What is known of those who stay, with
        the same journal, is kept."""
        seats = {NodeId(seat.node): seat for seat in configuration.seats if seat.node != self._me}
        self._followers = {
            node: self._followers[node] if self._seats.get(node) == seat else _Follower()
            for node, seat in seats.items()
        }
        self._seats = seats
        self._voters = [node for node in seats if configuration.is_voter(node)]
        self._majority = configuration.majority
        """Counts the leader itself."""

    def leadership_began(self) -> None:
        """Nothing that was known in an earlier term counts."""
        for follower in self._followers.values():
            follower.acknowledged, follower.answered_at, follower.is_clamped = 0, None, False

    # --- what is on its way -----------------------------------------------------------------

    def heartbeat_due(self) -> None:
        """What was sent before may be lost: all windows are open again."""
        for follower in self._followers.values():
            follower.sent_bytes = 0

    def sent(self, node: NodeId, command_bytes: int) -> bool:
        """True if the window is full now: send this, and no more before an answer."""
        follower = self._followers[node]
        follower.sent_bytes += command_bytes
        return follower.sent_bytes > SEND_WINDOW_BYTES

    # --- answers ----------------------------------------------------------------------------

    def forward(self, node: NodeId, ack: Ack) -> Ack:
        """The answer, which asks for nothing that its sender has said to have. One that later
        answers have overtaken would take the engine back, and never forward again: an answer that
        says nothing new does not move it, and if the log was trimmed meanwhile, the follower is
        offered a snapshot of what it has, for ever."""
        missing = self._followers[node].acknowledged + 1
        if not ack.reset or ack.next_index >= missing:
            return ack
        return Ack(ack.term, missing, success=ack.success, reset=True)

    def answered(self, node: NodeId, ack: Ack, now: float) -> bool:
        """Note an answer of this term. True if it should be sent more at once instead of with the
        next heartbeat: it has to be sent something again, or the window kept something back."""
        follower = self._followers[node]
        follower.answered_at = now
        if ack.success:
            follower.acknowledged = max(follower.acknowledged, ack.next_index - 1)
            follower.is_clamped = follower.acknowledged > self._log.durable_index
        must_go_on = ack.reset or follower.sent_bytes > SEND_WINDOW_BYTES
        follower.sent_bytes = 0
        return must_go_on

    def clamped(self, ack: Ack) -> Mapping[str, Any]:
        """An answer for the engine, counted no further than our own disk."""
        next_index = ack.next_index
        if ack.success:
            next_index = min(next_index, self._log.durable_index + 1)
        return engine_ack(next_index=next_index, success=ack.success, reset=ack.reset)

    def after_sync(self) -> tuple[tuple[NodeId, Mapping[str, Any]], ...]:
        """Answers that were clamped to our disk and may count further now, for the engine."""
        clamped = [(node, state) for node, state in self._followers.items() if state.is_clamped]
        for _, state in clamped:
            state.is_clamped = state.acknowledged > self._log.durable_index
        return tuple(
            (node, self.clamped(Ack(self._log.current_term, state.acknowledged + 1, True, False)))
            for node, state in clamped
        )

    # --- what follows from them ---------------------------------------------------------------

    def is_level(self, node: NodeId) -> bool:
        """Does it have the whole log?"""
        return self._followers[node].acknowledged == self._log.last_index

    def matched(self, node: NodeId) -> int:
        """Up to where it is known to have the log."""
        return self._followers[node].acknowledged

    def acknowledged(self) -> Mapping[NodeId, tuple[int, float | None]]:
        """Index and time of each follower's latest answer."""
        return {
            node: (follower.acknowledged, follower.answered_at)
            for node, follower in self._followers.items()
        }

    def majority_heard_at(self) -> float | None:
        """When the last answer came that, with ourselves, makes a majority: infinitely late if we
        are one alone, None if there was none in this term."""
        needed = self._majority - 1
        if needed == 0:
            return float("inf")
        times = (self._followers[node].answered_at for node in self._voters)
        answers = sorted((time for time in times if time is not None), reverse=True)
        return answers[needed - 1] if len(answers) >= needed else None
