"""Whom a voter has streams to, and whose word counts with it.

A seat is a node with one journal generation (D23). A node of the cluster with another generation,
or without a seat in the electorate as we know it, is a **stranger**. It is heard all the same, and
answered: our electorate may be the older one, and the stranger a voter or even the leader that a
later one made. Hearing it is harmless (Ongaro's dissertation, 4.2.2): what a leader sends is bound
to a term that a majority of voters gave it, and a vote of ours counts only with a candidate that
has us among its voters. What a stranger answers, though, counts for nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from muster_protocol.types import NodeId

if TYPE_CHECKING:
    from muster_protocol.wire.raft import Configuration


class Peers:
    """The other nodes that one voter deals with."""

    def __init__(self, *, me: NodeId, generation: str, configuration: Configuration) -> None:
        self.me = me
        self._generation = generation
        self._links: dict[NodeId, tuple[int, str]] = {}
        self.reconfigured(configuration)

    def reconfigured(self, configuration: Configuration) -> None:
        """Another electorate is in force."""
        self.configuration = configuration
        self.voters = tuple(NodeId(v.node) for v in configuration.voters if v.node != self.me)
        self.learners = tuple(NodeId(v.node) for v in configuration.learners if v.node != self.me)
        mine = configuration.seat(self.me)
        has_seat = mine is not None and mine.generation == self._generation
        self.may_campaign = has_seat and configuration.is_voter(self.me)
        """We are a voter; a learner and who was removed only follow."""

    # --- streams ----------------------------------------------------------------------------

    def up(self, peer: NodeId, epoch: int, generation: str) -> None:
        """A stream to a node with this journal is open; it takes the place of an older one."""
        self._links[peer] = (epoch, generation)

    def down(self, peer: NodeId, epoch: int) -> bool:
        """That stream is gone. False if a newer one has taken its place."""
        if not self.is_current(peer, epoch):
            return False
        del self._links[peer]
        return True

    def is_current(self, peer: NodeId, epoch: int) -> bool:
        """Did this come over the stream that is open now?"""
        return self._links.get(peer, (0, ""))[0] == epoch

    # --- who counts -------------------------------------------------------------------------

    @property
    def seated(self) -> tuple[NodeId, ...]:
        """All others with a seat."""
        return (*self.voters, *self.learners)

    def connected(self) -> tuple[NodeId, ...]:
        """The other voters to which a stream is open, in order of their ids."""
        return tuple(peer for peer in self.voters if self.has_seat(peer))

    def connected_replicas(self) -> tuple[NodeId, ...]:
        """Those that have the log: not the witness."""
        return tuple(peer for peer in self.connected() if peer != self.configuration.witness)

    def followers(self) -> tuple[NodeId, ...]:
        """Those, and the learners: to whom a leader sends the log."""
        learners = (peer for peer in self.learners if self.has_seat(peer))
        return (*self.connected_replicas(), *learners)

    def has_seat(self, peer: NodeId) -> bool:
        """Is it there, and with the journal to which its seat belongs?"""
        seat, link = self.configuration.seat(peer), self._links.get(peer)
        return seat is not None and link is not None and link[1] == seat.generation

    def counts(self, peer: NodeId) -> bool:
        """Is it there, and does its vote count?"""
        return self.has_seat(peer) and self.configuration.is_voter(peer)
