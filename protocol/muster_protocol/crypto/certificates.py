"""The cluster's own certificate authority, which every holder of the secret can be.

From a secret and a label, every host derives the same Ed25519 authority: key, serial and dates are
fixed, Ed25519 signs deterministically, so the certificates are equal byte for byte and none is
ever carried from host to host. At each start a node issues itself a leaf for its node id; the
key of the leaf is new each time and never stored. Dates reach from 1970 to 9999, because a host
that boots with a wrong clock must still find its cluster, and because what is forgotten expires
on a Sunday; a secret is retired by rotation, not by a date.

The common name is the key id: a stream tells under which secret its peer came, so that the streams
of a removed secret can be closed. The node id stands in the leaf's one subject alternative name.
Both certificates pass OpenSSL's strict checks (X509_V_FLAG_X509_STRICT), which ask for key usage,
critical basic constraints and the two key identifiers.

What a certificate proves is membership, not which member: any holder of the secret can issue
itself any node id (SECURITY.md).
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass, field
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from muster_protocol.crypto.derive import AUTHORITY_KEY, AUTHORITY_SERIAL, derive
from muster_protocol.crypto.keyring import Key, KeyId
from muster_protocol.errors import RemoteError
from muster_protocol.types import NodeId

LEAF_KEY_BYTES: Final = 32
"""The random bytes from which a leaf's Ed25519 key is made."""

LEAF_SERIAL_BYTES: Final = 16
"""Random serials of 128 bits do not meet by chance (RFC 5280 allows up to 20 bytes)."""

_NOT_BEFORE: Final = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_NOT_AFTER: Final = datetime.datetime(9999, 12, 31, 23, 59, 59, tzinfo=datetime.UTC)
_URI_SCHEME: Final = "muster:"


@dataclass(frozen=True, slots=True)
class Leaf:
    """What a node shows of itself in TLS: certificate and private key, PEM."""

    certificate_pem: bytes
    private_key_pem: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class PeerIdentity:
    """What a verified leaf says: whose it is, and under which secret it was issued."""

    node_id: NodeId
    key_id: KeyId


def authority_pem(key: Key) -> bytes:
    """The cluster CA's certificate under `key`: the same bytes on every host."""
    signer = _authority_key(key)
    public = signer.public_key()
    serial = int.from_bytes(derive(AUTHORITY_SERIAL, key.secret, key.label), "big") | 1
    certificate = (
        _builder(_name(key), _name(key), public, serial)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(key_cert_sign=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(_issued_by(public), critical=False)
        .sign(signer, algorithm=None)
    )
    return certificate.public_bytes(serialization.Encoding.PEM)


def issue_leaf(key: Key, *, node_id: NodeId, key_seed: bytes, serial: int) -> Leaf:
    """A certificate of its own for one run of one node.

    `key_seed`: `LEAF_KEY_BYTES` random bytes; `serial`: positive, at most 20 bytes, random.
    """
    assert len(key_seed) == LEAF_KEY_BYTES
    signer = _authority_key(key)
    private = Ed25519PrivateKey.from_private_bytes(key_seed)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, node_id)])
    purposes = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    uri = x509.UniformResourceIdentifier(f"{_node_uri_prefix(key.label)}{node_id}")
    certificate = (
        _builder(subject, _name(key), private.public_key(), serial)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        .add_extension(x509.SubjectAlternativeName([uri]), critical=False)
        .add_extension(
            x509.SubjectKeyIdentifier.from_public_key(private.public_key()), critical=False
        )
        .add_extension(_issued_by(signer.public_key()), critical=False)
        .sign(signer, algorithm=None)
    )
    return Leaf(
        certificate_pem=certificate.public_bytes(serialization.Encoding.PEM),
        private_key_pem=private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )


def peer_identity(der: bytes, *, label: str) -> PeerIdentity:
    """Who shows this leaf, after TLS has verified it.

    Errors: RemoteError "certificate" for one that names no node of this label, or several.
    """
    try:
        certificate = x509.load_der_x509_certificate(der)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        uris = names.value.get_values_for_type(x509.UniformResourceIdentifier)
        (issuer,) = certificate.issuer.get_attributes_for_oid(NameOID.COMMON_NAME)
    except (ValueError, x509.ExtensionNotFound, x509.UnsupportedGeneralNameType) as error:
        raise RemoteError("certificate", "the peer's certificate names no node") from error
    prefix = _node_uri_prefix(label)
    if len(uris) != 1 or not uris[0].startswith(prefix):
        raise RemoteError("certificate", f"the peer's certificate names no node of {label!r}")
    return PeerIdentity(_checked_node_id(uris[0].removeprefix(prefix)), KeyId(str(issuer.value)))


def _checked_node_id(text: str) -> NodeId:
    if len(text) != 32 or text.strip("0123456789abcdef"):
        raise RemoteError("certificate", "the peer's certificate names no proper node id")
    return NodeId(text)


def _node_uri_prefix(label: str) -> str:
    return f"{_URI_SCHEME}{label}/node/"


def _authority_key(key: Key) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(derive(AUTHORITY_KEY, key.secret, key.label))


def _name(key: Key) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, key.id)])


def _builder(
    subject: x509.Name, issuer: x509.Name, public: Ed25519PublicKey, serial: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(serial)
        .not_valid_before(_NOT_BEFORE)
        .not_valid_after(_NOT_AFTER)
    )


def _issued_by(public: Ed25519PublicKey) -> x509.AuthorityKeyIdentifier:
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(public)


def _usage(*, digital_signature: bool = False, key_cert_sign: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        key_cert_sign=key_cert_sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
