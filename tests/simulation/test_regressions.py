"""What once found something finds nothing any more, and has a minimal scene of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from muster.sim.experiments import failover
from muster.sim.machines import raft_swarm
from muster.sim.simulation import Simulation
from muster.sim.swarm import draw
from simulation.regressions import REGRESSIONS, Regression

TESTS = Path(__file__).parents[1]


def nodes_hold(seed: int) -> None:
    report = Simulation(draw(str(seed))).run()
    assert report.verdict == "ok", f"{report.checker}: {report.what}"


def voters_hold(seed: int) -> None:
    raft_swarm.RaftRun(raft_swarm.draw(seed)).run()


def is_short(seed: int) -> None:
    outcome = failover.measure(failover.Setup(fault="leader is killed", seed=seed))
    assert outcome.unavailable_s < 0.5


TIERS: dict[str, Callable[[int], None]] = {
    "nodes": nodes_hold,
    "raft": voters_hold,
    "failover": is_short,
}


@pytest.mark.parametrize("found", REGRESSIONS, ids=lambda found: f"{found.tier}-{found.seed}")
def test_what_once_failed_holds(found: Regression) -> None:
    path, _, function = found.scene.partition("::")
    assert f"def {function}(" in (TESTS / path).read_text(), found.why
    TIERS[found.tier](found.seed)
