"""Records: a torn tail is told from damage."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster.storage.records import encode_record, scan_records
from muster_protocol.errors import StorageCorrupt

RECORDS = [encode_record(2, bytes([i]) * (40 * i + 1)) for i in range(1, 20)]
FILE = b"".join(RECORDS)


def scan(data: bytes, *, is_newest: bool = True) -> tuple[int, int, int]:
    found = scan_records(data, path="j", is_newest=is_newest)
    return len(found.records), found.sound_bytes, found.torn_bytes


def test_what_was_written_is_read() -> None:
    found = scan_records(FILE, path="j", is_newest=False)
    assert [payload[:1] for _, payload in found.records] == [bytes([i]) for i in range(1, 20)]


def test_a_file_cut_anywhere_loses_only_the_record_that_was_cut() -> None:
    ends = [0]
    for record in RECORDS:
        ends.append(ends[-1] + len(record))
    for size in range(len(FILE)):
        whole = sum(end <= size for end in ends) - 1
        assert scan(FILE[:size]) == (whole, ends[whole], size - ends[whole])


def test_sectors_that_were_never_written_are_a_torn_tail() -> None:
    """The file has its final length, and from some sector on the last record is zeros."""
    last_start = len(FILE) - len(RECORDS[-1])
    for boundary in range(-(-last_start // 512) * 512, len(FILE), 512):
        data = FILE[:boundary] + b"\0" * (len(FILE) - boundary)
        count, sound, _ = scan(data)
        assert (count, sound) == (len(RECORDS) - 1, last_start)


def test_a_record_whose_rest_is_zeros_is_a_torn_tail() -> None:
    """Wherever in a sector they begin: the file was made longer before its end was written."""
    last_start = len(FILE) - len(RECORDS[-1])
    for written in range(last_start, len(FILE)):
        data = FILE[:written] + b"\0" * (len(FILE) - written)
        count, sound, _ = scan(data)
        assert (count, sound) == (len(RECORDS) - 1, last_start)


def test_preallocated_zeros_behind_the_last_record_are_cut() -> None:
    assert scan(FILE + b"\0" * 4096) == (len(RECORDS), len(FILE), 4096)


def test_a_torn_record_in_an_older_file_is_damage() -> None:
    with pytest.raises(StorageCorrupt, match="byte"):
        scan(FILE[:-1], is_newest=False)


@given(position=st.integers(0, len(FILE) - 1), bit=st.integers(0, 7))
def test_any_flipped_bit_in_complete_records_is_damage(position: int, bit: int) -> None:
    """The last record included: it was acknowledged."""
    data = bytearray(FILE)
    data[position] ^= 1 << bit
    with pytest.raises(StorageCorrupt):
        scan(bytes(data))


def test_a_payload_that_ends_in_zeros_is_still_protected() -> None:
    """Its last sector is not all zeros, because a record ends in 0x5A."""
    record = bytearray(encode_record(2, b"value" + b"\0" * 2000))
    record[13] ^= 1
    with pytest.raises(StorageCorrupt):
        scan(FILE + bytes(record))
