"""One call, over as many connections as it takes: what may be tried again, and what is known.

The same decisions serve the blocking and the trio client. There are three kinds of methods:

* **reads** change nothing and are asked again until the time is up;
* **changes of the store** carry the client's session and a request number, by which the
  replicated state recognises a change that it has already made and repeats its first answer. So
  they are asked again too, also after a lost connection or an unknown outcome, then with the
  revision that the daemon's hello told before the change was first asked for;
* **commands** (join, leave, forget ...) are asked once. If the connection is lost before the
  answer, whether they happened is unknown.

Of one change, the answer to an attempt is not always the answer to the change: when an earlier
attempt was lost on the way, and the present one is refused because the node lost its quorum, the
earlier one may still be committed. From the moment that an attempt is in doubt, only an answer
that the replicated state itself gave (committed, conflict, not found) settles the change. If none
comes in time, the outcome is unknown, and that is said.
"""

from __future__ import annotations

import os
from typing import Any, Final

import msgspec

from muster.client.errors import (
    Incompatible,
    SocketForbidden,
    TimedOut,
    Unknown,
    Unreachable,
    error_of,
)
from muster_protocol.errors import MusterError, RemoteError, UsageError
from muster_protocol.limits import CONTROL_FRAME_BYTES_MAX
from muster_protocol.session.machine import ClientSession, to_bytes
from muster_protocol.session.messages import (
    FORGOTTEN,
    PROTOCOL_MAJOR,
    PROTOCOL_MINOR,
    ClientHello,
    Code,
    Failure,
    FromServer,
    Reply,
    Request,
    ServerHello,
)
from muster_protocol.session.methods import METHODS, KvChangeParams, Params, Result

TIMEOUT_S: Final = 15.0
"""For a whole call with its retries. Longer than the 10 s for which a daemon waits for the quorum:
its answer knows more than our silence."""

RETRY_MIN_S: Final = 0.05
RETRY_MAX_S: Final = 1.0
"""Waits between attempts; they double. A daemon that is restarted is back within seconds."""

RECEIVE_BYTES: Final = 64 * 1024

READS: Final = frozenset(
    {
        "status",
        "members",
        "info",
        "kv.get",
        "kv.list",
        "raft",
        "partition",
        "agents",
        "config",
        "version",
    }
)
_SETTLED_BY_THE_STORE: Final = (Code.CONFLICT, Code.NOT_FOUND)
_NOT_MUSTER: Final = "is this the control socket of a muster daemon?"


class Identity:
    """A client as the replicated state knows it: a random session, and its changes in order.

    The state remembers the newest change of a session only, so a session's changes are made one
    after the other.
    """

    def __init__(self) -> None:
        self.session = os.urandom(16).hex()
        self._request = 0

    def numbered(self, params: Params) -> Params:
        """A change that names no session gets ours and the next number."""
        if not isinstance(params, KvChangeParams) or params.session is not None:
            return params
        self._request += 1
        return msgspec.structs.replace(params, session=self.session, request=self._request)


class Call:
    """What is known about one call. `request` is what to send; errors are returned, not raised,
    and None means: try again."""

    def __init__(self, method: str, params: Params) -> None:
        """Errors: UsageError for an unknown method or a request that no frame can hold."""
        self.request = build_request(method, params)
        self._result = METHODS[method][1]
        self._params = params
        self._is_read = method in READS
        self._in_flight = False
        self._in_doubt = False
        self._since = params.since if isinstance(params, KvChangeParams) else None
        self.attempts_lost = 0

    @property
    def may_repeat(self) -> bool:
        """False for commands."""
        return self._is_read or isinstance(self._params, KvChangeParams)

    def sending(self, request_id: int, *, revision: int) -> bytes:
        """What to send; from here on the daemon may have seen this attempt. `revision`: from the
        hello of the connection."""
        self._in_flight = True
        params = self.request.params
        if isinstance(self._params, KvChangeParams):
            if self._since is None:
                self._since = revision
            else:
                params = {**params, "since": self._since}
        return to_bytes(Request(request_id, self.request.method, params))

    def replied(self, reply: Reply) -> Any:
        """The result. Errors: RemoteError if it is not what the method gives."""
        self._in_flight = False
        return typed(reply.result, self._result)

    def failed(self, failure: Failure) -> MusterError | None:
        """The daemon refused this attempt."""
        self._in_flight = False
        if failure.code is Code.UNKNOWN_OUTCOME:
            if not self.may_repeat or failure.details.get(FORGOTTEN):
                return error_of(failure)
            self._in_doubt = not self._is_read
            return None
        if self._in_doubt and failure.code not in _SETTLED_BY_THE_STORE:
            return None
        return error_of(failure)

    def lost(self) -> MusterError | None:
        """The connection broke, before or after the request was sent."""
        self.attempts_lost += 1
        if self._in_flight and not self._is_read:
            self._in_doubt = True
            if not self.may_repeat:
                return self._unknown("the connection to the daemon was lost before it answered")
        self._in_flight = False
        return None

    def out_of_time(self, timeout_s: float) -> MusterError:
        """No time is left for another attempt, or for this one."""
        if self._in_doubt or (self._in_flight and not self._is_read):
            return self._unknown(f"no final answer within {timeout_s:g} s")
        return no_answer(timeout_s)

    def _unknown(self, what: str) -> Unknown:
        message = f"{what}: whether it took effect is unknown"
        if isinstance(self._params, KvChangeParams):
            session, request = self._params.session or "", self._params.request
            return Unknown(
                message,
                "ask for the key",
                session=session,
                request=request,
                since=self._since or 0,
            )
        return Unknown(message, "look with: muster status")


