"""The experiment "failover": what one run measures, and what many say together."""

from __future__ import annotations

from muster.sim.experiments.experiment import Options
from muster.sim.experiments.failover import EXPERIMENT, FAULTS, Outcome, Setup, measure
from muster_protocol.raftguard.elections import ELECTION_MAX_S

KILLED = "leader is killed"


def test_a_killed_leader_is_followed_by_another_one_before_its_silence_could_tell() -> None:
    """Its streams close, so nobody waits for an election to fall due."""
    outcome = measure(Setup(fault=KILLED, seed=1))
    assert outcome.failover_s is not None
    assert outcome.failover_s / 2 < outcome.unavailable_s < ELECTION_MAX_S
    assert measure(Setup(fault=KILLED, seed=1)) == outcome


def test_the_instant_of_a_seed_is_the_same_for_all_faults() -> None:
    setups = EXPERIMENT.setups(Options(seeds=2))
    assert len(setups) == 2 * len(FAULTS)
    assert len({setup.begins_s for setup in setups}) == 2


def test_the_table_names_the_seed_of_the_worst_and_counts_who_stayed() -> None:
    outcomes = [
        Outcome(failover_s=0.5, unavailable_s=0.7),
        Outcome(failover_s=1.5, unavailable_s=0.6),
        Outcome(failover_s=None, unavailable_s=0.1),
    ]
    measured = [
        (Setup(fault=KILLED, seed=seed), outcome) for seed, outcome in enumerate(outcomes, start=7)
    ]
    rows = EXPERIMENT.rows(measured)
    assert rows == [(3, KILLED, 3, 2, 0.5, 1.5, 1.5, 8, 0.6, 0.7, 0.7, 7)]
    assert len(rows[0]) == len(EXPERIMENT.columns)


def test_a_fault_at_which_the_leader_always_stays_has_no_failover_in_table_and_plot() -> None:
    measured = [(Setup(fault=KILLED), Outcome(failover_s=None, unavailable_s=0.1))]
    assert EXPERIMENT.rows(measured)[0][3:8] == (0, None, None, None, None)
    panels = EXPERIMENT.panels(measured)
    assert [panel.ticks for panel in panels] == [(KILLED,), (KILLED,)]
    assert [panel.series[0].y for panel in panels] == [(None,), (0.1,)]
