"""A daemon's strace as calls on its files, in the order in which they happened.

A call of a thread that others interrupt is two lines, "unfinished" and "resumed". Of a sync both
ends count, because it covers what was done before it *began*, from when it has *returned*; all else
is said when it begins, which is the stricter reading of what it may only do after something.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

STRACE = (
    "strace", "-D", "-f", "-y", "-xx", "-s", "4000000", "-e",
    "trace=write,fdatasync,fsync,openat,rename,unlink,ftruncate", "-o",
)  # fmt: skip

_CALL = re.compile(r"^(?P<pid>\d+) +(?P<name>[a-z]+)\((?P<rest>.*)$")
_RESUMED = re.compile(r"^(?P<pid>\d+) +<\.\.\. (?:fdatasync|fsync) resumed>")
_PATH = re.compile(r"\d+<(?P<path>[^>]*)>")
_TEXT = re.compile(r'"(?P<text>(?:\\x[0-9a-f]{2})*)"')
_FLAGS = re.compile(r'", (?P<flags>[A-Z_|]+)')
_SIZE = re.compile(r", (?P<size>\d+)")
_SYNCS = ("fdatasync", "fsync")


@dataclass(frozen=True, slots=True)
class Call:
    """`kind`: create, write, truncate, rename, remove, sync, synced; a sync has the number of that
    which ends it. `name` is relative to the state directory, "" is that itself."""

    kind: str
    name: str
    data: bytes = b""
    other: str = ""
    """The new name, of a rename."""

    size: int = 0
    number: int = 0


CLAIMS = "claims"
"""The name of writes to the file in which the daemon says what it claims."""


def calls(lines: Iterable[str], state: Path) -> Iterator[Call]:
    """Of what is done in the directory `state`, and the claims."""
    there: dict[str, None] = {}
    syncing: dict[str, Call] = {}
    number = 0
    for line in lines:
        if (resumed := _RESUMED.match(line)) is not None:
            if (began := syncing.pop(resumed["pid"], None)) is not None:
                yield Call("synced", began.name, number=began.number)
        elif (found := _CALL.match(line)) is not None and not _has_failed(found["rest"]):
            call = _call(found["name"], found["rest"], state, number)
            if call is None or (call.kind == "create" and call.name in there):
                continue
            number += 1
            yield call
            _follow(there, call)
            if call.kind == "sync":
                if "<unfinished" in found["rest"]:
                    syncing[found["pid"]] = call
                else:
                    yield Call("synced", call.name, number=call.number)


def _has_failed(rest: str) -> bool:
    return re.search(r"\) += -1 E", rest) is not None


def _follow(there: dict[str, None], call: Call) -> None:
    if call.kind == "create":
        there[call.name] = None
    elif call.kind == "rename":
        there.pop(call.name, None)
        there[call.other] = None
    elif call.kind == "remove":
        there.pop(call.name, None)


def _call(name: str, rest: str, state: Path, number: int) -> Call | None:
    if name in ("write", "ftruncate", *_SYNCS):
        opened = _PATH.match(rest)
        what = _inside(opened["path"] if opened else "", state)
        if what is None:
            return None
        if name == "write":
            text = _TEXT.search(rest)
            return Call("write", what, data=_bytes(text["text"] if text else ""))
        if name == "ftruncate":
            size = _SIZE.search(rest)
            return Call("truncate", what, size=int(size["size"]) if size else 0)
        return Call("sync", what, number=number)
    texts = [_inside(found["text"], state) for found in _TEXT.finditer(rest)]
    if not texts or texts[0] is None:
        return None
    if name == "openat":
        flags = _FLAGS.search(rest)
        is_new = flags is not None and "O_CREAT" in flags["flags"]
        return Call("create", texts[0]) if is_new else None
    if name == "rename":
        assert texts[1] is not None, "out of the state directory"
        return Call("rename", texts[0], other=texts[1])
    return Call("remove", texts[0]) if name == "unlink" else None


def _inside(text: str, state: Path) -> str | None:
    """The name in the state directory; None if that is elsewhere."""
    path = Path(_bytes(text).decode(errors="replace"))
    if path.name.endswith(".claims"):
        return CLAIMS
    if path == state:
        return ""
    return path.name if path.parent == state else None


def _bytes(text: str) -> bytes:
    """What strace -xx shows: every byte as \\xNN."""
    return bytes.fromhex(text.replace("\\x", ""))


def calls_of(trace: Path, state: Path) -> list[Call]:
    """Of a whole strace file."""
    with trace.open(encoding="ascii", errors="replace") as file:
        return list(calls(file, state))
