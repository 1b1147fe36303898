"""What may reach a terminal, and how it looks there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from muster.cli.render import age, duration, size
from muster.cli.terminal import clean
from testkit.commandline import muster
from testkit.fake_daemon import FakeDaemon, a_member, a_status, members

HOSTILE = "evil\x1b]0;owned\x07\x9b31m\u202egnp.exe\r\nroot"
CONTROL = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


@pytest.mark.parametrize("command", ["status", "members"])
@pytest.mark.parametrize("tty", [False, True])
def test_control_characters_of_other_machines_never_come_through(
    daemon: FakeDaemon, command: str, tty: bool
) -> None:
    daemon.answers("status", a_status(reason=HOSTILE, name=HOSTILE, leader_name=HOSTILE))
    daemon.answers("members", members(a_member(1, name=HOSTILE, why=HOSTILE)))
    environ = {"MUSTER_SOCKET": str(daemon.path), "NO_COLOR": "1", "COLUMNS": "400"}
    out = muster(command, tty=tty, environ=environ).out
    assert "evil" in out
    assert not CONTROL.search(out)
    assert "\nroot" not in out


def test_an_error_of_the_daemon_is_cleaned_too(daemon: FakeDaemon) -> None:
    from muster_protocol.session.messages import Code
    from testkit.fake_daemon import refusal

    daemon.answers("status", refusal(Code.FAILED, "a\x1b[2Jb\nc", "d\x07"))
    outcome = muster("status", "--socket", str(daemon.path))
    assert outcome.stderr == "muster: a\ufffd[2Jb\nmuster: c\n  hint: d\ufffd\n"


def test_colour_is_for_terminals_that_want_it(daemon: FakeDaemon) -> None:
    daemon.answers("status", a_status())
    where = {"MUSTER_SOCKET": str(daemon.path)}
    green = "\x1b[32mHEALTHY"
    assert muster("status", tty=True, environ=where).out.startswith(green)
    assert "\x1b" not in muster("status", environ=where).out
    assert "\x1b" not in muster("status", tty=True, environ={**where, "NO_COLOR": "1"}).out
    assert "\x1b" not in muster("status", tty=True, environ={**where, "TERM": "dumb"}).out


def test_a_table_on_a_terminal_does_not_read_markup(daemon: FakeDaemon) -> None:
    daemon.answers("members", members(a_member(1, name="[red]web[/red]")))
    environ = {"MUSTER_SOCKET": str(daemon.path), "COLUMNS": "200"}
    assert "[red]web[/red]" in muster("members", tty=True, environ=environ).out


def test_a_line_of_a_table_in_a_pipe_is_one_line(daemon: FakeDaemon) -> None:
    daemon.answers("members", members(*(a_member(n) for n in range(1, 9))))
    out = muster("members", environ={"MUSTER_SOCKET": str(daemon.path), "COLUMNS": "20"}).out
    assert len(out.splitlines()) == 9


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (-1.0, "0.0 s"),
        (1.23, "1.2 s"),
        (45.0, "45 s"),
        (600.0, "10 min"),
        (18_000.0, "5.0 h"),
        (270_000.0, "3.1 d"),
    ],
)
def test_durations_have_one_unit(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_ages_and_sizes_are_said_in_words() -> None:
    assert (age(1.23), age(None)) == ("1.2 s ago", "never")
    assert (size(512), size(1536), size(5 * 1024 * 1024)) == ("512 B", "1.5 KiB", "5.0 MiB")


def test_clean_leaves_every_script_alone() -> None:
    for text in ("plain", "bläu", "日本語", "עברית", "naïve — “quoted”"):
        assert clean(text) == text


def test_only_render_and_help_hold_text_for_people() -> None:
    """Commands do not write: what they show goes through a view."""
    import muster.cli

    commands = Path(muster.cli.__file__).parent / "commands"
    for module in sorted(commands.glob("*.py")):
        assert "print(" not in module.read_text(), module.name
