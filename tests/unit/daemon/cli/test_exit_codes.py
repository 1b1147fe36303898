"""Every exit code, as a script meets it."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from muster.cli.exit import exit_of
from muster.client.calls import unreachable
from muster_protocol.session.messages import Code, Failure
from muster_protocol.session.methods import PartitionResult
from testkit.commandline import Outcome, muster
from testkit.fake_daemon import (
    HANG_UP,
    SILENCE,
    FakeDaemon,
    a_problem,
    a_status,
    hello,
    refusal,
)

BY_CODE = {
    Code.FAILED: 1,
    Code.USAGE: 2,
    Code.NOT_QUORATE: 4,
    Code.NOT_FOUND: 5,
    Code.PERMISSION: 6,
    Code.TIMED_OUT: 7,
    Code.CONFLICT: 8,
    Code.UNSUPPORTED: 1,
}


def at(daemon: FakeDaemon, *argv: str, **surroundings: object) -> Outcome:
    return muster(*argv, "--socket", str(daemon.path), **surroundings)  # type: ignore[arg-type]


def a_partition(*, may_write: bool) -> PartitionResult:
    return PartitionResult(
        node="a" * 32,
        standing="quorate" if may_write else "minority",
        reason="1 of 3 voters in reach, 2 needed",
        reachable=["web1"],
        unreachable=["web2", "web3"],
        bar=2,
        since_age_s=12.0,
        may_write=may_write,
    )


def test_0_when_healthy(daemon: FakeDaemon) -> None:
    daemon.answers("status", a_status())
    assert at(daemon, "status", "--strict").code == 0


@pytest.mark.parametrize(
    ("verdict", "plain", "strict"),
    [("HEALTHY", 0, 0), ("DEGRADED", 0, 10), ("NOT QUORATE", 4, 4), ("FOUNDING", 0, 4)],
)
def test_status_tells_its_verdict(
    daemon: FakeDaemon, verdict: str, plain: int, strict: int
) -> None:
    daemon.answers("status", a_status(verdict=verdict, problems=[a_problem()]))
    assert at(daemon, "status").code == plain
    assert at(daemon, "status", "--strict").code == strict


@pytest.mark.parametrize("code", list(BY_CODE))
def test_a_failure_gives_the_code_of_its_kind(daemon: FakeDaemon, code: Code) -> None:
    daemon.answers("kv.get", refusal(code, "because of that", "try this"))
    outcome = at(daemon, "kv", "get", "k")
    assert outcome.code == BY_CODE[code]
    assert outcome.stdout == b""
    assert outcome.stderr == "muster: because of that\n  hint: try this\n"


@pytest.mark.parametrize(
    "argv",
    [
        (),
        ("stats",),
        ("--nonsense",),
        ("kv",),
        ("kv", "gett", "k"),
        ("kv", "cas", "k", "-1", "v"),
        ("kv", "put", "k"),
        ("kv", "put", "k", "v", "--file", "f"),
        ("kv", "get", "k", "--again", "x"),
        ("kv", "put", "k", "v", "--again", "x:1:0"),
        ("kv", "put", "k", "v", "--again", "5" * 32 + ":1"),
        ("status", "--timeout", "0"),
        ("status", "--timeout", "nan"),
        ("status", "surplus"),
        ("members", "--state", "sleepy"),
        ("join", "not-an-address"),
        ("leave",),
        ("config", "show", "file", "--running"),
        ("keys", "list", "--config", "/nonexistent"),
    ],
)
def test_2_for_what_makes_no_sense(argv: tuple[str, ...]) -> None:
    outcome = muster(*argv)
    assert outcome.code == 2
    assert outcome.stderr.startswith("muster: ")
    assert outcome.stdout == b""


def test_3_when_no_daemon_answers(tmp_path: Path) -> None:
    outcome = muster("status", "--socket", str(tmp_path / "none.sock"))
    assert outcome.code == 3
    assert "hint: is it running?" in outcome.stderr


def test_4_when_this_side_may_not_write(daemon: FakeDaemon) -> None:
    daemon.answers("partition", a_partition(may_write=False), a_partition(may_write=True))
    assert at(daemon, "partition").code == 4
    assert at(daemon, "partition").code == 0


def test_6_for_a_socket_that_this_user_may_not_use() -> None:
    """Tests may run as root, who may use every socket: so the error itself."""
    refused = PermissionError(errno.EACCES, "Permission denied")
    assert exit_of(unreachable("/run/muster/muster.sock", refused)) == 6
    assert exit_of(refused) == 6


def test_7_when_the_daemon_never_answers(daemon: FakeDaemon) -> None:
    daemon.answers("status", SILENCE)
    outcome = at(daemon, "status", "--timeout", "0.2")
    assert (outcome.code, outcome.out) == (7, "")
    assert "no answer within 0.2 s" in outcome.stderr


def test_9_when_the_outcome_of_a_change_is_unknown(daemon: FakeDaemon) -> None:
    daemon.greeting = hello(revision=12)
    daemon.answers("kv.put", SILENCE)
    outcome = at(daemon, "kv", "put", "k", "v", "--timeout", "0.2")
    (params,) = daemon.params("kv.put")
    assert outcome.code == 9
    assert f"--again {params.session}:{params.request}:12 will tell" in outcome.stderr


def test_9_when_the_outcome_is_no_longer_remembered(daemon: FakeDaemon) -> None:
    forgotten = Failure(0, Code.UNKNOWN_OUTCOME, "too long ago", "look", {"forgotten": True})
    daemon.answers("kv.put", forgotten)
    outcome = at(daemon, "kv", "put", "k", "v", "--again", f"{'5' * 32}:1:12")
    assert outcome.code == 9
    assert "hint: look" in outcome.stderr
    assert len(daemon.params("kv.put")) == 1


def test_9_when_a_command_was_lost(daemon: FakeDaemon) -> None:
    daemon.answers("forget", HANG_UP)
    assert at(daemon, "forget", "web3").code == 9


def test_1_for_a_daemon_of_another_major_version(daemon: FakeDaemon) -> None:
    daemon.greeting = hello(major=2, build="9.9.9")
    outcome = at(daemon, "status")
    assert outcome.code == 1
    assert "9.9.9" in outcome.stderr
    assert "control protocol 2, this client 1" in outcome.stderr
    assert "install the same version of both" in outcome.stderr


def test_1_for_what_is_no_muster_daemon(daemon: FakeDaemon) -> None:
    daemon.greeting = b"\x00\x00\x00\x05hello"
    assert at(daemon, "status").code == 1
