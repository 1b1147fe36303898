"""The exit codes: part of the contract with scripts (DESIGN 9, docs/exit-codes.md)."""

from __future__ import annotations

import enum

from muster_protocol.errors import ConfigError, OutcomeUnknown, UsageError
from muster_protocol.session.messages import Code


class Exit(enum.IntEnum):
    """What a script can tell without reading."""

    OK = 0
    FAILED = 1
    USAGE = 2
    UNREACHABLE = 3
    NOT_QUORATE = 4
    NOT_FOUND = 5
    PERMISSION = 6
    TIMED_OUT = 7
    CONFLICT = 8
    UNKNOWN = 9
    DEGRADED = 10
    INTERRUPTED = 130
    """128 + SIGINT, as shells have it."""
    BROKEN_PIPE = 141
    """128 + SIGPIPE: whoever read our output stopped reading."""


_BY_CODE: dict[Code, Exit] = {
    Code.FAILED: Exit.FAILED,
    Code.USAGE: Exit.USAGE,
    Code.NOT_QUORATE: Exit.NOT_QUORATE,
    Code.NOT_FOUND: Exit.NOT_FOUND,
    Code.PERMISSION: Exit.PERMISSION,
    Code.TIMED_OUT: Exit.TIMED_OUT,
    Code.CONFLICT: Exit.CONFLICT,
    Code.UNKNOWN_OUTCOME: Exit.UNKNOWN,
    Code.UNSUPPORTED: Exit.FAILED,
}


def exit_of(error: BaseException) -> Exit:
    """The exit code of what ended a command."""
    from muster.client.errors import RequestError, SocketForbidden, Unreachable

    if isinstance(error, RequestError):
        return _BY_CODE[error.code]
    by_class: tuple[tuple[type[BaseException], Exit], ...] = (
        (SocketForbidden, Exit.PERMISSION),
        (Unreachable, Exit.UNREACHABLE),
        (UsageError, Exit.USAGE),
        (ConfigError, Exit.USAGE),
        (OutcomeUnknown, Exit.UNKNOWN),
        (PermissionError, Exit.PERMISSION),
    )
    return next((code for kind, code in by_class if isinstance(error, kind)), Exit.FAILED)
