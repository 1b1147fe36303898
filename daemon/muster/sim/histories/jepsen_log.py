"""Jepsen's log of an etcd register: one key, read, write and compare-and-set by value.

    INFO  jepsen.util - 2	:invoke	:cas	[3 0]

The lines are in the order of time and carry no time, so a line's number is its time. A failed cas
says that another value was there; anything else that `:fail`s did not take effect. `:info` is an
unknown outcome. Lines of other parts of Jepsen, and of its nemesis, are passed over.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from muster.sim.history import History, HistoryRecorder, Outcome, Reply, Request
from muster_protocol.errors import UsageError

KEY: Final = "register"
FIRST: Final = re.compile(r"(INFO|WARN|ERROR|DEBUG)\s+jepsen\.")

_OTHERS = re.compile(r"(INFO|WARN|ERROR|DEBUG)\s+(?!jepsen\.util )\S+ - |INFO\s+jepsen\.util - :")
_EVENT = re.compile(
    r"INFO\s+jepsen\.util - (\d+)\s+:(invoke|ok|fail|info)\s+:(read|write|cas)\s+(.*\S)\s*"
)
_VALUES = {
    "read": re.compile(r"nil|(\d+)"),
    "write": re.compile(r"(\d+)"),
    "cas": re.compile(r"\[(\d+) (\d+)\]"),
}


def parse(lines: Iterable[str], name: str) -> History:
    """Errors: UsageError, one line with `name` and the line's number."""
    recorder = HistoryRecorder()
    running: dict[str, tuple[int, Request]] = {}
    for place, line in enumerate(lines, start=1):
        event = _EVENT.fullmatch(line)
        if event is None:
            if line.strip() and not _OTHERS.match(line):
                raise UsageError(f"{name}:{place}: this is no event of a register")
            continue
        try:
            _replay(recorder, running, event.groups(), float(place))
        except UsageError as error:
            raise UsageError(f"{name}:{place}: {error}") from error
    return History("register", recorder.operations())


def _replay(
    recorder: HistoryRecorder,
    running: dict[str, tuple[int, Request]],
    event: tuple[str, ...],
    now: float,
) -> None:
    """`running`: of each process, what it waits for."""
    process, kind, action, text = event
    if kind == "invoke":
        if process in running:
            raise UsageError(f"process {process} has not ended what it does")
        request = _request(action, text)
        running[process] = (recorder.invoke(process, request, now), request)
        return
    if process not in running:
        raise UsageError(f"process {process} does nothing that could end")
    number, request = running.pop(process)
    if kind == "info":
        recorder.unknown(number, now)
    elif kind == "ok":
        answer = _request(action, text)
        if action != "read" and answer != request:
            raise UsageError(f"process {process} was answered for something else")
        recorder.ok(number, Reply(value=answer.value if action == "read" else None), now)
    elif action == "cas" and _VALUES["cas"].fullmatch(text):
        recorder.ok(number, Reply(Outcome.CONFLICT), now)
    else:
        recorder.fail(number, now)


def _request(action: str, text: str) -> Request:
    found = _VALUES[action].fullmatch(text)
    if found is None:
        raise UsageError(f"{text!r} is nothing to {action}")
    if action == "cas":
        return Request("cas", KEY, found[2], found[1])
    return Request({"read": "get", "write": "put"}[action], KEY, found[1])
