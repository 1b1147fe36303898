"""`muster simulate`: what is shown, what is written, and which exit code comes back."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from testkit.commandline import muster

QUIET = """
name = "quiet"
nodes = 3
for_s = 5
"""


def scenario(tmp_path: Path, text: str = QUIET) -> str:
    path = tmp_path / "quiet.toml"
    path.write_text(text)
    return str(path)


def test_a_run_is_told_as_it_goes(tmp_path: Path) -> None:
    outcome = muster("simulate", scenario(tmp_path), "--seed", "3")
    lines = outcome.out.splitlines()
    assert outcome.code == 0
    assert lines[0] == "quiet, seed 3"
    assert any("founded, led by n" in line for line in lines)
    assert "ok: all that was checked holds" in lines


def test_json_holds_nothing_of_paths_or_real_time(tmp_path: Path) -> None:
    runs = [muster("simulate", scenario(tmp_path), "--json") for _ in range(2)]
    assert runs[0].stdout == runs[1].stdout
    assert str(tmp_path) not in runs[0].out
    report = runs[0].json
    assert (report["schema"], report["verdict"]) == ("muster.simulation/1", "ok")
    assert report["history"] == "linearizable"


def test_several_seeds_give_a_line_each(tmp_path: Path) -> None:
    outcome = muster("simulate", scenario(tmp_path), "--runs", "2", "--seed", "5", "--json")
    assert [json.loads(line)["seed"] for line in outcome.out.splitlines()] == ["5", "6"]


def test_what_does_not_recover_fails_and_says_how_to_repeat_it(tmp_path: Path) -> None:
    text = QUIET + "recover_s = 0.001\n[[fault]]\nat_s = 1\ndo = 'power-off'\nfor_s = 60\n"
    path = scenario(tmp_path, text)
    outcome = muster("simulate", path, "--seed", "2")
    assert outcome.code == 1
    assert "VIOLATED: liveness: not recovered" in outcome.out
    assert f"again with: muster simulate {path} --seed 2" in outcome.stderr


def test_events_and_history_are_written_where_asked(tmp_path: Path) -> None:
    events, history = tmp_path / "events", tmp_path / "history.jsonl"
    muster("simulate", scenario(tmp_path), "--log", str(events), "--history", str(history))
    assert " packet " in events.read_text()
    assert " sync " in events.read_text()
    assert muster("check-history", str(history)).code == 0


def test_the_nodes_run_with_the_users_settings(tmp_path: Path) -> None:
    config = tmp_path / "muster.toml"
    config.write_text('[cluster]\nsecret_file = "/nonexistent"\n[gossip]\nprobe_interval_s = 2.0\n')
    assert muster("simulate", scenario(tmp_path), "--config", str(config)).code == 0
    config.write_text("[node]\nprot = 1\n")
    outcome = muster("simulate", scenario(tmp_path), "--config", str(config))
    assert outcome.code == 2
    assert f"{config}:2: node.prot: there is no such setting" in outcome.stderr


@pytest.mark.parametrize(
    "argv",
    [
        ("--for", "0"),
        ("--for", "ten"),
        ("--nodes", "0"),
        ("--nodes", "-1"),
        ("--runs", "0"),
        ("--runs", "2", "--seed", "a"),
        ("no-such-file.toml",),
        ("--nodes", "201"),
        ("--for", "400d"),
        ("--seed", "a\udcffb"),
        ("--log", "/nonexistent/log"),
        ("--history", "/nonexistent/history"),
        ("--config", "/nonexistent.toml"),
    ],
)
def test_2_for_what_makes_no_sense(argv: tuple[str, ...]) -> None:
    outcome = muster("simulate", *argv)
    assert outcome.code == 2
    assert outcome.stderr.startswith("muster: ")


def test_the_command_that_repeats_a_run_can_be_pasted(tmp_path: Path) -> None:
    path = tmp_path / "with blanks.toml"
    path.write_text(
        QUIET + "recover_s = 0.001\n[[fault]]\nat_s = 1\ndo = 'power-off'\nfor_s = 60\n"
    )
    outcome = muster("simulate", str(path), "--seed", "a b", "--for", "5.125s")
    _, _, command = outcome.stderr.strip().rpartition("again with: ")
    assert shlex.split(command)[1:] == ["simulate", str(path), "--seed", "a b", "--for", "5.125s"]


def test_an_interrupt_ends_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("muster.sim.watch.Watch.look", interrupt)
    outcome = muster("simulate", scenario(tmp_path))
    assert outcome.code == 130
    assert "Traceback" not in outcome.stderr


def test_who_stops_reading_ends_a_run_and_no_node_feels_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_: object) -> None:
        raise BrokenPipeError

    monkeypatch.setattr("muster.cli.render.moment", gone)
    with pytest.raises(BrokenPipeError):
        muster("simulate", scenario(tmp_path))


def test_a_log_that_cannot_be_written_ends_a_run(tmp_path: Path) -> None:
    outcome = muster("simulate", scenario(tmp_path), "--log", "/dev/full")
    assert outcome.code == 1
    assert outcome.stderr.splitlines()[-1].endswith("No space left on device")
