"""One life of a bare voter: the product's core, journal and snapshots, recovered from a disk.

The disk outlives it. What a voter must not do after its end nobody asks it to do: every event that
concerns it looks at `up` first, and a voter that starts again is another object.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from muster.agents.consistency.compaction import Compaction, Replicated, SnapshotPolicy
from muster.agents.consistency.raft.core import RaftCore
from muster.agents.consistency.raft.engine import FIRST_ENTRY
from muster.sim.disk import SimDisk
from muster.sim.machines.applied import History
from muster.sim.machines.snapshots import StoreQueue
from muster.storage.files import Files
from muster.storage.journal import SEGMENT_BYTES_MAX, Journal, is_segment
from muster.storage.recovery import create_journal, open_journal
from muster.storage.snapshots import SnapshotStore, is_snapshot
from muster.storage.superblock import SUPERBLOCK_FORMAT, Superblock
from muster_protocol.effects import Notify
from muster_protocol.raftguard.transfer import Transfer
from muster_protocol.types import NodeId, Size
from muster_protocol.wire.raft import Configuration

CLUSTER: Final = "c" * 32
MARK_KEY: Final = b"k" * 16
GENERATION: Final = "0" * 16
"""Of all founders' journals."""


@dataclass(frozen=True, slots=True)
class Watcher:
    """Who is told what a voter applies, and when its whole history was replaced."""

    applied: Callable[[SimVoter, int, bytes], None]
    replaced: Callable[[SimVoter], None]


@dataclass(frozen=True, slots=True)
class Birth:
    """Of a journal: its number, and the electorate with which it began."""

    number: int
    configuration: Configuration

    @property
    def generation(self) -> str:
        return f"{self.number:016x}"

    @property
    def mark(self) -> str:
        """Tells the lives of a node apart that had several journals: each is a member of its own,
        and what one has promised the next one knows nothing of."""
        return f"/{self.number}" if self.number else ""


class SimVoter:
    """A voter that runs, or did."""

    def __init__(
        self,
        node_id: NodeId,
        disk: SimDisk,
        birth: Birth,
        *,
        policy: SnapshotPolicy,
        segment_bytes_max: int = SEGMENT_BYTES_MAX,
        rng: random.Random,
        now: float,
        watcher: Watcher,
    ) -> None:
        """Errors: StorageError, StorageCorrupt."""
        self.id = node_id
        self.birth = birth
        self.name = f"n{int(node_id, 16)}{birth.mark}"
        self.disk = disk
        self.files = disk.mount()
        self.store = SnapshotStore(self.files)
        self.journal, self.history = load(self.files, self.store, node_id, birth)
        self.journal.segment_bytes_max = segment_bytes_max
        self.up = True
        self.committing = False
        self.under_way: Callable[[], None] | None = None
        """The commit that has begun."""
        self.is_taking = self.is_installing = self.is_imaging = False
        self.store_queue = StoreQueue()
        self.transfer = Transfer()
        self.links: dict[NodeId, int] = {}
        self.notes: list[Notify] = []
        self._watcher = watcher
        self.core = RaftCore(
            me=node_id,
            journal=self.journal,
            rng=rng,
            now=now,
            apply=self._apply,
        )
        self.compaction = Compaction(
            core=self.core,
            store=self.store,
            files=self.files,
            state=Replicated(lambda: self.history.capture(), History.restore, self._replace),
            policy=policy,
        )
        watcher.replaced(self)

    @property
    def generation(self) -> str:
        """Of its journal."""
        return self.birth.generation

    @property
    def applied(self) -> list[tuple[int, bytes]]:
        """Index and command of all that was ever applied."""
        return self.history.items

    def sizes_on_disk(self) -> Iterator[Size]:
        """Files. Only when nothing is on its way to be removed."""
        yield self.journal_files()
        yield Size("snapshots", sum(map(is_snapshot, self.disk.files)), 1)

    def journal_files(self) -> Size:
        """The same of the journal's alone."""
        return Size("journal files", sum(map(is_segment, self.disk.files)), self.journal.segments)

    def holds(self, index: int, term: int) -> bool:
        """Is this committed entry on the disk, in the log or in a snapshot?"""
        journal = self.journal
        if journal.manifest is not None and index <= journal.manifest.last.index:
            return True
        return index <= journal.durable_index and journal.term_at(index) == term

    def _apply(self, data: bytes, index: int) -> None:
        self.history.apply(data, index)
        self._watcher.applied(self, index, data)

    def _replace(self, history: History, index: int) -> None:
        assert history.last_index <= index, "a snapshot goes beyond its own index"
        self.history = history
        self._watcher.replaced(self)


def load(
    files: Files, store: SnapshotStore, node_id: NodeId, birth: Birth
) -> tuple[Journal, History]:
    """Recover a voter, as `load_state` of the shell does; found it if the disk is empty."""
    block = Superblock(SUPERBLOCK_FORMAT, node_id, CLUSTER, birth.generation, MARK_KEY)
    if not files.names():
        journal = create_journal(files, block, birth.configuration, FIRST_ENTRY)
        _commit_now(journal)
        return journal, History()
    newest = store.newest()
    journal, _ = open_journal(files, block, newest[0] if newest else None)
    return journal, History.restore(newest[1]) if newest else History()


def _commit_now(journal: Journal) -> None:
    work = journal.begin_commit()
    assert work is not None
    work()
    journal.end_commit()