# --- shared by calls and streams ----------------------------------------------------------------


def parameters(method: str, params: Params | None, fields: dict[str, Any]) -> Params:
    """The parameters of a method, given whole or as keywords. Errors: UsageError."""
    if method not in METHODS:
        raise UsageError(f"there is no method {method!r}")
    if params is not None:
        assert not fields, "parameters are given whole or as keywords"
        return params
    try:
        return METHODS[method][0](**fields)
    except TypeError as error:
        raise UsageError(f"{method}: {error}") from error


def build_request(method: str, params: Params, *, request_id: int = 1) -> Request:
    """Parameters at their defaults are left out, so that a new one does not trouble a daemon that
    does not know it. Errors: UsageError if no frame can hold it."""
    defaults = _defaults(type(params))
    given = {
        name: value
        for name, value in msgspec.structs.asdict(params).items()
        if name not in defaults or defaults[name] != value
    }
    request = Request(request_id, method, given)
    size = len(msgspec.msgpack.encode(request))
    if size > CONTROL_FRAME_BYTES_MAX:
        raise UsageError(f"a request of {size} bytes; at most {CONTROL_FRAME_BYTES_MAX} are taken")
    return request


def typed(value: Any, kind: type[Result]) -> Any:
    """A result as its type. Errors: RemoteError."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise RemoteError("garbage", f"the daemon's answer does not fit: {error}") from error


def hello(name: str) -> bytes:
    """What the client says first."""
    return to_bytes(ClientHello(PROTOCOL_MAJOR, PROTOCOL_MINOR, name[:100]))


def messages(session: ClientSession, data: bytes) -> list[FromServer]:
    """Errors: Incompatible if those are not the messages of our protocol."""
    try:
        return session.receive(data)
    except RemoteError as error:
        raise Incompatible(f"the answer makes no sense: {error}", _NOT_MUSTER) from error


def greeted(message: FromServer) -> ServerHello:
    """The first message. Errors: Incompatible, or the daemon's refusal."""
    if isinstance(message, Failure):
        if message.code is Code.UNSUPPORTED:
            raise Incompatible(message.message, message.hint)
        raise error_of(message)
    assert isinstance(message, ServerHello)  # the session sees to it
    if message.major != PROTOCOL_MAJOR:
        raise Incompatible(
            f"the daemon ({message.build}) speaks control protocol {message.major}, "
            f"this client {PROTOCOL_MAJOR}",
            "install the same version of both",
        )
    return message


def unreachable(path: str, error: OSError) -> Unreachable:
    """Why nobody answers at `path`, and what to look at."""
    if isinstance(error, PermissionError):
        return SocketForbidden(
            f"{path}: this user may not speak to the daemon",
            "become root, or join the group that [control] group names",
        )
    why = {
        FileNotFoundError: "there is no socket",
        ConnectionRefusedError: "the socket is there, and nobody listens",
    }.get(type(error), os.strerror(error.errno) if error.errno else str(error))
    return Unreachable(
        f"no daemon at {path}: {why}",
        "is it running? systemctl status musterd; --socket or MUSTER_SOCKET say where",
    )


def turned_away(path: str) -> Unreachable:
    """The daemon closed the connection without a word: it is stopping, or has too many."""
    return Unreachable(f"the daemon at {path} closed the connection at once", "try again")


def no_answer(timeout_s: float) -> TimedOut:
    """Silence, and nothing that could have changed."""
    return TimedOut(
        f"no answer within {timeout_s:g} s", "is the daemon busy? --timeout waits longer"
    )


def _defaults(kind: type[Params]) -> dict[str, Any]:
    """Field -> default, for fields that have one: msgspec keeps them right-aligned."""
    values = kind.__struct_defaults__
    names = kind.__struct_fields__[len(kind.__struct_fields__) - len(values) :]
    return {n: v for n, v in zip(names, values, strict=True) if v is not msgspec.NODEFAULT}
