"""A linearizable read sees all that was acknowledged, or read, before it was asked.

For voters without clients: a read is judged by the index from which on a state may answer it, so
there is nothing to search for. Whole nodes' reads are part of their clients' histories.
"""

from __future__ import annotations

from muster.sim.checkers.violated import Violated


class FreshReads:
    """What every read that waits must not be older than."""

    def __init__(self) -> None:
        self._seen = 0
        self._asked: dict[str, dict[int, int]] = {}
        self.confirmed = 0

    def acknowledged(self, index: int) -> None:
        """Some client knows that the entry at `index` is committed."""
        self._seen = max(self._seen, index)

    def asked(self, reader: str, ticket: int) -> None:
        """`reader` wants the read with this ticket confirmed."""
        self._asked.setdefault(reader, {})[ticket] = self._seen

    def is_confirmed(self, reader: str, ticket: int, index: int) -> None:
        """Its reads up to `ticket` may be answered from `index` on. Errors: Violated."""
        for read, seen in self._end(reader, ticket):
            self.confirmed += 1
            if index < seen:
                raise Violated(
                    "fresh reads",
                    f"{reader} answers read {read} as of index {index}; "
                    f"index {seen} was known when it came",
                )
        self.acknowledged(index)

    def is_refused(self, reader: str, ticket: int) -> None:
        """They are not answered here."""
        self._end(reader, ticket)

    def _end(self, reader: str, ticket: int) -> list[tuple[int, int]]:
        waiting = self._asked.setdefault(reader, {})
        ended = [(read, seen) for read, seen in waiting.items() if read <= ticket]
        for read, _ in ended:
            del waiting[read]
        return ended
