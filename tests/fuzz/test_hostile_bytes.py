"""Any bytes give a value or a RemoteError, never anything else; and framing does not care how they
are cut into pieces.

Random bytes rarely get past a tag or a first array, so most cases start from something valid that
is then damaged, cut, joined or given other insides.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from muster_protocol.crypto.insecure import InsecureKeys
from muster_protocol.crypto.keyring import Keyring
from muster_protocol.crypto.sealing import Kind, PacketKeys, PacketSealer
from muster_protocol.errors import RemoteError
from muster_protocol.types import Address, ClusterId, NodeId
from muster_protocol.wire.codec import Decoder, encode
from muster_protocol.wire.datagram import decode_datagram, encode_datagram
from muster_protocol.wire.framing import FrameDecoder, frame
from muster_protocol.wire.hello import Hello, Purpose, decode_hello, encode_hello

ME, PEER = NodeId("a" * 32), NodeId("b" * 32)
SOURCE = Address("127.0.0.1", 7411)
RINGS: tuple[PacketKeys, ...] = (Keyring([b"s" * 32], label="lab"), InsecureKeys(label="lab"))
HELLO = Hello(1, 0, 0, ME, "alpha", "c" * 32, "lab", "0" * 24, Purpose.SYNC)

_ANY: Decoder[object] = Decoder(object)


def decode_any(raw: msgspec.Raw) -> object:
    return _ANY.decode(raw)


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=40)
    | st.binary(max_size=40),
    lambda inner: (
        st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=20,
)


def damaged(valid: bytes) -> st.SearchStrategy[bytes]:
    """`valid` with a few bytes changed, cut off or put in."""

    def change(edits: list[tuple[int, int, bytes]]) -> bytes:
        data = bytearray(valid)
        for position, count, put in edits:
            start = position % (len(data) + 1)
            data[start : start + count] = put
        return bytes(data)

    edit = st.tuples(st.integers(0, 5_000), st.integers(0, 3), st.binary(max_size=3))
    return st.lists(edit, max_size=4).map(change)


def survives(call: Callable[[], object]) -> None:
    try:
        call()
    except RemoteError as error:
        assert error.cause  # noqa: PT017


def sealers(keys: PacketKeys) -> tuple[PacketSealer, PacketSealer]:
    mine = PacketSealer(keys, node_id=ME, boot_salt=b"m" * 12)
    return mine, PacketSealer(keys, node_id=PEER, boot_salt=b"p" * 12)


@given(data=st.binary(max_size=1_500), keys=st.sampled_from(RINGS))
def test_sealer_survives_any_bytes(data: bytes, keys: PacketKeys) -> None:
    mine, _ = sealers(keys)
    survives(lambda: mine.open(data, SOURCE, now=0.0, nonce8=bytes(8)))
    survives(lambda: mine.open_hint(data, SOURCE))


@given(data=st.data(), keys=st.sampled_from(RINGS))
def test_sealer_survives_damaged_packets(data: st.DataObject, keys: PacketKeys) -> None:
    mine, peer = sealers(keys)
    packet = data.draw(damaged(peer.seal(b"a body of some length", ME, now=0.0)))
    survives(lambda: mine.open(packet, SOURCE, now=0.0, nonce8=bytes(8)))


@given(
    body=st.binary(max_size=60),
    kind=st.sampled_from(Kind),
    established=st.booleans(),
    keys=st.sampled_from(RINGS),
)
def test_sealer_survives_any_body_from_a_holder_of_the_secret(
    body: bytes, kind: Kind, established: bool, keys: PacketKeys
) -> None:
    mine, peer = sealers(keys)
    packets = [peer.seal(b"a body of some length", ME, now=0.0)] if established else []
    while packets:
        replies = mine.open(packets.pop(), SOURCE, now=0.0, nonce8=b"mmmmmmmm").replies
        for reply, _ in replies:
            answers = peer.open(reply, SOURCE, now=0.0, nonce8=b"pppppppp").replies
            packets += [answer for answer, _ in answers]
    packet = peer._seal(kind, body, bytes.fromhex(ME), 0.0)
    survives(lambda: mine.open(packet, SOURCE, now=0.0, nonce8=bytes(8)))


@given(data=st.binary(max_size=1_400) | values.map(encode))
def test_packet_body_survives_anything(data: bytes) -> None:
    survives(lambda: decode_datagram(data, decode_any))


@given(minor=values, cluster=values, messages=values)
def test_packet_body_survives_wrong_types(minor: object, cluster: object, messages: object) -> None:
    survives(lambda: decode_datagram(encode((minor, cluster, messages)), decode_any))


@given(data=st.data())
def test_packet_body_survives_damage(data: st.DataObject) -> None:
    body = encode_datagram([["ping", 1], ["ack", {"a": [1, 2]}]], ClusterId("c" * 32))
    survives(lambda: decode_datagram(data.draw(damaged(body)), decode_any))


@given(data=st.binary(max_size=300) | values.map(encode) | damaged(encode_hello(HELLO)))
def test_hello_survives_anything(data: bytes) -> None:
    survives(lambda: decode_hello(data))


@given(depth=st.integers(1, 3_000), opener=st.sampled_from([b"\x91", b"\x81\xa0"]))
def test_absurd_nesting_is_survived(depth: int, opener: bytes) -> None:
    survives(lambda: decode_hello(opener * depth))
    survives(lambda: decode_datagram(b"\x93\x00\xa0\x91" + opener * depth, decode_any))


def frames_of(pieces: list[bytes]) -> tuple[list[bytes], str, bool]:
    """What a decoder makes of `pieces`: frames, the cause that ended it, whether it is clean."""
    decoder, frames = FrameDecoder(bytes_max=100), list[bytes]()
    try:
        for piece in pieces:
            decoder.receive(piece)
            while (payload := decoder.next_frame()) is not None:
                frames.append(payload)
    except RemoteError as error:
        return frames, error.cause, False
    return frames, "", decoder.is_between_frames


payloads = st.lists(st.binary(min_size=1, max_size=100), max_size=5)


@given(
    data=payloads.map(lambda sent: b"".join(frame(one, bytes_max=100) for one in sent)).flatmap(
        damaged
    )
    | st.binary(max_size=300),
    cuts=st.lists(st.integers(0, 600), max_size=8),
)
def test_framing_is_the_same_however_the_bytes_are_cut(data: bytes, cuts: list[int]) -> None:
    at_once = frames_of([data])
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    in_pieces = [data[start:end] for start, end in itertools.pairwise(edges)]
    assert frames_of(in_pieces) == at_once
    assert frames_of([data[index : index + 1] for index in range(len(data))]) == at_once


@given(sent=payloads)
def test_frames_come_out_as_they_went_in(sent: list[bytes]) -> None:
    stream = b"".join(frame(payload, bytes_max=100) for payload in sent)
    assert frames_of([stream]) == (sent, "", True)
