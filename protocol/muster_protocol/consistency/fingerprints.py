"""A fingerprint of the replicated state that is kept up with every change.

A digest of everything takes as long as the store is large. This one is a sum: each item (a key with
its entry, a session) has a hash of 128 bits, and the state's fingerprint is their sum, modulo
2^128, with the counters. A change takes one hash away and adds one; the order does not matter. Two
states that differ by a bug have different sums, but for one chance in 2^128; somebody who makes
them on purpose could find equal ones (Wagner's generalised birthday), and has no reason to: whoever
may write may write (Clarke et al., "Incremental Multiset Hash Functions", 2003).
"""

from __future__ import annotations

import hashlib
from typing import Any, Final

from muster_protocol.wire.codec import encode

FINGERPRINT_BYTES: Final = 16
_MODULUS: Final = 1 << (8 * FINGERPRINT_BYTES)


class Fingerprint:
    """Of a set of items. Whoever adds one keeps its hash, so that taking it away costs nothing: to
    hash is the larger part of what a change of the state costs."""

    def __init__(self) -> None:
        self._sum = 0  # reduced where it is shown

    def add(self, name: str, item: Any) -> int:
        """`item` is there now; its hash, for `remove`."""
        digest = hashlib.blake2b(encode([name, item]), digest_size=FINGERPRINT_BYTES).digest()
        hashed = int.from_bytes(digest, "big")
        self._sum += hashed
        return hashed

    def remove(self, hashed: int) -> None:
        """The item that was added with this hash is there no more."""
        self._sum -= hashed

    def value(self, *counters: int) -> bytes:
        """With what else belongs to the state."""
        self._sum %= _MODULUS
        told = encode([self._sum.to_bytes(FINGERPRINT_BYTES, "big"), *counters])
        return hashlib.blake2b(told, digest_size=FINGERPRINT_BYTES).digest()
