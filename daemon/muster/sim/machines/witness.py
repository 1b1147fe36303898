"""One life of a bare witness: the product's machine, with a disk that keeps its promises.

What stands behind a `Persist` waits for it, as in the driver. A crash loses what is on its way to
the disk, or finds it there: either may be.
"""

from __future__ import annotations

import collections
import random

from muster.sim.machines.voter import CLUSTER, GENERATION
from muster_protocol.effects import Effect, Persist
from muster_protocol.raftguard.witness import RECORD_FORMAT, Promises, Witness, load_promises
from muster_protocol.types import NodeId


class SimWitness:
    """A witness that runs, or did; `restart` makes it another one on the same disk."""

    def __init__(self, node_id: NodeId, rng: random.Random) -> None:
        self.id = node_id
        self.name = f"n{int(node_id, 16)}"
        self.generation = GENERATION
        self.up = True
        self.links: dict[NodeId, int] = {}
        self.stored = Promises(RECORD_FORMAT, node_id, CLUSTER, GENERATION)
        """On the disk."""
        self.machine = Witness(self.stored)
        self.outbox: collections.deque[Effect] = collections.deque()
        """What waits for the disk, the first of it at work."""
        self._rng = rng

    def crash(self) -> None:
        """The power fails."""
        self.up = False
        if self.outbox and self._rng.random() < 0.5:
            self.persisted()
        self.outbox.clear()

    def restart(self) -> None:
        """Begin again with what is on the disk."""
        self.up = True
        self.machine = Witness(self.stored)

    def persisted(self) -> None:
        """The first record that waits is on the disk."""
        first = self.outbox.popleft()
        assert isinstance(first, Persist)
        stored = load_promises(first.data, path="simulated")
        assert stored is not None
        self.stored = stored

    def holds(self, index: int, term: int) -> bool:
        """Does it vote for nobody who lacks this entry?"""
        return self.stored.mark >= (term, index)
