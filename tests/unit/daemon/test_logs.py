"""Log lines: their form, and what is never in them."""

from __future__ import annotations

import io
import os
from typing import Any

import msgspec
import pytest
import structlog

from muster.logs import goes_to_journald, log_notify, make_logger
from muster_protocol.effects import Notify
from muster_protocol.types import Severity

WALL = 1_700_000_000.1234


class Tty(io.StringIO):
    def isatty(self) -> bool:
        return True


def logged(*, stream: io.StringIO | None = None, **options: Any) -> tuple[Any, io.StringIO]:
    stream = stream or io.StringIO()
    options = {"environ": {}, **options}
    return make_logger(wall=lambda: WALL, stream=stream, **options), stream


def test_a_line_for_people_has_time_level_event_and_fields() -> None:
    logger, out = logged(node="web1")
    logger.warning("member.suspected", member="web2", why="no ack", count=3)
    assert (
        out.getvalue()
        == '22:13:20.123 warning member.suspected  node=web1 member=web2 why="no ack" count=3\n'
    )


def test_a_json_line_is_one_object_in_a_stable_order() -> None:
    logger, out = logged(format="json", node="web1")
    logger.info("member.alive", member="web2", text="two\nlines")
    (line,) = out.getvalue().splitlines()
    assert line == (
        '{"time":"2023-11-14T22:13:20.123Z","level":"info","event":"member.alive",'
        '"node":"web1","member":"web2","text":"two\\nlines"}'
    )


def test_levels_below_the_set_one_are_silent() -> None:
    logger, out = logged(level="warning")
    logger.info("quiet")
    logger.debug("quiet")
    assert out.getvalue() == ""
    logger.error("loud")
    assert "error loud" in out.getvalue()


def test_colour_is_for_terminals_that_want_it() -> None:
    for environ, coloured in (({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)):
        logger, out = logged(stream=Tty(), environ=environ)
        logger.error("x")
        assert ("\x1b[31m" in out.getvalue()) is coloured
    logger, out = logged()
    logger.error("x")
    assert "\x1b" not in out.getvalue()


def test_under_journald_lines_are_json_with_a_priority() -> None:
    read, write = os.pipe()
    with os.fdopen(write, "w") as stream:
        status = os.fstat(write)
        environ = {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}
        logger = make_logger(wall=lambda: WALL, stream=stream, environ=environ)
        for level in ("info", "warning", "error"):
            getattr(logger, level)("x.y")
    with os.fdopen(read) as reader:
        lines = reader.read().splitlines()
    assert [line[:3] for line in lines] == ["<6>", "<4>", "<3>"]
    assert msgspec.json.decode(lines[0][3:])["event"] == "x.y"


def test_a_stream_that_was_redirected_is_not_journald() -> None:
    with open(os.devnull, "w") as stream:
        assert not goes_to_journald(stream, {"JOURNAL_STREAM": "1:2"})
    assert not goes_to_journald(io.StringIO(), {"JOURNAL_STREAM": "1:2"})


@pytest.mark.parametrize("form", ["console", "json"])
def test_secrets_are_never_logged(form: str) -> None:
    logger, out = logged(format=form)
    secret = b"0123456789abcdef0123456789abcdef"
    logger.info(
        "keys.read",
        secret=secret.decode(),
        cluster_secret=secret,
        api_token=secret.decode(),
        key=secret,
        nested={"password": secret.decode(), "list": [secret]},
        secret_file="/etc/muster/secret",
        fencing_token=7,
    )
    text = out.getvalue()
    assert secret.decode() not in text
    assert "<32 bytes>" in text
    assert "/etc/muster/secret" in text
    assert "7" in text


def test_control_characters_do_not_reach_a_terminal() -> None:
    logger, out = logged(stream=Tty(), environ={"NO_COLOR": "1"})
    logger.info("x\x1b[2J", name="a\x1b]0;b\x07\r\n\x9b", **{"k\x1b": "\u202e"})
    (line,) = out.getvalue().splitlines()
    assert line.isprintable()
    assert r"\x1b]0;b\x07\r\n\x9b" in line


def test_long_fields_are_cut_and_tracebacks_kept() -> None:
    logger, out = logged(format="json")

    def deep(depth: int) -> None:
        if depth:
            deep(depth - 1)
        raise ValueError("x" * 3000)

    try:
        deep(3)
    except ValueError:
        logger.exception("crashed", text="y" * 100_000)
    line = msgspec.json.decode(out.getvalue())
    assert len(line["text"]) == 2_001
    assert line["exception"].rstrip().endswith("x" * 3000)
    assert line["level"] == "error"


def test_a_traceback_on_a_console_is_indented() -> None:
    logger, out = logged()
    try:
        raise ValueError("why")
    except ValueError as error:
        logger.error("crashed", exc_info=error)
    lines = out.getvalue().splitlines()
    assert lines[1] == "    Traceback (most recent call last):"
    assert lines[-1] == "    ValueError: why"


def test_what_a_machine_tells_becomes_a_line() -> None:
    logger, out = logged(format="json", level="debug")
    fields = {"standing": "minority", "event": "clash", "level": 3}
    log_notify(logger, Notify("partition.minority", Severity.WARNING, fields))
    line = msgspec.json.decode(out.getvalue())
    assert (line["event"], line["level"]) == ("partition.minority", "warning")
    assert (line["event_"], line["level_"], line["standing"]) == ("clash", 3, "minority")


def test_values_of_any_kind_are_shown_as_text() -> None:
    logger, out = logged(format="json")
    logger.info("x", error=ValueError("broken"), items=(1, None, {"a"}), severity=Severity.INFO)
    line = msgspec.json.decode(out.getvalue())
    assert line["error"] == "broken"
    assert line["items"] == [1, None, ["a"]]
    assert line["severity"] == "info"


def test_two_loggers_share_nothing() -> None:
    one, out_one = logged(node="one", level="debug")
    two, out_two = logged(node="two", level="error")
    one.debug("a")
    two.debug("b")
    assert "node=one" in out_one.getvalue()
    assert out_two.getvalue() == ""
    assert not structlog.is_configured()
