"""The replicated state on this node: applying batches, reading, and snapshots of it.

Applying never raises: an exception in a replicated method would be repeated by every node on every
tick and stop the whole cluster (D16). What cannot be decoded is skipped, the same on every node,
counted and told.
"""

from __future__ import annotations

from collections.abc import Callable

from muster_protocol.consistency.commands import (
    Batch,
    Command,
    Operation,
    Rejected,
    Result,
    decode_batch,
)
from muster_protocol.consistency.registry import Captured, Registry
from muster_protocol.effects import Notify
from muster_protocol.errors import RemoteError
from muster_protocol.types import Severity


class Replica:
    """Owns the registry."""

    def __init__(
        self,
        *,
        registry: Registry,
        applied_index: int,
        on_applied: Callable[[Batch, tuple[Result, ...], int], None],
        notify: Callable[[Notify], None],
    ) -> None:
        """`on_applied(batch, results, index)` is told of each batch. It must not raise."""
        self.registry = registry
        self.applied_index = applied_index
        self.skipped = 0
        self._on_applied = on_applied
        self._notify = notify

    def apply(self, data: bytes, index: int) -> None:
        """The next committed batch, at log index `index`."""
        self.applied_index = index
        try:
            batch = decode_batch(data)
        except RemoteError as error:
            self.skipped += 1
            self._tell(index, str(error))
            return
        self._on_applied(batch, tuple(self._apply_one(c, index) for c in batch.commands), index)

    def _apply_one(self, command: Command, index: int) -> Result:
        try:
            return self.registry.apply(command)
        except Exception as error:  # noqa: BLE001 (an exception here would stop every replica)
            self.skipped += 1
            self._tell(index, f"{type(error).__name__}: {error}")
            return Rejected(self.registry.revision, "internal error while applying")

    def _tell(self, index: int, reason: str) -> None:
        self._notify(
            Notify("raft.entry.skipped", Severity.ERROR, {"index": index, "reason": reason})
        )

    def read(self, operation: Operation) -> Result:
        """A local read, as stale as this replica."""
        return self.registry.read(operation)

    def capture(self) -> Captured:
        return self.registry.capture()

    def replace(self, registry: Registry, applied_index: int) -> None:
        """A snapshot was installed."""
        self.registry, self.applied_index = registry, applied_index
