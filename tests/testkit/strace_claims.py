"""Checks a daemon's strace: every durable claim comes after the sync that covers it.

The daemon writes one line per claim to the file that MUSTER_DURABILITY_TRACE names, just before
the claim leaves (streams are encrypted, so nobody could see it on the wire). strace shows those
writes in one order with the journal's writes and syncs. A sync covers what was written to the
file before it *began*, from when it has *returned*.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from muster.storage.journal import (
    ENTRY,
    ENTRY_HEAD,
    HEADER,
    HEADERS,
    INDEX,
    META,
    METAS,
    RESET,
    RESETS,
    TRUNCATE,
)
from muster.storage.records import sound_records

STRACE = (
    "strace", "-D", "-f", "-y", "-xx", "-s", "4000000", "-e", "trace=write,fdatasync,fsync", "-o",
)  # fmt: skip

_CALL = re.compile(
    r"^(?P<pid>\d+) +(?P<name>write|fdatasync|fsync)\((?P<fd>\d+)<(?P<path>[^>]*)>"
    r"(?:, \"(?P<data>(?:\\x[0-9a-f]{2})*)\")?(?P<rest>.*)$"
)
_RESUMED = re.compile(r"^(?P<pid>\d+) +<\.\.\. (?P<name>\w+) resumed>(?P<rest>.*)$")


@dataclass
class Durable:
    """What is on the disk for certain: the log and the newest term with its vote."""

    log: dict[int, int] = field(default_factory=dict)
    term: int = 0
    vote: str | None = None

    def take(self, kind: int, payload: bytes) -> None:
        if kind == HEADER:
            header = HEADERS.decode(payload)
            self.term, self.vote = header.term, header.vote
        elif kind == ENTRY:
            index, term = ENTRY_HEAD.unpack_from(payload)
            self.log[index] = term
        elif kind == TRUNCATE:
            (first,) = INDEX.unpack(payload)
            self.log = {i: t for i, t in self.log.items() if i < first}
        elif kind == META:
            meta = METAS.decode(payload)
            self.term, self.vote = meta.term, meta.vote
        elif kind == RESET:
            reset = RESETS.decode(payload)
            self.log = {e.index: e.term for e in (reset.previous, reset.last)}


@dataclass
class Report:
    """How many claims were seen, by kind, and which of them were not covered."""

    claims: dict[str, int] = field(default_factory=dict)
    uncovered: list[str] = field(default_factory=list)
    syncs: int = 0


class Checker:
    """Reads one strace from its beginning."""

    def __init__(self) -> None:
        self.report = Report()
        self._durable = Durable()
        self._written: dict[str, bytearray] = {}
        self._taken: dict[str, int] = {}
        self._syncing: dict[str, tuple[str, int]] = {}

    def check(self, lines: Iterator[str]) -> Report:
        for line in lines:
            call = _CALL.match(line)
            resumed = _RESUMED.match(line)
            if call is not None:
                self._on_call(call)
            elif resumed is not None and resumed["name"] in ("fdatasync", "fsync"):
                self._on_synced(resumed["pid"])
        return self.report

    def _on_call(self, call: re.Match[str]) -> None:
        path = Path(_unescaped(call["path"]).decode()).name
        if call["name"] == "write":
            data = _unescaped(call["data"] or "")
            if path.endswith(".claims"):
                self._on_claim(data.decode())
            elif path.startswith("journal-"):
                self._written.setdefault(path, bytearray()).extend(data)
        elif path.startswith("journal-"):
            self._syncing[call["pid"]] = (path, len(self._written.get(path, b"")))
            if "unfinished" not in call["rest"]:
                self._on_synced(call["pid"])

    def _on_synced(self, pid: str) -> None:
        path, size = self._syncing.pop(pid, ("", 0))
        start = self._taken.get(path, 0)
        if not path or size <= start:
            return
        self.report.syncs += 1
        part = bytes(self._written[path][start:size])
        for kind, payload in sound_records(part)[0]:
            self._durable.take(kind, payload)
        self._taken[path] = size

    def _on_claim(self, text: str) -> None:
        for line in text.splitlines():
            _, kind, term_text, index_text = line.split()
            term, index = int(term_text), int(index_text)
            self.report.claims[kind] = self.report.claims.get(kind, 0) + 1
            if not self._is_covered(kind, term, index):
                held = (
                    f"durable: term {self._durable.term}, last {max(self._durable.log, default=0)}"
                )
                self.report.uncovered.append(f"{line} ({held})")

    def _is_covered(self, kind: str, term: int, index: int) -> bool:
        durable = self._durable
        if kind in ("vote", "vote-request"):
            return durable.term > term or (durable.term == term and durable.vote is not None)
        if kind == "ack":
            return durable.term >= term and index in durable.log
        assert kind == "reply", kind
        return index in durable.log


def _unescaped(text: str) -> bytes:
    """What strace -xx shows: every byte as \\xNN."""
    return bytes.fromhex(text.replace("\\x", ""))


def check_file(path: Path) -> Report:
    """Check a whole strace file."""
    with path.open(encoding="ascii", errors="replace") as file:
        return Checker().check(iter(file))
