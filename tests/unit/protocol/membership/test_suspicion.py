"""How long a suspicion lasts."""

from __future__ import annotations

import pytest

from muster_protocol.membership.suspicion import REFUSED, SILENT, Bounds, Suspicion
from muster_protocol.types import NodeId

A, B, C, D = (NodeId(letter * 32) for letter in "abcd")
BOUNDS = Bounds(min_s=3.0, max_s=18.0, refused_min_s=1.0, confirmations=3)


def a_suspicion(*accusers: NodeId, reason: str = SILENT) -> Suspicion:
    return Suspicion(7, 100.0, dict.fromkeys(accusers, reason))


def test_suspicion_of_a_lone_accuser_lasts_longest() -> None:
    assert a_suspicion(A).deadline(BOUNDS) == 118.0


def test_suspicion_shrinks_with_each_confirmation_and_ends_at_the_shortest() -> None:
    suspicion = a_suspicion(A)
    timeouts = [suspicion.timeout_s(BOUNDS)]
    for accuser in (B, C, D):
        assert suspicion.accuse(accuser, SILENT)
        timeouts.append(suspicion.timeout_s(BOUNDS))
    assert timeouts == sorted(timeouts, reverse=True)
    assert timeouts == pytest.approx([18.0, 10.5, 6.112, 3.0], abs=0.01)


def test_suspicion_counts_an_accuser_once() -> None:
    suspicion = a_suspicion(A)
    assert suspicion.accuse(B, SILENT)
    assert not suspicion.accuse(B, SILENT)
    assert not suspicion.accuse(A, SILENT)
    assert suspicion.confirmations == 1


def test_suspicion_is_the_shortest_when_nobody_is_left_to_confirm() -> None:
    nobody = Bounds(min_s=3.0, max_s=18.0, refused_min_s=1.0, confirmations=0)
    assert a_suspicion(A).timeout_s(nobody) == 3.0


def test_suspicion_is_shorter_still_when_all_who_can_were_refused() -> None:
    suspicion = a_suspicion(A, B, C, reason=REFUSED)
    assert suspicion.timeout_s(BOUNDS) > BOUNDS.min_s
    suspicion.accuse(D, REFUSED)
    assert suspicion.timeout_s(BOUNDS) == BOUNDS.refused_min_s


def test_suspicion_is_not_shorter_when_one_of_them_was_not_refused() -> None:
    suspicion = a_suspicion(A, B, C, reason=REFUSED)
    suspicion.accuse(D, SILENT)
    assert suspicion.timeout_s(BOUNDS) == BOUNDS.min_s
    assert suspicion.reason == SILENT


def test_suspicion_takes_a_refusal_of_an_accuser_who_had_met_silence() -> None:
    suspicion = a_suspicion(A)
    assert suspicion.accuse(A, REFUSED)
    assert not suspicion.accuse(A, SILENT)
    assert suspicion.reason == REFUSED


def test_suspicion_is_postponed_by_a_bounded_time_in_all() -> None:
    suspicion = a_suspicion(A)
    suspicion.postpone(2.0, at_most=3.0)
    suspicion.postpone(2.0, at_most=3.0)
    suspicion.postpone(2.0, at_most=3.0)
    assert suspicion.deadline(BOUNDS) == 121.0
