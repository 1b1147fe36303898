"""Scenario files: what they say is what happens, and what makes no sense is told with its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from muster.sim.faults import Crash, Stop
from muster.sim.scenario import load_plan
from muster.sim.simulation import Timed
from muster_protocol.errors import UsageError


def plan_of(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "scenario.toml"
    path.write_text(text)
    return path


def test_a_file_becomes_a_plan(tmp_path: Path) -> None:
    path = plan_of(
        tmp_path,
        """
        name = "two faults"
        nodes = 5
        [link]
        loss = 0.5
        [[fault]]
        at_s = [30, 10]
        do = "stop"
        node = "leader"
        for_s = 5
        [[fault]]
        at_s = 20
        do = "crash"
        node = "n2"
        """,
    )
    plan = load_plan(str(path), seed="7")
    assert (plan.seed, plan.name, plan.nodes, plan.link.loss) == ("7", "two faults", 5, 0.5)
    assert plan.faults == (
        Timed(at_s=10.0, fault=Stop(node="leader", for_s=5.0)),
        Timed(at_s=20.0, fault=Crash(node="n2")),
        Timed(at_s=30.0, fault=Stop(node="leader", for_s=5.0)),
    )


def test_a_file_without_a_name_is_called_as_the_file(tmp_path: Path) -> None:
    assert load_plan(str(plan_of(tmp_path, "")), seed="1").name == "scenario"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("nodes = 0", "nodes"),
        ("nodse = 3", "nodse"),
        ("nodes = ", "Invalid value"),
        ("[workload]\nrate = 3", "rate"),
        ("[link]\nlos = 0.1", "link: there is no 'los'; one of"),
        ('[[fault]]\ndo = "crash"\nnode = "n1"', "fault 1: at_s is missing"),
        ('[[fault]]\nat_s = 1\ndo = "explode"', "fault 1: .*explode"),
        ('[[fault]]\nat_s = 1\ndo = "crash"', "fault 1: .*node"),
        ('[[fault]]\nat_s = -1\ndo = "crash"\nnode = "n1"', "fault 1: at_s: "),
        ('[[fault]]\nat_s = 1\ndo = "crash"\nnode = "n1"\ntear = true', "fault 1: .*tear"),
    ],
)
def test_what_makes_no_sense_is_told_in_one_line(tmp_path: Path, text: str, told: str) -> None:
    path = plan_of(tmp_path, text)
    with pytest.raises(UsageError, match=told) as caught:
        load_plan(str(path), seed="1")
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        load_plan(str(tmp_path / "none.toml"), seed="1")
