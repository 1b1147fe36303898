"""Am I on the side that may act? The simplest true answer.

The electorate is the *committed* Raft configuration and nothing else; gossip is evidence of who
can be reached, never of who counts. A node is

* `QUORATE` when it hears the quorum: as leader a majority answered lately, as follower a leader
  spoke lately; a node without a seat is quorate when it reaches a majority of the voters.
* `MINORITY` when it reaches fewer voters than the bar. It is fenced at once: strong writes and
  linearizable reads are refused without waiting, because they could only time out.
* `ELECTING` in between: enough voters are in reach, and no leader has spoken yet.
* `FOUNDING` before there is a cluster.

The bar is a majority, floor(n/2)+1. The seed's fixed `quorum_size` splits the brain from six nodes
on (3 | 3 of 6 are both quorate), so the setting can only raise the bar.

Announcements are slower than the verdict: `suspected` at once, `confirmed` when the minority has
lasted `CONFIRM_AFTER_S`, `recovered` when the node is quorate again.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

from muster_protocol.effects import DeadlineReached, Effect, Emit, Notify
from muster_protocol.types import NodeId, Priority, Severity

CONFIRM_AFTER_S: Final = 5.0
"""Longer than a failover (1.5 s) and a rolling restart's gap, shorter than anybody's patience."""


class Standing(enum.StrEnum):
    """Where this node stands."""

    FOUNDING = "founding"
    QUORATE = "quorate"
    ELECTING = "electing"
    MINORITY = "minority"


@dataclass(frozen=True, slots=True)
class Evidence:
    """What this node knows now. `voters` is the committed configuration; `reachable` those of
    them, itself included, that it hears by gossip or by a stream."""

    voters: tuple[NodeId, ...]
    reachable: tuple[NodeId, ...]
    is_voter: bool
    hears_quorum: bool
    leader: NodeId | None


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer, and the numbers behind it."""

    standing: Standing
    reachable: int
    voters: int
    bar: int
    reason: str

    @property
    def may_act(self) -> bool:
        """False for a side that must refuse strong writes and linearizable reads at once."""
        return self.standing in (Standing.QUORATE, Standing.ELECTING)


def judge(evidence: Evidence, *, quorum_size: int = 0) -> Verdict:
    """The verdict on this moment. `quorum_size` raises the bar; 0 leaves it at a majority."""
    total, reached = len(evidence.voters), len(evidence.reachable)
    bar = max(total // 2 + 1, quorum_size)
    if not total:
        return Verdict(Standing.FOUNDING, 0, 0, 0, "there is no cluster yet")
    numbers = f"{reached} of {total} voters in reach, {bar} needed"
    if reached < bar:
        return Verdict(Standing.MINORITY, reached, total, bar, numbers)
    if evidence.hears_quorum or not evidence.is_voter:
        return Verdict(Standing.QUORATE, reached, total, bar, numbers)
    return Verdict(Standing.ELECTING, reached, total, bar, f"{numbers}; no leader yet")


@dataclass(frozen=True, slots=True)
class EvidenceSeen:
    """A look at the present evidence."""

    evidence: Evidence


class PartitionWatch:
    """Turns verdicts over time into announcements."""

    def __init__(self, *, me: NodeId, quorum_size: int, now: float) -> None:
        self._me = me
        self._quorum_size = quorum_size
        self.verdict = Verdict(Standing.FOUNDING, 0, 0, 0, "just started")
        self.since = now
        self._minority_since: float | None = None
        self._confirmed = False

    @property
    def deadline(self) -> float | None:
        if self._minority_since is None or self._confirmed:
            return None
        return self._minority_since + CONFIRM_AFTER_S

    def handle(self, event: EvidenceSeen | DeadlineReached, *, now: float) -> tuple[Effect, ...]:
        effects: list[Effect] = []
        if isinstance(event, EvidenceSeen):
            effects.extend(self._look(event.evidence, now))
        if self.deadline is not None and now >= self.deadline:
            self._confirmed = True
            effects.append(self._emit("cluster.partition.confirmed"))
        return tuple(effects)

    def _look(self, evidence: Evidence, now: float) -> list[Effect]:
        verdict = judge(evidence, quorum_size=self._quorum_size)
        was, self.verdict = self.verdict, verdict
        if was.standing is verdict.standing:
            return []
        self.since = now
        fields = {"standing": verdict.standing.value, "reason": verdict.reason}
        if verdict.standing is Standing.MINORITY:
            self._minority_since = now
            told = Notify("partition.minority", Severity.WARNING, fields)
            return [told, self._emit("cluster.partition.suspected")]
        effects: list[Effect] = [Notify("partition.standing.changed", fields=fields)]
        if verdict.standing is Standing.QUORATE and self._minority_since is not None:
            self._minority_since, self._confirmed = None, False
            effects.append(self._emit("cluster.partition.recovered"))
        return effects

    def _emit(self, type_: str) -> Emit:
        return Emit(
            type=type_,
            data={
                "node": self._me,
                "standing": self.verdict.standing.value,
                "reachable": self.verdict.reachable,
                "voters": self.verdict.voters,
                "reason": self.verdict.reason,
            },
            priority=Priority.HIGH,
        )
