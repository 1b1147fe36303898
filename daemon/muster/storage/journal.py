"""The Raft journal: the log, the term and the vote, in checksummed segments with group commit.

In memory it is what pysyncobj expects of a journal (a sequence of `(command, index, term)` with the
methods of `pysyncobj.journal.Journal`), and the `LogView` that the guard reads. On disk it is a
list of segments `journal-00000001.seg`, ... of records; nothing is ever changed in place:

* `HEADER` opens each segment: node, cluster, generation, term, vote, and an electorate that counts
  in the first of all: with that of the snapshot, or of the founding, all later ones are entries.
* `ENTRY`, `TRUNCATE` (all from an index on is void), `META` (term and vote).
* `RESET`: the log now starts with these two entries, those of an installed snapshot.
* `MARK` opens a batch, and says that all before it was synced (`segments`).

**Group commit.** Changes are applied in memory at once and encoded into a buffer. `commit` writes
and syncs the buffer off the loop; what came meanwhile goes with the next one. Every record has a
number (LSN); the durable marks move when a sync has ended. A failed sync is final: the page cache
cannot be trusted afterwards, so the journal refuses everything from then on.

**The commit index is not stored** (D11): after a restart it is that of the snapshot, and the
leader's first append tells the rest.

**Compaction** is deleting segments that hold only entries before the snapshot. `trim` does it;
the engine's own compaction is never used (D9, D10, D12). What no snapshot shortens (votes in many
terms, entries that one leader after the other replaces) becomes an image (`images`).
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import msgspec

from muster.storage.files import AppendFile, Files
from muster.storage.records import RECORD_OVERHEAD, encode_record
from muster.storage.segments import mark_record
from muster.storage.superblock import Superblock
from muster_protocol.errors import StorageError
from muster_protocol.raftguard.electorate import Electorates
from muster_protocol.types import HexId
from muster_protocol.wire.codec import Decoder, encode
from muster_protocol.wire.raft import Configuration, Entry, Generation, Manifest

if TYPE_CHECKING:
    from muster.offload import Offload

HEADER, ENTRY, TRUNCATE, META, RESET = 1, 2, 3, 4, 5
IMAGE_END = 7
"""6 is a mark."""

SEGMENT_BYTES_MAX: Final = 8 * 1024 * 1024
"""A segment is deleted whole, so this is about what compaction may leave lying; a recovery reads
it in some 50 ms."""

SLACK_SEGMENTS: Final = 4
"""Segments beyond the log before an image is made: 32 MiB, which no voter reaches that takes
snapshots as it should."""

APPLY_AT_ONCE_MAX: Final = 64
"""Entries that a closed slice returns. The engine applies all that it is given in one tick, so
this bounds how long a tick may take (D31); open slices stay whole, or entries would be lost."""

APPLY_AT_ONCE_BYTES: Final = 64 * 1024
"""And from how much on it returns no more: five hundred small commands, which take some 5 ms. Two
entries it always returns, where so many are asked for: the engine looks for the last two."""

JOURNAL_FORMAT: Final = 2
"""2: marks."""

ENTRY_HEAD: Final = struct.Struct(">QQ")
INDEX: Final = struct.Struct(">Q")

EngineEntry = tuple[bytes, int, int]
"""Command, index, term: as the engine has them."""


class Header(msgspec.Struct, frozen=True, array_like=True):
    """What opens a segment, and an image."""

    format: int
    node: HexId
    cluster: HexId
    generation: Generation
    sequence: int
    term: int
    vote: str | None
    configuration: Configuration
    previous_bytes: int
    """How much of the segment before was synced when this one was begun; what there is behind that
    is a mark that was not."""


class Meta(msgspec.Struct, frozen=True, array_like=True):
    """A new term, or a vote in it."""

    term: int
    vote: str | None


class Reset(msgspec.Struct, frozen=True, array_like=True):
    """The log begins with these two."""

    previous: Entry
    last: Entry


HEADERS: Decoder[Header] = Decoder(Header)
METAS: Decoder[Meta] = Decoder(Meta)
RESETS: Decoder[Reset] = Decoder(Reset)


@dataclass(slots=True)
class Segment:
    """A file of the journal, as the process knows it."""

    name: str
    size: int = 0
    synced_bytes: int = 0
    """Without a mark that was not synced."""

    highest_index: int = 0
    is_closed: bool = True
    """Does it end in a mark, or is it empty?"""

    @property
    def sequence(self) -> int:
        return sequence_of(self.name)

    @property
    def is_image(self) -> bool:
        return is_image(self.name)


@dataclass(slots=True)
class _Commit:
    """What is on its way to the disk."""

    lsn: int
    last_index: int
    """Up to which it makes entries durable: less, if they are truncated meanwhile."""

    segment: Segment
    size: int
    highest_index: int


@dataclass(slots=True)
class Recovered:
    """The state while segments are replayed."""

    configuration: Configuration | None = None
    """Of the founding, or as it was told to a learner: what the first segment begins with."""
    entries: list[EngineEntry] = field(default_factory=list)
    term: int = 0
    vote: str | None = None
    records: int = 0


def segment_name(sequence: int) -> str:
    return f"journal-{sequence:08d}.seg"


def sequence_of(name: str) -> int:
    """The number in a segment's name."""
    return int(name[8:16])


