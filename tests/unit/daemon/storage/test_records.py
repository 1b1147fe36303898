"""Records: what is read, and what is not sound."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster.storage.records import encode_record, scan_records, sound_records
from muster_protocol.errors import StorageCorrupt

RECORDS = [encode_record(2, bytes([i]) * (40 * i + 1)) for i in range(1, 20)]
FILE = b"".join(RECORDS)
ENDS = [sum(map(len, RECORDS[:i])) for i in range(len(RECORDS) + 1)]


def sound(data: bytes) -> tuple[int, int]:
    records, end = sound_records(data)
    return len(records), end


def test_what_was_written_is_read() -> None:
    found = scan_records(FILE, path="j")
    assert [payload[:1] for _, payload in found] == [bytes([i]) for i in range(1, 20)]


def test_a_file_cut_anywhere_is_sound_up_to_the_record_that_was_cut() -> None:
    for size in range(len(FILE)):
        whole = sum(end <= size for end in ENDS) - 1
        assert sound(FILE[:size]) == (whole, ENDS[whole])


def test_a_record_whose_rest_is_zeros_is_not_sound() -> None:
    for written in range(ENDS[-2], len(FILE)):
        data = FILE[:written] + b"\0" * (len(FILE) - written)
        assert sound(data) == (len(RECORDS) - 1, ENDS[-2])


def test_zeros_behind_the_last_record_are_none() -> None:
    assert sound(FILE + b"\0" * 4096) == (len(RECORDS), len(FILE))


@given(position=st.integers(0, len(FILE) - 1), bit=st.integers(0, 7))
def test_any_flipped_bit_in_complete_records_is_damage(position: int, bit: int) -> None:
    data = bytearray(FILE)
    data[position] ^= 1 << bit
    with pytest.raises(StorageCorrupt, match="byte"):
        scan_records(bytes(data), path="j")


def test_a_payload_that_ends_in_zeros_is_still_protected() -> None:
    """Its last sector is not all zeros, because a record ends in 0x5A."""
    record = bytearray(encode_record(2, b"value" + b"\0" * 2000))
    record[13] ^= 1
    with pytest.raises(StorageCorrupt):
        scan_records(FILE + bytes(record), path="j")
