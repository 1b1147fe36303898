"""Every key that is derived from the cluster secret, in one table.

HKDF-SHA256 (RFC 5869) turns one secret into keys that tell nothing about each other. What keeps
them apart is `info`: the purpose's text, the cluster's label and what the purpose adds (a node
id), separated by zero bytes, which none of the first two can hold. A text in the table is part of
the wire format: changing one is a new major version.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

SECRET_BYTES: Final = 32
"""A cluster secret: as long as the longest key that is derived from it."""


@dataclass(frozen=True, slots=True)
class Derivation:
    """One row: what the key is for, by which text it is kept apart, how long it is."""

    info: bytes
    key_bytes: int


KEY_ID: Final = Derivation(b"muster key id", 3)
"""Shown to people and put into every packet. 24 bits of a one-way function: enough to tell a
handful of secrets and labels apart, and nothing about the secret."""

PACKET_KEY: Final = Derivation(b"muster packet key", 32)
"""AES-256-GCM-SIV key of one boot of one node; salt: the boot salt; adds the node id."""

AUTHORITY_KEY: Final = Derivation(b"muster certificate authority", 32)
"""Seed of the cluster CA's Ed25519 key."""

AUTHORITY_SERIAL: Final = Derivation(b"muster certificate authority serial", 19)
"""Its serial number. 19 bytes stay positive in DER; RFC 5280 allows 20."""


def derive(
    row: Derivation, secret: bytes, label: str, *, salt: bytes | None = None, extra: bytes = b""
) -> bytes:
    """The key of `row`. About 10 µs: callers keep what they derive."""
    assert len(secret) == SECRET_BYTES
    assert "\0" not in label
    info = b"\0".join((row.info, label.encode(), extra))
    return HKDF(hashes.SHA256(), row.key_bytes, salt, info).derive(secret)
