"""Scenario files: what they say is what happens, and what makes no sense is told with its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from muster.sim.faults import Crash, Stop
from muster.sim.scenario import check_plan, load_plan
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


def test_where_a_file_is_does_not_matter(tmp_path: Path) -> None:
    assert load_plan(str(plan_of(tmp_path, "")), seed="1").name == ""


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("nodes = 0", "nodes"),
        ("nodse = 3", "nodse"),
        ("nodes = ", "Invalid value"),
        ("[workload]\nrate = 3", "workload: there is no 'rate'; one of clients"),
        ("[link]\nlos = 0.1", "link: there is no 'los'; one of"),
        ('[[fault]]\ndo = "crash"\nnode = "n1"', "fault 1: at_s is missing"),
        ('[[fault]]\nat_s = 1\ndo = "explode"', "fault 1: do = 'explode': one of crash, power-off"),
        ('[[fault]]\nat_s = 1\nnode = "n1"', "fault 1: do = None: one of crash"),
        ('[[fault]]\nat_s = []\ndo = "stop"\nnode = "n1"', "fault 1: at_s is empty"),
        ("[link]\nloss = nan", "link: loss: nan is no number"),
        ("[link]\nloss = 5.0", "link: Expected `float` <= 1"),
        ("[link]\ndelay_s = -5", "link: Expected `float` >= 0"),
        ("[workload]\nput = inf", "workload: put: inf is no number"),
        ("[workload]\nput = -1", "Expected `float` >= 0"),
        ("[workload]\nput = 0\nget = 0\ncas = 0\ndelete = 0", "there is nothing to ask"),
        ('[[fault]]\nat_s = 1\ndo = "crash"', "fault 1: .*node"),
        ('[[fault]]\nat_s = -1\ndo = "crash"\nnode = "n1"', "fault 1: at_s: "),
        (
            '[[fault]]\nat_s = 1\ndo = "crash"\nnode = "n1"\ntear = true',
            "fault 1: there is no 'tear'; one of for_s, node",
        ),
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


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ('do = "crash"\nnode = "n4"', "crash for_s=10.0 node=n4 at 1 s: there is no node 'n4'"),
        ('do = "crash"\nnode = "all"', "there is no node 'all': n1 to n3, leader, follower, any"),
        ('do = "cut"\na = "n1"\nb = "n1"', "a and b are both n1"),
        ('do = "split"\nnodes = []', "nodes is empty"),
        ('do = "split"\nnodes = ["all"]', "there is no node 'all'"),
        ('do = "power-off"\nnodes = []', "nodes is empty"),
    ],
)
def test_a_fault_that_can_never_happen_is_told(tmp_path: Path, fault: str, told: str) -> None:
    plan = load_plan(str(plan_of(tmp_path, f"[[fault]]\nat_s = 1\n{fault}")), seed="1")
    with pytest.raises(UsageError, match=told):
        check_plan(plan, "it")


def test_a_fault_behind_the_end_of_the_run_is_told(tmp_path: Path) -> None:
    text = 'for_s = 20\n[[fault]]\nat_s = [10, 20]\ndo = "power-off"'
    with pytest.raises(UsageError, match="at 20 s: the run has 20 s"):
        check_plan(load_plan(str(plan_of(tmp_path, text)), seed="1"), "it")


def test_a_file_that_is_no_text_is_told(tmp_path: Path) -> None:
    path = tmp_path / "it.toml"
    path.write_bytes(b"nodes = 3\xff")
    with pytest.raises(UsageError, match=r"it.toml: byte 9 is no UTF-8 text"):
        load_plan(str(path), seed="1")
