"""One segment of the journal: its marks, and whether an unsound place in it is torn or damage.

A crash loses what was not synced, in pieces: a file ends early, pages of it were never written and
read as zeros, or as anything. Of what was synced nothing may be missing. So an unsound place has to
be told apart: what was never acknowledged is cut off, what was acknowledged is damage, and the
answer to that is to stop, not to guess.

**Marks.** A batch (what one group commit writes) begins only when the sync of the one before has
ended. It opens with a `MARK`, whose being there therefore says: all of this file before me was
synced. A segment's first batch needs none, since its file's name says the same of the segments
before; how much of the last of them that is stands in the header. Behind a batch after which
nothing comes for a while the next one's mark is written ahead, and not synced: one that is lost
says nothing, and one that is there is true. (With a mark of its own behind that, a batch would say
that the first had been synced: Raft 14.) So an unsound place is damage if

* a sound mark stands behind it, wherever: it is looked for beyond the hole; or
* it is before the end that the header of a later segment tells; or
* it is the header of the oldest segment: there is a superblock, which is written after it, or there
  were older segments, which are removed after it. (Where the first batch ends is not known: what
  follows may be a second one whose mark is torn.)

All else is in the last batch, of which no answer has said anything that could be proven here: it
is torn, and cut off from the unsound place on. What rots in an acknowledged last batch in the
second before its closing mark looks the same, and is cut off too; nothing on the disk can tell.

**A mark cannot be imitated.** Behind a hole the records' bounds are not known, so marks are looked
for at every byte, and a value that somebody stored may hold any bytes. So a mark is a hash of its
segment's number and of its own offset, keyed with the 128 random bits of the superblock, which
never leave it. A copy of a real mark is none at any other place. (Rejected: a CRC over the offset,
which a client can compute who guesses where its value will lie; escaping the magic in payloads,
which costs every commit.)
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from typing import Final

from muster.storage.records import (
    RECORD_OVERHEAD,
    damaged,
    encode_record,
    record_opening,
    sound_records,
)

MARK: Final = 6
"""Kind of record, among the journal's."""

DIGEST_BYTES: Final = 16
MARK_BYTES: Final = RECORD_OVERHEAD + DIGEST_BYTES
_PLACE: Final = struct.Struct(">QQ")
_OPENING: Final = record_opening(MARK)
_LENGTH: Final = struct.pack(">I", DIGEST_BYTES)


def mark_record(key: bytes, sequence: int, offset: int) -> bytes:
    """The mark that may stand at `offset` of this segment, and nowhere else."""
    place = _PLACE.pack(sequence, offset)
    return encode_record(MARK, hashlib.blake2b(place, digest_size=DIGEST_BYTES, key=key).digest())


def last_mark(data: bytes, *, key: bytes, sequence: int) -> int:
    """Offset of the last sound mark in a segment's bytes, whatever else is in them; or -1."""
    offset = data.rfind(_OPENING)
    while offset >= 0:
        if _is_mark(data, key, sequence, offset):
            return offset
        offset = data.rfind(_OPENING, 0, offset + len(_OPENING) - 1)
    return -1


def may_hold_mark(data: bytes) -> bool:
    """Is anything in it that is a mark under some key, maybe?"""
    offset = data.find(_OPENING)
    while offset >= 0:
        if data[offset + 4 : offset + 8] == _LENGTH:
            return True
        offset = data.find(_OPENING, offset + 1)
    return False


def _is_mark(data: bytes, key: bytes, sequence: int, offset: int) -> bool:
    # The length first: it is wrong in all but what imitates a mark, and a hash costs a microsecond.
    if data[offset + 4 : offset + 8] != _LENGTH:
        return False
    return data[offset : offset + MARK_BYTES] == mark_record(key, sequence, offset)


@dataclass(frozen=True, slots=True)
class SegmentRead:
    """What a segment holds: (kind, payload) of each record, and where its sound part ends."""

    records: list[tuple[int, bytes]]
    sound_bytes: int
    torn_bytes: int
    is_closed: bool
    """Is its last record a mark?"""


def read_segment(
    data: bytes, *, key: bytes, sequence: int, path: str, is_oldest: bool, synced_bytes: int | None
) -> SegmentRead:
    """Read a segment, without what of it was torn. `synced_bytes` is what the header of the next
    one says of it, None if there is no such. `path` is for messages.

    Errors: StorageCorrupt, naming file, offset and the way out.
    """
    records, sound_bytes = sound_records(data[:synced_bytes])
    offset, is_closed = 0, False
    for position, (kind, payload) in enumerate(records):
        is_closed = kind == MARK
        if is_closed and not _is_mark(data, key, sequence, offset):
            del records[position:]
            sound_bytes = offset
            break
        offset += len(payload) + RECORD_OVERHEAD
    if synced_bytes is not None:
        is_damaged = sound_bytes < synced_bytes
    elif sound_bytes < len(data):
        is_first = is_oldest and sound_bytes == 0
        is_damaged = is_first or last_mark(data, key=key, sequence=sequence) > sound_bytes
    else:
        is_damaged = False
    if is_damaged:
        raise damaged(path, sound_bytes)
    return SegmentRead(records, sound_bytes, len(data) - sound_bytes, is_closed)
