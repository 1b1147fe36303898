"""A disk in memory that loses what was not synced.

The model is the strictest that POSIX allows. A file's bytes are durable after its `sync`, a name
(created, renamed, removed) after `sync_directory`; `power_off` forgets the rest. With `tear`, it
forgets only part of it, as real disks do: some of the last names are kept, the unsynced end of a
file is cut anywhere, and the rest of its last sector may be zero; or its pages reached the disk in
any order, and those that did not are holes: zeros, or whatever stood there.

A failed sync is worse than none (fsyncgate): the kernel marks the pages clean, a later sync
succeeds, and the bytes are gone. So here the bytes that a failed sync was to save are zero after
the next power failure, whatever was synced behind them.

Beside that: it fills up (`capacity_bytes`, at any time), refuses (`fail`), rots (`rot`), is slow
(the durations of `offload`) or hangs: then no work on it ends until `unhang`, as with a controller
that resets itself or a network disk whose server is away.

A process holds a `SimFiles`, made by `SimDisk.mount`. After `unmount` or `power_off` it is stale
and refuses, so what is left of a dead process cannot write to the disk of its successor.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from muster.storage.files import AppendFile, ReadFile
from muster_protocol.errors import StorageError

if TYPE_CHECKING:
    import random

    from muster_protocol.types import Rng

SECTOR_BYTES: Final = 512
"""What a disk writes whole or not at all."""

PAGE_BYTES: Final = (64, SECTOR_BYTES, 4096)
"""What of an unsynced write is there as a whole or not. A sector and a page of the kernel; and less
than any disk's, so that small batches have holes too."""

CAPACITY_BYTES: Final = 1024 * 1024 * 1024

_ANY: Final = "*"
"""Stands for any file."""


