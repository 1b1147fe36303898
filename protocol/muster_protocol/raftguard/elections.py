"""When a node may campaign: the pre-vote, and the timers that lead to it.

pysyncobj has no pre-vote (D24) and counts a vote as often as it arrives (D4). Its only brake is
that it campaigns when it is "connected to anyone", so the guard reports peers as connected only
to a leader, or for the one tick that starts a campaign that a majority has promised to support.

A pre-vote is granted when the candidate's log is at least as new as ours and no leader has been
heard for the shortest election time-out (Ongaro's thesis, 9.6 and 4.2.3). A node whose stream from
the leader closed forgets that it heard one: a killed process is noticed in milliseconds that way,
without waiting for a time-out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from muster_protocol.raftguard.causes import ElectionCause

if TYPE_CHECKING:
    from muster_protocol.raftguard.events import LogView
    from muster_protocol.types import NodeId, Rng
    from muster_protocol.wire.raft import PreVoteRequest

ELECTION_MIN_S: Final = 1.0
ELECTION_MAX_S: Final = 1.5
"""Four to six missed heartbeats of 0.25 s: long enough for a loop that stalls for half a second,
and failover stays near etcd's (1.3 s measured)."""

STREAM_LOST_JITTER_S: Final = 0.15
"""After the leader's stream closed: spreads the survivors' pre-votes over three round trips of a
slow LAN and a sync, so that they rarely collide."""


@dataclass(slots=True)
class PreVoteRound:
    """One question to all voters."""

    number: int
    next_term: int
    granted: list[NodeId]


class Elections:
    """Timers and tallies; decides nothing about messages."""

    def __init__(self, *, log: LogView, rng: Rng, now: float) -> None:
        self._log = log
        self._rng = rng
        self._leader_heard: float | None = None
        self._round_number = 0
        self._round: PreVoteRound | None = None
        self._voted_for_us: list[NodeId] = []
        self.deadline = now + self._timeout()
        self.cause = ElectionCause.STARTED
        """Of the election that comes when the deadline has passed."""

    def leader_heard(self, now: float) -> None:
        """A leader of the present term spoke."""
        self._leader_heard = now
        self._round = None
        self.deadline = now + self._timeout()
        self.cause = ElectionCause.LEADER_SILENT

    def leader_lost(self, now: float) -> None:
        """The leader's stream closed: do not wait for a time-out."""
        self._leader_heard = None
        self.deadline = min(self.deadline, now + self._rng.random() * STREAM_LOST_JITTER_S)
        self.cause = ElectionCause.LEADER_STREAM_LOST

    def leadership_lost(self, now: float) -> None:
        """We led and no longer do: give the others a full time-out."""
        self._leader_heard = None
        self.deadline = now + self._timeout()
        self.cause = ElectionCause.LEADERSHIP_LOST

    def vote_granted(self, now: float) -> None:
        """To another candidate: give him a full time-out to win and to say so (Raft, section 5.2).
        Our own attempt, which may be due within milliseconds, would depose him."""
        self._round = None
        self.deadline = now + self._timeout()
        self.cause = ElectionCause.VOTE_IN_VAIN

    @property
    def leader_heard_at(self) -> float | None:
        """When a leader last spoke; None if its stream closed since, or none ever did."""
        return self._leader_heard

    def hears_leader(self, now: float) -> bool:
        return self._leader_heard is not None and now - self._leader_heard < ELECTION_MIN_S

    def start_round(self, now: float) -> PreVoteRound:
        """A new pre-vote; answers to older ones no longer count."""
        self._round_number += 1
        self._round = PreVoteRound(self._round_number, self._log.current_term + 1, [])
        self.deadline = now + self._timeout()
        return self._round

    def count_pre_vote(self, round_number: int, peer: NodeId) -> int:
        """Grants so far in the present round, this one included; 0 for an answer out of round."""
        current = self._round
        if (
            current is None
            or current.number != round_number
            or current.next_term != self._log.current_term + 1
        ):
            return 0
        if peer not in current.granted:
            current.granted.append(peer)
        return len(current.granted)

    def campaign_started(self, now: float) -> None:
        """The engine is a candidate in a new term; try again from a pre-vote if that fails."""
        self._round = None
        self._voted_for_us = []
        self.deadline = now + self._timeout()

    def is_first_vote(self, peer: NodeId) -> bool:
        """True once per peer and campaign."""
        if peer in self._voted_for_us:
            return False
        self._voted_for_us.append(peer)
        return True

    def supports(self, request: PreVoteRequest, now: float) -> bool:
        """Would we vote for the sender?"""
        ours = (self._log.term_at(self._log.last_index) or 0, self._log.last_index)
        return (
            request.next_term > self._log.current_term
            and (request.last_term, request.last_index) >= ours
            and not self.hears_leader(now)
        )

    def _timeout(self) -> float:
        return self._rng.uniform(ELECTION_MIN_S, ELECTION_MAX_S)
