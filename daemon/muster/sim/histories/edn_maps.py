"""Porcupine's histories of a store of texts with get, put and append: one EDN map a line.

    {:process 4, :type :invoke, :f :append, :key "1", :value "x 4 0 y"}

The lines are in the order of time and carry no time, so a line's number is its time. `:fail` did
not take effect, `:info` is an unknown outcome. A key that nobody wrote holds the empty text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

import msgspec

from muster.sim.history import History, HistoryRecorder, Reply, Request
from muster_protocol.errors import UsageError

FIRST: Final = re.compile(r"\{:process ")

_TEXT = r'"(?:[^"\\]|\\.)*"'
_EVENT = re.compile(
    r"\{:process (\d+), :type :(invoke|ok|fail|info), :f :(get|put|append), "
    rf":key ({_TEXT}), :value (nil|{_TEXT})\}}\s*"
)


def parse(lines: Iterable[str], name: str) -> History:
    """Errors: UsageError, one line with `name` and the line's number."""
    recorder = HistoryRecorder()
    running: dict[str, tuple[int, Request]] = {}
    for place, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            _replay(recorder, running, line, float(place))
        except (UsageError, msgspec.MsgspecError) as error:
            raise UsageError(f"{name}:{place}: {error}") from error
    return History("text", recorder.operations())


def _replay(
    recorder: HistoryRecorder, running: dict[str, tuple[int, Request]], line: str, now: float
) -> None:
    """`running`: of each process, what it waits for."""
    event = _EVENT.fullmatch(line)
    if event is None:
        raise UsageError("this is no event of a store of texts")
    process, kind, action = event.group(1, 2, 3)
    key = msgspec.json.decode(event[4], type=str)
    value = None if event[5] == "nil" else msgspec.json.decode(event[5], type=str)
    if kind == "invoke":
        if process in running:
            raise UsageError(f"process {process} has not ended what it does")
        if (value is None) != (action == "get"):
            raise UsageError("a put or append has a value, and a get has none yet")
        request = Request(action, key, value)
        running[process] = (recorder.invoke(process, request, now), request)
        return
    if process not in running:
        raise UsageError(f"process {process} does nothing that could end")
    number, request = running.pop(process)
    if (request.action, request.key) != (action, key):
        raise UsageError(f"process {process} was answered for something else")
    if kind == "ok":
        if value is None:
            raise UsageError("this says nothing of what was found or written")
        recorder.ok(number, Reply(value=value if action == "get" else None), now)
    elif kind == "fail":
        recorder.fail(number, now)
    else:
        recorder.unknown(number, now)
