"""`muster experiment`: a list, a table, JSON, and one line for what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from testkit.commandline import muster

SMALL = ("experiment", "rapid", "--members", "5", "--seeds", "1", "--processes", "1")


def test_without_a_name_all_are_listed() -> None:
    outcome = muster("experiment")
    assert outcome.code == 0
    assert [line.split()[0] for line in outcome.out.splitlines()] == [
        "lifeguard",
        "starved",
        "rapid",
        "failover",
    ]


def test_an_experiment_gives_its_question_its_setup_and_a_table(tmp_path: Path) -> None:
    outcome = muster(*SMALL, "--plot", str(tmp_path / "it.svg"))
    lines = outcome.out.splitlines()
    assert outcome.code == 0
    assert lines[0] == "do all agree, and for long, about a member that is half dead?"
    assert lines[1].startswith("6 runs: ")
    assert sum("muster" in line for line in lines) == 3
    assert "<svg" in (tmp_path / "it.svg").read_text()


def test_json_is_the_same_each_time() -> None:
    runs = [muster(*SMALL, "--json") for _ in range(2)]
    assert runs[0].stdout == runs[1].stdout
    findings = runs[0].json
    assert (findings["schema"], findings["runs"]) == ("muster.experiment/1", 6)
    assert all(len(row) == len(findings["columns"]) for row in findings["rows"])


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["entropy"], "there is no experiment 'entropy'; one of lifeguard, starved"),
        (["rapid", "--seeds", "0"], "count from 1"),
        (["rapid", "--members", "1"], "sizes go from 2 to 1000"),
        (["rapid", "--members", "x"], "not a whole number"),
        (["lifeguard", "--members", "2"], "too few"),
        (["failover", "--members", "2"], "3 to 7 whole nodes"),
        (["rapid", "--plot", "it.pdf"], "must end with .svg or .png"),
    ],
)
def test_what_is_wrong_is_one_line_and_exit_code_2(words: list[str], why: str) -> None:
    outcome = muster("experiment", *words)
    assert outcome.code == 2
    assert why in outcome.stderr
    assert outcome.out == ""
