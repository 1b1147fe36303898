"""Checks what a daemon did to its disk: nothing is claimed, shown or removed too early.

The daemon writes one line per claim to the file that MUSTER_DURABILITY_TRACE names, just before
the claim leaves (streams are encrypted, so nobody could see it on the wire). strace shows those
writes in one order with what is done in the state directory.

* What is **claimed** is in bytes that are synced, in a file whose name is: the directory is synced
  after the file was created. So is the superblock, without which a start finds no journal.
* What is **renamed** is synced before: its new name never leads to half of it.
* What is **removed** of journal and snapshots has something that stands for it under a name that is
  synced: an image or a snapshot for a segment, a snapshot for a snapshot; and none of these has got
  its name after the last sync of the directory.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

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
    is_image,
    is_segment,
    sequence_of,
)
from muster.storage.records import sound_records
from muster.storage.snapshots import is_snapshot
from muster.storage.superblock import SUPERBLOCK_NAME
from testkit.strace_calls import CLAIMS, Call


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
    """What was seen, and what came too early."""

    claims: dict[str, int] = field(default_factory=dict)
    uncovered: list[str] = field(default_factory=list)
    """Claims."""

    hasty: list[str] = field(default_factory=list)
    """Renames and removals."""

    syncs: int = 0
    """Of the journal, that covered something."""

    segments: int = 0
    images: int = 0
    snapshots: int = 0
    installed: int = 0
    """Of a leader."""

    removed: int = 0
    """Of all of these."""


@dataclass
class _File:
    data: bytearray = field(default_factory=bytearray)
    synced: int = 0
    taken: int = 0
    """How much of it counts, because its name is synced too."""


class Checker:
    """Reads the calls of one process from its beginning, in an empty directory."""

    def __init__(self) -> None:
        self.report = Report()
        self.durable = Durable()
        self._files: dict[str, _File] = {}
        self._named: dict[str, None] = {}
        """Names that are synced."""

        self._syncing: dict[int, tuple[_File, int] | list[str]] = {}
        self._doing = {
            "create": self._on_create,
            "write": self._on_write,
            "rename": self._on_rename,
            "remove": self._on_remove,
            "sync": self._on_sync,
            "synced": self._on_synced,
        }

    def check(self, calls: Iterable[Call]) -> Report:
        for call in calls:
            if call.kind in self._doing:
                self._doing[call.kind](call)
        return self.report

    def _on_create(self, call: Call) -> None:
        self._files[call.name] = _File()
        self.report.segments += is_segment(call.name)

    def _on_write(self, call: Call) -> None:
        if call.name == CLAIMS:
            for line in call.data.decode().splitlines():
                self._on_claim(line)
        elif call.name in self._files:
            self._files[call.name].data += call.data

    def _on_rename(self, call: Call) -> None:
        file = self._files.pop(call.name)
        self._named.pop(call.other, None)
        self._files[call.other] = file
        self.report.images += is_image(call.other)
        self.report.snapshots += is_snapshot(call.other)
        if file.synced < len(file.data):
            self._is_hasty(f"{call.other} shows {len(file.data) - file.synced} bytes not synced")
        if is_image(call.other):
            file.taken = len(file.data)  # what it holds was claimed by the segments

    def _on_remove(self, call: Call) -> None:
        name = call.name
        was_named = self._named.pop(name, "") is None
        self._files.pop(name, None)
        if not was_named:
            return
        if not is_segment(name) and not is_snapshot(name):
            return
        self.report.removed += 1
        for new in self._files:
            if (is_image(new) or is_snapshot(new)) and new not in self._named:
                self._is_hasty(f"{name} is removed before the directory with {new} is synced")
        if is_segment(name):
            images = (other for other in self._named if is_image(other))
            if any(sequence_of(other) >= sequence_of(name) for other in images):
                return
        if not any(map(is_snapshot, self._named)):
            self._is_hasty(f"{name} is removed, and no other file stands for it")

    def _on_sync(self, call: Call) -> None:
        if call.name in self._files:
            file = self._files[call.name]
            self._syncing[call.number] = file, len(file.data)
        elif not call.name:
            self._syncing[call.number] = list(self._files)

    def _on_synced(self, call: Call) -> None:
        covered = self._syncing.pop(call.number, [])
        if isinstance(covered, list):
            self._named |= {name: None for name in covered if name in self._files}
        else:
            file, size = covered
            self.report.syncs += is_segment(call.name) and size > file.synced
            file.synced = max(file.synced, size)
        self._take()

    def _take(self) -> None:
        """What has become durable, in the order of the segments."""
        for name in sorted(filter(is_segment, self._named)):
            file = self._files[name]
            part = bytes(file.data[file.taken : file.synced])
            for kind, payload in sound_records(part)[0]:
                self.durable.take(kind, payload)
                self.report.installed += kind == RESET
            file.taken = max(file.taken, file.synced)

    def _is_hasty(self, what: str) -> None:
        self.report.hasty.append(what)

    def _on_claim(self, line: str) -> None:
        _, kind, term_text, index_text = line.split()
        term, index = int(term_text), int(index_text)
        self.report.claims[kind] = self.report.claims.get(kind, 0) + 1
        if SUPERBLOCK_NAME not in self._named or not self._is_covered(kind, term, index):
            held = f"durable: term {self.durable.term}, last {max(self.durable.log, default=0)}"
            self.report.uncovered.append(f"{line} ({held})")

    def _is_covered(self, kind: str, term: int, index: int) -> bool:
        durable = self.durable
        if kind in ("vote", "vote-request"):
            return durable.term > term or (durable.term == term and durable.vote is not None)
        if kind == "ack":
            return durable.term >= term and index in durable.log
        assert kind == "reply", kind
        return index in durable.log
