"""Logs: one logger per node, lines for people on a terminal and JSON under journald.

A log line is an `event`, a stable dotted name that can be searched and alerted on, and fields.
Under journald each line starts with `<N>`, the syslog priority that `sd-daemon(3)` defines, so
`journalctl -p warning` works.

`make_logger` gives a logger of its own and configures nothing global: a hundred simulated nodes in
one process each have theirs, with their own clock and sink.

Fields come from other nodes too. So bytes are shown as their length (keys and secrets are bytes),
fields that are named like secrets are hidden whatever they hold, and control characters never
reach a terminal. JSON escapes by itself.
"""

from __future__ import annotations

import datetime
import os
import sys
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any, Final, Protocol, TextIO

import msgspec
import structlog

from muster_protocol.effects import Notify
from muster_protocol.types import Severity

Event = MutableMapping[str, Any]

LEVELS: Final[Mapping[str, int]] = {"debug": 10, "info": 20, "warning": 30, "error": 40}
_PRIORITIES: Final[Mapping[str, int]] = {
    "debug": 7,
    "info": 6,
    "warning": 4,
    "error": 3,
    "critical": 2,
}
_COLOURS: Final[Mapping[str, str]] = {
    "debug": "2",
    "warning": "33",
    "error": "31",
    "critical": "1;31",
}
_SECRET_ENDINGS: Final = ("secret", "secrets", "password", "passphrase", "private_key", "token")
_NO_SECRETS: Final = ("fencing_token",)
_HIDDEN: Final = "[hidden]"
_PLAIN: Final = (bool, int, float)
FIELD_CHARACTERS_MAX: Final = 2_000
TRACE_CHARACTERS_MAX: Final = 30_000
"""One field, and a traceback. journald cuts a line after 48 KiB, and no parser joins the parts."""

_METHODS: Final[Mapping[Severity, str]] = {
    Severity.DEBUG: "debug",
    Severity.INFO: "info",
    Severity.WARNING: "warning",
    Severity.ERROR: "error",
}
_OWN_FIELDS: Final = ("event", "level", "time", "exc_info", "exception", "stack_info")


class Logger(Protocol):
    """What the daemon uses of a structlog logger."""

    def debug(self, event: str, **fields: Any) -> Any: ...
    def info(self, event: str, **fields: Any) -> Any: ...
    def warning(self, event: str, **fields: Any) -> Any: ...
    def error(self, event: str, **fields: Any) -> Any: ...
    def exception(self, event: str, **fields: Any) -> Any: ...
    def bind(self, **fields: Any) -> Logger: ...


def make_logger(
    *,
    level: str = "info",
    format: str = "auto",  # noqa: A002 - the setting's name
    wall: Callable[[], float],
    stream: TextIO | None = None,
    environ: Mapping[str, str] | None = None,
    **bound: Any,
) -> Logger:
    """A logger that writes lines to `stream` (standard error).

    `level`, `format`: as in [log]. `wall`: the node's wall clock, for the time stamps. `bound`:
    fields of every line.
    """
    stream = sys.stderr if stream is None else stream
    environ = os.environ if environ is None else environ
    journald = goes_to_journald(stream, environ)
    as_json = format == "json" or (format == "auto" and journald)
    render = _Json(prefixed=journald) if as_json else _Console(coloured=_colour(stream, environ))
    logger: Logger = structlog.wrap_logger(
        structlog.WriteLogger(stream),
        processors=[
            structlog.processors.add_log_level,
            _TimeStamp(wall),
            structlog.processors.format_exc_info,
            safe_fields,
            render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        context_class=dict,
        cache_logger_on_first_use=False,
    ).bind(**bound)
    return logger


def log_notify(logger: Logger, notify: Notify) -> None:
    """What a machine wants the operator to know, as a line."""
    write = getattr(logger, _METHODS[notify.severity])
    write(notify.event, **{_field_name(name): value for name, value in notify.fields.items()})


def goes_to_journald(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """True if `stream` is what $JOURNAL_STREAM names ("device:inode"): it may since have been
    redirected (systemd.exec(5))."""
    named = environ.get("JOURNAL_STREAM", "")
    if not named:
        return False
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return named == f"{status.st_dev}:{status.st_ino}"


def safe_fields(_logger: Any, _method: str, event: Event) -> Event:
    """Hide secrets and cut what is too long."""
    for name, value in event.items():
        characters_max = TRACE_CHARACTERS_MAX if name == "exception" else FIELD_CHARACTERS_MAX
        event[name] = _HIDDEN if _is_secret(name) else _shown(value, characters_max)
    return event


class _TimeStamp:
    """The node's own time: a simulated node writes virtual time."""

    def __init__(self, wall: Callable[[], float]) -> None:
        self._wall = wall

    def __call__(self, _logger: Any, _method: str, event: Event) -> Event:
        instant = datetime.datetime.fromtimestamp(self._wall(), datetime.UTC)
        event["time"] = instant.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return event


class _Json:
    """One object per line: time, level and event first."""

    def __init__(self, *, prefixed: bool) -> None:
        self._prefixed = prefixed
        self._encoder = msgspec.json.Encoder(enc_hook=repr)

    def __call__(self, _logger: Any, _method: str, event: Event) -> str:
        level = event.pop("level", "info")
        head = {"time": event.pop("time", ""), "level": level, "event": event.pop("event", "")}
        line = self._encoder.encode({**head, **event}).decode()
        return f"<{_PRIORITIES.get(level, 6)}>{line}" if self._prefixed else str(line)


class _Console:
    """`12:34:56.789 warning member.suspected  node=a3f… why="no ack"`."""

    def __init__(self, *, coloured: bool) -> None:
        self._coloured = coloured

    def __call__(self, _logger: Any, _method: str, event: Event) -> str:
        level, trace = event.pop("level", "info"), event.pop("exception", "")
        time = str(event.pop("time", ""))[11:-1]
        name = printable(str(event.pop("event", "")))
        if self._coloured and level in _COLOURS:
            level = f"\x1b[{_COLOURS[level]}m{level}\x1b[0m"
        fields = " ".join(f"{printable(str(k))}={_console_value(v)}" for k, v in event.items())
        line = f"{time} {level} {name}  {fields}".rstrip()
        return "\n    ".join([line, *(printable(row) for row in trace.splitlines())])


def printable(text: str) -> str:
    """`text` with everything escaped that a terminal could obey or hide."""
    if text.isprintable():  # nearly always, and twenty times faster than to look at each
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _console_value(value: Any) -> str:
    text = printable(value if isinstance(value, str) else repr(value))
    return f'"{text}"' if not text or " " in text else text


def _field_name(name: str) -> str:
    """A field with the name of one of the line's own would replace it."""
    return f"{name}_" if name in _OWN_FIELDS else name


def _is_secret(name: str) -> bool:
    lower = name.lower()
    return lower.endswith(_SECRET_ENDINGS) and lower not in _NO_SECRETS


def _shown(value: Any, characters_max: int = FIELD_CHARACTERS_MAX) -> Any:
    """A value that may be written: plain, without bytes, not too long."""
    if isinstance(value, str):
        return f"{value[:characters_max]}…" if len(value) > characters_max else value
    if value is None or isinstance(value, _PLAIN):
        return value
    if isinstance(value, bytes | bytearray | memoryview):
        return f"<{len(value)} bytes>"
    if isinstance(value, Mapping):
        return {str(k): _HIDDEN if _is_secret(str(k)) else _shown(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_shown(item) for item in value]
    return _shown(str(value))


def _colour(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Colour is for terminals, and for whoever has not said no (no-color.org)."""
    return stream.isatty() and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"