@dataclass(slots=True, eq=False)
class _File:
    """Content as the process sees it, and how much of it a power failure leaves."""

    data: bytearray = field(default_factory=bytearray)
    durable_bytes: int = 0
    lost: list[tuple[int, int]] = field(default_factory=list)  # ranges of failed syncs

    def sync(self) -> None:
        self.durable_bytes = len(self.data)

    def fail_sync(self) -> None:
        if self.durable_bytes < len(self.data):
            self.lost.append((self.durable_bytes, len(self.data)))

    def truncate(self, size: int) -> None:
        del self.data[size:]
        self.data.extend(bytes(size - len(self.data)))
        self.durable_bytes = size
        self.lost = [(start, min(end, size)) for start, end in self.lost if start < size]

    def lose(
        self, kept_bytes: int, *, zero_sector: bool, holes: Mapping[int, bytes] | None = None
    ) -> None:
        """A power failure that leaves `kept_bytes`, but for the holes, and maybe a zeroed rest of
        the last sector."""
        end = len(self.data)
        for start, content in (holes or {}).items():
            self.data[start : start + len(content)] = content
        for start, stop in self.lost:
            self.data[start:stop] = bytes(stop - start)
        del self.data[kept_bytes:]
        if zero_sector:
            sector_end = -(-kept_bytes // SECTOR_BYTES) * SECTOR_BYTES
            self.data.extend(bytes(min(sector_end, end) - kept_bytes))
        self.durable_bytes = len(self.data)
        self.lost = []


class SimDisk:
    """What outlives a process: one node's directory."""

    def __init__(
        self, rng: random.Random, *, path: str = "/sim", capacity_bytes: int = CAPACITY_BYTES
    ):
        self.path = path
        self.capacity_bytes = capacity_bytes
        """May be changed at any time; less than is used means that the disk is full."""
        self.generation = 0
        self.files: dict[str, _File] = {}
        self.on_sync: Callable[[str, bytes], None] | None = None
        """Called with the name under which a file was opened, and what its sync made durable."""
        self.is_hung = False
        self._rng = rng
        self._durable: dict[str, _File] = {}
        self._since_sync: list[dict[str, _File]] = []
        self._failures: dict[tuple[str, str], list[int]] = {}
        self._operations_left: int | None = None
        self._when_released: list[Callable[[], None]] = []

    def mount(self) -> SimFiles:
        """The directory for a new process."""
        return SimFiles(self)

    def fail(
        self, action: str, error: int = errno.EIO, *, times: int = 1, name: str | None = None
    ) -> None:
        """Make the next `times` calls of `action` fail, on any file or on `name` only.

        Actions: "read", "write", "sync" (of a file, or of the directory, whose name is ""), "open",
        "truncate", "replace" (rename, by the new name), "remove", "list", "inspect".
        """
        self._failures.setdefault((action, name or _ANY), []).extend([error] * times)

    def stop_failing(self) -> None:
        """What `fail` announced and did not happen yet does not happen."""
        self._failures.clear()

    def hang(self) -> None:
        """From now on no work on it ends. Errors are not told either; the process waits."""
        self.is_hung = True

    def unhang(self) -> None:
        """It goes on, with all that has waited."""
        self.is_hung = False
        waiting, self._when_released = self._when_released, []
        for release in waiting:
            release()

    def when_released(self, release: Callable[[], None]) -> None:
        """Call `release` when the disk hangs no more."""
        self._when_released.append(release)

    def unmount(self) -> None:
        """The process is dead: its mount is stale. The page cache outlives it."""
        self.generation += 1

    def power_off(self, *, tear: bool = False) -> None:
        """Forget what was not synced; all mounts are stale."""
        self.unmount()
        keep = self._rng.randrange(len(self._since_sync) + 1) if tear else 0
        names = self._since_sync[keep - 1] if keep else self._durable
        self.files = dict(names)
        seen: list[_File] = []
        for name in sorted(self.files):
            file = self.files[name]
            if any(file is other for other in seen):
                continue
            seen.append(file)
            self._lose(file, tear=tear and file.durable_bytes < len(file.data))
        self.sync_names()

    def _lose(self, file: _File, *, tear: bool) -> None:
        if not tear:
            file.lose(file.durable_bytes, zero_sector=False)
        elif self._rng.random() < 0.5:
            kept = self._rng.randrange(file.durable_bytes, len(file.data) + 1)
            file.lose(kept, zero_sector=self._rng.random() < 0.5)
        else:
            page_bytes = self._rng.choice(PAGE_BYTES)
            first, end = file.durable_bytes // page_bytes, -(-len(file.data) // page_bytes)
            kept = min(self._rng.randint(first + 1, end) * page_bytes, len(file.data))
            holes = self._holes(file, page_bytes, kept)
            file.lose(kept, zero_sector=False, holes=holes)

    def _holes(self, file: _File, page_bytes: int, kept: int) -> dict[int, bytes]:
        """Any of the pages up to `kept`, and what is there in place of what was written. In the
        page in which the synced part ends that is what was there before: nothing."""
        holes = {}
        lost = self._rng.choice((0.1, 0.5, 0.9))
        for page in range(file.durable_bytes // page_bytes * page_bytes, kept, page_bytes):
            if self._rng.random() < lost:
                start = max(page, file.durable_bytes)
                length = min(page + page_bytes, kept) - start
                is_garbage = page >= file.durable_bytes and self._rng.random() < 0.5
                holes[start] = self._rng.randbytes(length) if is_garbage else bytes(length)
        return holes

    def power_off_in(self, operations: int | None) -> None:
        """The power fails, maybe with torn writes, when so many operations more were done: the next
        one finds it gone, and so does the process. None: it does not."""
        self._operations_left = operations

    def size_of(self, name: str) -> int:
        """Bytes of a file as a process sees it; 0 where there is none."""
        return len(self.files[name].data) if name in self.files else 0

    def flip_bit(self, name: str, bit: int) -> None:
        """Rot: one bit of a file changes on the disk."""
        self.files[name].data[bit // 8] ^= 1 << (bit % 8)

    def rot(
        self, rng: Rng, *, within: Callable[[str, bytes], int] = lambda _, data: len(data)
    ) -> tuple[str, int] | None:
        """Flip one bit in a sector of what is durable in the files, all sectors alike likely.
        `within(name, data)` says how much of a file, from its beginning, may be hit. Returns the
        file and the bit; None on a disk that holds nothing of the kind."""
        ends = {
            name: within(name, bytes(file.data[: file.durable_bytes]))
            for name, file in sorted(self._durable.items())
        }
        sectors = [
            (name, start) for name, end in ends.items() for start in range(0, end, SECTOR_BYTES)
        ]
        if not sectors:
            return None
        name, start = sectors[rng.randrange(len(sectors))]
        file = self._durable[name]
        bit = start * 8 + rng.randrange(8 * min(SECTOR_BYTES, ends[name] - start))
        file.data[bit // 8] ^= 1 << (bit % 8)
        return name, bit

    # --- for SimFiles ----------------------------------------------------------------------

    def used_bytes(self) -> int:
        return sum(len(file.data) for file in self.files.values())

    def names_changed(self) -> None:
        """A name was created, renamed or removed: a state that a torn power failure may leave."""
        self._since_sync.append(dict(self.files))

    def sync_names(self) -> None:
        self._durable = dict(self.files)
        self._since_sync = []

    def operated(self) -> None:
        """An operation begins."""
        if self._operations_left is None:
            return
        self._operations_left -= 1
        if self._operations_left < 0:
            self._operations_left = None
            self.power_off(tear=self._rng.random() < 0.5)

    def injected(self, action: str, name: str) -> int:
        """The errno with which this call has to fail, or 0."""
        if not self._failures:
            return 0
        pending = self._failures.get((action, name)) or self._failures.get((action, _ANY))
        return pending.pop(0) if pending else 0


class SimFiles:
    """`Files` for one life of one process."""

    def __init__(self, disk: SimDisk) -> None:
        self._disk = disk
        self._generation = disk.generation

    def describe(self, name: str) -> str:
        return f"{self._disk.path}/{name}"

    def names(self) -> list[str]:
        self.check("list", "")
        return sorted(self._disk.files)

    def read(self, name: str) -> bytes | None:
        self.check("read", name)
        file = self._disk.files.get(name)
        return None if file is None else bytes(file.data)

    def open(self, name: str) -> ReadFile | None:
        self.check("open", name)
        file = self._disk.files.get(name)
        return None if file is None else _SimReadFile(self, name, file)

    def append(self, name: str) -> AppendFile:
        self.check("open", name)
        file = self._disk.files.get(name)
        if file is None:
            file = self._disk.files[name] = _File()
            self._disk.names_changed()
        return _SimAppendFile(self, self._disk, name, file)

    def truncate(self, name: str, size: int) -> None:
        self.check("truncate", name)
        self._existing("truncate", name).truncate(size)

    def rename(self, old: str, new: str) -> None:
        self.check("replace", new)
        file = self._existing("replace", old, shown=new)
        del self._disk.files[old]
        self._disk.files[new] = file
        self._disk.names_changed()

    def remove(self, name: str) -> None:
        self.check("remove", name)
        if self._disk.files.pop(name, None) is not None:
            self._disk.names_changed()

    def sync_directory(self) -> None:
        self.check("sync", "")
        self._disk.sync_names()

    def free_bytes(self) -> int:
        self.check("inspect", "")
        return max(0, self._disk.capacity_bytes - self._disk.used_bytes())

    @property
    def is_mounted(self) -> bool:
        """False once the process of this mount is dead."""
        return self._generation == self._disk.generation

    def check(self, action: str, name: str) -> None:
        """Errors: StorageError if a failure was injected, or the process is dead."""
        if self.is_mounted:
            self._disk.operated()
        error = self._disk.injected(action, name) if self.is_mounted else errno.ENODEV
        if error:
            raise self.error(action, name, error)

    def error(self, action: str, name: str, error: int) -> StorageError:
        return StorageError(f"cannot {action} {self.describe(name)}: {os.strerror(error)}")

    def _existing(self, action: str, name: str, *, shown: str = "") -> _File:
        file = self._disk.files.get(name)
        if file is None:
            raise self.error(action, shown or name, errno.ENOENT)
        return file


class _SimReadFile:
    def __init__(self, files: SimFiles, name: str, file: _File) -> None:
        self._files = files
        self._name = name
        self._file: _File | None = file

    def read_at(self, offset: int, size: int) -> bytes:
        self._files.check("read", self._name)
        if self._file is None:
            raise self._files.error("read", self._name, errno.EBADF)
        return bytes(self._file.data[offset : offset + size])

    def close(self) -> None:
        self._file = None


class _SimAppendFile:
    def __init__(self, files: SimFiles, disk: SimDisk, name: str, file: _File) -> None:
        self._files = files
        self._disk = disk
        self._name = name
        self._file = file
        self._is_open = True

    def write(self, data: bytes | bytearray) -> None:
        self._check("write")
        room = max(0, self._disk.capacity_bytes - self._disk.used_bytes())
        self._file.data += data[:room]  # a full disk takes what fits before it refuses
        if len(data) > room:
            raise self._files.error("write", self._name, errno.ENOSPC)

    def sync(self) -> None:
        try:
            self._check("sync")
        except StorageError:
            if self._files.is_mounted:
                self._file.fail_sync()
            raise
        since = self._file.durable_bytes
        self._file.sync()
        if not any(self._file is file for file in self._disk.files.values()):
            raise self._files.error("sync", self._name, errno.ENOENT)
        if self._disk.on_sync is not None:
            self._disk.on_sync(self._name, bytes(self._file.data[since:]))

    def close(self) -> None:
        self._is_open = False

    def _check(self, action: str) -> None:
        if not self._is_open:
            raise self._files.error(action, self._name, errno.EBADF)
        self._files.check(action, self._name)
