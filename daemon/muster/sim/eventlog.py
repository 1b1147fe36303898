"""What happened in a run, one line an event, and the digest of all lines.

Two runs of one seed must give the same lines, byte by byte, in any process and on any day; so a
line holds nothing of real time, of paths or of object identities. Payloads (packets, stream data,
journal records) stand in it by their digest: a run that differs in one byte has another log.

Lines are kept only as far as a failure report needs them; the digest covers all. Fields are in
columns: instant, where, what, detail.

       12.503411 n2       packet      n1 61 5f0c1d2e9a77b310
"""

from __future__ import annotations

import collections
import hashlib
from collections.abc import Callable
from typing import Final

TAIL_LINES: Final = 400
"""Enough to see what led to a failure: some seconds of five nodes."""

PAYLOAD_DIGEST_BYTES: Final = 8
"""Payloads are compared, not defended against: 64 bits tell any two of a run apart."""


def payload(data: bytes) -> str:
    """Length and digest of a payload."""
    return f"{len(data)} {hashlib.blake2b(data, digest_size=PAYLOAD_DIGEST_BYTES).hexdigest()}"


class EventLog:
    """The log of one run."""

    def __init__(
        self, now: Callable[[], float], *, write: Callable[[str], object] | None = None
    ) -> None:
        """`write` takes every line, if somebody wants them all."""
        self._now = now
        self._write = write
        self._digest = hashlib.sha256()
        self._tail: collections.deque[str] = collections.deque(maxlen=TAIL_LINES)
        self.lines = 0

    def add(self, where: str, what: str, detail: str = "") -> None:
        """One event, now."""
        line = f"{self._now():16.6f} {where:<8} {what:<11} {detail}"
        self._digest.update(line.encode() + b"\n")
        self._tail.append(line)
        self.lines += 1
        if self._write is not None:
            self._write(line)

    def digest(self) -> str:
        """SHA-256 of all lines so far, in hexadecimal."""
        return self._digest.hexdigest()

    def tail(self) -> tuple[str, ...]:
        """The last lines."""
        return tuple(self._tail)
