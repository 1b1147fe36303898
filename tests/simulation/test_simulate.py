"""Whole clusters under faults: the shipped scenarios, drawn plans, and that a seed is a run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from muster.sim.scenario import load_plan
from muster.sim.simulation import Plan, Report, Simulation
from muster.sim.swarm import draw

ROOT = Path(__file__).parents[2]
SCENARIOS = sorted((ROOT / "configs" / "scenarios").glob("*.toml"))

RUN = """
import sys, msgspec
from muster.sim.simulation import Simulation
from muster.sim.swarm import draw
report = Simulation(draw(sys.argv[1], nodes=3, for_s=20.0)).run()
sys.stdout.buffer.write(msgspec.json.encode(report))
"""


def holds(plan: Plan) -> Report:
    """Run a plan in which everything must hold."""
    simulation = Simulation(plan)
    report = simulation.run()
    if simulation.crash is not None:
        raise simulation.crash
    assert report.verdict == "ok", f"seed {plan.seed}: {report.checker}: {report.what}"
    return report


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_a_shipped_scenario_holds(path: Path) -> None:
    report = holds(load_plan(str(path), seed="1"))
    assert report.operations_ok > 100
    assert any(moment.where == "fault" for moment in report.timeline)


def test_a_dozen_scenarios_are_shipped() -> None:
    assert len(SCENARIOS) >= 12


@pytest.mark.parametrize("seed", range(1, 9))
def test_a_drawn_plan_holds(seed: int) -> None:
    holds(draw(str(seed), for_s=40.0))


def test_a_seed_is_a_run_in_any_process() -> None:
    """With another hash seed too, and to the last byte of the report."""
    reports = {
        (seed, hash_seed): subprocess.run(
            [sys.executable, "-c", RUN, seed],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed, hash_seed in (("7", "1"), ("7", "77"), ("8", "1"))
    }
    assert reports["7", "1"] == reports["7", "77"]
    one, other = (
        msgspec.json.decode(reports[seed, "1"], type=Report).events_sha256 for seed in ("7", "8")
    )
    assert one != other
