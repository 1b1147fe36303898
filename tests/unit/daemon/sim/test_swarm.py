"""Plans drawn from a seed."""

from __future__ import annotations

import pytest

from muster.sim.faults import BadLink, BitRot, DiskError, DriftClock, OldStreams
from muster.sim.swarm import LATER_DRAWS, draw
from simulation.regressions import REGRESSIONS, Regression

LATER = BadLink | BitRot | DiskError | DriftClock | OldStreams


def has_later_kinds(seed: str) -> bool:
    return any(isinstance(timed.fault, LATER) for timed in draw(seed).faults)


NODES = [found for found in REGRESSIONS if found.tier == "nodes"]


@pytest.mark.parametrize("found", NODES, ids=lambda found: str(found.seed))
def test_a_seed_that_found_something_has_none_of_the_later_kinds(found: Regression) -> None:
    assert not has_later_kinds(str(found.seed))


def test_about_half_of_the_seeds_have_kinds_that_came_later() -> None:
    assert 0.4 < sum(has_later_kinds(str(seed)) for seed in range(400)) / 400 < 0.6


def test_every_kind_that_came_later_is_drawn() -> None:
    drawn = {type(t.fault) for seed in range(200) for t in draw(str(seed)).faults}
    assert drawn >= {BadLink, BitRot, DiskError, DriftClock, OldStreams}
    assert len(LATER_DRAWS) == 4


def test_faults_come_in_the_order_of_their_time() -> None:
    for seed in range(100):
        times = [timed.at_s for timed in draw(str(seed)).faults]
        assert times == sorted(times)


def test_clocks_differ_only_where_ways_are_bad() -> None:
    plans = [draw(str(seed)) for seed in range(100)]
    assert len({plan.clock_ppm for plan in plans}) == 3
    assert all("bad-link" in plan.name for plan in plans if plan.clock_ppm)
