"""What a scenario says that must not happen, beyond what must never happen.

Whether an election or a minute without answers is wrong depends on what was done to the cluster; so
who writes a scenario says it. Nothing is expected by default.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec

from muster.sim.checkers.violated import Violated
from muster.sim.checkers.vocabulary import Operation

Count = Annotated[int, msgspec.Meta(ge=0, le=1_000_000)]


class Expected(msgspec.Struct, frozen=True, kw_only=True):
    """[expect] of a scenario file: at most so much, between the founding and the end of faults."""

    leaders_max: Count | None = None
    """Terms that had a leader, the first one included."""

    refused_max: Count | None = None
    """Requests that were refused, or not begun."""

    unanswered_s_max: Annotated[float, msgspec.Meta(gt=0, le=86_400)] | None = None
    """Seconds in which clients asked and none was answered."""

    failed_alive_max: Count | None = None
    """How often a node took another one for failed whose process ran."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What happened."""

    leaders: int
    refused: int
    unanswered_s: float
    failed_alive: int


def as_expected(expected: Expected, seen: Seen) -> None:
    """Errors: Violated."""
    for what, most, was in (
        ("leaders", expected.leaders_max, seen.leaders),
        ("refused requests", expected.refused_max, seen.refused),
        ("seconds without an answer", expected.unanswered_s_max, seen.unanswered_s),
        ("live nodes taken for failed", expected.failed_alive_max, seen.failed_alive),
    ):
        if most is not None and was > most:
            raise Violated("expectations", f"{was:g} {what}, and at most {most:g} were expected")


def longest_gap_s(operations: Iterable[Operation[Any, Any]], begin: float, end: float) -> float:
    """The longest time between two answers, from `begin` to `end`."""
    answered = sorted(each.ret for each in operations if begin < each.ret < end)
    instants = [begin, *answered, end]
    return max(late - early for early, late in itertools.pairwise(instants))
