"""Plans drawn from a seed."""

from __future__ import annotations

import pytest

from muster.sim.faults import BitRot, DiskError, DriftClock, OldStreams
from muster.sim.swarm import LATER_DRAWS, draw
from simulation.regressions import REGRESSIONS, Regression

LATER = BitRot | DiskError | DriftClock | OldStreams


def has_later_kinds(seed: str) -> bool:
    return any(isinstance(timed.fault, LATER) for timed in draw(seed).faults)


@pytest.mark.parametrize("regression", REGRESSIONS, ids=lambda regression: regression.seed)
def test_a_seed_that_found_something_has_none_of_the_later_kinds(regression: Regression) -> None:
    assert not has_later_kinds(regression.seed)


def test_about_a_quarter_of_the_seeds_have_kinds_that_came_later() -> None:
    assert 0.2 < sum(has_later_kinds(str(seed)) for seed in range(400)) / 400 < 0.32


def test_every_kind_that_came_later_is_drawn() -> None:
    drawn = {type(t.fault) for seed in range(200) for t in draw(str(seed)).faults}
    assert drawn >= {BitRot, DiskError, DriftClock, OldStreams}
    assert len(LATER_DRAWS) == 4


def test_faults_come_in_the_order_of_their_time() -> None:
    for seed in range(100):
        times = [timed.at_s for timed in draw(str(seed)).faults]
        assert times == sorted(times)
