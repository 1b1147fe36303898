"""What a bare voter has applied: the whole history, which is its replicated state as well.

A snapshot holds all of it, so what a snapshot loses, repeats or mixes up is seen in the state of
whoever installs it. The digest is a chain: equal digests, equal histories.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from muster_protocol.wire.codec import Decoder, encode

SLICE_ITEMS: Final = 16
"""Few, so that a snapshot has several slices."""

_ITEMS: Decoder[list[tuple[int, bytes]]] = Decoder(list[tuple[int, bytes]])


@dataclass(frozen=True, slots=True)
class CapturedHistory:
    """The history at one moment."""

    items: tuple[tuple[int, bytes], ...]

    def slices(self) -> Iterator[bytes]:
        """It, encoded."""
        for start in range(0, len(self.items), SLICE_ITEMS):
            yield encode(self.items[start : start + SLICE_ITEMS])


class History:
    """Commands with their indexes, in order."""

    def __init__(self) -> None:
        self.items: list[tuple[int, bytes]] = []
        self.digest = b""

    @classmethod
    def restore(cls, slices: Iterable[bytes]) -> History:
        """From a snapshot. Errors: RemoteError."""
        history = cls()
        for part in slices:
            for index, command in _ITEMS.decode(part):
                history.apply(command, index)
        return history

    def apply(self, command: bytes, index: int) -> None:
        """The next command."""
        self.items.append((index, command))
        link = self.digest + index.to_bytes(8, "big") + command
        self.digest = hashlib.blake2b(link, digest_size=16).digest()

    def capture(self) -> CapturedHistory:
        return CapturedHistory(tuple(self.items))

    @property
    def last_index(self) -> int:
        """Of the newest command; 0 where there is none."""
        return self.items[-1][0] if self.items else 0
