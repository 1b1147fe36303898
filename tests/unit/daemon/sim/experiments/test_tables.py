"""From outcomes to a table: by hand-made outcomes, whose sums are known."""

from __future__ import annotations

import pytest

from muster.sim.experiments import lifeguard, rapid, starved
from muster.sim.experiments.catalogue import NAMES, experiment_named
from muster.sim.experiments.experiment import Options, measure_all
from muster.sim.experiments.members import Outcome, Setup
from muster.sim.experiments.statistics import quantile, wilson


@pytest.mark.parametrize(
    ("share", "expected"), [(0.0, 1.0), (0.5, 2.0), (0.75, 3.0), (0.99, 4.0), (1.0, 4.0)]
)
def test_a_quantile_is_one_of_the_values(share: float, expected: float) -> None:
    assert quantile([4.0, 1.0, 3.0, 2.0], share) == expected


def test_nothing_has_no_quantile() -> None:
    assert quantile([], 0.5) is None


@pytest.mark.parametrize(
    ("hits", "of", "low", "high"),
    [(0, 20, 0.0, 0.161), (1, 20, 0.009, 0.236), (10, 20, 0.299, 0.701), (20, 20, 0.839, 1.0)],
)
def test_wilson_intervals_are_those_of_the_literature(
    hits: int, of: int, low: float, high: float
) -> None:
    assert wilson(hits, of) == pytest.approx((low, high), abs=0.001)


def test_of_nothing_all_is_possible() -> None:
    assert wilson(0, 0) == (0.0, 1.0)


def test_an_interval_holds_its_share() -> None:
    """One that ended below it by rounding cost a finished experiment its plot."""
    for of in range(1, 200):
        for hits in (0, of // 2, of):
            low, high = wilson(hits, of)
            assert low <= hits / of <= high


def test_lifeguard_compares_each_variant_with_swim_at_the_same_setup() -> None:
    measured = [
        (
            Setup(variant=variant, members=50, sick=4, sickness="stalls"),
            Outcome(
                fp=fp, fp_healthy=fp // 10, detected_s=[9.04, 11.0], packets=5, bytes=2_000_000
            ),
        )
        for variant, fp in (("SWIM", 200), ("Lifeguard", 3))
    ]
    rows = {row[:3]: row[3:] for row in lifeguard.EXPERIMENT.rows(measured)}
    assert rows[50, 4, "SWIM"] == (200, 100.0, 20, 100.0, 9.0, 11.0, 0, 5, 2.0)
    assert rows[50, 4, "Lifeguard"] == (3, 1.5, 0, 0.0, 9.0, 11.0, 0, 5, 2.0)
    assert rows[50, "all", "Lifeguard"] == rows[50, 4, "Lifeguard"]


def test_starved_counts_runs_and_not_deaths() -> None:
    measured = [
        (Setup(variant="muster", members=50, sick=3, loss=0.05, seed=seed), Outcome(fp=fp))
        for seed, fp in enumerate((0, 7, 0, 0), start=1)
    ]
    first, *_ = starved.EXPERIMENT.rows(measured)
    assert first[:8] == (3, 5, "muster", 4, 1, 25, "5-70", 7)


def test_starved_measures_no_setup_twice_in_small_clusters() -> None:
    setups = starved.EXPERIMENT.setups(Options(members=(10,), seeds=1))
    assert len(setups) == len(frozenset(setups)) == 2 * 3 * 3


def test_rapid_looks_at_agreement_and_at_what_is_agreed_upon() -> None:
    deaf = rapid.Setup(variant="muster", members=8, fault=rapid.FAULTS[0], seed=1, for_s=120.0)
    outcome = rapid.measure(deaf)
    assert 0 < outcome.exact < outcome.agree <= 41
    assert outcome.well_failed == 1, "the deaf one itself takes another for dead"
    assert outcome.recovered_s is not None
    assert max(outcome.most) == 1


def test_outcomes_stand_in_the_order_of_their_setups_whoever_measured_them() -> None:
    experiment = starved.EXPERIMENT
    setups = experiment.setups(Options(members=(5,), seeds=1))
    told: list[int] = []
    one = measure_all(experiment, setups, processes=1, on_done=told.append)
    two = measure_all(experiment, setups, processes=2, on_done=lambda _: None)
    assert [setup for setup, _ in one] == setups
    assert one == two
    assert told == list(range(1, len(setups) + 1))


@pytest.mark.parametrize("name", NAMES)
def test_each_experiment_asks_a_question_and_is_what_it_is_called(name: str) -> None:
    experiment = experiment_named(name)
    assert experiment.name == name
    assert experiment.question.endswith("?")
    setups = experiment.setups(Options(seeds=2))
    assert len(setups) == len(frozenset(setups)) > 0
