"""The entropy seam: the only place that draws random numbers.

Decisions (which peer to probe, how long to wait) draw from named streams, so that adding a draw
in one part does not change another part's sequence under the same seed. Keys, identities and
salts draw from `token_bytes`.
"""

from __future__ import annotations

import hashlib
import random
import secrets
from typing import Protocol

from muster_protocol.errors import RemoteError

RngState = tuple[int, tuple[int, ...], float | None]
"""What a generator will draw from now on; as `random.Random.getstate`."""


class Entropy(Protocol):
    """Chance for one node."""

    def stream(self, name: str) -> random.Random:
        """A generator of its own for the part called `name`."""

    def token_bytes(self, count: int) -> bytes:
        """`count` bytes for identities, salts and keys."""


class SystemEntropy:
    """The operating system's randomness."""

    def stream(self, name: str) -> random.Random:
        return random.Random(secrets.token_bytes(16) + name.encode())

    def token_bytes(self, count: int) -> bytes:
        return secrets.token_bytes(count)


class SeededEntropy:
    """Deterministic: the same seed and name give the same stream in every process."""

    def __init__(self, seed: str) -> None:
        self._seed = seed
        self._tokens = self.stream("token_bytes")

    def stream(self, name: str) -> random.Random:
        digest = hashlib.sha256(f"{self._seed}/{name}".encode()).digest()
        return random.Random(int.from_bytes(digest, "big"))

    def token_bytes(self, count: int) -> bytes:
        return self._tokens.randbytes(count)


def rng_state(rng: random.Random) -> RngState:
    """For the flight recorder: from it `rng_of` makes the same generator again."""
    version, numbers, gauss = rng.getstate()
    return (version, tuple(numbers), gauss)


def rng_of(state: RngState) -> random.Random:
    """A generator in this state. Errors: RemoteError for what is none."""
    rng = random.Random()
    try:
        rng.setstate(state)
    except (TypeError, ValueError, OverflowError) as error:
        raise RemoteError("garbage", f"no state of a generator: {error}") from error
    return rng
