"""The store as a dictionary: what the committed log must have made, whoever applied it.

The production registry remembers results, forgets sessions and is captured and restored; this one
does nothing of that. It is given the committed batches in their order and says what must be there
at the end. A repeated request that took effect twice, a snapshot that lost a session, a comparison
that looked at the wrong revision: all show as a difference.

It remembers every session, so it must not be compared after more than `SESSIONS_MAX` of them.
"""

from __future__ import annotations

from collections.abc import Mapping

from muster.sim.checkers.violated import Violated
from muster_protocol.consistency.commands import Command, Delete, Get, List, Put


class StoreModel:
    """Keys with revision and value."""

    def __init__(self) -> None:
        self.revision = 0
        self.entries: dict[str, tuple[int, bytes]] = {}
        self._newest_request: dict[str, int] = {}

    def apply(self, command: Command) -> None:
        """The next command of the log."""
        operation = command.operation
        if isinstance(operation, Get | List):
            return
        if command.request <= self._newest_request.get(command.session, -1):
            return
        self._newest_request[command.session] = command.request
        held_revision = self.entries.get(operation.key, (0, b""))[0]
        if operation.expected is not None and operation.expected != held_revision:
            return
        if isinstance(operation, Put):
            self.revision += 1
            self.entries[operation.key] = (self.revision, operation.value)
        elif isinstance(operation, Delete) and held_revision:
            self.revision += 1
            del self.entries[operation.key]

    def compare(self, where: str, revision: int, entries: Mapping[str, tuple[int, bytes]]) -> None:
        """A replica that applied the same log. Errors: Violated."""
        if revision != self.revision:
            raise Violated(
                "store model", f"{where} is at revision {revision}, its log makes {self.revision}"
            )
        for key in sorted(self.entries.keys() | entries.keys()):
            if self.entries.get(key) != entries.get(key):
                raise Violated(
                    "store model",
                    f"{where} holds {key!r} as {entries.get(key)}, its log makes "
                    f"{self.entries.get(key)}",
                )
