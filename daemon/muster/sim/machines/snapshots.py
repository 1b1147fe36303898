"""Snapshots of bare voters on the event heap: what the shell does with tasks, as events with a
duration.

The steps and their order are the product's (`agents.consistency.compaction`); here is only what
lies between them. Work on the disk takes time, one at a time for each voter, and the power may fail
between any two operations of it. A snapshot travels on a way of its own, beside the frames, and
breaks if either side dies or the way is cut; what has arrived of it is not sent again.
"""

from __future__ import annotations

import collections
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

from muster.agents.consistency.compaction import SnapshotPolicy
from muster.sim.checkers.bounds import within_bounds
from muster.sim.machines.applied import History
from muster.storage.journal import SEGMENT_BYTES_MAX, Segment
from muster_protocol.errors import RemoteError
from muster_protocol.raftguard.events import SnapshotFailed, SnapshotInstalled
from muster_protocol.types import NodeId
from muster_protocol.wire.raft import Manifest

if TYPE_CHECKING:
    from muster.sim.machines.raft import RaftVoters
    from muster.sim.machines.voter import SimVoter

R = TypeVar("R")

WORK_OPERATIONS: Final = 12
"""About as many operations as it takes to write a small snapshot."""

NEVER: Final = SnapshotPolicy(every_entries=10**9, every_bytes=10**12)


@dataclass(frozen=True, slots=True)
class SnapshotPlan:
    """When snapshots are taken, and how long what belongs to them takes; times in seconds."""

    policy: SnapshotPolicy = NEVER
    segment_bytes_max: int = SEGMENT_BYTES_MAX
    work_s_max: float = 0.05
    transfer_s_max: float = 0.1
    """For the request, and again for each piece."""

    power_failing: float = 0.0
    """Chance of a piece of work that the power fails somewhere in it."""

    piece_bytes: int = 2**30
    """So much of a snapshot arrives at once."""


class StoreQueue:
    """Who uses the snapshots of a voter: one at a time, in order."""

    def __init__(self) -> None:
        self._waiting: collections.deque[Callable[[], None]] = collections.deque()
        self._is_used = False

    def use(self, begin: Callable[[], None]) -> None:
        """Begin now, or when all before it are `done`."""
        if self._is_used:
            self._waiting.append(begin)
        else:
            self._is_used = True
            begin()

    def done(self) -> None:
        """The next one may begin."""
        self._is_used = False
        if self._waiting:
            self.use(self._waiting.popleft())


