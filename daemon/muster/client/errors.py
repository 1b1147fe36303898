"""What can go wrong when a daemon is asked, one class per cause.

A request that the daemon refused is a `RequestError` with the daemon's `code`, message and hint.
Except for `Unknown`, nothing of it took effect.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from muster_protocol.errors import LocalError, MusterError, OutcomeUnknown, RemoteError
from muster_protocol.session.messages import Code, Failure


class Unreachable(LocalError):
    """No daemon answers at the socket; nothing was asked. `hint` says what to look at."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class SocketForbidden(Unreachable):
    """The socket is there, and this user may not use it."""


class Incompatible(RemoteError):
    """The daemon speaks another major version, or something else than our protocol."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__("version", message)
        self.hint = hint


class RequestError(MusterError):
    """The daemon's answer is no. `details` are the daemon's, by method."""

    code: ClassVar[Code] = Code.FAILED

    def __init__(
        self, message: str, hint: str = "", details: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(message)
        self.hint = hint
        self.details: Mapping[str, Any] = details or {}


class Failed(RequestError):
    """It could not be done."""


class BadRequest(RequestError):
    """The request makes no sense to the daemon."""

    code = Code.USAGE


class NotQuorate(RequestError):
    """The daemon is on a side that may not act."""

    code = Code.NOT_QUORATE


class NotFound(RequestError):
    """There is no such key, member or agent."""

    code = Code.NOT_FOUND


class Forbidden(RequestError):
    """This user may not do that."""

    code = Code.PERMISSION


class TimedOut(RequestError):
    """No answer came in time, from the daemon or to it; nothing was changed."""

    code = Code.TIMED_OUT


class Conflict(RequestError):
    """A comparison failed: the key is not at the expected revision."""

    code = Code.CONFLICT


class Unsupported(RequestError):
    """The daemon does not know this method or this parameter."""

    code = Code.UNSUPPORTED


class Unknown(RequestError, OutcomeUnknown):
    """A change may or may not have taken effect. `session` and `request` name it: the same pair
    again, with `since`, gives the first answer."""

    code = Code.UNKNOWN_OUTCOME

    def __init__(
        self,
        message: str,
        hint: str = "",
        details: Mapping[str, Any] | None = None,
        *,
        session: str = "",
        request: int = 0,
        since: int = 0,
    ) -> None:
        super().__init__(message, hint, details)
        self.session = session
        self.request = request
        self.since = since


_CLASSES: dict[Code, type[RequestError]] = {
    kind.code: kind
    for kind in (
        Failed,
        BadRequest,
        NotQuorate,
        NotFound,
        Forbidden,
        TimedOut,
        Conflict,
        Unsupported,
        Unknown,
    )
}


def error_of(failure: Failure) -> RequestError:
    """The daemon's refusal as an exception."""
    return _CLASSES[failure.code](failure.message, failure.hint, failure.details)
