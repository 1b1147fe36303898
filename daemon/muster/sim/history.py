"""What clients asked of a store and what they were told, and when: recorded, written, read again.

The format is JSON lines: a header, and then one event a line in the order of time. Each request is
an `invoke` and at most one of

    ok       it was answered: `result` "done", "conflict" or "not-found", with the store's revision
    fail     it certainly did not take effect
    unknown  it may or may not have taken effect, at any time from then on

A request without an end is unknown too. `time` is in seconds of one clock for all clients (the
simulator's), or whatever else orders them. `entry` is the revision of the key's own last change: of
a put its own, and 0 or nothing where there is no key now. A value that is no UTF-8 stands as
`value_base64`, as in all of muster's JSON.

    {"schema":"muster.history/1"}
    {"event":"invoke","id":0,"client":"c1","op":"put","key":"a","value":"x","time":0.1}
    {"event":"ok","id":0,"result":"done","revision":1,"entry":1,"time":0.2}

Inside, a value is text with `surrogateescape` for what is no UTF-8: it can be shown, and nothing of
it is lost.
"""

from __future__ import annotations

import base64
import binascii
import enum
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal

import msgspec

from muster.sim.checkers.vocabulary import Operation
from muster_protocol.consistency import commands
from muster_protocol.errors import UsageError
from muster_protocol.types import UInt

SCHEMA: Final = "muster.history/1"


class Outcome(enum.StrEnum):
    """What a reply says."""

    DONE = "done"
    CONFLICT = "conflict"
    NOT_FOUND = "not-found"


@dataclass(frozen=True, slots=True)
class Request:
    """What a client asked. `action`: get, put, delete, append or cas; the latter two are not
    muster's own. `expected`: the revision (muster) or the value (cas) that must be there."""

    action: str
    key: str
    value: str | None = None
    expected: int | str | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """What it was told. `value`: what a get found. `revision`: the store's; `entry`: that of the
    key's last change, where the reply tells it. Both only in muster's own histories."""

    outcome: Outcome = Outcome.DONE
    value: str | None = None
    revision: int | None = None
    entry: int | None = None


Op = Operation[Request, Reply]


@dataclass(frozen=True, slots=True)
class History:
    """`kind` names the model that judges it: "registry", "register" or "text"."""

    kind: str
    operations: tuple[Op, ...]


class _Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    schema: Literal["muster.history/1"]


class _Event(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    tag_field="event",
    forbid_unknown_fields=True,
):
    id: int


class _Invoke(_Event, frozen=True, kw_only=True, tag="invoke"):
    client: str
    op: Literal["get", "put", "delete"]
    key: str
    value: str | None = None
    value_base64: str | None = None
    expected: UInt | None = None
    time: float


class _Ok(_Event, frozen=True, kw_only=True, tag="ok"):
    result: Outcome
    value: str | None = None
    value_base64: str | None = None
    revision: UInt
    entry: UInt | None = None
    time: float


class _Fail(_Event, frozen=True, kw_only=True, tag="fail"):
    time: float


class _Unknown(_Event, frozen=True, kw_only=True, tag="unknown"):
    time: float


_HEADERS = msgspec.json.Decoder(_Header)
_EVENTS = msgspec.json.Decoder(_Invoke | _Ok | _Fail | _Unknown)


def request_of(operation: commands.Put | commands.Get | commands.Delete) -> Request:
    """One of muster's operations."""
    if isinstance(operation, commands.Put):
        return Request("put", operation.key, _text(operation.value), operation.expected)
    if isinstance(operation, commands.Delete):
        return Request("delete", operation.key, None, operation.expected)
    return Request("get", operation.key)


def reply_of(
    result: commands.Done | commands.Conflict | commands.NotFound, request: Request
) -> Reply:
    """One of muster's results. Only a get tells a value."""
    if isinstance(result, commands.NotFound):
        return Reply(Outcome.NOT_FOUND, revision=result.revision)
    held = result.entry
    entry = held.revision if held is not None else None
    if isinstance(result, commands.Conflict):
        return Reply(Outcome.CONFLICT, revision=result.revision, entry=entry)
    if request.action == "get" and held is not None:
        return Reply(Outcome.DONE, _text(held.value), result.revision, entry)
    # A delete's result holds what was removed; what is there now has no revision.
    entry = entry if request.action == "put" else None
    return Reply(Outcome.DONE, revision=result.revision, entry=entry)


