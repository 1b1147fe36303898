"""A run that is not well is not called ok."""

from __future__ import annotations

from typing import Any

import pytest

from muster.agents import partition
from muster.agents.consistency.agent import ConsistencyManager
from muster.sim import simulation as simulation_module
from muster.sim.checkers.judgement import Judgement
from muster.sim.checkers.vocabulary import Verdict
from muster.sim.simulation import Plan, Report, Simulation
from muster_protocol.errors import Refused

PLAN = Plan(seed="1", nodes=3, for_s=10.0)


def run() -> Report:
    return Simulation(PLAN).run()


def test_a_cluster_that_refuses_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*_: Any, **__: Any) -> None:
        raise Refused("not-quorate", "no")

    monkeypatch.setattr(ConsistencyManager, "submit", refuse)
    report = run()
    assert (report.verdict, report.checker) == ("violated", "liveness")
    assert report.what == "n1 does not answer a write and a read"


def test_an_agent_that_fails_and_is_restarted(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise AssertionError("planted")

    monkeypatch.setattr(partition, "EvidenceSeen", fail)
    report = run()
    assert report.verdict == "violated", report
    assert "partition" in report.what
    assert "planted" in report.what


def test_a_history_that_nobody_could_judge(monkeypatch: pytest.MonkeyPatch) -> None:
    given_up = Judgement(Verdict.UNKNOWN, why_unknown="the search was given up")
    monkeypatch.setattr(simulation_module, "judge", lambda _: given_up)
    report = run()
    assert (report.verdict, report.what) == ("undecided", "the search was given up")
