"""The Raft journal: the log, the term and the vote, in checksummed segments with group commit.

In memory it is what pysyncobj expects of a journal (a sequence of `(command, index, term)` with the
methods of `pysyncobj.journal.Journal`), and the `LogView` that the guard reads. On disk it is a
list of segments `journal-00000001.seg`, ... of records; nothing is ever changed in place:

* `HEADER` opens each segment: node, cluster, generation, term, vote and the electorate.
* `ENTRY`, `TRUNCATE` (all from an index on is void), `META` (term and vote).
* `RESET`: the log now starts with these two entries, those of an installed snapshot.
* `MARK` opens a batch, and says that all before it was synced (`segments`).

**Group commit.** Changes are applied in memory at once and encoded into a buffer. `commit` writes
and syncs the buffer off the loop; what came meanwhile goes with the next one. Every record has a
number (LSN); the durable marks move when a sync has ended. A failed sync is final: the page cache
cannot be trusted afterwards, so the journal refuses everything from then on.

**Recovery** reads all of it, and only then changes anything: what a crash tore off the newest
segment is cut, by writing that segment anew (see `_write_again`). A crash in the midst of that
leaves the old segment or the new one.

**The commit index is not stored** (D11): after a restart it is that of the snapshot, and the
leader's first append tells the rest.

**Compaction** is deleting segments that hold only entries before the snapshot. `trim` does it;
the engine's own compaction is never used (D9, D10, D12).
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import msgspec

from muster.storage.files import AppendFile, Files, write_atomically
from muster.storage.records import encode_record, record_at, sound_records
from muster.storage.segments import (
    MARK,
    SegmentRead,
    mark_record,
    may_hold_mark,
    read_segment,
)
from muster.storage.superblock import Superblock
from muster_protocol.errors import RemoteError, StorageCorrupt, StorageError
from muster_protocol.types import HexId
from muster_protocol.wire.codec import Decoder, encode
from muster_protocol.wire.raft import Configuration, Entry, Generation, Manifest

if TYPE_CHECKING:
    from muster.offload import Offload

HEADER, ENTRY, TRUNCATE, META, RESET = 1, 2, 3, 4, 5

SEGMENT_BYTES_MAX: Final = 8 * 1024 * 1024
"""A segment is deleted whole, so this is about what compaction may leave lying; a recovery reads
it in some 50 ms."""

APPLY_AT_ONCE_MAX: Final = 64
"""Entries that a closed slice returns. The engine applies all that it is given in one tick, so
this bounds how long a tick may take (D31); open slices stay whole, or entries would be lost."""

JOURNAL_FORMAT: Final = 2
"""2: marks."""

_ENTRY_HEAD: Final = struct.Struct(">QQ")
_INDEX: Final = struct.Struct(">Q")

EngineEntry = tuple[bytes, int, int]
"""Command, index, term: as the engine has them."""


class _Header(msgspec.Struct, frozen=True, array_like=True):
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


class _Meta(msgspec.Struct, frozen=True, array_like=True):
    term: int
    vote: str | None


class _Reset(msgspec.Struct, frozen=True, array_like=True):
    previous: Entry
    last: Entry


_HEADERS: Decoder[_Header] = Decoder(_Header)
_METAS: Decoder[_Meta] = Decoder(_Meta)
_RESETS: Decoder[_Reset] = Decoder(_Reset)


@dataclass(slots=True)
class _Segment:
    name: str
    size: int = 0
    synced_bytes: int = 0
    highest_index: int = 0
    is_closed: bool = True
    """Does it end in a mark, or is it empty?"""

    @property
    def sequence(self) -> int:
        return sequence_of(self.name)


@dataclass(slots=True)
class _Commit:
    """What is on its way to the disk."""

    lsn: int
    last_index: int
    """Up to which it makes entries durable: less, if they are truncated meanwhile."""

    segment: _Segment
    size: int
    highest_index: int


@dataclass(slots=True)
class _Recovered:
    """The state while segments are replayed."""

    configuration: Configuration
    entries: list[EngineEntry] = field(default_factory=list)
    term: int = 0
    vote: str | None = None
    records: int = 0


def segment_name(sequence: int) -> str:
    return f"journal-{sequence:08d}.seg"


def sequence_of(name: str) -> int:
    """The number in a segment's name."""
    return int(name[8:16])