def image_name(sequence: int) -> str:
    return f"journal-{sequence:08d}.img"


def is_image(name: str) -> bool:
    """Is it the image of all segments up to its number?"""
    return name.startswith("journal-") and name.endswith(".img")


def is_segment(name: str) -> bool:
    """Does a file of this name hold a part of the journal?"""
    return name.startswith("journal-") and name.endswith((".seg", ".img"))


class Journal:
    """One voter's journal. Construction reads the disk; use `create` or `open_journal`."""

    def __init__(
        self,
        *,
        files: Files,
        superblock: Superblock,
        segments: list[Segment],
        recovered: Recovered,
        manifest: Manifest | None,
    ) -> None:
        self.segment_bytes_max = SEGMENT_BYTES_MAX
        """May be changed at any time."""
        self._files = files
        self._superblock = superblock
        self._segments = segments
        self._sequence = segments[-1].sequence if segments else 0
        self._entries = recovered.entries
        self.log_bytes = sum(len(entry[0]) for entry in self._entries)
        """Commands in memory."""
        self.electorates = _electorates(recovered, manifest)
        self._term = recovered.term
        self._vote = recovered.vote
        self._manifest = manifest
        self._commit_index = manifest.last.index if manifest else 1
        self._lsn = self._durable_lsn = self._meta_lsn = recovered.records
        self._durable_index = self.last_index if self._entries else 0
        self._committing: _Commit | None = None
        self._buffer = bytearray()
        self._buffer_highest = 0
        self._handle: AppendFile | None = None
        self._failure: StorageError | None = None
        self.commits = 0

    # --- what the engine calls (pysyncobj.journal.Journal) ------------------------------------

    def add(self, command: bytes, index: int, term: int) -> None:
        """Append one entry."""
        assert not self._entries or index == self.last_index + 1
        self._entries.append((command, index, term))
        self.log_bytes += len(command)
        self._buffer_highest = max(self._buffer_highest, index)
        self.electorates.appended(command, index)
        self._append_record(ENTRY, ENTRY_HEAD.pack(index, term) + command)

    def deleteEntriesFrom(self, position: int) -> None:  # noqa: N802 (the engine's name)
        """Void all entries from list position `position` on: a conflict with the leader's log."""
        if position >= len(self._entries):
            return
        index = self._entries[position][1]
        assert index > self._commit_index, "a committed entry would be truncated"
        self.log_bytes -= sum(len(entry[0]) for entry in self._entries[position:])
        del self._entries[position:]
        self.electorates.truncated(index)
        self._durable_index = min(self._durable_index, index - 1)
        if self._committing is not None:
            self._committing.last_index = min(self._committing.last_index, index - 1)
        self._append_record(TRUNCATE, INDEX.pack(index))

    def deleteEntriesTo(self, position: int) -> None:  # noqa: N802 (as above)
        """Never called: the engine's compaction is off, `trim` is ours."""
        raise AssertionError(f"the engine compacted its log to position {position}")

    def clear(self) -> None:
        """Never called: `open_journal` aligns the log with the snapshot (D9)."""
        raise AssertionError("the engine cleared its log")

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, item: int | slice) -> Any:
        if isinstance(item, slice) and item.start is not None and item.stop is not None:
            return self._applied_at_once(item.start, item.stop)
        return self._entries[item]

    def _applied_at_once(self, start: int, stop: int) -> list[EngineEntry]:
        some = self._entries[start : min(stop, start + APPLY_AT_ONCE_MAX)]
        size = 0
        for count, (command, _, _) in enumerate(some):
            if count >= 2 and size >= APPLY_AT_ONCE_BYTES:
                return some[:count]
            size += len(command)
        return some

    def setCurrentTerm(self, term: int, voted_for: str | None) -> None:  # noqa: N802 (as above)
        """A new term, or a vote in it."""
        self._term, self._vote = term, voted_for
        self._append_record(META, encode(Meta(term, voted_for)))
        self._meta_lsn = self._lsn

    def getCurrentTerm(self) -> int:  # noqa: N802 (as above)
        return self._term

    def getVotedForNodeId(self) -> str | None:  # noqa: N802 (as above)
        return self._vote

    def setRaftCommitIndex(self, index: int) -> None:  # noqa: N802 (as above)
        self._commit_index = index

    def getRaftCommitIndex(self) -> int:  # noqa: N802 (as above)
        return self._commit_index

    def onOneSecondTimer(self) -> None:  # noqa: N802 (as above)
        """The engine's periodic flush; group commit does not need it."""

    def _destroy(self) -> None:
        """The engine lets go of its journal; the shell closes it."""

    # --- what the guard reads (LogView) -------------------------------------------------------

    @property
    def current_term(self) -> int:
        return self._term

    @property
    def first_index(self) -> int:
        return self._entries[0][1]

    @property
    def last_index(self) -> int:
        return self._entries[-1][1]

    @property
    def commit_index(self) -> int:
        return self._commit_index

    @property
    def durable_index(self) -> int:
        return self._durable_index

    @property
    def term_is_durable(self) -> bool:
        return self._meta_lsn <= self._durable_lsn

    @property
    def lsn(self) -> int:
        return self._lsn

    @property
    def durable_lsn(self) -> int:
        return self._durable_lsn

    @property
    def generation(self) -> str:
        return self._superblock.generation

    @property
    def configuration(self) -> Configuration:
        return self.electorates.latest

    @property
    def meta_lsn(self) -> int:
        """The record of the present term and vote."""
        return self._meta_lsn

    @property
    def manifest(self) -> Manifest | None:
        return self._manifest

    def term_at(self, index: int) -> int | None:
        position = index - self.first_index
        return self._entries[position][2] if 0 <= position < len(self._entries) else None

    def entry_at(self, index: int) -> Entry:
        """The entry at `index`, which must be held."""
        return Entry(*self._entries[index - self.first_index])

    # --- durability ---------------------------------------------------------------------------

    @property
    def is_dirty(self) -> bool:
        """Is there anything that a commit would make durable?"""
        return bool(self._buffer)

    @property
    def bytes_on_disk(self) -> int:
        return sum(segment.size for segment in self._segments) + len(self._buffer)

    @property
    def buffered_bytes(self) -> int:
        """Records that no commit has taken yet."""
        return len(self._buffer)

    @property
    def segments(self) -> int:
        """Files that may not be removed."""
        return len(self._segments)

    @property
    def sealed(self) -> list[Segment]:
        """Those to which nothing is added any more. All of them are synced."""
        return self._segments[:-1]

    @property
    def is_bloated(self) -> bool:
        """Has more been written since the last image than the log and some slack? So no more is
        written again than was written, and the journal's files are bounded: an image is no larger
        than the log was, and what comes while one is made comes on top."""
        log_bytes = self.log_bytes + len(self._entries) * (RECORD_OVERHEAD + ENTRY_HEAD.size)
        segment_bytes = sum(each.size for each in self.sealed if not each.is_image)
        return segment_bytes > log_bytes + SLACK_SEGMENTS * self.segment_bytes_max

    @property
    def superblock(self) -> Superblock:
        return self._superblock

    def put_image(self, image: Segment) -> list[str]:
        """An image that is durable takes the place of the segments up to its number. Returns the
        files that the caller may now remove, oldest first."""
        replaced = [each for each in self.sealed if each.sequence <= image.sequence]
        self._segments[: len(replaced)] = [image]
        return [each.name for each in replaced]

    @property
    def covered(self) -> int:
        """Entries in memory that the newest snapshot covers, but for its own last two."""
        return max(0, self._manifest.previous.index - self.first_index) if self._manifest else 0

    async def commit(self, offload: Offload) -> None:
        """Make everything up to now durable. One at a time.

        Errors: StorageError, and again at every later call: a failed sync is final.
        """
        work = self.begin_commit()
        if work is None:
            return
        try:
            await offload.run(work, kind="fsync")
        except StorageError as failure:
            self._failure = failure
            raise
        self.end_commit()

    def begin_commit(self) -> Callable[[], None] | None:
        """Take everything up to now: the work that writes and syncs it, for another thread to do,
        or None if there is nothing. `end_commit` follows when it is done; what is appended in
        between belongs to the next commit. Errors: StorageError, as `commit`."""
        if self._failure is not None:
            raise self._failure
        if not self._buffer:
            return None
        assert self._committing is None, "commits must not overlap"
        data, self._buffer = bytes(self._buffer), bytearray()
        highest, self._buffer_highest = self._buffer_highest, 0
        if self._needs_segment(len(data)):
            self._sequence += 1
            data = self._header_record() + data
            self._segments.append(Segment(segment_name(self._sequence)))
        elif not self._segments[-1].is_closed:
            data = self._mark(self._segments[-1]) + data
        segment = self._segments[-1]
        self._committing = _Commit(self._lsn, self.last_index, segment, len(data), highest)
        return lambda: self._write(segment, data)

    def _needs_segment(self, more_bytes: int) -> bool:
        newest = self._segments[-1] if self._segments else None
        if newest is None or newest.is_image:
            return True
        return newest.size + more_bytes > self.segment_bytes_max

    def end_commit(self) -> None:
        """What `begin_commit` took is on the disk."""
        commit, self._committing = self._committing, None
        assert commit is not None, "no commit has begun"
        commit.segment.size += commit.size
        commit.segment.synced_bytes = commit.segment.size
        commit.segment.is_closed = False
        commit.segment.highest_index = max(commit.segment.highest_index, commit.highest_index)
        self._durable_lsn, self._durable_index = commit.lsn, commit.last_index
        self.commits += 1

    async def close_batch(self, offload: Offload) -> None:
        """Nothing came behind the newest batch for a while: write the mark that says it was synced.
        Not while a commit is under way. Errors: StorageError, and at every commit from then on."""
        work = self.begin_mark()
        if work is None:
            return
        try:
            await offload.run(work, kind="mark")
        except StorageError as failure:
            self._failure = failure  # what of the mark is in the file is not known
            raise

    def begin_mark(self) -> Callable[[], None] | None:
        """As `begin_commit`, for the mark behind the newest batch; nothing follows when it is done.
        It is not synced: a mark that is lost says nothing, and one that is there is true."""
        segment, handle = (self._segments[-1] if self._segments else None), self._handle
        if segment is None or handle is None or segment.is_closed or self._failure is not None:
            return None
        assert self._committing is None, "a commit is under way"
        mark = self._mark(segment)
        segment.size += len(mark)
        segment.is_closed = True
        return lambda: handle.write(mark)

    def _mark(self, segment: Segment) -> bytes:
        return mark_record(self._superblock.mark_key, segment.sequence, segment.size)

    def _write(self, segment: Segment, data: bytes) -> None:
        """In a thread: append and sync; a new file's name is synced too."""
        is_new = segment.size == 0
        if is_new and self._handle is not None:
            self._handle.close()
            self._handle = None
        if self._handle is None:
            self._handle = self._files.append(segment.name)
        self._handle.write(data)
        self._handle.sync()
        if is_new:
            self._files.sync_directory()

    def close(self) -> None:
        """Close the file; what is not committed is lost, as it would be in a crash."""
        if self._handle is not None:
            self._handle.close()
            self._handle = None

    def _append_record(self, kind: int, payload: bytes) -> None:
        self._buffer += encode_record(kind, payload)
        self._lsn += 1

    def _header_record(self) -> bytes:
        block = self._superblock
        header = Header(
            JOURNAL_FORMAT,
            block.node,
            block.cluster,
            block.generation,
            self._sequence,
            self._term,
            self._vote,
            self.electorates.all[0],
            self._segments[-1].synced_bytes if self._segments else 0,
        )
        return encode_record(HEADER, encode(header))

    # --- snapshots ----------------------------------------------------------------------------

    def reset_to(self, manifest: Manifest) -> None:
        """The log starts anew behind an installed snapshot, which is durable already."""
        self._entries = [engine_entry(manifest.previous), engine_entry(manifest.last)]
        self.log_bytes = sum(len(entry[0]) for entry in self._entries)
        self._manifest = manifest
        self.electorates = Electorates(manifest.configuration)
        self._commit_index = manifest.last.index
        self._durable_index = 0
        if self._committing is not None:
            self._committing.last_index = 0
        self._buffer_highest = max(self._buffer_highest, manifest.last.index)
        self._append_record(RESET, encode(Reset(manifest.previous, manifest.last)))

    def trim(self, manifest: Manifest, *, keep_entries: int, keep_bytes: int) -> list[str]:
        """A durable snapshot covers the log up to `manifest.last`: forget what it covers, but for
        the `keep_entries` before it, at most `keep_bytes` of them (a follower that lags less needs
        no snapshot).

        Returns the segments that the caller may now remove from the disk, oldest first. The one in
        which the durable log ends is none of them, whatever the snapshot covers: a follower may
        have applied what it has not written yet, and were its power to fail, all else that the
        disk knows of the term and the vote would be in that segment or behind it.
        """
        self._manifest = manifest
        self.electorates.covered(manifest.last.index)
        keep_from = manifest.previous.index
        oldest = max(self.first_index, keep_from - keep_entries)
        while keep_from > oldest:
            keep_bytes -= len(self._entries[keep_from - 1 - self.first_index][0])
            if keep_bytes < 0:
                break
            keep_from -= 1
        forgotten = keep_from - self.first_index
        self.log_bytes -= sum(len(entry[0]) for entry in self._entries[:forgotten])
        del self._entries[:forgotten]
        removable: list[str] = []
        covered = min(keep_from, self._durable_index)
        while len(self._segments) > 1 and self._segments[0].highest_index < covered:
            removable.append(self._segments.pop(0).name)
        return removable


def engine_entry(entry: Entry) -> EngineEntry:
    """As the engine has it."""
    return (entry.command, entry.index, entry.term)


def _electorates(recovered: Recovered, manifest: Manifest | None) -> Electorates:
    """What the recovered log says about who votes. Errors: RemoteError."""
    base = manifest.configuration if manifest is not None else recovered.configuration
    assert base is not None, "no segment has a header"
    electorates = Electorates(base)
    for command, index, _ in recovered.entries:
        electorates.appended(command, index)
    return electorates
