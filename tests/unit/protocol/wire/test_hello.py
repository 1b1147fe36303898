"""Hellos: who may talk to whom, and what a later version may change."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from muster_protocol.errors import RemoteError
from muster_protocol.limits import HELLO_FRAME_BYTES_MAX
from muster_protocol.types import ClusterId
from muster_protocol.wire.codec import encode
from muster_protocol.wire.hello import (
    MAJOR_VERSION,
    Hello,
    HelloRefused,
    Purpose,
    check_ancestry,
    check_hello,
    decode_hello,
    encode_hello,
    minor_version,
    refusal,
)

MINE = Hello(
    major=MAJOR_VERSION,
    minor_min=1,
    minor_max=3,
    node_id="a" * 32,
    name="alpha",
    cluster_id="c" * 32,
    label="lab",
    boot="0" * 24,
    purpose=Purpose.SYNC,
)


def theirs(**changes: Any) -> Hello:
    others = {"node_id": "b" * 32, "name": "beta", "boot": "1" * 24}
    return msgspec.structs.replace(MINE, **(others | changes))


def raw(**changes: Any) -> list[Any]:
    """A hello as the plain array that stands on the wire."""
    values = [1, *(getattr(MINE, name) for name in Hello.__struct_fields__)]
    for name, value in changes.items():
        values[1 + Hello.__struct_fields__.index(name)] = value
    return values


def test_hello_and_refusal_round_trip() -> None:
    for value in (MINE, HelloRefused(MAJOR_VERSION, "version", "too old")):
        assert decode_hello(encode_hello(value)) == value


def test_hello_with_appended_fields_is_understood() -> None:
    assert decode_hello(encode([*raw(), "new", {"map": 1}])) == MINE


def test_hello_of_another_major_version_is_refused_as_such_whatever_it_holds() -> None:
    for data in (encode([1, 2]), encode([1, 2, {"all": "new"}]), encode([9, 2, "x"])):
        with pytest.raises(RemoteError, match="speaks version 2") as caught:
            decode_hello(data)
        assert caught.value.cause == "version"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc0",
        encode([]),
        encode({"a": 1}),
        encode([1]),
        encode([3, MAJOR_VERSION]),
        encode(raw(node_id="A" * 32)),
        encode(raw(node_id="a" * 32 + "\n")),
        encode(raw(name="")),
        encode(raw(name="two words")),
        encode(raw(name="bell\x07")),
        encode(raw(label="x" * 64)),
        encode(raw(boot="short")),
        encode(raw(purpose="Not A Word")),
        encode(raw(minor_min=-1)),
        encode(raw(generation="x")),
        encode([2, MAJOR_VERSION, "Reason!", ""]),
        encode([2, MAJOR_VERSION, "reason", "m" * 201]),
    ],
)
def test_hello_that_does_not_fit_is_garbage(data: bytes) -> None:
    with pytest.raises(RemoteError) as caught:
        decode_hello(data)
    assert caught.value.cause == "garbage"


def test_oversized_hello_is_refused_before_it_is_decoded() -> None:
    with pytest.raises(RemoteError) as caught:
        decode_hello(bytes(HELLO_FRAME_BYTES_MAX + 1))
    assert caught.value.cause == "oversized"


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"minor_min": 0, "minor_max": 1},
        {"minor_min": 3, "minor_max": 9},
        {"cluster_id": ""},
        {"expects": "a" * 32},
        {"purpose": "of-tomorrow"},
    ],
)
def test_hellos_that_fit_pass(changes: dict[str, Any]) -> None:
    check_hello(MINE, theirs(**changes))


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"minor_min": 4, "minor_max": 5}, "version"),
        ({"minor_min": 0, "minor_max": 0}, "version"),
        ({"label": "other"}, "foreign-label"),
        ({"cluster_id": "d" * 32}, "foreign-cluster"),
        ({"node_id": "a" * 32, "boot": "0" * 24}, "self"),
        ({"node_id": "a" * 32}, "duplicate-id"),
        ({"expects": "d" * 32}, "wrong-peer"),
    ],
)
def test_hellos_that_do_not_fit_have_a_cause(changes: dict[str, Any], cause: str) -> None:
    with pytest.raises(RemoteError) as caught:
        check_hello(MINE, theirs(**changes))
    assert caught.value.cause == cause
    told = decode_hello(encode_hello(refusal(caught.value)))
    assert isinstance(told, HelloRefused)
    assert (told.reason, told.message) == (cause, str(caught.value))


def test_who_is_of_a_cluster_that_was_recovered_is_told_how_to_rejoin() -> None:
    late = theirs(cluster_id="d" * 32)
    with pytest.raises(RemoteError) as caught:
        check_ancestry(MINE, late, (ClusterId("e" * 32), ClusterId("d" * 32)))
    assert caught.value.cause == "recovered"
    told = refusal(caught.value)
    assert told.message == str(caught.value), "it fits"
    assert told.message.endswith(f"muster raft recover --rejoin {MINE.cluster_id}")
    check_ancestry(MINE, theirs(), (ClusterId("d" * 32), ClusterId(MINE.cluster_id)))
    check_ancestry(MINE, theirs(cluster_id=""), (ClusterId("d" * 32),))


def test_minor_version_is_the_highest_that_both_speak() -> None:
    assert minor_version(MINE, theirs(minor_min=0, minor_max=2)) == 2
    assert minor_version(MINE, theirs(minor_min=2, minor_max=9)) == 3


def test_longest_hello_fits_its_frame() -> None:
    longest = theirs(
        major=2**16 - 1,
        minor_min=2**16 - 1,
        minor_max=2**16 - 1,
        name="n" * 63,
        label="l" * 63,
        purpose="p" * 32,
        generation="0" * 64,
        expects="e" * 32,
    )
    assert len(encode_hello(longest)) < HELLO_FRAME_BYTES_MAX / 8
    assert len(encode_hello(refusal(RemoteError("version", "é" * 500)))) < HELLO_FRAME_BYTES_MAX
