"""What a directory may look like after a crash, for every moment of a recorded run.

`Recorder` is a `Files` that writes down what the storage code does to its directory. `crash_states`
takes any prefix of that and yields the directories that a loss of power behind it may leave, by the
strictest reading of POSIX: a file's bytes are durable after its sync and a name after that of the
directory; of all else any part may be there, in any order. (As ALICE, Pillai et al. 2014, and
LazyFS, Ramos et al. 2024, which stand between a program and the kernel; here the seam is ours.)

Of the many subsets those are taken that show different mistakes: everything kept or lost; names
kept and bytes lost, and the reverse; of names each prefix, each one alone missing, each one alone
there; of bytes the first half, and a hole anywhere, with zeros or garbage in it.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from muster.sim.disk import SimDisk
from muster.storage.files import AppendFile, Files

Operation = tuple[Any, ...]
"""("create", name, file), ("write", file, data), ("sync", file), ("truncate", file, size),
("rename", old, new), ("remove", name), ("sync-names",)."""

Directory = dict[str, bytes]
HOLE_BYTES: Final = 24
"""Smaller than any page, since the batches here are small too: less than a mark."""

HOLES_MAX: Final = 40


class Recorder:
    """A directory whose changes are written down. `before(operations)` is called ahead of each."""

    is_skipped: Callable[[str, str], bool] = staticmethod(lambda kind, name: False)
    """A planted fault: this operation on a file of this name is not done, and succeeds."""

    def __init__(self, files: Files, before: Callable[[int], None] = lambda _: None) -> None:
        self.operations: list[Operation] = []
        self._files = files
        self._before = before
        self._inodes: dict[str, int] = {}
        self._next = 0
        for name in files.names():
            self._inode(name)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._files, name)

    def append(self, name: str) -> AppendFile:
        if name not in self._inodes:
            self._record("create", name, self._next)
        return _Handle(self, self._files.append(name), self._inode(name), name)

    def truncate(self, name: str, size: int) -> None:
        self._record("truncate", self._inodes[name], size)
        self._files.truncate(name, size)

    def rename(self, old: str, new: str) -> None:
        self._record("rename", old, new)
        self._files.rename(old, new)
        self._inodes[new] = self._inodes.pop(old)

    def remove(self, name: str) -> None:
        if name in self._inodes:
            self._record("remove", name)
            del self._inodes[name]
        self._files.remove(name)

    def sync_directory(self) -> None:
        if not self.is_skipped("sync-names", ""):
            self._record("sync-names")
            self._files.sync_directory()

    def _inode(self, name: str) -> int:
        if name not in self._inodes:
            self._inodes[name] = self._next
            self._next += 1
        return self._inodes[name]

    def _record(self, *operation: Any) -> None:
        self._before(len(self.operations))
        self.operations.append(operation)


class _Handle:
    def __init__(self, recorder: Recorder, handle: AppendFile, inode: int, name: str) -> None:
        self._name = name
        self._recorder = recorder
        self._handle = handle
        self._inode = inode

    def write(self, data: bytes) -> None:
        self._recorder._record("write", self._inode, data)
        self._handle.write(data)

    def sync(self) -> None:
        if not self._recorder.is_skipped("sync", self._name):
            self._recorder._record("sync", self._inode)
            self._handle.sync()

    def close(self) -> None:
        self._handle.close()


@dataclass
class _File:
    data: bytearray = field(default_factory=bytearray)
    durable: int = 0


class Replay:
    """A directory as the kernel holds it, some operations on."""

    def __init__(self, initial: Directory) -> None:
        """`initial` is durable."""
        names = sorted(initial)
        self._files = [_File(bytearray(initial[name]), len(initial[name])) for name in names]
        self._durable = {name: number for number, name in enumerate(names)}
        self._pending: list[Operation] = []

    def do(self, operation: Operation) -> None:
        kind, *arguments = operation
        if kind == "create":
            self._files.append(_File())
            assert arguments[1] == len(self._files) - 1
        elif kind == "write":
            self._files[arguments[0]].data += arguments[1]
        elif kind == "sync":
            self._files[arguments[0]].durable = len(self._files[arguments[0]].data)
        elif kind == "truncate":
            file = self._files[arguments[0]]
            del file.data[arguments[1] :]
            file.durable = len(file.data)
        elif kind == "sync-names":
            self._durable = self._names(self._pending)
            self._pending = []
        if kind in ("create", "rename", "remove"):
            self._pending.append(operation)

    def states(self) -> Iterator[Directory]:
        """What a loss of power now may leave. Some come twice."""
        whole: Callable[[_File], bytes] = lambda file: bytes(file.data)  # noqa: E731
        synced: Callable[[_File], bytes] = lambda file: bytes(file.data[: file.durable])  # noqa: E731
        for names in self._name_subsets():
            yield self._directory(names, synced)
            yield self._directory(names, whole)
        names = self._names(self._pending)
        yield self._directory(names, _half)
        unsynced = max((len(file.data) - file.durable for file in self._files), default=0)
        for place in range(0, min(unsynced, HOLES_MAX * HOLE_BYTES), HOLE_BYTES):
            yield self._directory(names, functools.partial(_with_hole, at=place, fill=bytes))
            yield self._directory(names, functools.partial(_with_hole, at=place, fill=_noise))

    def _name_subsets(self) -> Iterator[dict[str, int]]:
        pending = self._pending
        for count in range(len(pending) + 1):
            yield self._names(pending[:count])
        for one in range(len(pending)):
            yield self._names([*pending[:one], *pending[one + 1 :]])
            yield self._names([pending[one]])

    def _names(self, operations: Sequence[Operation]) -> dict[str, int]:
        """The durable names, and these changes of them. One whose file is not there under its old
        name, because the creation of that is lost, leads to it all the same."""
        names, everywhere = dict(self._durable), dict(self._durable)
        for operation in self._pending:
            kind, name, *rest = operation
            is_kept = any(operation is each for each in operations)
            if kind == "create":
                everywhere[name] = rest[0]
                if is_kept:
                    names[name] = rest[0]
            elif kind == "rename":
                everywhere[rest[0]] = everywhere.pop(name)
                if is_kept:
                    names.pop(name, None)
                    names[rest[0]] = everywhere[rest[0]]
            else:
                everywhere.pop(name, None)
                if is_kept:
                    names.pop(name, None)
        return names

    def _directory(self, names: dict[str, int], content: Callable[[_File], bytes]) -> Directory:
        return {name: content(self._files[number]) for name, number in names.items()}


def _half(file: _File) -> bytes:
    return bytes(file.data[: (file.durable + len(file.data) + 1) // 2])


def _with_hole(file: _File, *, at: int, fill: Callable[[int], bytes]) -> bytes:
    """One that begins so far behind what was synced."""
    start = min(file.durable + at, len(file.data))
    stop = min(start + HOLE_BYTES, len(file.data))
    return bytes(file.data[:start]) + fill(stop - start) + bytes(file.data[stop:])


def _noise(count: int) -> bytes:
    return random.Random(count).randbytes(count)


def crash_states(
    initial: Directory, operations: Sequence[Operation]
) -> Iterator[tuple[int, Directory]]:
    """(How many operations were done, what is there): each different directory of each prefix."""
    replay = Replay(initial)
    for done in range(len(operations) + 1):
        seen: list[Directory] = []
        for state in replay.states():
            if state not in seen:
                seen.append(state)
                yield done, state
        if done < len(operations):
            replay.do(operations[done])


def disk_with(directory: Directory) -> SimDisk:
    """A disk on which exactly this is durable."""
    disk = SimDisk(random.Random(1))
    files = disk.mount()
    for name, data in directory.items():
        handle = files.append(name)
        handle.write(data)
        handle.sync()
        handle.close()
    files.sync_directory()
    return disk


def content_of(files: Files) -> Directory:
    return {name: files.read(name) or b"" for name in files.names()}
