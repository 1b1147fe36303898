"""Linearizable reads without the log (D26): a leader asks a majority whether it still leads.

The engine calls itself leader for as long as it has not heard otherwise, so that proves nothing
about now. The read index (Ongaro's thesis, 6.4) does:

1. The leader has committed an entry of its own term: before that it does not know how far its
   predecessors had committed.
2. It notes its commit index, and asks all followers; one still in the leader's term says so.
   When a majority has, nobody else had been elected when the round began, so nothing can have been
   committed that is not below that index.
3. Whoever has applied up to the index answers from its own state.

All reads that wait share a round, and one that comes while a round is under way waits for the next:
the round must begin after it. Nothing is written to a disk, by nobody.

Reads have **tickets**, numbers that grow; what is confirmed, is so up to a ticket.

Rejected: a lease by the clock (a paused process or a drifting clock makes it lie), and a log entry
for each batch of reads (a sync on a majority; it was so before).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from muster_protocol.raftguard.events import ReadsConfirmed, ReadsRefused, SendFrame
from muster_protocol.wire.raft import ReadEcho, ReadProbe

if TYPE_CHECKING:
    from muster_protocol.effects import Effect
    from muster_protocol.raftguard.events import LogView
    from muster_protocol.types import NodeId


@dataclass(slots=True)
class ReadRound:
    """One question to all followers."""

    number: int
    ticket: int
    """The newest read that it answers."""

    index: int
    """What was committed when it began."""

    echoed: list[NodeId] = field(default_factory=list)


class ReadIndex:
    """The reads of one voter, for when it leads."""

    def __init__(self, *, majority: int, log: LogView) -> None:
        self.majority = majority
        """Of the electorate in force; it counts the leader itself."""
        self._log = log
        self._number = 0
        self._wanted = 0
        self._settled = 0
        self._round: ReadRound | None = None

    def wanted(self, ticket: int, peers: Iterable[NodeId]) -> tuple[Effect, ...]:
        """A read waits. Asks `peers`, if no round is under way."""
        self._wanted = max(self._wanted, ticket)
        return self.go_on(peers)

    def go_on(self, peers: Iterable[NodeId]) -> tuple[Effect, ...]:
        """Begin a round, if there is something to ask and we may."""
        if self._round is not None or self._wanted <= self._settled or not self._knows_committed():
            return ()
        self._number += 1
        self._round = ReadRound(self._number, self._wanted, self._log.commit_index)
        return self._confirm() if self.majority == 1 else self.ask_again(peers)

    def reconfigured(self, majority: int) -> None:
        """Another electorate is in force. A round that is under way asked the old one: it would
        wait for somebody who is gone, or count one who does not vote any more."""
        self.majority, self._round = majority, None

    def ask_again(self, peers: Iterable[NodeId]) -> tuple[Effect, ...]:
        """To be done now and then: a question is lost with its connection."""
        if self._round is None:
            return ()
        probe = ReadProbe(self._log.current_term, self._round.number)
        return tuple(SendFrame(peer, probe) for peer in peers)

    def echoed(self, peer: NodeId, frame: ReadEcho, peers: Iterable[NodeId]) -> tuple[Effect, ...]:
        """A follower is still in our term; the term is checked."""
        current = self._round
        if current is None or frame.round != current.number or peer in current.echoed:
            return ()
        current.echoed.append(peer)
        if 1 + len(current.echoed) < self.majority:
            return ()
        return (*self._confirm(), *self.go_on(peers))

    def refuse(self) -> tuple[Effect, ...]:
        """We do not lead any more, or say nothing any more: whoever waits has to ask elsewhere."""
        self._round = None
        if self._settled >= self._wanted:
            return ()
        self._settled = self._wanted
        return (ReadsRefused(self._wanted),)

    def _confirm(self) -> tuple[Effect, ...]:
        assert self._round is not None
        done, self._round = self._round, None
        self._settled = done.ticket
        return (ReadsConfirmed(done.ticket, done.index),)

    def _knows_committed(self) -> bool:
        log = self._log
        return log.term_at(log.commit_index) == log.current_term
