"""What each command asks and shows."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import msgspec
import pytest

from muster.cli.watch import watch
from muster_protocol.limits import VALUE_BYTES_MAX
from muster_protocol.session.methods import (
    METHODS,
    AgentRow,
    AgentsResult,
    ConfigItem,
    ConfigResult,
    DoneResult,
    InfoResult,
    JoinResult,
    KvListResult,
    RaftResult,
    SignalItem,
    VersionResult,
    VoterRow,
)
from testkit.commandline import Outcome, muster
from testkit.fake_daemon import (
    FakeDaemon,
    Stream,
    a_key,
    a_kv_result,
    a_member,
    a_problem,
    a_status,
    members,
)

SESSION = "5" * 32
HEADINGS = ("NAME", "ID", "ADDRESS", "STATE", "FOR", "ROLE", "SEEN", "BUILD", "WHY")


def at(
    daemon: FakeDaemon, *argv: str, stdin: bytes = b"", tty: bool = False, stdin_tty: bool = False
) -> Outcome:
    environ = {"MUSTER_SOCKET": str(daemon.path)}
    return muster(*argv, stdin=stdin, tty=tty, stdin_tty=stdin_tty, environ=environ)


def a_raft() -> RaftResult:
    voter = VoterRow(id="a" * 32, name="web1", role="leader", is_me=True, connected=True)
    other = VoterRow(
        id="b" * 32,
        name="web2",
        role="follower",
        is_me=False,
        connected=False,
        acknowledged_index=1180,
        lag=2,
        answer_age_s=0.2,
    )
    return RaftResult(
        node="a" * 32,
        is_voter=True,
        role="leader",
        leader="a" * 32,
        leader_name="web1",
        term=4,
        first_index=1,
        last_index=1182,
        durable_index=1182,
        commit_index=1182,
        applied_index=1182,
        revision=17,
        keys=3,
        state_fingerprint="f" * 64,
        snapshot_index=1000,
        journal_bytes=123_456,
        voters=[voter, other],
        elections_won=1,
        campaigns=2,
        dropped={"term": 3, "vote": 0},
    )


def an_agent(name: str = "failure", **changes: object) -> AgentRow:
    usual = AgentRow(
        name=name, state="running", uptime_s=60.0, restarts=0, handled=9, dropped=0, mailbox=0
    )
    return msgspec.structs.replace(usual, **changes)


# --- status and members -------------------------------------------------------------------------


def test_status_leads_with_verdict_reason_and_next_command(daemon: FakeDaemon) -> None:
    status = a_status(verdict="DEGRADED", reason="web3 is suspect", problems=[a_problem()])
    daemon.answers("status", status)
    lines = at(daemon, "status").out.splitlines()
    assert lines[0] == "DEGRADED: web3 is suspect"
    assert lines[1] == "  - web3 is suspect  ->  muster members"
    assert "up       26.1 h, muster 0.1.0" in lines


def test_json_is_exactly_the_result(daemon: FakeDaemon) -> None:
    daemon.answers("status", a_status())
    outcome = at(daemon, "status", "--json")
    assert outcome.json == msgspec.to_builtins(a_status())
    assert outcome.json["schema"] == "muster.status/1"
    assert outcome.stderr == ""


@pytest.mark.parametrize(
    "argv",
    [
        ("--json", "raft"),
        ("raft", "--json"),
        ("--timeout=3", "raft", "--json"),
        ("--timeout", "3", "--json", "raft"),
    ],
)
def test_global_options_stand_before_or_after(daemon: FakeDaemon, argv: tuple[str, ...]) -> None:
    daemon.answers("raft", a_raft())
    assert at(daemon, *argv).json["term"] == 4


@pytest.mark.parametrize("place", range(4))
def test_global_options_stand_around_a_second_word_too(daemon: FakeDaemon, place: int) -> None:
    daemon.answers("kv.get", a_kv_result())
    argv = ["kv", "get", "colour"]
    argv.insert(place, "--json")
    assert at(daemon, *argv).json["entry"]["value"] == "blue"


def test_a_socket_called_like_a_command_is_no_command(tmp_path: Path) -> None:
    assert "no daemon at status:" in muster("--socket", "status", "status").stderr


def test_members_are_shown_with_their_ages(daemon: FakeDaemon) -> None:
    rows = (a_member(1), a_member(2), a_member(3, state="failed", seen_age_s=None, why="no ack"))
    daemon.answers("members", members(*rows))
    lines = at(daemon, "members").out.splitlines()
    assert lines[0].split() == list(HEADINGS)
    assert lines[1].startswith("*  web1")
    assert "1.2 s ago" in lines[2]
    assert lines[3].split()[3:5] == ["failed", "10"]
    assert "never" in lines[3]
    assert lines[3].endswith("no ack")


def test_members_can_be_filtered_and_named_alone(daemon: FakeDaemon) -> None:
    daemon.answers("members", members(a_member(1), a_member(2, state="failed")))
    assert at(daemon, "members", "-q", "--state", "failed").out == f"{2:032x}\n"
    found = at(daemon, "members", "--json", "--state", "failed", "--state", "left").json
    assert [row["name"] for row in found["members"]] == ["web2"]
    assert found["schema"] == "muster.members/1"


def test_watch_asks_again_and_tells_when_the_daemon_is_gone(daemon: FakeDaemon) -> None:
    from muster.cli import render
    from muster.cli.context import Context
    from muster.cli.terminal import Terminal
    from testkit.commandline import _Output

    daemon.answers("status", a_status(term=1), a_status(term=2))
    out, err = _Output(tty=False), _Output(tty=False)
    context = Context(
        terminal=Terminal(stdout=out, stderr=err, environ={}),
        as_json=True,
        socket=str(daemon.path),
        timeout_s=0.5,
        environ={},
    )
    pauses = 0

    def pause(_seconds: float) -> None:
        nonlocal pauses
        pauses += 1
        if pauses == 2:
            daemon.__exit__(None, None, None)
        elif pauses == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        watch(context, lambda: context.ask("status"), render.status, pause=pause)
    context.close()
    lines = out.detach().getvalue().decode().splitlines()  # type: ignore[attr-defined]
    assert [msgspec.json.decode(line)["term"] for line in lines] == [1, 2]
    assert err.detach().getvalue().startswith(b"muster: no answer within")  # type: ignore[attr-defined]


def test_info_raft_agents_and_partition_have_words(daemon: FakeDaemon) -> None:
    statistics = {"packets": {"sent": 12, "rate": 0.123456}, "vitals": {"load": 0.5}}
    daemon.answers("info", InfoResult(member=a_member(2), statistics=statistics))
    daemon.answers("raft", a_raft())
    broken = an_agent("partition", state="parked", last_error="ValueError: x", dropped=2)
    daemon.answers("agents", AgentsResult(node="a" * 32, agents=[an_agent(), broken]))
    info = at(daemon, "info", "web2").out
    assert daemon.params("info")[0].node == "web2"
    assert "packets.sent  12\n" in info
    assert "packets.rate  0.123\n" in info
    raft = at(daemon, "raft").out
    assert "web2" in raft
    assert "dropped    term 3\n" in raft
    agents = at(daemon, "agents").out
    assert "ValueError: x" in agents


@pytest.mark.parametrize(
    ("argv", "method", "params"),
    [
        (("leave", "--yes"), "leave", {}),
        (("leave", "--yes", "--force"), "leave", {"force": True}),
        (("forget", "web3"), "forget", {"node": "web3"}),
        (("raft", "transfer"), "raft.transfer", {}),
        (("raft", "voters", "5"), "raft.voters", {"size": 5}),
        (("raft", "add", "n4"), "raft.add", {"node": "n4"}),
        (("raft", "remove", "n2"), "raft.remove", {"node": "n2"}),
        (("agents", "unpark", "failure"), "agents.unpark", {"name": "failure"}),
        (("bootstrap", "reset"), "bootstrap.reset", {}),
    ],
)
def test_commands_ask_once_and_say_what_was_done(
    daemon: FakeDaemon, argv: tuple[str, ...], method: str, params: dict[str, Any]
) -> None:
    daemon.answers(method, DoneResult(message="it is done"))
    assert at(daemon, *argv).out == "it is done\n"
    assert daemon.requests[0].params == params
    assert METHODS[method][1] is DoneResult


def test_join_names_who_is_asked(daemon: FakeDaemon) -> None:
    daemon.answers("join", JoinResult(hinted=["10.0.0.7:7411", "[fd00::7]:7411"]))
    assert "asking 10.0.0.7:7411, [fd00::7]:7411" in at(daemon, "join", "10.0.0.7", "fd00::7").out


@pytest.mark.parametrize(
    ("answer", "code"), [(b"y\n", 0), (b"YES\n", 0), (b"\n", 1), (b"n\n", 1), (b"", 1)]
)
def test_leave_asks_at_a_terminal(daemon: FakeDaemon, answer: bytes, code: int) -> None:
    daemon.answers("leave", DoneResult(message="leaving"))
    outcome = at(daemon, "leave", stdin=answer, stdin_tty=True)
    assert outcome.code == code
    assert "Leave? [y/N]" in outcome.stderr
    assert len(daemon.requests) == (code == 0)


def test_leave_never_asks_where_nobody_can_answer(daemon: FakeDaemon) -> None:
    outcome = at(daemon, "leave", stdin=b"y\n")
    assert (outcome.code, daemon.connections) == (2, 0)
    assert "--yes" in outcome.stderr


def test_signals_are_shown_as_they_come(daemon: FakeDaemon) -> None:
    signal = SignalItem(
        id="1",
        type="cluster.node.failed",
        source="web1",
        subject="web2",
        wall=0.0,
        priority="high",
        scope="cluster",
        data={"failure_type": "\x1b[2Jgone"},
    )
    daemon.answers("signals.tail", Stream([signal, signal]))
    out = at(daemon, "signals", "tail", "cluster.node.*").out
    assert out.count("high   cluster.node.failed  web2  failure_type=\ufffd[2Jgone") == 2
    lines = at(daemon, "signals", "tail", "--json").out.splitlines()
    assert [msgspec.json.decode(line)["type"] for line in lines] == ["cluster.node.failed"] * 2


def test_version_works_without_a_daemon_and_tells_of_one(
    daemon: FakeDaemon, tmp_path: Path
) -> None:
    daemon.answers(
        "version", VersionResult(build="0.2.0", control_protocol="1.0", wire_protocol="1.0")
    )
    assert "daemon 0.2.0" in at(daemon, "version").out
    alone = muster("version", "--json", "--socket", str(tmp_path / "none"))
    assert (alone.code, alone.json["daemon"]) == (0, None)


def test_the_running_configuration_comes_from_the_daemon(daemon: FakeDaemon) -> None:
    items = [ConfigItem(key="cluster.join", value=["10.0.0.1"], origin="/etc/muster.toml:7")]
    daemon.answers("config", ConfigResult(path="/etc/muster.toml", items=items))
    assert (
        "cluster.join  10.0.0.1  /etc/muster.toml:7"
        in at(daemon, "config", "show", "--running").out
    )


# --- the store ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "stdin", "value"),
    [
        (("put", "k", "blue"), b"", b"blue"),
        (("put", "k", ""), b"", b""),
        (("put", "k", "-"), b"\x00\xff\n", b"\x00\xff\n"),
        (("put", "k", "--file", "-"), b"from stdin", b"from stdin"),
        (("put", "k", "--", "-5"), b"", b"-5"),
        (("put", "k", "\udcff"), b"", b"\xff"),
        (("cas", "k", "17", "green"), b"", b"green"),
    ],
)
def test_values_come_as_they_are(
    daemon: FakeDaemon, argv: tuple[str, ...], stdin: bytes, value: bytes
) -> None:
    daemon.answers("kv.put", a_kv_result())
    assert at(daemon, "kv", *argv, stdin=stdin).code == 0
    assert daemon.params("kv.put")[0].value == value


def test_a_value_comes_from_a_file(daemon: FakeDaemon, tmp_path: Path) -> None:
    (tmp_path / "value").write_bytes(b"\x00\x01")
    daemon.answers("kv.put", a_kv_result())
    assert at(daemon, "kv", "put", "k", "--file", str(tmp_path / "value")).code == 0
    assert daemon.params("kv.put")[0].value == b"\x00\x01"
    assert at(daemon, "kv", "put", "k", "--file", str(tmp_path / "none")).code == 2


def test_a_value_that_is_too_large_is_not_sent(daemon: FakeDaemon) -> None:
    outcome = at(daemon, "kv", "put", "k", "-", stdin=bytes(VALUE_BYTES_MAX + 1))
    assert (outcome.code, daemon.connections) == (2, 0)
    daemon.answers("kv.put", a_kv_result())
    assert at(daemon, "kv", "put", "k", "-", stdin=bytes(VALUE_BYTES_MAX)).code == 0


@pytest.mark.parametrize(
    ("argv", "method", "expected"),
    [
        (("put", "k", "v"), "kv.put", None),
        (("put", "k", "v", "--create"), "kv.put", 0),
        (("cas", "k", "17", "v"), "kv.put", 17),
        (("del", "k"), "kv.delete", None),
        (("del", "k", "--revision", "17"), "kv.delete", 17),
    ],
)
def test_changes_say_what_they_expect(
    daemon: FakeDaemon, argv: tuple[str, ...], method: str, expected: int | None
) -> None:
    daemon.answers(method, a_kv_result())
    assert at(daemon, "kv", *argv).out == "committed: colour at revision 17\n"
    assert daemon.params(method)[0].expected == expected


def test_an_unknown_change_can_be_asked_for_again(daemon: FakeDaemon) -> None:
    daemon.answers("kv.put", a_kv_result(repeated=True))
    out = at(daemon, "kv", "put", "k", "v", "--again", f"{SESSION}:7:3").out
    (params,) = daemon.params("kv.put")
    assert (params.session, params.request, params.since) == (SESSION, 7, 3)
    assert "already made" in out


@pytest.mark.parametrize("value", [b"blue", b"", b"\x00\xff\x1b[31m", b"line\n"])
def test_a_value_is_written_as_it_is_where_no_terminal_is(daemon: FakeDaemon, value: bytes) -> None:
    daemon.answers("kv.get", a_kv_result(a_key(value=value)))
    assert at(daemon, "kv", "get", "k").stdout == value


def test_a_value_on_a_terminal_is_cleaned(daemon: FakeDaemon) -> None:
    daemon.answers(
        "kv.get",
        a_kv_result(a_key(value=b"one\n\x1b]0;owned\x07two")),
        a_kv_result(a_key(value=b"\xff")),
    )
    assert at(daemon, "kv", "get", "k", tty=True).out == "one\n\ufffd]0;owned\ufffdtwo\n"
    assert "1 B that are not text" in at(daemon, "kv", "get", "k", tty=True).out


def test_values_in_json_are_text_or_base64(daemon: FakeDaemon) -> None:
    daemon.answers(
        "kv.get",
        a_kv_result(a_key(value="bläu\x9b".encode())),
        a_kv_result(a_key(value=b"\xff\x00")),
    )
    text = at(daemon, "kv", "get", "k", "--json")
    assert text.json["entry"]["value"] == "bläu\x9b"
    assert b"\xc2\x9b" not in text.stdout, "a C1 control character is escaped"
    binary = at(daemon, "kv", "get", "k", "--json").json["entry"]
    assert base64.b64decode(binary["value_base64"]) == b"\xff\x00"
    assert "value" not in binary


def test_a_stale_answer_says_so(daemon: FakeDaemon) -> None:
    daemon.answers("kv.get", a_kv_result(outcome="stale", age_s=1.23))
    outcome = at(daemon, "kv", "get", "k", "--stale")
    assert outcome.stdout == b"blue"
    assert outcome.stderr == "muster: STALE: as of 1.2 s ago\n"
    assert daemon.params("kv.get")[0].stale


def test_a_listing_is_complete_over_its_pages(daemon: FakeDaemon) -> None:
    pages = [
        KvListResult(outcome="committed", revision=9, entries=[a_key("a"), a_key("b")], more=True),
        KvListResult(outcome="committed", revision=9, entries=[a_key("c")], more=False),
    ]
    daemon.answers("kv.list", *pages)
    listed = at(daemon, "kv", "ls", "--json").json
    assert [entry["key"] for entry in listed["entries"]] == ["a", "b", "c"]
    assert listed["more"] is False
    assert daemon.params("kv.list")[1].after == "b"


def test_a_listing_stops_at_its_limit(daemon: FakeDaemon) -> None:
    page = KvListResult(outcome="stale", revision=9, entries=[a_key("a")], more=True, age_s=None)
    daemon.answers("kv.list", page)
    out = at(daemon, "kv", "ls", "app/", "--limit", "1", "--stale").out
    assert out.startswith("STALE: as of never\n")
    assert "--limit was reached" in out
    assert (daemon.params("kv.list")[0].prefix, daemon.params("kv.list")[0].limit) == ("app/", 1)
    assert len(daemon.requests) == 1


def test_keys_alone_are_listed_for_scripts(daemon: FakeDaemon) -> None:
    entries = [a_key("a"), a_key("b\nc")]
    page = KvListResult(outcome="committed", revision=9, entries=entries, more=False)
    daemon.answers("kv.list", page)
    assert at(daemon, "kv", "ls", "-q").out == "a\nb\ufffdc\n"


def test_a_stale_list_of_keys_says_so_beside_them(daemon: FakeDaemon) -> None:
    page = KvListResult(outcome="stale", revision=9, entries=[a_key("a")], more=False, age_s=45.0)
    daemon.answers("kv.list", page)
    outcome = at(daemon, "kv", "ls", "-q", "--stale")
    assert (outcome.out, outcome.stderr) == ("a\n", "muster: STALE: as of 45 s ago\n")


def test_a_key_that_is_not_text_is_refused(daemon: FakeDaemon) -> None:
    assert at(daemon, "kv", "get", "\udcff").code == 2
