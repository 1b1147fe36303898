"""Operations in words, and as a timeline."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from muster.sim.history import Op, Outcome, Reply

SHOWN: Final = 60
"""Characters of a value: two of them still fit a line."""


def quoted(value: str | None) -> str:
    """A value between quotes, whatever is in it. Of a long one its end: what was appended last."""
    if value is None:
        return "nothing"
    return repr(value) if len(value) <= SHOWN else f"(…) {value[-SHOWN:]!r}"


def asked(operation: Op) -> str:
    """`put k 'x' at revision 3`."""
    request = operation.input
    words = [request.action, request.key]
    if request.action == "cas":
        return " ".join([*words, quoted(str(request.expected)), quoted(request.value)])
    if request.value is not None:
        words.append(quoted(request.value))
    if request.expected is not None:
        words.append(f"at revision {request.expected}" if request.expected else "if absent")
    return " ".join(words)


def told(operation: Op) -> str:
    """`'x', revision 7, changed at 5`."""
    reply = operation.output
    if reply is None:
        return "unknown"
    is_found = operation.input.action == "get" and reply.outcome is Outcome.DONE
    parts = [quoted(reply.value) if is_found else str(reply.outcome)]
    if reply.revision is not None:
        parts.append(f"revision {reply.revision}")
    if reply.entry is not None and reply.entry != reply.revision:
        parts.append(f"changed at {reply.entry}")
    return ", ".join(parts)


def by_whom(operation: Op) -> str:
    """`put k 'x' by client c1`."""
    return f"{asked(operation)} by client {operation.client}"


def outcome_clause(operation: Op) -> str:
    """`get k by client c1 returned 'x'`: the subject and what it was told."""
    reply = operation.output
    assert isinstance(reply, Reply)
    if operation.input.action == "get" and reply.outcome is Outcome.DONE:
        return f"{by_whom(operation)} returned {quoted(reply.value)}"
    said = {
        Outcome.DONE: "was done",
        Outcome.CONFLICT: "was refused as a conflict",
        Outcome.NOT_FOUND: "found no such key",
    }[reply.outcome]
    return f"{by_whom(operation)} {said}"


def instant(value: float) -> str:
    """A moment: a time, or the number of a line."""
    return "?" if value == math.inf else f"{value:.6f}".rstrip("0").rstrip(".")


def row(operation: Op) -> tuple[str, str, str, str, str]:
    """Client, operation, result, call, return."""
    times = instant(operation.call), instant(operation.ret)
    return operation.client, asked(operation), told(operation), *times


def timeline(operations: Sequence[Op]) -> list[str]:
    """One line for each operation, in columns."""
    rows = [row(operation) for operation in operations]
    widths = [max((len(cells[column]) for cells in rows), default=0) for column in range(3)]
    return [
        f"  client {who:{widths[0]}}  {what:{widths[1]}}  {result:{widths[2]}}  [{call}, {ret}]"
        for who, what, result, call, ret in rows
    ]
