"""The cluster CA and the leaves that nodes issue themselves."""

from __future__ import annotations

import datetime
import hashlib

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.oid import NameOID

from muster_protocol.crypto.certificates import authority_pem, issue_leaf, peer_identity
from muster_protocol.crypto.keyring import Key
from muster_protocol.errors import RemoteError
from muster_protocol.types import NodeId

KEY = Key.of(b"s" * 32, "lab")
NODE = NodeId("0123456789abcdef" * 2)


def authority(key: Key = KEY) -> x509.Certificate:
    return x509.load_pem_x509_certificate(authority_pem(key))


def leaf(key: Key = KEY, node: str = NODE) -> x509.Certificate:
    issued = issue_leaf(key, node_id=NodeId(node), key_seed=b"k" * 32, serial=77)
    return x509.load_pem_x509_certificate(issued.certificate_pem)


def der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)


def test_authority_is_the_same_on_every_host() -> None:
    """A release that changes these bytes cannot form a cluster with its predecessor."""
    assert hashlib.sha256(der(authority())).hexdigest() == (
        "ef98f0f2cb31819829391755d681e7fd5c4c59a81e9aa74d5dba15982b345430"
    )


def test_authority_differs_by_secret_and_by_label() -> None:
    others = [Key.of(b"t" * 32, "lab"), Key.of(b"s" * 32, "other")]
    assert len({authority_pem(key) for key in (KEY, *others)}) == 3


def test_leaf_verifies_under_its_authority_only() -> None:
    leaf().verify_directly_issued_by(authority())
    with pytest.raises(ValueError, match="match"):
        leaf().verify_directly_issued_by(authority(Key.of(b"t" * 32, "lab")))


def test_leaf_key_is_the_one_that_it_certifies() -> None:
    issued = issue_leaf(KEY, node_id=NODE, key_seed=b"k" * 32, serial=77)
    private = load_pem_private_key(issued.private_key_pem, None)
    assert isinstance(private, Ed25519PrivateKey)
    assert private.public_key() == leaf().public_key()
    assert b"PRIVATE" not in repr(issued).encode()


@pytest.mark.parametrize("certificate", [authority(), leaf()])
def test_certificates_are_valid_whatever_the_clock_says(certificate: x509.Certificate) -> None:
    assert certificate.not_valid_before_utc == datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
    assert certificate.not_valid_after_utc.year == 9999


def test_authority_may_issue_leaves_and_no_other_authorities() -> None:
    constraints = authority().extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical
    assert (constraints.value.ca, constraints.value.path_length) == (True, 0)


def test_leaf_names_its_node_and_the_key_that_issued_it() -> None:
    identity = peer_identity(der(leaf()), label="lab")
    assert (identity.node_id, identity.key_id) == (NODE, KEY.id)


def test_leaf_of_another_label_names_no_node_of_ours() -> None:
    with pytest.raises(RemoteError, match="no node of 'else'") as caught:
        peer_identity(der(leaf()), label="else")
    assert caught.value.cause == "certificate"


@pytest.mark.parametrize("node", ["x", "short", "G" * 32, NODE + "0", NODE[:-1] + "\n"])
def test_leaf_with_an_improper_node_id_is_refused(node: str) -> None:
    with pytest.raises(RemoteError, match="no proper node id"):
        peer_identity(der(leaf(node=node)), label="lab")


def plain_certificate(*names: x509.GeneralName) -> bytes:
    key = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(datetime.datetime(2000, 1, 1))
        .not_valid_after(datetime.datetime(2100, 1, 1))
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(key, None).public_bytes(Encoding.DER)


@pytest.mark.parametrize(
    "certificate",
    [
        b"",
        b"garbage",
        plain_certificate(),
        plain_certificate(x509.DNSName("muster")),
        plain_certificate(
            *[x509.UniformResourceIdentifier(f"muster:lab/node/{digit * 32}") for digit in "ab"]
        ),
    ],
)
def test_certificate_that_names_no_node_or_several_is_refused(certificate: bytes) -> None:
    with pytest.raises(RemoteError) as caught:
        peer_identity(certificate, label="lab")
    assert caught.value.cause == "certificate"
