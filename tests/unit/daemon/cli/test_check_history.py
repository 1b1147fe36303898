"""`muster check-history`: verdicts, exit codes, and what is no history."""

from __future__ import annotations

from pathlib import Path

import pytest

from muster.sim.history import HistoryRecorder, Outcome, Reply, Request
from testkit.commandline import muster

HISTORIES = Path(__file__).parents[1] / "sim" / "checkers" / "histories"
RIGHT = str(HISTORIES / "contended.jsonl")
WRONG = str(HISTORIES / "stale-read.jsonl")


@pytest.fixture
def hard(tmp_path: Path) -> str:
    """Twenty appends at once, and a read of what none of them wrote: nobody tries all orders."""
    lines = [
        f'{{:process {n}, :type :invoke, :f :append, :key "k", :value "{n};"}}' for n in range(20)
    ]
    lines += [
        f'{{:process {n}, :type :ok, :f :append, :key "k", :value "{n};"}}' for n in range(20)
    ]
    lines += ['{:process 0, :type :invoke, :f :get, :key "k", :value nil}']
    lines += ['{:process 0, :type :ok, :f :get, :key "k", :value "none of them"}']
    path = tmp_path / "hard.edn"
    path.write_text("\n".join(lines), encoding="utf-8")
    return str(path)


def test_0_and_one_line_for_what_is_linearizable() -> None:
    outcome = muster("check-history", RIGHT)
    assert (outcome.code, outcome.stderr) == (0, "")
    assert outcome.out.startswith(f"{RIGHT}: linearizable (")


def test_1_and_the_explanation_for_what_is_not() -> None:
    outcome = muster("check-history", WRONG)
    assert outcome.code == 1
    assert outcome.out.splitlines() == [
        f"{WRONG}: not linearizable (5 operations)",
        "CLIENT  OPERATION          RESULT                           CALL  RETURN",
        "c1      put colour 'red'   done, revision 1                    0     0.1",
        "c2      put colour 'blue'  done, revision 3                  0.3     0.5",
        "c3      get colour         'red', revision 3, changed at 1   0.8     0.9",
        (
            "get colour by client c3 returned 'red', after put colour 'blue' by client c2 was done "
            "and nothing wrote that again."
        ),
    ]


def test_2_for_what_nobody_knows(hard: str) -> None:
    outcome = muster("check-history", "--timeout", "0.01", hard)
    assert outcome.code == 2
    assert outcome.out.splitlines()[0] == f"{hard}: unknown (21 operations)"
    assert "the search was given up after" in outcome.out


def test_a_wrong_history_counts_more_than_an_unknown_one_and_that_more_than_a_right_one(
    hard: str,
) -> None:
    soon = ("check-history", "--timeout", "0.01")
    assert muster(*soon, RIGHT, hard).code == 2
    assert muster(*soon, hard, WRONG, RIGHT).code == 1
    assert muster(*soon, RIGHT, RIGHT).code == 0


def test_json_is_one_line_for_each_file() -> None:
    import msgspec

    outcome = muster("check-history", "--json", RIGHT, WRONG)
    right, wrong = (msgspec.json.decode(line) for line in outcome.stdout.splitlines())
    assert (right["schema"], right["verdict"]) == ("muster.check-history/1", "linearizable")
    assert (right["file"], right["operations"]) == (RIGHT, [])
    assert wrong["key"] == "colour"
    assert [each["client"] for each in wrong["operations"]] == ["c1", "c2", "c3"]
    assert wrong["operations"][0]["operation"] == "put colour 'red'"


def test_what_is_no_verdict_has_another_exit_code(tmp_path: Path) -> None:
    """1 and 2 would be taken for verdicts."""
    junk = tmp_path / "junk"
    junk.write_text("hello\n", encoding="utf-8")
    assert muster("check-history").code == 64
    assert muster("check-history", "--nonsense", RIGHT).code == 64
    assert muster("check-history", str(junk)).code == 65
    assert muster("check-history", str(tmp_path / "none")).code == 66
    assert muster("check-history", str(tmp_path)).code == 66


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/full"])
def test_65_and_one_line_for_what_has_no_end(device: str) -> None:
    outcome = muster("check-history", device)
    assert (outcome.code, outcome.out) == (65, "")
    assert outcome.stderr == (
        f"muster: {device}: too large to be judged: more than 67108864 bytes\n"
    )


def told_revision(directory: Path, revision: int) -> str:
    recorder = HistoryRecorder()
    read = recorder.invoke("c1", Request("get", "k"), 0.0)
    recorder.ok(read, Reply(Outcome.NOT_FOUND, revision=revision), 1.0)
    path = directory / "run.jsonl"
    path.write_text("\n".join(recorder.to_lines()), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("revision", [3 * 10**8, 2**62])
def test_a_large_revision_that_nobody_made_is_a_verdict(tmp_path: Path, revision: int) -> None:
    """And costs no memory by its size."""
    outcome = muster("check-history", told_revision(tmp_path, revision))
    assert outcome.code == 1
    assert f"{revision} revisions, the first of them 1, were made by no answered" in outcome.out


@pytest.mark.parametrize("revision", [-1, 9 * 10**18])
def test_65_for_what_is_no_revision(tmp_path: Path, revision: int) -> None:
    outcome = muster("check-history", told_revision(tmp_path, revision))
    assert (outcome.code, outcome.out) == (65, "")
    assert outcome.stderr.startswith(f"muster: {tmp_path / 'run.jsonl'}:3: Expected `int` ")
    assert outcome.stderr.count("\n") == 1


def test_no_verdict_is_said_before_all_files_are_read(tmp_path: Path) -> None:
    outcome = muster("check-history", RIGHT, str(tmp_path / "none"))
    assert (outcome.code, outcome.out) == (66, "")
    assert outcome.stderr == f"muster: {tmp_path / 'none'}: No such file or directory\n"


def test_a_malformed_file_gets_one_line_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    path.write_text('{"schema":"muster.history/1"}\n{"event":"what"}\n', encoding="utf-8")
    outcome = muster("check-history", str(path))
    assert outcome.stderr.startswith(f"muster: {path}:2: ")
    assert outcome.stderr.count("\n") == 1


def test_values_cannot_speak_to_the_terminal(tmp_path: Path) -> None:
    recorder = HistoryRecorder()
    read = recorder.invoke("c\x1b[31m", Request("get", "k\x07"), 0.0)
    recorder.ok(read, Reply(value="\x1b[2J", revision=1, entry=1), 1.0)
    path = tmp_path / "run.jsonl"
    path.write_text("\n".join(recorder.to_lines()), encoding="utf-8")
    outcome = muster("check-history", str(path))
    assert outcome.code == 1
    assert "\x1b" not in outcome.out
    assert "\x07" not in outcome.out


def test_completion_and_suggestions_know_the_word() -> None:
    assert "check-history" in muster("completion", "bash").out
    assert "did you mean: muster check-history" in muster("check-histroy").stderr
