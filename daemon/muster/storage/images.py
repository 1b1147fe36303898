"""Images: what many segments of the journal come to, in one file.

A snapshot lets segments go whose entries it covers. Some logs are never shortened by that: votes in
term after term, entries that a follower takes and truncates as one leader follows the other. When
the sealed segments hold much more than the log (`Journal.is_bloated`), they are read, replayed and
written as an image: the header that the next segment would begin with, the entries, and an end that
counts them. It has the number of the newest of them, and takes the place of all up to there.

Nothing stops meanwhile: sealed segments do not change, so all of it happens in another thread while
commits go on in the newest segment. The image counts from the moment in which it has its name
durably, and only then the segments go; until then, and where their names are back after a crash, a
start leaves aside what is no newer than the image.

Rejected: entries of the newest segment in it too, which would have to wait for commits; writing the
log anew from memory, which would have to be copied on the loop.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from muster.storage.files import Files
from muster.storage.journal import (
    ENTRY,
    ENTRY_HEAD,
    HEADER,
    IMAGE_END,
    JOURNAL_FORMAT,
    Header,
    Recovered,
    Segment,
    image_name,
)
from muster.storage.records import encode_record
from muster.storage.recovery import replay_sealed
from muster.storage.superblock import Superblock
from muster_protocol.wire.codec import encode
from muster_protocol.wire.raft import Manifest

CHUNK_BYTES = 1024 * 1024
"""In one write."""


def write_image(
    files: Files, superblock: Superblock, sealed: Sequence[Segment], manifest: Manifest | None
) -> Segment:
    """Make an image of these segments durable; blocks. `manifest` is that of a durable snapshot:
    what it covers is left out. Errors: StorageError, StorageCorrupt; nothing has changed."""
    recovered = replay_sealed(files, superblock, sealed, manifest)
    return write_log(files, superblock, recovered, sealed[-1].sequence)


def write_log(files: Files, superblock: Superblock, log: Recovered, sequence: int) -> Segment:
    """Make this log durable as the image of that number; blocks. Errors: StorageError; nothing has
    changed."""
    name = image_name(sequence)
    temporary = name + ".tmp"
    files.remove(temporary)
    handle = files.append(temporary)
    size = 0
    try:
        for chunk in _chunks(log, superblock, sequence):
            handle.write(chunk)
            size += len(chunk)
        handle.sync()
    finally:
        handle.close()
    files.rename(temporary, name)
    files.sync_directory()
    highest_index = log.entries[-1][1] if log.entries else 0
    return Segment(name, size, synced_bytes=size, highest_index=highest_index)


def _chunks(recovered: Recovered, superblock: Superblock, sequence: int) -> Iterator[bytes]:
    assert recovered.configuration is not None, "no segment has a header"
    header = Header(
        JOURNAL_FORMAT,
        superblock.node,
        superblock.cluster,
        superblock.generation,
        sequence,
        recovered.term,
        recovered.vote,
        recovered.configuration,
        0,
    )
    chunk = bytearray(encode_record(HEADER, encode(header)))
    for command, index, term in recovered.entries:
        chunk += encode_record(ENTRY, ENTRY_HEAD.pack(index, term) + command)
        if len(chunk) >= CHUNK_BYTES:
            yield bytes(chunk)
            chunk.clear()
    chunk += encode_record(IMAGE_END, encode(len(recovered.entries)))
    yield bytes(chunk)
