"""Changes of the electorate of bare voters, drawn: what a steward might do, and what it must not.

Every leader is asked, those too that are none any more. A node is enlisted, made a learner, made a
voter, removed, and added again with another journal; now and then two voters are to change at once,
which has to be refused. Who has been told by somebody, of an electorate that is committed and newer
than its own, that it has no seat, forgets everything.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

from muster.agents.consistency.raft.core import ProposeElectorate
from muster.sim.checkers.violated import Violated
from muster.sim.machines.raft import RaftVoters
from muster.sim.machines.voter import SimVoter
from muster_protocol.limits import VOTERS_MAX
from muster_protocol.raftguard.electorate import promoted, with_learner, with_witness, without
from muster_protocol.types import NodeId
from muster_protocol.wire.raft import Configuration, Voter


class Reconfiguring:
    """Of one cluster."""

    def __init__(self, voters: RaftVoters, rng: random.Random) -> None:
        self._voters = voters
        self._rng = rng
        self._changes: tuple[Callable[[SimVoter], Configuration | None], ...] = (
            self._learner,
            self._learner,
            self._voter,
            self._voter,
            self._removal,
            self._two_at_once,
            *((self._witness,) if voters.witness is not None else ()),
        )

    def change(self) -> None:
        """Ask each leader for one change, and let nodes go that have no seat. Errors: Violated."""
        for leader in self._voters.leaders():
            wanted = self._rng.choice(self._changes)(leader)
            if wanted is not None and leader.up:
                self._voters.step(leader, ProposeElectorate(wanted))
        for node in [node for node in self._voters.nodes.values() if self._is_dismissed(node)]:
            if self._rng.random() < 0.5:
                self._voters.retire(node.id)

    def seated(self, leader: SimVoter) -> Iterator[SimVoter]:
        """Who has a seat, as this leader knows it, and the journal that belongs to it."""
        for seat in leader.journal.configuration.seats:
            node = self._voters.nodes.get(NodeId(seat.node))
            if node is not None and node.birth.generation == seat.generation:
                yield node

    # --- what to change ---------------------------------------------------------------------

    def _learner(self, leader: SimVoter) -> Configuration | None:
        now = leader.journal.configuration
        witness = self._voters.witness
        ids = [each for each in self._voters.ids if witness is None or each != witness.id]
        others = [each for each in ids if now.seat(each) is None]
        if not others or len(now.learners) == VOTERS_MAX:
            return None
        seat = self._voters.enlist(self._rng.choice(others), now)
        return with_learner(now, seat) if seat is not None else None

    def _voter(self, leader: SimVoter) -> Configuration | None:
        now = leader.journal.configuration
        wanted = [promoted(now, each.node) for each in now.learners]
        ready = [each for each in wanted if not leader.core.guard.why_not_change(each)]
        return self._rng.choice(ready) if ready else None

    def _removal(self, leader: SimVoter) -> Configuration | None:
        now = leader.journal.configuration
        others = [each.node for each in now.seats if each.node != leader.id]
        return without(now, self._rng.choice(others)) if others else None

    def _witness(self, leader: SimVoter) -> Configuration | None:
        """It gets a seat, if it has none. Its promises are those of its earlier one."""
        now, witness = leader.journal.configuration, self._voters.witness
        if witness is None or now.witness:
            return None
        return with_witness(now, Voter(witness.id, witness.generation))

    def _two_at_once(self, leader: SimVoter) -> Configuration | None:
        """Errors: Violated if it is not refused."""
        now = leader.journal.configuration
        others = [each.node for each in now.voters if each.node != leader.id]
        if len(others) < 2:
            return None
        one, two = self._rng.sample(others, 2)
        self._voters.step(leader, ProposeElectorate(without(without(now, one), two)))
        if leader.journal.configuration.index != now.index:
            raise Violated("one change at a time", f"{leader.name} removed {one} and {two} at once")
        return None

    def _is_dismissed(self, node: SimVoter) -> bool:
        mine = node.journal.configuration.index
        for each in self._voters.live():
            told = each.journal.electorates.at(each.journal.commit_index)
            seat = told.seat(node.id)
            is_mine = seat is not None and seat.generation == node.birth.generation
            if told.index > mine and not is_mine:
                return True
        return False
