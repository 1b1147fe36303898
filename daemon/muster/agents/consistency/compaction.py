"""Snapshots of a voter step by step: taken and installed in the one order that loses nothing.

Taking one: capture the state, write it durably, and only then let the journal forget what it
covers (D12). Installing one that a leader sent: check all of it, restore it, make it durable, and
only then let log and engine begin behind it (D10, D14). Whatever the node dies in between, the next
start finds either the old state or the new one.

Nothing here waits. What works on the disk is handed out for the caller to run off the loop, one at
a time; the log goes on meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, Generic, Protocol, TypeVar

from muster.agents.consistency.raft.birth import LogTrimmed
from muster.agents.consistency.raft.core import RaftCore
from muster.storage.files import Files
from muster.storage.images import write_image
from muster.storage.journal import Segment
from muster.storage.snapshots import Data, SnapshotStore, verified_slices
from muster_protocol.errors import RemoteError
from muster_protocol.wire.raft import Manifest

S = TypeVar("S")


class Captured(Protocol):
    """The state at one moment."""

    def slices(self) -> Iterable[bytes]:
        """It, encoded."""


@dataclass(frozen=True, slots=True)
class SnapshotPolicy:
    """When a snapshot is taken, and what of the log stays before it."""

    every_entries: int = 4_096
    """Replaying so many takes well under a second at start."""

    every_bytes: int = 64 * 1024 * 1024
    """The log is in memory: with the largest values, so many bytes come long before so many
    entries."""

    keep_entries: int = 1_024
    """For followers that lag a little: what a busy node writes in some seconds, so that a restart
    of a follower needs no snapshot."""

    keep_bytes: int = 16 * 1024 * 1024
    """The same for large values: what a gigabit link carries in a fifth of a second is not worth a
    snapshot to a follower that lags by it."""

    def is_due(self, *, entries: int, log_bytes: int) -> bool:
        """With so many entries since the last one, and so much in the log?"""
        return entries > self.every_entries or log_bytes > self.every_bytes


SNAPSHOTS: Final = SnapshotPolicy()


@dataclass(frozen=True, slots=True)
class Replicated(Generic[S]):
    """The state that is replicated, as far as snapshots need to know it."""

    capture: Callable[[], Captured]
    restore: Callable[[list[bytes]], S]
    """From slices; blocks. Errors: RemoteError."""

    replace: Callable[[S, int], None]
    """This is the state now, and it is that of this index."""


class Compaction(Generic[S]):
    """The snapshots of one life of one voter."""

    def __init__(
        self,
        *,
        core: RaftCore,
        store: SnapshotStore,
        files: Files,
        state: Replicated[S],
        policy: SnapshotPolicy,
        on_trimmed: Callable[[LogTrimmed], None] | None = None,
    ) -> None:
        self._core = core
        self._journal = core.journal
        self._store = store
        self._files = files
        self._state = state
        self._policy = policy
        self._on_trimmed = on_trimmed
        self.taken = self.installed = 0

    @property
    def policy(self) -> SnapshotPolicy:
        return self._policy

    # --- taking -----------------------------------------------------------------------------

    def is_due(self, index: int) -> bool:
        """With the log applied up to `index`?"""
        entries, log_bytes = index - self._newest_index, self._journal.log_bytes
        return self._policy.is_due(entries=entries, log_bytes=log_bytes)

    def begin(self) -> Callable[[], Manifest]:
        """Capture the present state: the work that writes it durably. `end` follows when it is
        done. Errors, when it is run: StorageError; nothing has changed."""
        index = self._core.applied_index
        captured = self._state.capture()
        previous, last = self._journal.entry_at(index - 1), self._journal.entry_at(index)
        configuration = self._journal.electorates.at(index)

        def write() -> Manifest:
            return self._store.write(
                captured.slices(), previous=previous, last=last, configuration=configuration
            )

        return write

    def end(self, manifest: Manifest) -> Callable[[], None] | None:
        """It is written. The work that removes what it covers; None if a newer one, which was
        installed meanwhile, has done so."""
        self.taken += 1
        return self._forget_covered(manifest) if manifest.last.index > self._newest_index else None

    @property
    def _newest_index(self) -> int:
        return self._journal.manifest.last.index if self._journal.manifest else 0

    def _forget_covered(self, manifest: Manifest) -> Callable[[], None]:
        keep_entries, keep_bytes = self._policy.keep_entries, self._policy.keep_bytes
        removable = self._journal.trim(manifest, keep_entries=keep_entries, keep_bytes=keep_bytes)
        if self._on_trimmed is not None:
            self._on_trimmed(LogTrimmed(manifest, keep_entries, keep_bytes))

        def remove() -> None:
            for name in removable:
                self._files.remove(name)
            self._store.remove_older(manifest)

        return remove

    # --- what no snapshot shortens ----------------------------------------------------------

    def begin_image(self) -> Callable[[], Segment] | None:
        """The work that makes an image of the journal's sealed segments, while it goes on; None if
        a snapshot has removed what was too much. `end_image` follows. Errors, when it is run:
        StorageError, StorageCorrupt; nothing has changed."""
        if not self._journal.is_bloated:
            return None
        sealed, manifest = list(self._journal.sealed), self._journal.manifest
        block = self._journal.superblock
        return lambda: write_image(self._files, block, sealed, manifest)

    def end_image(self, image: Segment) -> Callable[[], None]:
        """It is durable. The work that removes what it stands for."""
        replaced = self._journal.put_image(image)

        def remove() -> None:
            for name in replaced:
                self._files.remove(name)

        return remove

    # --- installing -------------------------------------------------------------------------

    def save(self, manifest: Manifest, data: Data) -> S:
        """Make durable what a leader sent, and restore it; blocks.

        Errors: RemoteError if it is not what was offered, StorageError.
        """
        state = self._state.restore(verified_slices(manifest, data))
        self._store.install(manifest, data)
        return state

    def put_in_force(self, manifest: Manifest, state: S) -> None:
        """This state takes the place of the present one; `SnapshotInstalled` for the core, and
        then `clean_up`, follow. Errors: RemoteError if the log has overtaken it."""
        if manifest.last.index <= self._core.applied_index:
            raise RemoteError("snapshot", "overtaken by the log")
        self._state.replace(state, manifest.last.index)
        self.installed += 1

    def clean_up(self, manifest: Manifest) -> Callable[[], None]:
        """The log begins behind it: the work that removes what was before."""
        return self._forget_covered(manifest)
