"""The leader's side of a witness: when its word is asked for, and how far.

A witness answers at once and has no data. Were it asked for every entry, a leader and its witness
would commit what the other node does not have yet, and the loss of the leader alone would stop the
site: the witness could not vote for the other one any more. So it is **called** only when the data
voters cannot do without it: when too few of them are connected, or nothing was committed for
`STALLED_S` though something waits. It is asked again and again until enough of them are back and
have all that was committed a heartbeat ago: from then on entries wait for them, as ever. Waiting
for them to have all that it was asked for would not end: under load they never have the very last.

Entries are on fewer disks than usual from the moment in which it is called until those others have
all that it was asked for.

What is asked is never beyond the leader's own disk. A follower may have what its leader loses in a
power cut; a witness has nothing, so nobody would ever have the marked entry, and the witness could
vote for nobody.

Between times it hears a heartbeat that asks for nothing, and writes nothing to its disk.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Final

from muster_protocol.raftguard.elections import ELECTION_MIN_S
from muster_protocol.raftguard.events import LogView, SendFrame
from muster_protocol.types import NodeId
from muster_protocol.wire.raft import Configuration, Mark

STALLED_S: Final = ELECTION_MIN_S
"""A follower that acknowledges nothing for so long is as good as gone: a leader that is silent for
so long is, too."""


class Witnessing:
    """Of one leader."""

    def __init__(
        self,
        configuration: Configuration,
        *,
        me: NodeId,
        log: LogView,
        matched: Callable[[NodeId], int],
    ) -> None:
        """`matched`: up to which index a follower is known to have the log, in this term."""
        self._me = me
        self._log = log
        self._matched = matched
        self._is_asking = False
        self._asked = 0
        """The highest index that the witness was asked for in this term."""
        self._back_from = 0
        """Who has so much is back, and is waited for again."""
        self._commit_index = 0
        self._waits_since: float | None = None
        self.reconfigured(configuration)

    def reconfigured(self, configuration: Configuration) -> None:
        """Another electorate is in force."""
        self.node = NodeId(configuration.witness) if configuration.witness else None
        self._others = [
            NodeId(voter.node) for voter in configuration.data_voters if voter.node != self._me
        ]
        self._needed = configuration.majority - 1
        if self.node is None:
            self._is_asking, self._asked = False, 0

    def leadership_began(self) -> None:
        """Nothing of an earlier term counts."""
        self._is_asking, self._asked, self._waits_since = False, 0, None

    @property
    def is_called(self) -> bool:
        """Is there anything that only its word stands for, or will there be?"""
        return self._is_asking or not self._has(self._asked)

    def ask(
        self, connected: Collection[NodeId], now: float, *, is_heartbeat: bool = False
    ) -> tuple[SendFrame, ...]:
        """What to say to the witness now, if anything. One question is on its way at a time; what
        may have been lost with a connection is asked again with the next heartbeat."""
        if self.node is None:
            return ()
        self._look(connected, now)
        if is_heartbeat:
            self._back_from = self._log.commit_index
        if self.node not in connected:
            return ()
        index = self._log.durable_index if self._is_asking else 0
        has_answered = self._matched(self.node) >= self._asked
        if not is_heartbeat and (index <= self._asked or not has_answered):
            return ()
        self._asked = max(self._asked, index)
        term = self._log.term_at(index) if index else None
        mark = (index, term) if term is not None else (0, 0)
        return (SendFrame(self.node, Mark(self._log.current_term, *mark)),)

    def _look(self, connected: Collection[NodeId], now: float) -> None:
        log = self._log
        if log.last_index <= log.commit_index:
            self._waits_since = None
        elif self._waits_since is None or log.commit_index > self._commit_index:
            self._waits_since = now
        self._commit_index = log.commit_index
        are_there = sum(node in connected for node in self._others) >= self._needed
        if self._is_asking:
            if are_there and self._has(self._back_from):
                self._is_asking, self._waits_since = False, now
        elif self._waits_since is not None:
            is_stalled = now >= self._waits_since + STALLED_S
            if is_stalled or not are_there:
                self._is_asking, self._back_from = True, log.last_index

    def _has(self, index: int) -> bool:
        """Is the log up to there on as many disks of data voters as make a majority?"""
        return sum(self._matched(node) >= index for node in self._others) >= self._needed
