"""What is counted in a run of membership machines, and that each setup is an honest one."""

from __future__ import annotations

import dataclasses

import pytest

from muster.sim.experiments.members import VARIANTS, Setup, measure

STALLS = Setup(
    variant="SWIM", members=8, sick=2, sickness="stalls", for_s=90.0, dies_at_s=50.0, seed=1
)


def test_a_setup_has_one_outcome() -> None:
    assert measure(STALLS) == measure(STALLS)
    assert measure(STALLS) != measure(dataclasses.replace(STALLS, seed=2))


def test_stalled_members_make_swim_fail_the_healthy_and_lifeguard_not() -> None:
    swim = measure(STALLS)
    lifeguard = measure(dataclasses.replace(STALLS, variant="Lifeguard"))
    assert swim.fp > swim.fp_healthy > 0
    assert lifeguard.fp == lifeguard.fp_healthy == 0


def test_who_cannot_be_reached_for_long_is_failed_and_counted_apart() -> None:
    outcome = measure(STALLS)
    assert outcome.fp_sick > 0
    assert outcome.suspicions > outcome.fp_sick


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_dead_one_is_detected_by_each_healthy_member_and_is_no_false_positive(
    variant: str,
) -> None:
    setup = Setup(variant=variant, members=8, sick=0, for_s=80.0, dies_at_s=20.0)
    outcome = measure(setup)
    assert (len(outcome.detected_s), outcome.missed) == (7, 0)
    assert all(3.0 < seconds < 40.0 for seconds in outcome.detected_s)
    assert (outcome.fp, outcome.fp_healthy, outcome.fp_sick) == (0, 0, 0)


def test_who_has_not_noticed_at_the_end_is_said_to_have_missed_it() -> None:
    setup = Setup(variant="SWIM", members=8, sick=3, for_s=21.0, dies_at_s=20.0)
    outcome = measure(setup)
    assert (outcome.detected_s, outcome.missed) == ([], 4)


def test_starved_members_are_wrongly_failed_by_swim_as_kinship_found() -> None:
    """The baseline is no straw man and no saint; `muster experiment starved` is the whole grid."""
    setup = Setup(
        variant="SWIM, alpha 4", members=20, sick=3, loss=0.1, for_s=60.0, dies_at_s=None, seed=2
    )
    swim, lifeguard = setup, dataclasses.replace(setup, variant="Lifeguard, alpha 4")
    assert measure(swim).fp > 0
    assert measure(lifeguard).fp == 0
