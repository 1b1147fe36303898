"""Keys for a cluster without a secret: same packets, no secrecy, no proof of anything.

For `--insecure` on loopback and for machines under test. The sealing machine is the same; only
its cipher is this one: the body in the clear, and where the tag would be a CRC-32 over associated
data and body. So damage, foreign labels and redirected packets are still noticed, and a packet
capture can be read. Anybody can forge one.
"""

from __future__ import annotations

import hashlib
import zlib
from typing import Final

from cryptography.exceptions import InvalidTag

from muster_protocol.crypto.keyring import Aead, KeyId

_TAG_BYTES: Final = 16
"""As long as the real tag, so that a packet's room does not depend on the mode."""


class _Checksum:
    """An `Aead` that checks and does not encrypt."""

    def encrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None) -> bytes:
        return data + self._tag(nonce, data, associated_data)

    def decrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None) -> bytes:
        body, tag = data[:-_TAG_BYTES], data[-_TAG_BYTES:]
        if tag != self._tag(nonce, body, associated_data):
            raise InvalidTag
        return body

    @staticmethod
    def _tag(nonce: bytes, data: bytes, associated_data: bytes | None) -> bytes:
        checksum = zlib.crc32(data, zlib.crc32(associated_data or b"", zlib.crc32(nonce)))
        return checksum.to_bytes(4, "big").ljust(_TAG_BYTES, b"\0")


class InsecureKeys:
    """Stands in for a `Keyring` where there is no secret. It is its own only key."""

    def __init__(self, *, label: str) -> None:
        self.label = label
        self._id = hashlib.sha256(b"muster insecure\0" + label.encode()).digest()[:3]

    @property
    def id(self) -> KeyId:
        return KeyId(self._id.hex())

    @property
    def primary(self) -> InsecureKeys:
        return self

    def find(self, key_id: bytes) -> InsecureKeys | None:
        return self if key_id == self._id else None

    def packet_cipher(self, node_id: bytes, boot_salt: bytes) -> Aead:  # noqa: ARG002 (see Key)
        return _Checksum()
