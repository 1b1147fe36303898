"""Checksummed records in an append-only file, and how to tell a torn tail from damage.

    offset  size
    0       1     0xA6
    1       1     kind
    2       2     low half of the CRC-32 of bytes 1 and 4..11: the length can be trusted
    4       4     payload length, big-endian
    8       4     CRC-32 of the payload
    12      n     payload
    12+n    1     0x5A

A crash can leave the last record torn: the file ends inside it, or the file was made longer and
the rest of the record was never written and reads as zeros. Only that is cut off. A
record that is there completely and is wrong was acknowledged to somebody: that is damage, and the
answer is to stop, not to guess (`StorageCorrupt`). The closing 0x5A is there so that no complete
record ever ends in a sector of zeros.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import Final

from muster_protocol.errors import StorageCorrupt

_HEADER: Final = struct.Struct(">BBHII")
_MAGIC: Final = 0xA6
_END: Final = b"\x5a"
_SECTOR: Final = 512
"""The unit that a disk writes whole or not at all."""

PAYLOAD_BYTES_MAX: Final = 16 * 1024 * 1024
RECORD_OVERHEAD: Final = _HEADER.size + len(_END)


def encode_record(kind: int, payload: bytes) -> bytes:
    """One record."""
    assert len(payload) <= PAYLOAD_BYTES_MAX
    payload_crc = zlib.crc32(payload)
    header_crc = _header_crc(kind, len(payload), payload_crc)
    header = _HEADER.pack(_MAGIC, kind, header_crc, len(payload), payload_crc)
    return header + payload + _END


def _header_crc(kind: int, length: int, payload_crc: int) -> int:
    return zlib.crc32(struct.pack(">BII", kind, length, payload_crc)) & 0xFFFF


@dataclass(frozen=True, slots=True)
class Scan:
    """What a file holds: (kind, payload) of each record, and where its sound part ends."""

    records: list[tuple[int, bytes]]
    sound_bytes: int
    torn_bytes: int


def scan_records(data: bytes, *, path: str, is_newest: bool) -> Scan:
    """Read all records of a file. `path` is for messages; only the newest file may be torn.

    Errors: StorageCorrupt, naming file, offset and the way out.
    """
    records: list[tuple[int, bytes]] = []
    offset = 0
    while offset < len(data):
        end = _end_of_record(data, offset)
        if end is None:
            if not is_newest or not _is_torn(data, offset):
                raise StorageCorrupt(
                    f"{path}: the record at byte {offset} is damaged. It was acknowledged, so it "
                    "is not skipped. Restore the state directory from a backup, or move it away "
                    "and let this node join as a new member"
                )
            return Scan(records, offset, len(data) - offset)
        payload = data[offset + _HEADER.size : end - len(_END)]
        records.append((data[offset + 1], payload))
        offset = end
    return Scan(records, offset, 0)


def _end_of_record(data: bytes, offset: int) -> int | None:
    """Where the record at `offset` ends, or None if it is not sound."""
    length = _trusted_length(data, offset)
    if length is None:
        return None
    start = offset + _HEADER.size
    end = start + length + len(_END)
    if end > len(data) or data[end - 1 : end] != _END:
        return None
    (payload_crc,) = struct.unpack_from(">I", data, offset + 8)
    return end if zlib.crc32(memoryview(data)[start : end - 1]) == payload_crc else None


def _trusted_length(data: bytes, offset: int) -> int | None:
    if offset + _HEADER.size > len(data):
        return None
    magic, kind, header_crc, length, payload_crc = _HEADER.unpack_from(data, offset)
    if magic != _MAGIC or header_crc != _header_crc(kind, length, payload_crc):
        return None
    return int(length)


def _is_torn(data: bytes, offset: int) -> bool:
    """Does what stands from `offset` on look like the first part of one record?

    Either the file ends inside the record, or everything from some byte inside it to the end of the
    file is zero. Of a record whose header cannot be trusted the end is not known: then the zeros
    begin inside the header, or at a sector boundary.
    """
    length = _trusted_length(data, offset)
    written = max(offset, len(data.rstrip(b"\0")))
    if length is not None:
        record_end = offset + length + RECORD_OVERHEAD
        return record_end > len(data) or written < record_end
    if written - offset < _HEADER.size:
        return data[offset : offset + 1] in (bytes([_MAGIC]), b"\0")
    return -(-written // _SECTOR) * _SECTOR < len(data)
