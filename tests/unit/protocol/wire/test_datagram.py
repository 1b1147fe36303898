"""Packet bodies: what is skipped, what is refused, what fits."""

from __future__ import annotations

import msgspec
import pytest

from muster_protocol.crypto import sealing
from muster_protocol.errors import RemoteError
from muster_protocol.limits import PACKET_MESSAGES_MAX
from muster_protocol.types import NO_CLUSTER, ClusterId
from muster_protocol.wire import datagram
from muster_protocol.wire.codec import Decoder, encode
from muster_protocol.wire.datagram import (
    BODY_BYTES_MAX,
    MESSAGES_BYTES_MAX,
    check_cluster,
    decode_datagram,
    encode_datagram,
)

CLUSTER = ClusterId("c" * 32)


class Said(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """The one message that these tests know."""

    text: str


_SAID: Decoder[Said] = Decoder(Said)


def decode_said(raw: msgspec.Raw) -> Said:
    if msgspec.msgpack.decode(raw)[0] != 1:
        raise RemoteError("unknown-kind", "skip me")
    return _SAID.decode(raw)


def cause_of(body: bytes) -> str:
    with pytest.raises(RemoteError) as caught:
        decode_datagram(body, decode_said)
    return caught.value.cause


@pytest.mark.parametrize("cluster", [CLUSTER, NO_CLUSTER])
def test_body_round_trips(cluster: ClusterId) -> None:
    said = (Said("one"), Said("two"))
    got = decode_datagram(encode_datagram(said, cluster), decode_said)
    assert (got.minor, got.cluster, got.messages, got.skipped) == (0, cluster, said, 0)


def test_messages_may_be_encoded_already() -> None:
    raw = msgspec.Raw(encode(Said("one")))
    assert decode_datagram(encode_datagram([raw], CLUSTER), decode_said).messages == (Said("one"),)


def test_newer_minor_version_is_understood_as_far_as_it_goes() -> None:
    """A kind and two elements more than we know, and a message with an appended field."""
    body = encode((7, CLUSTER, [[1, "one", "appended"], [99, {"new": 1}], [1, "two"]], "x", 5))
    got = decode_datagram(body, decode_said)
    assert (got.minor, got.messages, got.skipped) == (7, (Said("one"), Said("two")), 1)


def test_message_of_a_known_kind_that_does_not_fit_refuses_the_packet() -> None:
    assert cause_of(encode((0, CLUSTER, [[1, "fine"], [1, 5]]))) == "garbage"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xc1",
        encode({}),
        encode((0, CLUSTER)),
        encode((0, "not an id", [])),
        encode((0, CLUSTER + "\n", [])),
        encode((-1, CLUSTER, [])),
        encode((0, CLUSTER, [])) + b"\0",
        encode((0, CLUSTER, [[1, "x"]] * (PACKET_MESSAGES_MAX + 1))),
        b"\x93\x00\xa0\xdd\xff\xff\xff\xff",
        b"\x93\x00\xa0\x91" + b"\x91" * 1_200,
    ],
)
def test_body_that_does_not_fit_is_garbage(body: bytes) -> None:
    assert cause_of(body) == "garbage"


def test_oversized_body_is_refused_before_it_is_decoded() -> None:
    assert cause_of(bytes(BODY_BYTES_MAX + 1)) == "oversized"


def test_room_for_messages_is_used_to_the_last_byte() -> None:
    message = Said("x" * (MESSAGES_BYTES_MAX - len(encode(Said("x" * 1_000))) + 1_000))
    assert len(encode(message)) == MESSAGES_BYTES_MAX
    body = encode_datagram([message], CLUSTER)
    assert BODY_BYTES_MAX - len(body) <= 1 + 5 + 3, "what the header could have taken more"


def test_our_own_oversized_body_is_our_own_bug() -> None:
    with pytest.raises(AssertionError):
        encode_datagram([Said("x" * BODY_BYTES_MAX)], CLUSTER)
    with pytest.raises(AssertionError):
        encode_datagram([Said("")] * (PACKET_MESSAGES_MAX + 1), CLUSTER)


def test_small_body_is_padded_so_that_it_can_be_challenged() -> None:
    body = encode_datagram([], NO_CLUSTER)
    assert len(body) + sealing.OVERHEAD_BYTES >= sealing.PROOF_BYTES
    assert decode_datagram(body, decode_said).messages == ()
    assert datagram.BODY_BYTES_MIN == sealing.PROOF_BYTES - sealing.OVERHEAD_BYTES


def test_room_is_what_the_sealer_leaves() -> None:
    assert BODY_BYTES_MAX == sealing.BODY_BYTES_MAX


def test_nothing_is_accepted_across_two_clusters() -> None:
    other = ClusterId("d" * 32)
    for mine, theirs in [(CLUSTER, CLUSTER), (CLUSTER, NO_CLUSTER), (NO_CLUSTER, other)]:
        check_cluster(mine, theirs)
    with pytest.raises(RemoteError) as caught:
        check_cluster(CLUSTER, other)
    assert caught.value.cause == "foreign-cluster"
