"""A log as a guard sees one, written by hand."""

from __future__ import annotations

from dataclasses import dataclass, field

from muster_protocol.wire.raft import Configuration, Manifest


@dataclass
class Log:
    """A LogView of entries, index -> term. Everything is durable unless a test says otherwise."""

    terms: dict[int, int]
    commit_index: int = 1
    current_term: int = 5
    durable_index: int = 99
    term_is_durable: bool = True
    lsn: int = 0
    durable_lsn: int = 0
    manifest: Manifest | None = None
    configuration: Configuration = field(default_factory=lambda: Configuration(()))
    generation: str = "0" * 16

    @property
    def first_index(self) -> int:
        return min(self.terms)

    @property
    def last_index(self) -> int:
        return max(self.terms)

    def term_at(self, index: int) -> int | None:
        return self.terms.get(index)


def log_of(*terms: int, first: int = 1, commit: int = 1) -> Log:
    """Entries of these terms."""
    return Log({first + i: term for i, term in enumerate(terms)}, commit_index=commit)
