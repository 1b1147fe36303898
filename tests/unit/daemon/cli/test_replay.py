"""`muster replay`: what it shows, its exit codes, and what is no flight record."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from muster import __version__
from muster.flight.births import PeersBirth, WatchBirth
from muster_protocol.discovery.peers import MemberSeen
from muster_protocol.effects import DeadlineReached
from muster_protocol.partition import quorum
from muster_protocol.partition.quorum import Evidence, EvidenceSeen
from muster_protocol.types import Address, NodeId
from testkit.commandline import muster
from testkit.flights import MemoryLog, taped

ALPHA, BETA = NodeId("a" * 32), NodeId("b" * 32)
ALONE = EvidenceSeen(Evidence((ALPHA, BETA), (ALPHA,), True, False, None))


def written(directory: Path, log: MemoryLog, number: int = 0) -> str:
    directory.mkdir(exist_ok=True)
    path = directory / f"flight-{number}.rec"
    path.write_bytes(log.data)
    return str(path)


@pytest.fixture
def log() -> MemoryLog:
    """A split, and somebody with an odd address."""
    log = MemoryLog(build=__version__)
    watch = taped("partition", WatchBirth(me=ALPHA, quorum_size=0, now=0.0), log)
    watch.handle(ALONE, now=2.0)
    watch.handle(DeadlineReached(), now=7.0)
    birth = PeersBirth(me=ALPHA, own=Address("::1", 1), static=(), stored=None, now=7.5)
    peers = taped("discovery", birth, log)
    peers.handle(MemberSeen(BETA, Address("\x1b[2J", 7411)), now=8.0)
    return log


def test_0_and_a_timeline_where_all_decisions_are_as_then(tmp_path: Path, log: MemoryLog) -> None:
    outcome = muster("replay", written(tmp_path, log))
    assert (outcome.code, outcome.stderr) == (0, "")
    lines = outcome.out.splitlines()
    assert lines[:2] == [
        "       0.000  partition   begins",
        (
            "       2.000  partition   EvidenceSeen evidence=Evidence(voters=[aaaaaaaa, bbbbbbbb] "
            "reachable=[aaaaaaaa] is_voter=True hears_quorum=False)"
        ),
    ]
    assert lines[2].strip().startswith("Notify event='partition.minority' severity=warning")
    assert lines[5].strip().startswith("Emit type='cluster.partition.confirmed'")
    assert lines[-2:] == [
        "partition: 2 events, all decisions as then",
        "discovery: 1 event, all decisions as then",
    ]


def test_1_and_the_first_difference_where_this_version_decides_otherwise(
    tmp_path: Path, log: MemoryLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path, log)
    monkeypatch.setattr(quorum, "CONFIRM_AFTER_S", 6.0)
    outcome = muster("replay", path, "--from", "100")
    assert outcome.code == 1
    assert outcome.out.splitlines()[:3] == [
        "       7.000  partition   DeadlineReached",
        " " * 26 + "DIFFERS: then it decided otherwise; nothing is decided now",
        (
            "partition: 2 events, 1 decided differently; first differing decision at 7.000 "
            "(DeadlineReached)"
        ),
    ]


def test_what_is_shown_can_be_chosen(tmp_path: Path, log: MemoryLog) -> None:
    path = written(tmp_path, log)
    shown = muster("replay", path, "--machine", "partition", "--from", "1", "--to", "3").out
    assert re.findall(r"^ +(\d\.\d{3}) ", shown, flags=re.MULTILINE) == ["2.000"]
    assert shown.splitlines()[-1] == "partition: 2 events, all decisions as then"
    assert "discovery" not in shown


def test_json_is_a_line_for_each_record_and_one_for_each_machine(
    tmp_path: Path, log: MemoryLog
) -> None:
    outcome = muster("replay", written(tmp_path, log), "--json")
    lines = [msgspec.json.decode(line) for line in outcome.stdout.splitlines()]
    assert [line["schema"] for line in lines] == (
        ["muster.replay/1"] * 5 + ["muster.replay-verdict/1"] * 2
    )
    seen = lines[1]
    assert (seen["machine"], seen["at_s"], seen["outcome"]) == ("partition", 2.0, "same")
    assert seen["data"]["evidence"]["reachable"] == [ALPHA]
    assert [effect["type"] for effect in seen["effects"]] == ["Notify", "Emit"]
    assert lines[-1] == {
        "schema": "muster.replay-verdict/1",
        "machine": "discovery",
        "is_machine": True,
        "same": 1,
        "differing": 0,
        "not_compared": 0,
        "not_replayed": 0,
        "why_not_replayed": "",
        "first_difference": None,
    }


def test_what_others_wrote_is_not_obeyed_by_the_terminal(tmp_path: Path, log: MemoryLog) -> None:
    outcome = muster("replay", written(tmp_path, log), tty=True)
    assert "\x1b[2J" not in outcome.out
    assert "�[2J" in outcome.out


def test_a_state_directory_stands_for_both_files(tmp_path: Path, log: MemoryLog) -> None:
    later = log.turn(2, 9.0)
    written(tmp_path / "state", later, 0)
    written(tmp_path / "state", log, 1)
    (tmp_path / "state" / "flight-0.rec").write_bytes(later.data)
    both = muster("replay", str(tmp_path / "state"))
    assert both.code == 0
    assert both.out.count("begins") == 2
    alone = muster("replay", str(tmp_path / "state" / "flight-0.rec"))
    assert alone.out.count("goes on") == 2


def test_a_directory_of_nodes_is_answered_with_their_state_directories(
    tmp_path: Path, log: MemoryLog
) -> None:
    """As `muster dev --dir` prints it."""
    states = [tmp_path / name / "state" for name in ("n1", "n2")]
    for state in states:
        state.parent.mkdir()
        written(state, log)
    outcome = muster("replay", str(tmp_path))
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.stderr == (
        f"muster: {tmp_path}: there is no flight record in it; "
        f"give one node's state directory: {states[0]}, {states[1]}\n"
    )
    assert muster("replay", str(tmp_path / "n1")).stderr.endswith(f": {states[0]}\n")
    assert muster("replay", str(states[0])).code == 0


def test_a_file_that_a_power_cut_emptied_is_told_and_the_other_one_read(
    tmp_path: Path, log: MemoryLog
) -> None:
    written(tmp_path, log, 1)
    (tmp_path / "flight-0.rec").touch()
    outcome = muster("replay", str(tmp_path))
    assert outcome.code == 0
    assert outcome.stderr == f"muster: {tmp_path / 'flight-0.rec'}: empty\n"


def test_a_file_that_was_cut_off_is_told_and_read_so_far(tmp_path: Path, log: MemoryLog) -> None:
    path = Path(written(tmp_path, log))
    path.write_bytes(log.data[:-3])
    outcome = muster("replay", str(path))
    assert outcome.code == 0
    assert outcome.stderr == (
        f"muster: {path}: record 5 is cut off; what stands before it is replayed\n"
    )


def test_2_for_a_file_that_was_cut_off_right_behind_its_header(tmp_path: Path) -> None:
    outcome = muster("replay", written(tmp_path, MemoryLog(build=__version__)))
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.stderr == "muster: nothing was replayed: there is no record in it\n"


def test_2_for_machines_that_began_and_decided_nothing(tmp_path: Path) -> None:
    log = MemoryLog(build=__version__)
    taped("partition", WatchBirth(me=ALPHA, quorum_size=0, now=0.0), log)
    outcome = muster("replay", written(tmp_path, log))
    assert outcome.code == 2
    assert outcome.stderr == "muster: nothing was replayed: no decision could be compared\n"


def test_a_record_of_another_version_is_told(tmp_path: Path) -> None:
    log = MemoryLog(build="0.0.9")
    taped("partition", WatchBirth(me=ALPHA, quorum_size=0, now=0.0), log)
    outcome = muster("replay", written(tmp_path, log))
    assert f"recorded by 0.0.9, replayed by {__version__}" in outcome.stderr


def test_what_cannot_be_replayed_says_why(tmp_path: Path) -> None:
    log = MemoryLog(build=__version__)
    log.record("partition", ALONE, 2.0, 0)
    log.record("consistency", DeadlineReached(), 2.0)
    outcome = muster("replay", written(tmp_path, log))
    assert outcome.code == 2
    assert outcome.out.splitlines()[-2:] == [
        (
            "partition: no decision compared; 1 event cannot be replayed: its beginning "
            "was overwritten, or is in another file"
        ),
        "consistency: 1 event went in; an agent cannot be replayed",
    ]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "not a flight recorder's file"),
        (b"hello, world", "not a flight recorder's file"),
        (b"\0" * 4096, "not a flight recorder's file"),
        (b"\0\0\0\3\x92\x01\x07", "format 1 (it holds no beginnings and cannot be replayed)"),
        (b"\0\0\0\3\x92\x63\x07", "format 99; this version reads 2"),
    ],
)
def test_2_and_one_line_for_what_is_no_flight_record(
    tmp_path: Path, content: bytes, said: str
) -> None:
    path = tmp_path / "flight-0.rec"
    path.write_bytes(content)
    outcome = muster("replay", str(path))
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.stderr.startswith(f"muster: {path}: {said}")
    assert outcome.stderr.count("\n") == 1


def test_what_is_wrong_with_the_command_line_is_told(tmp_path: Path, log: MemoryLog) -> None:
    path = written(tmp_path, log)
    other = written(tmp_path / "other", log)
    (tmp_path / "nothing").mkdir()
    for argv, said in (
        ((path, "--machine", "swim"), "there is no machine 'swim' in it; there are: discovery, "),
        ((path, "--from", "9", "--to", "1"), "--from 9 is behind --to 1"),
        ((path, "--from", "nan"), "no time in seconds"),
        ((path, other), "are not of one node"),
        ((str(tmp_path / "nothing"),), "there is no flight record"),
        ((), "FILE"),
    ):
        outcome = muster("replay", *argv)
        assert outcome.code == 2, argv
        assert said in outcome.stderr


def test_5_for_a_file_that_is_not_there(tmp_path: Path) -> None:
    outcome = muster("replay", str(tmp_path / "flight-0.rec"))
    assert outcome.code == 5
    assert "No such file" in outcome.stderr