def is_segment(name: str) -> bool:
    return name.startswith("journal-") and name.endswith(".seg")


class Journal:
    """One voter's journal. Construction reads the disk; use `create` or `open_journal`."""

    def __init__(
        self,
        *,
        files: Files,
        superblock: Superblock,
        segments: list[_Segment],
        recovered: _Recovered,
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
        self.configuration = recovered.configuration
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
        self._append_record(ENTRY, _ENTRY_HEAD.pack(index, term) + command)

    def deleteEntriesFrom(self, position: int) -> None:  # noqa: N802 (the engine's name)
        """Void all entries from list position `position` on: a conflict with the leader's log."""
        if position >= len(self._entries):
            return
        index = self._entries[position][1]
        assert index > self._commit_index, "a committed entry would be truncated"
        self.log_bytes -= sum(len(entry[0]) for entry in self._entries[position:])
        del self._entries[position:]
        self._durable_index = min(self._durable_index, index - 1)
        if self._committing is not None:
            self._committing.last_index = min(self._committing.last_index, index - 1)
        self._append_record(TRUNCATE, _INDEX.pack(index))

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
            return self._entries[item.start : min(item.stop, item.start + APPLY_AT_ONCE_MAX)]
        return self._entries[item]

    def setCurrentTerm(self, term: int, voted_for: str | None) -> None:  # noqa: N802 (as above)
        """A new term, or a vote in it."""
        self._term, self._vote = term, voted_for
        self._append_record(META, encode(_Meta(term, voted_for)))
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
        if not self._segments or self._segments[-1].size + len(data) > self.segment_bytes_max:
            self._sequence += 1
            data = self._header_record() + data
            self._segments.append(_Segment(segment_name(self._sequence)))
        elif not self._segments[-1].is_closed:
            data = self._mark(self._segments[-1]) + data
        segment = self._segments[-1]
        self._committing = _Commit(self._lsn, self.last_index, segment, len(data), highest)
        return lambda: self._write(segment, data)

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

    def _mark(self, segment: _Segment) -> bytes:
        return mark_record(self._superblock.mark_key, segment.sequence, segment.size)

    def _write(self, segment: _Segment, data: bytes) -> None:
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
        header = _Header(
            JOURNAL_FORMAT,
            block.node,
            block.cluster,
            block.generation,
            self._sequence,
            self._term,
            self._vote,
            self.configuration,
            self._segments[-1].synced_bytes if self._segments else 0,
        )
        return encode_record(HEADER, encode(header))

    # --- snapshots ----------------------------------------------------------------------------

    def reset_to(self, manifest: Manifest) -> None:
        """The log starts anew behind an installed snapshot, which is durable already."""
        self._entries = [_engine_entry(manifest.previous), _engine_entry(manifest.last)]
        self.log_bytes = sum(len(entry[0]) for entry in self._entries)
        self._manifest = manifest
        self.configuration = manifest.configuration
        self._commit_index = manifest.last.index
        self._durable_index = 0
        if self._committing is not None:
            self._committing.last_index = 0
        self._buffer_highest = max(self._buffer_highest, manifest.last.index)
        self._append_record(RESET, encode(_Reset(manifest.previous, manifest.last)))

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


def create_journal(
    files: Files, superblock: Superblock, configuration: Configuration, first: EngineEntry
) -> Journal:
    """A new journal of the founding electorate, whose log holds `first`, the same on all of them.

    Nothing is on the disk before the first `commit`, and the superblock comes after that. So a
    journal without a superblock is either the rest of a founding that a crash interrupted, in
    which nothing was promised yet (removed), or somebody deleted the superblock (an error).
    """
    for name in files.names():
        if is_segment(name):
            _remove_unused(files, name)
    journal = Journal(
        files=files,
        superblock=superblock,
        segments=[],
        recovered=_Recovered(configuration),
        manifest=None,
    )
    journal.add(*first)
    journal.setCurrentTerm(0, None)
    return journal


def _remove_unused(files: Files, name: str) -> None:
    path = files.describe(name)
    data = files.read(name) or b""
    records, _ = sound_records(data)
    promised = [_METAS.decode(payload).term for kind, payload in records if kind == META]
    is_used = max(promised, default=0) > 0 or sum(kind == ENTRY for kind, _ in records) > 1
    # Whose founding it was, and so the key of its marks, is not known: but it had one batch, and
    # that held nothing by which a mark could be imitated.
    if is_used or may_hold_mark(data):
        raise StorageCorrupt(f"{path}: a journal without its superblock; move it away")
    files.remove(name)


@dataclass(slots=True)
class _OnDisk:
    """The segments as they were found, and what is to be done to them."""

    segments: list[_Segment] = field(default_factory=list)
    newest: bytes = b""
    """What the last of `segments` is to hold."""

    remove: list[str] = field(default_factory=list)
    torn_bytes: int = 0


def open_journal(
    files: Files, superblock: Superblock, manifest: Manifest | None
) -> tuple[Journal, int]:
    """Recover the journal; blocks. Also returns how many bytes of a torn end were cut off.

    Errors: StorageCorrupt naming file and offset, with nothing changed; StorageError.
    """
    recovered = _Recovered(Configuration(()))
    found = _read_segments(files, superblock, recovered)
    if not found.segments:
        raise StorageCorrupt(
            f"{files.describe('')}: there is a superblock but no journal. What this node promised "
            "is lost; move the state directory away and let it join as a new member"
        )
    if manifest is not None and manifest.configuration.index > recovered.configuration.index:
        recovered.configuration = manifest.configuration
    is_aligned = _align(recovered, manifest, files)
    _repair(files, found)
    journal = Journal(
        files=files,
        superblock=superblock,
        segments=found.segments,
        recovered=recovered,
        manifest=manifest,
    )
    if manifest is not None and not is_aligned:
        journal.reset_to(manifest)
    return journal, found.torn_bytes


def _read_segments(files: Files, superblock: Superblock, recovered: _Recovered) -> _OnDisk:
    """Read and replay all that counts. Errors: StorageCorrupt."""
    found = _OnDisk()
    names, found.remove = _that_follow([name for name in files.names() if is_segment(name)])
    data = files.read(names[0]) or b"" if names else b""
    for name, next_name in itertools.zip_longest(names, names[1:]):
        path = files.describe(name)
        following = (files.read(next_name) or b"") if next_name is not None else b""
        read = read_segment(
            data,
            key=superblock.mark_key,
            sequence=sequence_of(name),
            path=path,
            is_oldest=name == names[0],
            synced_bytes=_synced_before(following),
        )
        if not read.records and next_name is None:
            # Its creation was torn: nothing in it was ever acknowledged. Where it is the only one,
            # it is empty, and there is no journal.
            found.remove += [name] if len(names) > 1 else []
            found.torn_bytes += read.torn_bytes
            break
        segment = _Segment(name, len(data))
        _replay(read.records, recovered, segment, superblock, path)
        found.segments.append(segment)
        found.newest = _closed(data, read, name, superblock)
        found.torn_bytes += read.torn_bytes
        data = following
    if found.segments:
        newest = found.segments[-1]
        newest.size = newest.synced_bytes = len(found.newest)
    return found


def _synced_before(following: bytes) -> int | None:
    """What a segment says of the one before it; None if its creation was torn."""
    record = record_at(following, 0)
    if record is None or record[0] != HEADER:
        return None
    try:
        return _HEADERS.decode(record[1]).previous_bytes
    except RemoteError:
        return None  # it is refused when it is its turn


def _that_follow(names: list[str]) -> tuple[list[str], list[str]]:
    """The newest segments that follow each other without a gap; and those that do not. Segments
    are removed oldest first, but names that were not synced are lost in any order, so an older one
    may be back whose successor is gone. What was removed a snapshot covers; that it is so is seen
    where the log is aligned with it."""
    first = len(names) - 1
    while first > 0 and sequence_of(names[first - 1]) == sequence_of(names[first]) - 1:
        first -= 1
    first = max(first, 0)
    return names[first:], names[:first]


def _closed(data: bytes, read: SegmentRead, name: str, superblock: Superblock) -> bytes:
    """A segment's sound part, with a mark at its end: it is about to be synced as a whole."""
    sound = data[: read.sound_bytes]
    mark = mark_record(superblock.mark_key, sequence_of(name), read.sound_bytes)
    return sound if read.is_closed else sound + mark


def _repair(files: Files, found: _OnDisk) -> None:
    """What was read may be in the page cache only: the process that wrote it may have died before
    its sync, or of it. It counts as durable from here on, so it has to be."""
    for name in found.remove:
        files.remove(name)
    _write_again(files, found.segments[-1].name, found.newest)


def _write_again(files: Files, name: str, data: bytes) -> None:
    """A sync of the newest segment may not make it durable: after one that failed the kernel takes
    the pages for written, and the next one succeeds (fsyncgate). So the file is written anew; those
    before it had their syncs."""
    write_atomically(files, name, data)


def _replay(
    records: Sequence[tuple[int, bytes]],
    into: _Recovered,
    segment: _Segment,
    superblock: Superblock,
    path: str,
) -> None:
    try:
        kind, payload = records[0] if records else (0, b"")
        if kind != HEADER:
            raise StorageCorrupt(f"{path}: does not begin with a segment header")
        header = _HEADERS.decode(payload)
        _check_header(header, superblock, segment.sequence, path)
        into.term, into.vote, into.configuration = header.term, header.vote, header.configuration
        for kind, payload in records[1:]:
            if kind != MARK:
                _replay_record(kind, payload, into, segment, path)
    except (RemoteError, struct.error) as error:
        raise StorageCorrupt(f"{path}: a record does not make sense: {error}") from error


def _check_header(header: _Header, superblock: Superblock, sequence: int, path: str) -> None:
    if header.format != JOURNAL_FORMAT:
        raise StorageCorrupt(
            f"{path}: journal of format {header.format}, this version knows {JOURNAL_FORMAT}"
        )
    if header.sequence != sequence:
        raise StorageCorrupt(f"{path}: is segment {header.sequence} under a wrong name")
    theirs = (header.node, header.cluster, header.generation)
    if theirs != (superblock.node, superblock.cluster, superblock.generation):
        raise StorageCorrupt(f"{path}: belongs to another node, cluster or journal generation")


def _replay_record(
    kind: int, payload: bytes, into: _Recovered, segment: _Segment, path: str
) -> None:
    into.records += 1
    entries = into.entries
    if kind == ENTRY:
        index, term = _ENTRY_HEAD.unpack_from(payload)
        if entries and index != entries[-1][1] + 1:  # after a removed segment: any beginning
            raise StorageCorrupt(f"{path}: entry {index} follows entry {entries[-1][1]}")
        entries.append((payload[_ENTRY_HEAD.size :], index, term))
        segment.highest_index = max(segment.highest_index, index)
    elif kind == TRUNCATE:
        (index,) = _INDEX.unpack(payload)
        if entries and index > entries[-1][1]:
            raise StorageCorrupt(f"{path}: truncation from {index} behind the end of the log")
        # It may reach into a segment that was removed behind a snapshot: then all that is here of
        # the older log is void, and what follows begins anew. `_align` checks the beginning.
        del entries[max(0, index - entries[0][1]) if entries else 0 :]
    elif kind == META:
        meta = _METAS.decode(payload)
        into.term, into.vote = meta.term, meta.vote
    elif kind == RESET:
        reset = _RESETS.decode(payload)
        into.entries[:] = [_engine_entry(reset.previous), _engine_entry(reset.last)]
        segment.highest_index = max(segment.highest_index, reset.last.index)
    else:
        raise StorageCorrupt(f"{path}: record of unknown kind {kind}")


def _align(recovered: _Recovered, manifest: Manifest | None, files: Files) -> bool:
    """Make the log start with the snapshot's two entries, as the engine demands (D9).

    False where the log on disk is not the snapshot's: the crash came between the installation of
    a snapshot and the journal's RESET. Nothing behind it can be committed then, because the
    leader that sent the snapshot had another log, and the RESET has to be written now.
    """
    entries = recovered.entries
    if manifest is None:
        if not entries or entries[0][1] != 1:
            first = entries[0][1] if entries else None
            raise StorageCorrupt(
                f"{files.describe('')}: the journal begins at entry {first} and the snapshot that "
                "covers what came before is missing"
            )
        return True
    if not entries or entries[0][1] > manifest.previous.index:
        raise StorageCorrupt(
            f"{files.describe('')}: the journal begins behind the end of the snapshot"
        )
    position = manifest.last.index - entries[0][1]
    if position < len(entries) and entries[position][2] == manifest.last.term:
        del entries[: position - 1]
        return True
    return False


def _engine_entry(entry: Entry) -> EngineEntry:
    return (entry.command, entry.index, entry.term)
