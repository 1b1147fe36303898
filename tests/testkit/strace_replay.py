"""What a loss of power would have left of a real daemon's directory, at the moments that matter.

The calls that strace saw are what `crash_states` replays; the production code must recover what was
claimed by then. Looked at are the moments around each change of a name, and some of the others.
A file's sync stands where it has returned, the directory's where it began: what other threads name
meanwhile it need not cover.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from muster.storage.files import LOCK_NAME
from muster.storage.journal import INDEX, TRUNCATE, is_segment
from muster.storage.records import sound_records
from muster.storage.recovery import open_journal
from muster.storage.snapshots import SnapshotStore
from muster.storage.superblock import read_superblock
from muster_protocol.errors import StorageCorrupt
from testkit.crash_states import Directory, Operation, Replay, disk_with
from testkit.strace_calls import CLAIMS, Call
from testkit.strace_claims import Checker

AROUND: Final = 1
"""Operations before and after a change of a name."""

EVERY: Final = 50
"""Of the other moments."""


@dataclass
class Tally:
    """How much was looked at, and the first that was wrong."""

    operations: int = 0
    moments: int = 0
    states: int = 0
    wrong: str | None = None


@dataclass(frozen=True)
class Step:
    """An operation, and what had been claimed before it: a log up to an index, and a term. What is
    cut off again because of a conflict is claimed no more."""

    operation: Operation
    log: dict[int, int]
    index: int
    term: int


def replay(calls: list[Call]) -> Tally:
    steps = list(_steps(calls))
    names = [
        at for at, step in enumerate(steps) if step.operation[0] in ("create", "rename", "remove")
    ]
    looked_at = {at + by for at in names for by in range(-AROUND, AROUND + 1)}
    tally, model = Tally(operations=len(steps)), Replay({})
    for at, step in enumerate(steps):
        if at in looked_at or at % EVERY == 0:
            tally.moments += 1
            seen: list[Directory] = []
            for state in model.states():
                if state in seen:
                    continue
                seen.append(state)
                tally.states += 1
                wrong = _judge(state, step)
                if wrong is not None:
                    tally.wrong = f"{wrong} before operation {at}, {str(step.operation)[:80]}"
                    return tally
        model.do(step.operation)
    return tally


def _steps(calls: list[Call]) -> Iterator[Step]:
    checker, inodes = Checker(), dict[str, int]()
    index = term = made = 0
    for call in calls:
        checker.check([call])
        if call.name == CLAIMS:
            for line in call.data.decode().splitlines():
                _, kind, term_text, index_text = line.split()
                term = max(term, int(term_text)) if kind != "reply" else term
                index = max(index, int(index_text)) if kind in ("ack", "reply") else index
        elif call.name != LOCK_NAME:
            if call.kind == "write" and is_segment(call.name):
                index = min([index, *_cut_at(call.data)])
            operation = _operation(call, inodes, made)
            made += call.kind == "create"
            if operation is not None:
                yield Step(operation, checker.durable.log, index, term)


def _cut_at(data: bytes) -> list[int]:
    """The last index that each truncation in what is written leaves."""
    records = sound_records(data)[0]
    return [INDEX.unpack(payload)[0] - 1 for kind, payload in records if kind == TRUNCATE]


def _operation(call: Call, inodes: dict[str, int], made: int) -> Operation | None:
    if call.kind == "create":
        inodes[call.name] = made
        return ("create", call.name, made)
    if call.kind == "rename":
        inodes[call.other] = inodes.pop(call.name)
        return ("rename", call.name, call.other)
    if call.kind == "remove":
        return ("remove", call.name) if inodes.pop(call.name, None) is not None else None
    if call.kind == "sync":
        return None if call.name else ("sync-names",)
    if not call.name or call.name not in inodes:
        return None
    inode = inodes[call.name]
    return {
        "write": ("write", inode, call.data),
        "truncate": ("truncate", inode, call.size),
        "synced": ("sync", inode),
    }[call.kind]


def _judge(state: Directory, step: Step) -> str | None:
    """What is wrong with what a start finds there."""
    files = disk_with(state).mount()
    try:
        block = read_superblock(files)
        if block is None:
            return "the founding is forgotten" if step.index or step.term else None
        newest = SnapshotStore(files).newest()
        journal, _ = open_journal(files, block, newest[0] if newest is not None else None)
    except StorageCorrupt as refusal:
        return f"it refuses to start: {refusal}"
    if journal.getCurrentTerm() < step.term:
        return f"term {journal.getCurrentTerm()} where {step.term} was claimed"
    if journal.last_index < step.index:
        return f"a log up to {journal.last_index} where {step.index} was claimed"
    for _, index, term in journal[:]:
        if index <= step.index and step.log.get(index, term) != term:
            return f"entry {index} of term {term} where it was of term {step.log[index]}"
    return None
