"""A fingerprint of the replicated state that is kept up with every change.

A digest of everything takes as long as the store is large. This one is a sum: each item (a key with
its entry, a session) has a hash of 128 bits, and the state's fingerprint is their sum, modulo
2^128, with the counters. A change takes one hash away and adds one; the order does not matter. Two
states that differ by a bug have different sums, but for one chance in 2^128; somebody who makes
them on purpose could find equal ones (Wagner's generalised birthday), and has no reason to: whoever
may write may write (Clarke et al., "Incremental Multiset Hash Functions", 2003).

To hash was a third of what a change of the state costs. So a change only notes what it touched, and
what was touched is hashed when somebody asks, or when it has become much: an item that is changed
again and again, as the session of a busy client is, is then hashed once for many changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import Any, Final

from muster_protocol.wire.codec import encode

FINGERPRINT_BYTES: Final = 16
_MODULUS: Final = 1 << (8 * FINGERPRINT_BYTES)


class Hashes:
    """Of the items of one table, and their sum."""

    def __init__(self, table: Mapping[str, Any], *, named: bool) -> None:
        """`named`: an item's name in the table is not part of the item, and is hashed with it."""
        self._table = table
        self._named = named
        self._hashes: dict[str, int] = {}
        self.sum = 0

    def renew(self, names: Iterable[str]) -> None:
        """These are others now, or there no more."""
        hashes, table, total = self._hashes, self._table, self.sum
        for name in names:
            total -= hashes.get(name, 0)
            item = table.get(name)
            if item is None:
                hashes.pop(name, None)
                continue
            data = encode([name if self._named else "", item])
            digest = blake2b(data, digest_size=FINGERPRINT_BYTES).digest()
            hashed = hashes[name] = int.from_bytes(digest, "big")
            total += hashed
        self.sum = total % _MODULUS


def fingerprint(tables: Iterable[Hashes], counters: Iterable[int]) -> bytes:
    """Of the tables together, and of what else belongs to the state."""
    total = sum(table.sum for table in tables) % _MODULUS
    told = encode([total.to_bytes(FINGERPRINT_BYTES, "big"), *counters])
    return blake2b(told, digest_size=FINGERPRINT_BYTES).digest()
