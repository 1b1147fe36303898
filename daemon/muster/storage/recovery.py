"""A journal from a directory: a new one of a founding, or what a start finds there.

Recovery reads all of it, and only then changes anything: what a crash tore off the newest segment
is cut, by writing that segment anew (see `_write_again`). A crash in the midst of that leaves the
old segment or the new one.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

from muster.storage.files import Files, write_atomically
from muster.storage.journal import (
    ENTRY,
    ENTRY_HEAD,
    HEADER,
    HEADERS,
    IMAGE_END,
    INDEX,
    JOURNAL_FORMAT,
    META,
    METAS,
    RESET,
    RESETS,
    TRUNCATE,
    EngineEntry,
    Header,
    Journal,
    Recovered,
    Segment,
    engine_entry,
    is_image,
    is_segment,
    sequence_of,
)
from muster.storage.records import record_at, scan_records, sound_records
from muster.storage.segments import MARK, SegmentRead, mark_record, may_hold_mark, read_segment
from muster.storage.superblock import Superblock
from muster_protocol.errors import RemoteError, StorageCorrupt
from muster_protocol.wire.codec import encode
from muster_protocol.wire.raft import Configuration, Manifest


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
        recovered=Recovered(configuration),
        manifest=None,
    )
    journal.add(*first)
    journal.setCurrentTerm(0, None)
    return journal


def _remove_unused(files: Files, name: str) -> None:
    path = files.describe(name)
    data = files.read(name) or b""
    records, _ = sound_records(data)
    promised = [METAS.decode(payload).term for kind, payload in records if kind == META]
    is_used = max(promised, default=0) > 0 or sum(kind == ENTRY for kind, _ in records) > 1
    # Whose founding it was, and so the key of its marks, is not known: but it had one batch, and
    # that held nothing by which a mark could be imitated.
    if is_used or is_image(name) or may_hold_mark(data):
        raise StorageCorrupt(f"{path}: a journal without its superblock; move it away")
    files.remove(name)


@dataclass(slots=True)
class _OnDisk:
    """The segments as they were found, and what is to be done to them."""

    segments: list[Segment] = field(default_factory=list)
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
    journal, found = _recovered(files, superblock, manifest)
    _repair(files, found)
    return journal, found.torn_bytes


def read_journal(files: Files, superblock: Superblock, manifest: Manifest | None) -> Journal:
    """What `open_journal` would come to, with nothing changed; for looking only. Blocks.

    Errors: as `open_journal`.
    """
    return _recovered(files, superblock, manifest)[0]


def _recovered(
    files: Files, superblock: Superblock, manifest: Manifest | None
) -> tuple[Journal, _OnDisk]:
    recovered = Recovered()
    found = _read_segments(files, superblock, recovered)
    if not found.segments:
        raise StorageCorrupt(
            f"{files.describe('')}: there is a superblock but no journal. What this node promised "
            "is lost; move the state directory away and let it join as a new member"
        )
    is_aligned = _align(recovered, manifest, files)
    journal = Journal(
        files=files,
        superblock=superblock,
        segments=found.segments,
        recovered=recovered,
        manifest=manifest,
    )
    if manifest is not None and not is_aligned:
        journal.reset_to(manifest)
    return journal, found


def _read_segments(files: Files, superblock: Superblock, recovered: Recovered) -> _OnDisk:
    """Read and replay all that counts. Errors: StorageCorrupt."""
    found = _OnDisk()
    image, names, found.remove = _that_count([n for n in files.names() if is_segment(n)])
    if image is not None:
        found.segments.append(_replay_image(files, superblock, recovered, image))
    data = files.read(names[0]) or b"" if names else b""
    for name, next_name in itertools.zip_longest(names, names[1:]):
        path = files.describe(name)
        following = (files.read(next_name) or b"") if next_name is not None else b""
        read = read_segment(
            data,
            key=superblock.mark_key,
            sequence=sequence_of(name),
            path=path,
            is_oldest=name == names[0] and image is None,
            synced_bytes=_synced_before(following),
        )
        if not read.records and next_name is None:
            # Its creation was torn: nothing in it was ever acknowledged. Where it is the only one,
            # it is empty, and there is no journal.
            found.remove += [name] if found.segments else []
            found.torn_bytes += read.torn_bytes
            break
        segment = Segment(name, len(data), synced_bytes=read.sound_bytes)
        _replay(read.records, recovered, segment, superblock, path)
        found.segments.append(segment)
        found.newest = _closed(data, read, name, superblock)
        found.torn_bytes += read.torn_bytes
        data = following
    if found.segments and not found.segments[-1].is_image:
        newest = found.segments[-1]
        newest.size = newest.synced_bytes = len(found.newest)
    return found


def _synced_before(following: bytes) -> int | None:
    """What a segment says of the one before it; None if its creation was torn."""
    record = record_at(following, 0)
    if record is None or record[0] != HEADER:
        return None
    try:
        return HEADERS.decode(record[1]).previous_bytes
    except RemoteError:
        return None  # it is refused when it is its turn


def _that_count(names: list[str]) -> tuple[str | None, list[str], list[str]]:
    """The newest image; the segments behind it that follow each other without a gap; the others.

    Segments are removed oldest first, but names that were not synced are lost in any order, so an
    older one may be back whose successor is gone. What was removed a snapshot covers; that it is so
    is seen where the log is aligned with it. Behind an image no gap is allowed.
    """
    image = max(filter(is_image, names), default=None)
    replaced = sequence_of(image) if image is not None else 0
    newer = [name for name in names if not is_image(name) and sequence_of(name) > replaced]
    first = max(0, len(newer) - 1)
    while first > 0 and sequence_of(newer[first - 1]) == sequence_of(newer[first]) - 1:
        first -= 1
    if newer and sequence_of(newer[first]) > replaced + 1:
        image = None  # it is older than what a snapshot has made removable, and back
    counted = [*newer[first:], image]
    return image, newer[first:], [name for name in names if name not in counted]


def _replay_image(files: Files, superblock: Superblock, into: Recovered, name: str) -> Segment:
    """Errors: StorageCorrupt. It was written as a whole, so nothing of it can be torn."""
    path = files.describe(name)
    data = files.read(name) or b""
    records = scan_records(data, path=path)
    segment = Segment(name, len(data), synced_bytes=len(data))
    _replay(records[:-1], into, segment, superblock, path)
    kind, payload = records[-1]
    if kind != IMAGE_END or payload != encode(len(into.entries)):
        raise StorageCorrupt(f"{path}: is not whole")
    return segment


def replay_sealed(
    files: Files, superblock: Superblock, sealed: Sequence[Segment], manifest: Manifest | None
) -> Recovered:
    """What these segments come to, without what a durable snapshot covers; blocks.

    Errors: StorageError, StorageCorrupt.
    """
    recovered = Recovered()
    for each in sealed:
        if each.is_image:
            _replay_image(files, superblock, recovered, each.name)
            continue
        path = files.describe(each.name)
        read = read_segment(
            files.read(each.name) or b"",
            key=superblock.mark_key,
            sequence=each.sequence,
            path=path,
            is_oldest=False,
            synced_bytes=each.synced_bytes,
        )
        _replay(read.records, recovered, Segment(each.name), superblock, path)
    entries = recovered.entries
    first = entries[0][1] if entries else 0
    covered = manifest.last.index - first if manifest is not None else 0
    if manifest is not None and 0 < covered < len(entries):
        is_its_log = entries[covered][2] == manifest.last.term
        del entries[: covered - 1 if is_its_log else 0]
    return recovered


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
    if not found.segments[-1].is_image:  # which had its sync
        _write_again(files, found.segments[-1].name, found.newest)


def _write_again(files: Files, name: str, data: bytes) -> None:
    """A sync of the newest segment may not make it durable: after one that failed the kernel takes
    the pages for written, and the next one succeeds (fsyncgate). So the file is written anew; those
    before it had their syncs."""
    write_atomically(files, name, data)


def _replay(
    records: Sequence[tuple[int, bytes]],
    into: Recovered,
    segment: Segment,
    superblock: Superblock,
    path: str,
) -> None:
    try:
        kind, payload = records[0] if records else (0, b"")
        if kind != HEADER:
            raise StorageCorrupt(f"{path}: does not begin with a segment header")
        header = HEADERS.decode(payload)
        _check_header(header, superblock, segment.sequence, path)
        into.term, into.vote = header.term, header.vote
        into.configuration = into.configuration or header.configuration
        for kind, payload in records[1:]:
            if kind != MARK:
                _replay_record(kind, payload, into, segment, path)
    except (RemoteError, struct.error) as error:
        raise StorageCorrupt(f"{path}: a record does not make sense: {error}") from error


def _check_header(header: Header, superblock: Superblock, sequence: int, path: str) -> None:
    if header.format != JOURNAL_FORMAT:
        raise StorageCorrupt(
            f"{path}: journal of format {header.format}, this version knows {JOURNAL_FORMAT}"
        )
    if header.sequence != sequence:
        raise StorageCorrupt(f"{path}: is segment {header.sequence} under a wrong name")
    theirs = (header.node, header.cluster, header.generation)
    if theirs != (superblock.node, superblock.cluster, superblock.generation):
        raise StorageCorrupt(f"{path}: belongs to another node, cluster or journal generation")


def _replay_record(kind: int, payload: bytes, into: Recovered, segment: Segment, path: str) -> None:
    into.records += 1
    entries = into.entries
    if kind == ENTRY:
        index, term = ENTRY_HEAD.unpack_from(payload)
        if entries and index != entries[-1][1] + 1:  # after a removed segment: any beginning
            raise StorageCorrupt(f"{path}: entry {index} follows entry {entries[-1][1]}")
        entries.append((payload[ENTRY_HEAD.size :], index, term))
        segment.highest_index = max(segment.highest_index, index)
    elif kind == TRUNCATE:
        (index,) = INDEX.unpack(payload)
        if entries and index > entries[-1][1]:
            raise StorageCorrupt(f"{path}: truncation from {index} behind the end of the log")
        # It may reach into a segment that was removed behind a snapshot: then all that is here of
        # the older log is void, and what follows begins anew. `_align` checks the beginning.
        del entries[max(0, index - entries[0][1]) if entries else 0 :]
    elif kind == META:
        meta = METAS.decode(payload)
        into.term, into.vote = meta.term, meta.vote
    elif kind == RESET:
        reset = RESETS.decode(payload)
        into.entries[:] = [engine_entry(reset.previous), engine_entry(reset.last)]
        segment.highest_index = max(segment.highest_index, reset.last.index)
    else:
        raise StorageCorrupt(f"{path}: record of unknown kind {kind}")


def _align(recovered: Recovered, manifest: Manifest | None, files: Files) -> bool:
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
