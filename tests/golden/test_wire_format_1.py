"""Golden bytes of format 1: what a release must go on reading and writing.

A difference here is a new major version, or a bug. The bytes were made by the first release; they
are never made anew to please a test.
"""

from __future__ import annotations

from muster_protocol.crypto.keyring import Keyring
from muster_protocol.crypto.sealing import PacketSealer
from muster_protocol.types import Address, ClusterId, NodeId
from muster_protocol.wire.datagram import encode_datagram
from muster_protocol.wire.hello import Hello, HelloRefused, decode_hello, encode_hello

RING = Keyring([bytes(range(32))], label="lab")
ALPHA, BETA = NodeId("0a" * 16), NodeId("0b" * 16)
CLUSTER = ClusterId("0c" * 16)
HERE = Address("127.0.0.1", 7411)

BODY = bytes.fromhex(
    "9300d920306330633063306330633063306330633063306330633063306330633063306391930107d9203062"
    "306230623062306230623062306230623062306230623062306230623062"
)

DATA = bytes.fromhex(
    "11b59eab0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a616c706861277320626f6f74000000000001707405f6f424"
    "d544b1ea02727ab8cd72d5ff20bd1eb900f2aeb241a7198780e98b8809ad2a956acd9fe0355562166f3d0bcb"
    "03a938d3e1c0b92879275759744625f4daa5e13499ed9be7ba8a075288ecd0179f4194ed2a67fde0"
)
"""Alpha's first packet of a boot to Beta."""

CHALLENGE = bytes.fromhex(
    "12b59eab0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b6265746173277320626f6f740000000000012f6180eb6351"
    "02337df4cecf0654301f16eeffba277b6d85a999cf43f9f91065593a"
)
"""Beta's challenge to it, with the nonce "NONCE-b-"."""

ANSWER = bytes.fromhex(
    "13b59eab0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a616c706861277320626f6f74000000000002d6a2f7a4b6ef"
    "f7dbbe6a1b8b7f38d032f8f664b2df2cc0feb3205737a79448ba1669"
)
"""Alpha's answer, with its own nonce "NONCE-a-"."""

HELLO = bytes.fromhex(
    "9c01010000d9203061306130613061306130613061306130613061306130613061306130613061a5616c7068"
    "61d9203063306330633063306330633063306330633063306330633063306330633063a36c6162b830643064"
    "3064306430643064306430643064306430643064a472616674d9203065306530653065306530653065306530"
    "653065306530653065306530653065d920306230623062306230623062306230623062306230623062306230"
    "6230623062"
)
REFUSED = bytes.fromhex(
    "940201ad666f726569676e2d6c6162656cb86c6162656c202778272c207468697320697320276c616227"
)


def sealer(node: NodeId, salt: bytes) -> PacketSealer:
    return PacketSealer(RING, node_id=node, boot_salt=salt)


def test_packet_body_is_written_as_ever() -> None:
    assert encode_datagram([[1, 7, BETA]], CLUSTER) == BODY


def test_packets_of_a_first_contact_are_written_as_ever() -> None:
    alpha, beta = sealer(ALPHA, b"alpha's boot"), sealer(BETA, b"betas's boot")
    assert alpha.seal(BODY, BETA, now=0.0) == DATA
    assert beta.open(DATA, HERE, now=0.0, nonce8=b"NONCE-b-").replies == ((CHALLENGE, HERE),)
    assert alpha.open(CHALLENGE, HERE, now=0.0, nonce8=b"NONCE-a-").replies == ((ANSWER, HERE),)
    (delivered,) = beta.open(ANSWER, HERE, now=0.0, nonce8=b"").delivered
    assert (delivered.sender, delivered.body) == (ALPHA, BODY)


def test_hellos_are_written_and_read_as_ever() -> None:
    hello = Hello(
        1, 0, 0, ALPHA, "alpha", CLUSTER, "lab", "0d" * 12, "raft", generation="0e" * 16,
        expects=BETA,
    )  # fmt: skip
    refused = HelloRefused(1, "foreign-label", "label 'x', this is 'lab'")
    assert (encode_hello(hello), encode_hello(refused)) == (HELLO, REFUSED)
    assert (decode_hello(HELLO), decode_hello(REFUSED)) == (hello, refused)