class Snapshots:
    """Those of all voters of a cluster. A life of a voter that has ended does nothing more."""

    def __init__(self, voters: RaftVoters, plan: SnapshotPlan) -> None:
        self._voters = voters
        self._plan = plan
        self.power_failing = plan.power_failing
        """May be changed at any time."""
        self.taken = self.installed = self.failed = self.imaged = 0
        self.arrived_bytes = 0
        """Of all transfers."""

    # --- taking -----------------------------------------------------------------------------

    def applied(self, node: SimVoter, index: int) -> None:
        """A voter has applied the log up to `index`."""
        if node.compaction.is_due(index) and not node.is_taking:
            node.is_taking = True
            self._voters.at(0.0, self._take, node)

    def _take(self, node: SimVoter) -> None:
        if node.up:
            node.store_queue.use(functools.partial(self._capture, node))

    def _capture(self, node: SimVoter) -> None:
        self._work(node, node.compaction.begin(), functools.partial(self._written, node))

    def _written(self, node: SimVoter, manifest: Manifest) -> None:
        self.taken += 1
        remove = node.compaction.end(manifest)
        if remove is None:
            self._took(node)
        else:
            self._work(node, remove, lambda _: self._removed(node))

    def _removed(self, node: SimVoter) -> None:
        """What the newest snapshot covers is gone from the disk, too. Errors: Violated."""
        within_bounds(node.name, node.sizes_on_disk())
        self._took(node)

    def _took(self, node: SimVoter) -> None:
        node.is_taking = False
        node.store_queue.done()

    # --- images -----------------------------------------------------------------------------

    def committed(self, node: SimVoter) -> None:
        """A commit has ended."""
        if node.journal.is_bloated and not node.is_imaging:
            node.is_imaging = True
            node.store_queue.use(functools.partial(self._image, node))

    def _image(self, node: SimVoter) -> None:
        work = node.compaction.begin_image()
        if work is None:
            self._took_image(node)
        else:
            self._work(node, work, functools.partial(self._imaged, node))

    def _imaged(self, node: SimVoter, image: Segment) -> None:
        self.imaged += 1
        self._work(node, node.compaction.end_image(image), lambda _: self._replaced(node))

    def _replaced(self, node: SimVoter) -> None:
        within_bounds(node.name, (node.journal_files(),))
        self._took_image(node)

    def _took_image(self, node: SimVoter) -> None:
        node.is_imaging = False
        node.store_queue.done()

    # --- installing -------------------------------------------------------------------------

    def fetch(self, node: SimVoter, peer: NodeId, manifest: Manifest) -> None:
        """A leader offered it. Ends with `SnapshotInstalled` or `SnapshotFailed`."""
        node.is_installing = True
        self._voters.at(self._transfer_s(), self._serve, node, peer, manifest)

    def _serve(self, node: SimVoter, peer: NodeId, manifest: Manifest) -> None:
        server = self._voters.nodes.get(peer)  # who has lost its seat meanwhile is there no more
        data = None
        if server is not None and node.up and server.up and server.journal.manifest == manifest:
            data = self._voters.off_loop(server, lambda: server.store.read_data(manifest))
        if data is None or server is None:
            self._fail(node, "the leader did not send it")
        else:
            rest = data[node.transfer.begin(manifest) :]
            self._voters.at(self._transfer_s(), self._arrived, node, server, manifest, rest)

    def _arrived(self, node: SimVoter, server: SimVoter, manifest: Manifest, rest: bytes) -> None:
        """The next piece; the leader sends what it has read, whatever becomes of the file."""
        is_cut = (server.id, node.id) in self._voters.ways.cut
        if is_cut or not node.up or not server.up:
            self._fail(node, "the stream broke")
            return
        piece, rest = rest[: self._plan.piece_bytes], rest[self._plan.piece_bytes :]
        self.arrived_bytes += len(piece)
        node.transfer.take(piece)
        if rest:
            self._voters.at(self._transfer_s(), self._arrived, node, server, manifest, rest)
        else:
            data = node.transfer.release()
            node.store_queue.use(functools.partial(self._save, node, manifest, data))

    def _save(self, node: SimVoter, manifest: Manifest, data: bytearray) -> None:
        work = functools.partial(node.compaction.save, manifest, data)
        self._work(node, work, functools.partial(self._saved, node, manifest))

    def _saved(self, node: SimVoter, manifest: Manifest, history: History) -> None:
        try:
            node.compaction.put_in_force(manifest, history)
        except RemoteError as error:
            self._fail(node, str(error))
            node.store_queue.done()
            return
        self.installed += 1
        node.is_installing = False
        self._voters.step(node, SnapshotInstalled(manifest))
        self._work(node, node.compaction.clean_up(manifest), lambda _: node.store_queue.done())

    def _fail(self, node: SimVoter, reason: str) -> None:
        if node.up:
            self.failed += 1
            node.is_installing = False
            self._voters.step(node, SnapshotFailed(reason))

    # --- time -------------------------------------------------------------------------------

    def _work(self, node: SimVoter, work: Callable[[], R], then: Callable[[R], None]) -> None:
        """Disk work that takes a while, then go on with its result, unless the voter died."""
        delay_s = self._voters.rng.uniform(0.0, self._plan.work_s_max)
        self._voters.at(delay_s, self._do, node, work, then)

    def _do(self, node: SimVoter, work: Callable[[], R], then: Callable[[R], None]) -> None:
        if not node.up:
            return
        if self._voters.rng.random() < self.power_failing:
            node.disk.power_off_in(self._voters.rng.randrange(WORK_OPERATIONS))
        done = self._voters.off_loop(node, lambda: (work(),))
        node.disk.power_off_in(None)
        if done is not None:
            then(done[0])

    def _transfer_s(self) -> float:
        return self._voters.rng.uniform(0.0, self._plan.transfer_s_max)
