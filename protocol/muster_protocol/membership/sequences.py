"""The numbers by which answers are matched to questions."""

from __future__ import annotations

from muster_protocol.types import Rng
from muster_protocol.wire.membership import SEQUENCE_END


class Sequences:
    """Counts, and wraps. Starts anywhere, so that an answer to a question of the process before
    this one, at the same address, does not match."""

    def __init__(self, rng: Rng) -> None:
        self._last = rng.randrange(2**16)

    def next(self) -> int:
        self._last = (self._last + 1) % SEQUENCE_END
        return self._last
