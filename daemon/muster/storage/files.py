"""The file seam: a directory in which a node keeps its state.

Small on purpose: what the simulator must be able to lose, tear and fill up is exactly what stands
here. Calls block; whoever calls one that syncs does so through `Offload`.

What is durable when: bytes after `sync` of their file; a created, renamed or removed name after
`sync_directory`. `write_atomically` does all of that in the right order.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Protocol

from muster_protocol.errors import LocalError, StorageError

LOCK_NAME: Final = "lock"


class AppendFile(Protocol):
    """A file open for appending."""

    def write(self, data: bytes | bytearray) -> None:
        """Append all of `data`."""

    def sync(self) -> None:
        """Make what was written durable (fdatasync). What no name leads to any more is not:
        after `remove` this fails."""

    def close(self) -> None:
        """Close; does not sync."""


class ReadFile(Protocol):
    """A file open for reading: it is there until it is closed, also when its name is removed."""

    def read_at(self, offset: int, size: int) -> bytes:
        """So many bytes from `offset` on; less where the file ends."""

    def close(self) -> None:
        """Close."""


class Files(Protocol):
    """One flat directory. Names are plain file names.

    Errors: StorageError whose message names the file and the reason, from every call.
    """

    def describe(self, name: str) -> str:
        """The name as an operator can find it (a full path)."""

    def names(self) -> list[str]:
        """All files, sorted; the lock is none of them."""

    def read(self, name: str) -> bytes | None:
        """The whole content, or None where there is no such file."""

    def open(self, name: str) -> ReadFile | None:
        """Open for reading, or None where there is no such file."""

    def append(self, name: str) -> AppendFile:
        """Open for appending; created if missing (durable only after `sync_directory`)."""

    def truncate(self, name: str, size: int) -> None:
        """Cut to `size` bytes, durably."""

    def rename(self, old: str, new: str) -> None:
        """Atomically replace `new` by `old`; durable after `sync_directory`."""

    def remove(self, name: str) -> None:
        """Remove; no error if missing."""

    def sync_directory(self) -> None:
        """Make created, renamed and removed names durable."""

    def free_bytes(self) -> int:
        """Room left on the file system for this process."""


def write_atomically(files: Files, name: str, data: bytes) -> None:
    """Replace `name` by `data`, so that a crash leaves the old or the new content, never a mix.

    Blocks for two syncs. Errors: StorageError; the old content is still there.
    """
    temporary = name + ".tmp"
    files.remove(temporary)
    handle = files.append(temporary)
    try:
        handle.write(data)
        handle.sync()
    finally:
        handle.close()
    files.rename(temporary, name)
    files.sync_directory()


@contextlib.contextmanager
def _as_storage_error(path: Path, action: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise StorageError(f"cannot {action} {path}: {reason}") from error


class _DiskAppendFile:
    def __init__(self, path: Path) -> None:
        self._path = path
        with _as_storage_error(path, "open"):
            self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def write(self, data: bytes | bytearray) -> None:
        with _as_storage_error(self._path, "write"):
            view = memoryview(data)
            while view:
                view = view[os.write(self._fd, view) :]

    def sync(self) -> None:
        with _as_storage_error(self._path, "sync"):
            if self._fd < 0:  # os.fdatasync would raise ValueError
                raise OSError(errno.EBADF, os.strerror(errno.EBADF))
            os.fdatasync(self._fd)
            if not os.path.samestat(os.fstat(self._fd), self._path.stat()):
                raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))  # another one is there

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class _DiskReadFile:
    def __init__(self, path: Path, fd: int) -> None:
        self._path = path
        self._fd = fd

    def read_at(self, offset: int, size: int) -> bytes:
        with _as_storage_error(self._path, "read"):
            return os.pread(self._fd, size, offset)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class DiskFiles:
    """The real directory. Holding the object holds the lock that keeps a second daemon out."""

    def __init__(self, directory: Path) -> None:
        """Create `directory` (0700) where needed and lock it.

        Errors: StorageError if it cannot be used, LocalError if another process holds it.
        """
        self.directory = directory
        with _as_storage_error(directory, "use"):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock_path = directory / LOCK_NAME
            self._lock_fd = os.open(lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(self._lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                os.close(self._lock_fd)
                if error.errno in (errno.EAGAIN, errno.EACCES):
                    raise LocalError(
                        f"state directory {directory} is in use by another musterd"
                    ) from error
                raise

    def close(self) -> None:
        """Release the lock."""
        os.close(self._lock_fd)

    def describe(self, name: str) -> str:
        return str(self.directory / name)

    def names(self) -> list[str]:
        with _as_storage_error(self.directory, "list"):
            names = [entry.name for entry in os.scandir(self.directory) if entry.is_file()]
        return sorted(name for name in names if name != LOCK_NAME)

    def read(self, name: str) -> bytes | None:
        path = self.directory / name
        with _as_storage_error(path, "read"):
            try:
                return path.read_bytes()
            except FileNotFoundError:
                return None

    def open(self, name: str) -> ReadFile | None:
        path = self.directory / name
        with _as_storage_error(path, "open"):
            try:
                return _DiskReadFile(path, os.open(path, os.O_RDONLY | os.O_CLOEXEC))
            except FileNotFoundError:
                return None

    def append(self, name: str) -> AppendFile:
        return _DiskAppendFile(self.directory / name)

    def truncate(self, name: str, size: int) -> None:
        path = self.directory / name
        with _as_storage_error(path, "truncate"):
            fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.ftruncate(fd, size)
                os.fsync(fd)
            finally:
                os.close(fd)

    def rename(self, old: str, new: str) -> None:
        with _as_storage_error(self.directory / new, "replace"):
            os.rename(self.directory / old, self.directory / new)  # noqa: PTH104 (one syscall)

    def remove(self, name: str) -> None:
        path = self.directory / name
        with _as_storage_error(path, "remove"):
            path.unlink(missing_ok=True)

    def sync_directory(self) -> None:
        with _as_storage_error(self.directory, "sync"):
            fd = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)

    def free_bytes(self) -> int:
        with _as_storage_error(self.directory, "inspect"):
            status = os.statvfs(self.directory)
            return status.f_bavail * status.f_frsize
