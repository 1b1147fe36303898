"""The messages, byte by byte where versions meet."""

from __future__ import annotations

import pytest

from muster_protocol.errors import RemoteError
from muster_protocol.limits import META_BYTES_MAX
from muster_protocol.membership.config import MembershipConfig
from muster_protocol.types import Address, NodeId
from muster_protocol.wire.codec import encode
from muster_protocol.wire.membership import (
    ALIVE_BYTES_MAX,
    Ack,
    Alive,
    Digest,
    JoinReply,
    MemberRecord,
    MemberState,
    NodeMeta,
    Ping,
    Suspect,
    SyncTable,
    decode_message,
    decode_sync_table,
    meta_bytes,
)

A, B = NodeId("a" * 32), NodeId("b" * 32)
HERE = Address("fd00:1234:5678:9abc:def0:1234:5678:9abc", 7411)


def a_full_meta() -> NodeMeta:
    """The longest metadata that is allowed."""
    meta = NodeMeta(build="x" * 64, cluster_id="c" * 32, tags={"k": "", "l": "v" * 256})
    room = META_BYTES_MAX - meta_bytes(meta)
    meta = NodeMeta(build="x" * 64, cluster_id="c" * 32, tags={"k": "v" * room, "l": "v" * 256})
    shorter = room - (meta_bytes(meta) - META_BYTES_MAX)
    tags = {"k": "v" * shorter, "l": "v" * 256}
    return NodeMeta(build="x" * 64, cluster_id="c" * 32, tags=tags)


def test_message_bytes_stay_as_they_are() -> None:
    """Golden: what an older version sends must be read for ever."""
    assert encode(Ping(5, A)) == b"\x93\x01\x05\xd9\x20" + b"a" * 32
    assert encode(Ack(5)) == b"\x94\x02\x05\xa0\x00"
    golden = b"\x95\x0b\xd9\x20" + b"a" * 32 + b"\x03\xd9\x20" + b"b" * 32 + b"\xa6silent"
    assert encode(Suspect(A, 3, B, "silent")) == golden
    assert decode_message(golden) == Suspect(A, 3, B, "silent")


def test_message_of_an_earlier_version_has_defaults_for_what_it_lacks() -> None:
    assert decode_message(encode([2, 5])) == Ack(5)
    assert decode_message(encode([11, A, 3, B])) == Suspect(A, 3, B)


def test_message_of_a_later_version_is_read_without_its_new_fields() -> None:
    assert decode_message(encode([1, 5, A, {"new": [1, 2]}, 7])) == Ping(5, A)


def test_message_of_an_unknown_kind_is_told_from_garbage() -> None:
    with pytest.raises(RemoteError) as error:
        decode_message(encode([77, "whatever"]))
    assert error.value.cause == "unknown-kind"


@pytest.mark.parametrize(
    "garbage",
    [
        b"",
        b"\xc1",
        encode([]),
        encode(5),
        encode([1, 5]),
        encode([1, -1, A]),
        encode([1, 5, "A" * 32]),
        encode([1, 5, A + "\n"]),
        encode([11, A, 2**60, B]),
        encode([11, A, 1, B, "a reason with spaces"]),
        encode([10, A, "name", ["no address", 7411], 1]),
        encode([10, A, "name", ["10.0.0.1", 0], 1]),
        encode([10, A, "bad name!", ["10.0.0.1", 7411], 1]),
        encode(["1", 5, A]),
        encode(Ping(5, A)) + b"\x00",
        encode(SyncTable(())),
    ],
)
def test_message_that_does_not_fit_is_garbage(garbage: bytes) -> None:
    with pytest.raises(RemoteError) as error:
        decode_message(garbage)
    assert error.value.cause in ("garbage", "unknown-kind")


def test_metadata_above_its_bound_is_refused_wherever_it_stands() -> None:
    tags = {f"key-{number}": "v" * 60 for number in range(10)}
    alive = Alive(A, "a", HERE, 1, NodeMeta(tags=tags))
    with pytest.raises(RemoteError, match="512"):
        decode_message(encode(alive))
    with pytest.raises(RemoteError, match="512"):
        decode_message(encode(JoinReply(1, alive, Digest(1, 1))))
    record = MemberRecord(A, "a", HERE, 1, MemberState.ALIVE, NodeMeta(tags=tags))
    with pytest.raises(RemoteError, match="512"):
        decode_sync_table(encode(SyncTable((record,))))


def test_the_largest_update_fits_a_packet_with_room_for_an_answer() -> None:
    meta = a_full_meta()
    assert meta_bytes(meta) == META_BYTES_MAX
    alive = Alive(A, "n" * 63, HERE, 2**48 - 1, meta)
    reply = JoinReply(2**32 - 1, alive, Digest(10_000, 2**63 - 1))
    assert len(encode(alive)) <= ALIVE_BYTES_MAX
    assert len(encode(reply)) + 200 < MembershipConfig.lan().packet_body_bytes_max


def test_sync_table_of_a_later_version_is_read() -> None:
    row = [
        A,
        "a",
        ["10.0.0.1", 7411],
        1,
        2,
        [0, 0, "", "", 0, False, {}, False, "new"],
        5,
        B,
        "newer",
    ]
    table = decode_sync_table(encode([32, [row], "newest"]))
    assert table.members[0].state is MemberState.FAILED
    assert table.members[0].by == B