class HistoryRecorder:
    """Events in the order in which they are told. Time is an argument and never goes back.

    Errors of all methods: UsageError if the event cannot stand where it does; nothing is recorded.
    """

    def __init__(self) -> None:
        self._events: list[tuple[str, int, float]] = []
        self._requests: list[tuple[str, Request, float]] = []
        self._ends: dict[int, tuple[str, Reply | None, float]] = {}

    def invoke(self, client: str, request: Request, now: float) -> int:
        """A client asks. Returns the id for what becomes of it."""
        self._add("invoke", len(self._requests), now)
        self._requests.append((client, request, now))
        return len(self._requests) - 1

    def ok(self, number: int, reply: Reply, now: float) -> None:
        """It was answered."""
        self._end("ok", number, reply, now)

    def fail(self, number: int, now: float) -> None:
        """It certainly did not take effect."""
        self._end("fail", number, None, now)

    def unknown(self, number: int, now: float) -> None:
        """Nobody can tell whether it takes effect."""
        self._end("unknown", number, None, now)

    def answered(self, number: int, result: commands.Result, now: float) -> None:
        """Whatever muster said of it: `ok`, `fail` or `unknown`."""
        if isinstance(result, commands.Done | commands.Conflict | commands.NotFound):
            self.ok(number, reply_of(result, self._requests[number][1]), now)
        elif isinstance(result, commands.Rejected) and not result.is_unknown:
            self.fail(number, now)
        else:
            self.unknown(number, now)

    def operations(self) -> tuple[Op, ...]:
        """What is to be judged: neither what failed, nor reads that told nothing."""
        found = []
        for number, (client, request, call) in enumerate(self._requests):
            end, reply, now = self._ends.get(number, ("unknown", None, math.inf))
            if reply is not None:
                found.append(Operation(client, request, reply, call, now))
            elif end == "unknown" and request.action != "get":
                found.append(Operation(client, request, None, call))
        return tuple(found)

    def to_lines(self) -> Iterator[str]:
        """The history as it is written, without line ends. Only for muster's own requests."""
        yield msgspec.json.encode(_Header(SCHEMA)).decode()
        for kind, number, now in self._events:
            if kind == "invoke":
                client, request, _ = self._requests[number]
                assert request.action in ("get", "put", "delete")
                assert not isinstance(request.expected, str)
                fields: dict[str, Any] = {"client": client, "op": request.action}
                fields |= {"key": request.key, "expected": request.expected}
                fields |= _value_fields(request.value)
                event: _Event = _Invoke(id=number, time=now, **fields)
            elif kind == "ok":
                reply = self._ends[number][1]
                assert reply is not None
                assert reply.revision is not None
                told: dict[str, Any] = {"result": reply.outcome, "revision": reply.revision}
                told |= {"entry": reply.entry} | _value_fields(reply.value)
                event = _Ok(id=number, time=now, **told)
            else:
                event = (_Fail if kind == "fail" else _Unknown)(id=number, time=now)
            yield msgspec.json.encode(event).decode()

    def _end(self, kind: str, number: int, reply: Reply | None, now: float) -> None:
        if not 0 <= number < len(self._requests):
            raise UsageError(f"{kind} of request {number}, which was not invoked")
        if number in self._ends:
            raise UsageError(f"{kind} of request {number}, which has ended already")
        self._add(kind, number, now)
        self._ends[number] = (kind, reply, now)

    def _add(self, kind: str, number: int, now: float) -> None:
        if not math.isfinite(now):
            raise UsageError(f"{now} is no time")
        if self._events and now < self._events[-1][2]:
            raise UsageError(f"time goes back from {self._events[-1][2]} to {now}")
        self._events.append((kind, number, now))


def parse(lines: Iterable[str], name: str = "history") -> History:
    """Read what `to_lines` wrote. Errors: UsageError, one line with `name` and its number."""
    recorder = HistoryRecorder()
    numbers: dict[int, tuple[int, Request]] = {}
    place = 0
    try:
        for place, line in enumerate(lines, start=1):
            if place == 1:
                _HEADERS.decode(line)
            elif line.strip():
                _replay(recorder, _EVENTS.decode(line), numbers)
    except (msgspec.MsgspecError, UsageError) as error:
        raise UsageError(f"{name}:{place}: {error}") from error
    if not place:
        raise UsageError(f"{name}:1: an empty file is no history")
    return History("registry", recorder.operations())


def _replay(
    recorder: HistoryRecorder,
    event: _Invoke | _Ok | _Fail | _Unknown,
    numbers: dict[int, tuple[int, Request]],
) -> None:
    """`numbers`: of each id in the file, what the recorder calls it."""
    if isinstance(event, _Invoke):
        if event.id in numbers:
            raise UsageError(f"id {event.id} is used again")
        value = _value_of(event)
        if (value is None) == (event.op == "put"):
            raise UsageError("a put has a value, and nothing else has")
        if event.op == "get" and event.expected is not None:
            raise UsageError("a get expects nothing")
        request = Request(event.op, event.key, value, event.expected)
        numbers[event.id] = (recorder.invoke(event.client, request, event.time), request)
        return
    if event.id not in numbers:
        raise UsageError(f"id {event.id} was not invoked")
    number, request = numbers[event.id]
    if isinstance(event, _Ok):
        reply = Reply(event.result, _value_of(event), event.revision, event.entry)
        _check_reply(request, reply)
        recorder.ok(number, reply, event.time)
    elif isinstance(event, _Fail):
        recorder.fail(number, event.time)
    else:
        recorder.unknown(number, event.time)


def _check_reply(request: Request, reply: Reply) -> None:
    """Errors: UsageError if no such request can be answered so."""
    found = request.action == "get" and reply.outcome is Outcome.DONE
    if (reply.value is None) == found or (found and reply.entry is None):
        raise UsageError(
            "a get that is done has a value and its entry's revision; nothing else has"
        )
    if reply.outcome is Outcome.CONFLICT and request.expected is None:
        raise UsageError(f"a {request.action} that expects nothing has no conflict")
    if reply.outcome is Outcome.NOT_FOUND and request.action == "put":
        raise UsageError("a put finds what it does not need")


def _text(value: bytes) -> str:
    return value.decode(errors="surrogateescape")


def _value_fields(value: str | None) -> dict[str, str | None]:
    if value is None or value.isascii():
        return {"value": value}
    raw = value.encode(errors="surrogateescape")
    try:
        return {"value": raw.decode()}
    except UnicodeDecodeError:
        return {"value_base64": base64.b64encode(raw).decode()}


def _value_of(event: _Invoke | _Ok) -> str | None:
    """Errors: UsageError."""
    if event.value_base64 is None:
        return event.value
    if event.value is not None:
        raise UsageError("one of value and value_base64, not both")
    try:
        return _text(base64.b64decode(event.value_base64, validate=True))
    except binascii.Error as error:
        raise UsageError(f"value_base64: {error}") from error
