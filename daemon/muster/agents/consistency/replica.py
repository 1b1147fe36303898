"""The replicated state on this node: applying batches, reading, and snapshots of it.

Applying never raises: an exception in a replicated method would be repeated by every node on every
tick and stop the whole cluster (D16). What cannot be decoded is skipped, the same on every node,
counted and told.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from muster_protocol.consistency.commands import (
    Command,
    Operation,
    Rejected,
    Result,
    batch_name,
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
        known: Callable[[str, int], Sequence[Command] | None],
        on_applied: Callable[[str, int, Sequence[Result], int], None],
        notify: Callable[[Notify], None],
    ) -> None:
        """`known(origin, number)`: the commands of a batch that was made here, as decoding gives
        them. `on_applied(origin, number, results, index)` is told of each batch. Neither may
        raise."""
        self.registry = registry
        self.applied_index = applied_index
        self.skipped = 0
        self._known = known
        self._on_applied = on_applied
        self._notify = notify

    def apply(self, data: bytes, index: int) -> None:
        """The next committed batch, at log index `index`."""
        self.applied_index = index
        try:
            origin, number = batch_name(data)
            commands = self._known(origin, number) or decode_batch(data).commands
        except RemoteError as error:
            self.skipped += 1
            self._tell(index, str(error))
            return
        self._on_applied(origin, number, self._apply_all(commands, index), index)

    def _apply_all(self, commands: Sequence[Command], index: int) -> list[Result]:
        results: list[Result] = []
        for command in commands:
            try:
                results.append(self.registry.apply(command))
            except Exception as error:  # noqa: BLE001 (it would stop every replica)
                self.skipped += 1
                self._tell(index, f"{type(error).__name__}: {error}")
                failed = Rejected(self.registry.revision, "internal error while applying")
                results.append(failed)
        return results

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
