"""The durability trace: evidence that nothing is claimed before it is on the disk.

Streams between nodes are encrypted, so from outside nobody can see when an acknowledgement, a vote
or a reply leaves. With `MUSTER_DURABILITY_TRACE` set, one line per claim is written to that file
with a single write(2), just before the send; `make test-durability` reads those writes beside the
journal's fdatasync calls in one strace and checks the order. Without the variable it is nothing.
"""

from __future__ import annotations

import os
from typing import Final

from muster_protocol.raftguard.events import Claim

TRACE_VARIABLE: Final = "MUSTER_DURABILITY_TRACE"


class DurabilityTrace:
    """Writes claims to a descriptor, or nowhere."""

    def __init__(self, path: str | None) -> None:
        self._fd = -1
        if path:
            self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def claim(self, claim: Claim) -> None:
        if self._fd >= 0:
            os.write(self._fd, f"claim {claim.kind} {claim.term} {claim.index}\n".encode())

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
