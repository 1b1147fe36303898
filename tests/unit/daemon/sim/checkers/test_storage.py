"""Acknowledged writes and equal replicas, told truths and lies."""

from __future__ import annotations

import pytest

from muster.sim.checkers.storage import AcknowledgedWrites, same_state
from muster.sim.checkers.violated import Violated


def with_writes(*writes: tuple[str, int, bytes | None]) -> AcknowledgedWrites:
    acknowledged = AcknowledgedWrites()
    for key, revision, value in writes:
        acknowledged.acknowledged(key, revision, value)
    return acknowledged


@pytest.mark.parametrize(
    "entries",
    [{"k": (3, b"new")}, {"k": (9, b"later, by somebody whom nobody answered")}],
)
def test_a_write_that_is_there_or_overwritten_is_not_lost(
    entries: dict[str, tuple[int, bytes]],
) -> None:
    with_writes(("k", 3, b"new"), ("k", 2, b"old")).final("n1", 9, entries)


@pytest.mark.parametrize(
    ("revision", "entries", "told"),
    [
        (2, {"k": (2, b"old")}, "ends at revision 2"),
        (9, {"k": (2, b"old")}, "holds 'k' as of revision 2"),
        (9, {"k": (3, b"other")}, "holds 'k' as of revision 3"),
        (9, {}, "does not hold 'k'"),
    ],
)
def test_a_lost_write_is_seen(
    revision: int, entries: dict[str, tuple[int, bytes]], told: str
) -> None:
    with pytest.raises(Violated, match=f"n1 {told}; revision 3 was acknowledged"):
        with_writes(("k", 3, b"new")).final("n1", revision, entries)


def test_a_deletion_explains_an_absence_also_one_that_nobody_answered() -> None:
    with_writes(("k", 3, b"new"), ("k", 4, None)).final("n1", 4, {})
    acknowledged = with_writes(("k", 3, b"new"))
    acknowledged.maybe_deleted("k")
    acknowledged.final("n1", 4, {})


def test_a_key_that_was_deleted_and_is_back_is_seen() -> None:
    with pytest.raises(Violated, match="holds 'k'"):
        with_writes(("k", 3, b"new"), ("k", 4, None)).final("n1", 9, {"k": (3, b"new")})


def test_replicas_that_differ_are_seen() -> None:
    same_state({"n1": "a" * 64, "n2": "a" * 64})
    with pytest.raises(Violated, match="n1 aaaaaaaaaaaa, n2 bbbbbbbbbbbb"):
        same_state({"n1": "a" * 64, "n2": "b" * 64})
