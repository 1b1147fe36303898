"""How long a member may stay suspected: Lifeguard's second part, and one addition.

A suspicion begins with one accuser and runs for the longest time. Each independent accuser more
(another node that could not reach the member itself) shortens it, by

    timeout = max(min, max - (max - min) * log(C + 1) / log(K + 1))       C confirmations of K

so that a lone accuser, who may himself be the slow one, must wait, and several need not (Lifeguard,
arXiv 1707.00788, section IV-B). Two decisions:

* **K is the paper's 3, but never more than there are members left to confirm.** memberlist gives
  up the idea where a cluster is too small (K = 0, the shortest timeout at once, for n - 2 < K). In
  a cluster of three the one other member's opinion is worth having, and it is asked for: who
  hears of a suspicion probes the member himself (`probing`). And where no one is left to confirm,
  because the others are suspected too, waiting for them has no sense: K falls to 0 while the
  suspicion runs. The deadline is therefore computed, never stored.
* **Refusals shorten it further.** A host whose kernel answers "nothing listens here" is reachable,
  and the process is gone; a process that is merely slow still accepts. When all who can have an
  opinion saw this themselves, `refused_min_s` is enough. It shortens a suspicion and never
  replaces it: a firewall may refuse too, and then the member refutes within a round trip.

A suspicion belongs to one incarnation. At a higher one the member has spoken in between, so that
is a new suspicion with a fresh start (a running timer carried over kills a live member; kinship
and DAOS both had that bug).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Final

from muster_protocol.types import NodeId

SILENT: Final = "silent"
"""Reason: no answer directly, through others, or by stream."""

REFUSED: Final = "refused"
"""Reason: no answer to packets, and the member's host refused the stream."""

ACCUSERS_MAX: Final = 16
"""Accusers kept for people to read; K, which the timeout uses, is below it."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """Between which times a suspicion ends, and how many confirmations count."""

    min_s: float
    max_s: float
    refused_min_s: float
    confirmations: int
    unconfirmed_s: tuple[float, ...] = field(init=False)
    """How long it lasts with 0, 1, ... confirmations, as long as these do not suffice."""

    def __post_init__(self) -> None:
        spread_s, needed = self.max_s - self.min_s, math.log(self.confirmations + 1)
        timeouts_s = (
            max(self.min_s, self.max_s - spread_s * math.log(count + 1) / needed)
            for count in range(self.confirmations)
        )
        object.__setattr__(self, "unconfirmed_s", tuple(timeouts_s))


@dataclass(slots=True)
class Suspicion:
    """One member's suspicion at one incarnation: since when, by whom and why."""

    incarnation: int
    started: float
    accusers: dict[NodeId, str] = field(default_factory=dict)
    postponed_s: float = 0.0

    def accuse(self, by: NodeId, reason: str) -> bool:
        """Take another accusation. True when it is from somebody new, or says more than before."""
        known = self.accusers.get(by)
        if known in (REFUSED, reason):
            return False
        if known is None and len(self.accusers) >= ACCUSERS_MAX:
            return False
        self.accusers[by] = reason
        return True

    def postpone(self, seconds: float, *, at_most: float) -> None:
        """Do not count a time in which we could not have read a refutation.

        `at_most` bounds what one suspicion is given in all: a loop that is always late would
        otherwise never detect anything.
        """
        granted = max(0.0, min(seconds, at_most - self.postponed_s))
        self.postponed_s += granted
        self.started += granted

    @property
    def confirmations(self) -> int:
        """Accusers beside the first."""
        return len(self.accusers) - 1

    @property
    def reason(self) -> str:
        """What all accusers saw; "silent" unless all were refused."""
        return REFUSED if self._is_refused_by_all() else SILENT

    def deadline(self, bounds: Bounds) -> float:
        """When it ends in a failure, unless it is refuted or confirmed before."""
        return self.started + self.timeout_s(bounds)

    def timeout_s(self, bounds: Bounds) -> float:
        """How long it lasts with the accusers of now."""
        confirmations = len(self.accusers) - 1
        if confirmations < bounds.confirmations:
            return bounds.unconfirmed_s[confirmations]
        is_refused = bounds.refused_min_s < bounds.min_s and self._is_refused_by_all()
        return bounds.refused_min_s if is_refused else bounds.min_s

    def _is_refused_by_all(self) -> bool:
        return all(reason == REFUSED for reason in self.accusers.values())
