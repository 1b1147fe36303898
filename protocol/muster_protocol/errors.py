"""Errors say whose fault it is.

`LocalError` means that this side, its operator or its disk is at fault: it is shown to the
operator and, where nothing can be done here, ends the agent or the daemon. `RemoteError` means
that the other side sent something that does not fit: it is counted by its `cause`, the packet or
connection is dropped, and the daemon goes on. What can never happen is an `assert`.

Unless a class says otherwise, raising it has changed no state.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar


class MusterError(Exception):
    """The root; never raised itself."""


class LocalError(MusterError):
    """This side is at fault."""


class RemoteError(MusterError):
    """The other side is at fault.

    `cause` is a short stable word under which the event is counted ("garbage", "oversized",
    "version"); the message is for the log.
    """

    def __init__(self, cause: str, message: str) -> None:
        super().__init__(message)
        self.cause = cause


class UsageError(LocalError):
    """An operator or a client asked for something that makes no sense; says what and why."""


class ConfigError(LocalError):
    """The configuration file is wrong: file, line and a hint stand in the message."""


class IdentityError(LocalError):
    """Node identity or cluster secret are missing, unreadable or too widely readable."""


class StorageError(LocalError):
    """The disk refused a read, write or sync. What was acknowledged before is still there."""


class StorageCorrupt(StorageError):
    """A complete record on disk is wrong. Never repaired by guessing: it was acknowledged."""


class SafetyViolation(LocalError):
    """Something was seen that the protocol rules out. The node ends: going on would be guessing."""


class Refused(MusterError):
    """A request was refused; nothing of it took effect. `reason` is a stable word.

    Neither side is broken: the cluster is in a state in which the answer is no.
    """

    def __init__(self, reason: str, message: str, details: Mapping[str, Any] | None = None) -> None:
        """`details`: what a program may want to know of it."""
        super().__init__(message)
        self.reason = reason
        self.details: Mapping[str, Any] = details or {}


class OutcomeUnknown(MusterError):
    """A write may or may not take effect; only a retry with the same request id can tell."""


class OutcomeForgotten(OutcomeUnknown):
    """Not even a retry can tell any more: the request is no longer remembered."""


E = TypeVar("E", bound=BaseException)


def first_of(group: BaseExceptionGroup[E]) -> E:
    """The first exception in what `except*` gives, however deep the groups are nested."""
    error: E | BaseExceptionGroup[E] = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
