"""Checksummed records, one behind the other.

    offset  size
    0       1     0xA6
    1       1     kind
    2       2     low half of the CRC-32 of bytes 1 and 4..11: the length can be trusted
    4       4     payload length, big-endian
    8       4     CRC-32 of the payload
    12      n     payload
    12+n    1     0x5A

A record that is wrong is damage here: files that are replaced as a whole (`write_atomically`) are
never torn. In the journal, which is appended to, `segments` tells the two apart. The closing 0x5A
is there so that no complete record ever ends in a sector of zeros.
"""

from __future__ import annotations

import struct
import zlib
from typing import Final

from muster_protocol.errors import StorageCorrupt

_HEADER: Final = struct.Struct(">BBHII")
_MAGIC: Final = 0xA6
_END: Final = b"\x5a"

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


def record_opening(kind: int) -> bytes:
    """The bytes with which each record of this kind begins, for who looks for one."""
    return bytes((_MAGIC, kind))


def sound_records(data: bytes | bytearray) -> tuple[list[tuple[int, bytes]], int]:
    """(kind, payload) of the records from the beginning on, and where the sound ones end."""
    records: list[tuple[int, bytes]] = []
    offset = 0
    while (record := record_at(data, offset)) is not None:
        records.append(record)
        offset += len(record[1]) + RECORD_OVERHEAD
    return records, offset


def record_at(data: bytes | bytearray, offset: int) -> tuple[int, bytes] | None:
    """(kind, payload) of the record at `offset`, or None if none is sound there."""
    end = _end_of_record(data, offset)
    if end is None:
        return None
    return data[offset + 1], bytes(data[offset + _HEADER.size : end - len(_END)])


def scan_records(data: bytes | bytearray, *, path: str) -> list[tuple[int, bytes]]:
    """(kind, payload) of all records of a file. `path` is for messages.

    Errors: StorageCorrupt, naming file, offset and the way out.
    """
    records, sound_bytes = sound_records(data)
    if sound_bytes < len(data):
        raise damaged(path, sound_bytes)
    return records


def damaged(path: str, offset: int) -> StorageCorrupt:
    """The error for an unsound record that was acknowledged."""
    return StorageCorrupt(
        f"{path}: the record at byte {offset} is damaged. It was acknowledged, so it is not "
        "skipped. Restore the state directory from a backup, or move it away and let this node "
        "join as a new member"
    )


def _end_of_record(data: bytes | bytearray, offset: int) -> int | None:
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


def _trusted_length(data: bytes | bytearray, offset: int) -> int | None:
    if offset + _HEADER.size > len(data):
        return None
    magic, kind, header_crc, length, payload_crc = _HEADER.unpack_from(data, offset)
    if magic != _MAGIC or header_crc != _header_crc(kind, length, payload_crc):
        return None
    return int(length)
