"""The keyring: the cluster secrets that a node holds, the primary first.

Everything is sealed with the primary; everything in the ring opens. So a secret is exchanged
without a gap in three steps, each done on all hosts before the next: **install** the new one (now
everybody can open it), **use** it (now everybody seals with it), **remove** the old one.

A ring is a value: each step returns a new one, which the node hands to its sealer and its TLS
contexts. Keys are named by their id (`derive.KEY_ID`), the only thing about them that is ever
shown; the `repr` of a key or ring holds nothing else.

The text form is the secret file: one base64 secret per line, the first is the primary, `#` starts
a comment. Errors name the line and never quote it.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, NewType, Protocol

from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV

from muster_protocol.crypto.derive import KEY_ID, PACKET_KEY, SECRET_BYTES, derive
from muster_protocol.errors import IdentityError, UsageError

KEYS_MAX: Final = 8
"""Secrets in a ring. A rotation needs two; a file with more than a few is a mistake."""

KeyId = NewType("KeyId", str)
"""Names a secret under a label: six hexadecimal digits."""


class Aead(Protocol):
    """What seals: authenticated encryption with associated data, as `cryptography` has it."""

    def encrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None) -> bytes:
        """Ciphertext and 16 bytes of tag."""

    def decrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None) -> bytes:
        """The plaintext. Errors: cryptography.exceptions.InvalidTag."""


@dataclass(frozen=True, slots=True)
class Key:
    """One cluster secret under the cluster's label."""

    secret: bytes = field(repr=False)
    label: str
    id: KeyId

    @classmethod
    def of(cls, secret: bytes, label: str) -> Key:
        return cls(secret, label, KeyId(derive(KEY_ID, secret, label).hex()))

    def packet_cipher(self, node_id: bytes, boot_salt: bytes) -> Aead:
        """The cipher of all packets that one boot of one node seals with this secret."""
        key = derive(PACKET_KEY, self.secret, self.label, salt=boot_salt, extra=node_id)
        return AESGCMSIV(key)


class Keyring:
    """One to `KEYS_MAX` keys of one label, the primary first. Immutable."""

    def __init__(self, secrets: Iterable[bytes], *, label: str) -> None:
        """Errors: IdentityError for no, too many, wrongly sized or clashing secrets."""
        self.label = label
        self.keys = tuple(Key.of(_sized(secret), label) for secret in secrets)
        self._by_id = {bytes.fromhex(key.id): key for key in self.keys}
        if not 1 <= len(self.keys) <= KEYS_MAX:
            raise IdentityError(
                f"a keyring holds 1 to {KEYS_MAX} cluster secrets, not {len(self.keys)}"
            )
        if len(self._by_id) < len(self.keys):
            raise IdentityError("two cluster secrets have the same key id: remove one of them")

    def __repr__(self) -> str:
        return f"Keyring({', '.join(key.id for key in self.keys)}; label={self.label!r})"

    @property
    def primary(self) -> Key:
        return self.keys[0]

    @property
    def ids(self) -> tuple[KeyId, ...]:
        """What may be shown: the primary's id first."""
        return tuple(key.id for key in self.keys)

    def find(self, key_id: bytes) -> Key | None:
        """The key that a packet's header names."""
        return self._by_id.get(key_id)

    def install(self, secret: bytes) -> Keyring:
        """The ring with `secret` at its end; unchanged if it holds it already."""
        if any(key.secret == secret for key in self.keys):
            return self
        return Keyring([*(key.secret for key in self.keys), secret], label=self.label)

    def use(self, key_id: str) -> Keyring:
        """The ring with that key as its primary. Errors: UsageError if it does not hold it."""
        chosen = self._named(key_id)
        others = (key.secret for key in self.keys if key.id != chosen.id)
        return Keyring([chosen.secret, *others], label=self.label)

    def remove(self, key_id: str) -> Keyring:
        """The ring without that key. Errors: UsageError if it is the primary or not there."""
        doomed = self._named(key_id)
        if doomed.id == self.primary.id:
            raise UsageError(f"key {key_id} is the primary: use another one before removing it")
        kept = (key.secret for key in self.keys if key.id != doomed.id)
        return Keyring(kept, label=self.label)

    def _named(self, key_id: str) -> Key:
        for key in self.keys:
            if key.id == key_id:
                return key
        raise UsageError(f"no key {key_id} in the keyring; it holds {', '.join(self.ids)}")


def parse_secrets(text: str) -> tuple[bytes, ...]:
    """The secrets of a secret file, in their order.

    Errors: IdentityError with the line's number; no part of a line is ever shown.
    """
    seen: dict[bytes, int] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        encoded = line.partition("#")[0].strip()
        if not encoded:
            continue
        try:
            secret = base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError) as error:
            raise IdentityError(f"line {number}: not a base64 cluster secret") from error
        if len(secret) != SECRET_BYTES:
            raise IdentityError(
                f"line {number}: a cluster secret has {SECRET_BYTES} bytes, this has {len(secret)}"
            )
        if secret in seen:
            raise IdentityError(f"line {number}: the same secret as line {seen[secret]}")
        seen[secret] = number
    if not seen:
        raise IdentityError("no cluster secret; `muster keys generate` makes one")
    return tuple(seen)


def format_secrets(secrets: Iterable[bytes], *, comment: str = "") -> str:
    """The text of a secret file; `muster keys generate` prints it for one new secret."""
    lines = [f"# {line}" for line in comment.splitlines()]
    lines += [base64.b64encode(_sized(secret)).decode() for secret in secrets]
    return "\n".join(lines) + "\n"


def _sized(secret: bytes) -> bytes:
    if len(secret) != SECRET_BYTES:
        raise IdentityError(f"a cluster secret has {SECRET_BYTES} bytes, not {len(secret)}")
    return secret
