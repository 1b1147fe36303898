"""Segments: an unsound place is told apart, torn or damage, by the marks behind it."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muster.storage.records import encode_record
from muster.storage.segments import MARK, MARK_BYTES, last_mark, mark_record, read_segment
from muster_protocol.errors import StorageCorrupt

KEY = b"k" * 16
SEQUENCE = 7


def mark(offset: int, *, key: bytes = KEY, sequence: int = SEQUENCE) -> bytes:
    return mark_record(key, sequence, offset)


def batches(sizes: list[int]) -> tuple[bytes, list[int]]:
    """A segment of so many batches, and where each ends."""
    data, ends = b"", []
    for number, size in enumerate(sizes):
        opening = mark(len(data)) if data else b""
        data += opening + b"".join(
            encode_record(2, b"%d" % i * size) for i in range(1 + number % 4)
        )
        ends.append(len(data))
    return data, ends


DATA, ENDS = batches([40, 300, 7, 900, 64, 20, 2_000])


def read(
    data: bytes, *, is_oldest: bool = False, synced_bytes: int | None = None
) -> tuple[int, int]:
    """How much of a newest segment is sound, and how much torn."""
    found = read_segment(
        data,
        key=KEY,
        sequence=SEQUENCE,
        path="j",
        is_oldest=is_oldest,
        synced_bytes=synced_bytes,
    )
    return found.sound_bytes, found.torn_bytes


def with_hole(data: bytes, start: int, stop: int, *, garbage: int | None = None) -> bytes:
    rng = random.Random(garbage)
    content = bytes(stop - start) if garbage is None else rng.randbytes(stop - start)
    return data[:start] + content + data[stop:]


@given(start=st.integers(0, 1_999), length=st.integers(1, 3_000), garbage=st.booleans())
@settings(max_examples=300)
def test_a_hole_in_the_last_batch_is_torn_and_one_before_it_damage(
    start: int, length: int, garbage: bool
) -> None:
    """Whatever is in the hole, and however much of the batch stands behind it."""
    start = start % len(DATA)
    stop = min(len(DATA), start + length)
    data = with_hole(DATA, start, stop, garbage=start if garbage else None)
    if data == DATA:
        return
    last_begins = ENDS[-2]
    if start >= last_begins:
        sound, torn = read(data)
        assert last_begins <= sound <= start
        assert sound + torn == len(data)
    elif stop <= last_begins:  # its opening mark is whole, and proves all before it
        with pytest.raises(StorageCorrupt, match="j: the record at byte"):
            read(data)


def test_a_batch_whose_opening_mark_is_lost_is_the_last_one() -> None:
    """Nothing proves then that the one before it was synced; it is whole, though."""
    data = with_hole(DATA, ENDS[-2], ENDS[-2] + 5)
    assert read(data) == (ENDS[-2], len(DATA) - ENDS[-2])
    again = with_hole(data, ENDS[-3] + MARK_BYTES, ENDS[-3] + MARK_BYTES + 3)
    assert read(again) == (ENDS[-3] + MARK_BYTES, len(DATA) - ENDS[-3] - MARK_BYTES)


def test_a_closing_mark_makes_a_flipped_bit_of_the_last_batch_damage() -> None:
    closed = DATA + mark(len(DATA))
    for position in range(ENDS[-2], len(DATA), 37):
        data = bytearray(closed)
        data[position] ^= 4
        with pytest.raises(StorageCorrupt):
            read(bytes(data))
    for position in range(len(DATA), len(closed)):
        data = bytearray(closed)
        data[position] ^= 4
        assert read(bytes(data)) == (len(DATA), MARK_BYTES)


def test_a_file_that_ends_early_loses_its_last_batch_at_most() -> None:
    for size in range(len(DATA)):
        sound, torn = read(DATA[:size])
        assert sound + torn == size


def test_the_header_of_the_oldest_segment_was_synced() -> None:
    data = with_hole(DATA[: ENDS[0]], 20, 30)
    assert read(data) == (0, len(data))
    with pytest.raises(StorageCorrupt, match="byte 0"):
        read(data, is_oldest=True)


def test_what_a_later_segment_tells_of_it_must_be_there() -> None:
    assert read(DATA + mark(len(DATA))[:9], synced_bytes=len(DATA))[0] == len(DATA)
    with pytest.raises(StorageCorrupt):
        read(DATA[: ENDS[-2]], synced_bytes=len(DATA))
    with pytest.raises(StorageCorrupt):
        read(with_hole(DATA, ENDS[-1] - 9, ENDS[-1] - 8), synced_bytes=len(DATA))


@pytest.mark.parametrize(
    "imitation",
    [
        pytest.param(lambda at: mark(at, key=b"x" * 16), id="under another key"),
        pytest.param(lambda at: mark(at, sequence=SEQUENCE + 1), id="of another segment"),
        pytest.param(lambda at: mark(at - 1), id="of another place"),
        pytest.param(lambda at: encode_record(MARK, bytes(16)), id="of zeros"),
        pytest.param(lambda at: DATA[ENDS[2] : ENDS[2] + MARK_BYTES], id="copied"),
    ],
)
def test_a_value_cannot_imitate_a_mark(imitation: object) -> None:
    """A batch with a hole, and behind it an entry whose value a client made up."""
    assert callable(imitation)
    opening = mark(len(DATA))
    torn = encode_record(2, b"torn" * 30)
    value_at = len(DATA) + len(opening) + len(torn) + 12
    forged = encode_record(2, imitation(value_at) + b"rest")
    data = with_hole(DATA + opening + torn + forged, len(DATA) + 50, len(DATA) + 60)
    assert last_mark(data, key=KEY, sequence=SEQUENCE) == len(DATA)
    assert read(data)[0] == len(DATA) + MARK_BYTES


def test_a_mark_that_stands_where_it_should_not_is_not_sound() -> None:
    moved = DATA + mark(3) + encode_record(2, b"x")
    assert read(moved) == (len(DATA), len(moved) - len(DATA))
    with pytest.raises(StorageCorrupt):
        read(moved + mark(len(moved)))


def test_a_value_full_of_openings_is_searched_in_time() -> None:
    """The worst that a client can store: a megabyte of what looks like marks until it is hashed."""
    imitation = mark(0)
    data = DATA + b"\0" + imitation * (1_000_000 // len(imitation))
    assert read(data)[0] == len(DATA)
