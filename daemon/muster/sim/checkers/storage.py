"""No acknowledged write is lost, and replicas that applied the same are the same.

This is weaker than linearizability, and says at once which write is gone. It needs no search: every
acknowledgement tells the revision that the write made, revisions only grow, and a later write of
the same key is the only thing that may hide an earlier one.
"""

from __future__ import annotations

from collections.abc import Mapping

from muster.sim.checkers.violated import Violated


class AcknowledgedWrites:
    """The newest acknowledged change of each key."""

    def __init__(self) -> None:
        self._newest: dict[str, tuple[int, bytes | None]] = {}
        self._maybe_deleted: dict[str, None] = {}
        self.count = 0

    def acknowledged(self, key: str, revision: int, value: bytes | None) -> None:
        """A change of `key` was acknowledged; `value` None: it was deleted."""
        self.count += 1
        if revision > self._newest.get(key, (0, None))[0]:
            self._newest[key] = (revision, value)

    def maybe_deleted(self, key: str) -> None:
        """A deletion of `key` has an unknown outcome: it may explain its absence."""
        self._maybe_deleted[key] = None

    def final(self, where: str, revision: int, entries: Mapping[str, tuple[int, bytes]]) -> None:
        """A replica after the end: its revision, and (revision, value) by key. Errors: Violated."""
        for key, (acknowledged, value) in self._newest.items():
            held = entries.get(key)
            if revision < acknowledged:
                found = f"ends at revision {revision}"
            elif held is None:
                if value is None or key in self._maybe_deleted:
                    continue
                found = f"does not hold {key!r}"
            elif held[0] > acknowledged or held == (acknowledged, value):
                continue
            else:
                found = f"holds {key!r} as of revision {held[0]}"
            raise Violated(
                "acknowledged writes", f"{where} {found}; revision {acknowledged} was acknowledged"
            )


def same_state(digests: Mapping[str, str]) -> None:
    """Replicas that have applied the same, by name. Errors: Violated."""
    if len(frozenset(digests.values())) > 1:
        told = ", ".join(f"{name} {digest[:12]}" for name, digest in digests.items())
        raise Violated("equal replicas", f"the same log gave different states: {told}")


class EqualReplicas:
    """One state for each index of the log, whoever applied it and however it got there."""

    def __init__(self) -> None:
        self._digests: dict[int, tuple[str, bytes]] = {}

    def holds(self, where: str, index: int, digest: bytes) -> None:
        """A replica that has applied the log up to `index` has this state. Errors: Violated."""
        first, known = self._digests.setdefault(index, (where, digest))
        if digest != known:
            raise Violated(
                "equal replicas", f"{where} has another state at index {index} than {first}"
            )
