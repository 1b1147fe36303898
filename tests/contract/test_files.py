"""What every `Files` does: the real directory and the simulator's disk."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from muster.entropy import SeededEntropy
from muster.sim.disk import SimDisk
from muster.storage.files import DiskFiles, Files, write_atomically
from muster_protocol.errors import StorageError


@pytest.fixture(params=["real", "simulated"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Files]:
    if request.param == "simulated":
        yield SimDisk(SeededEntropy("contract").stream("disk")).mount()
        return
    real = DiskFiles(tmp_path / "state")
    yield real
    real.close()


def put(files: Files, name: str, data: bytes) -> None:
    handle = files.append(name)
    handle.write(data)
    handle.sync()
    handle.close()


def test_new_directory_is_empty(files: Files) -> None:
    assert files.names() == []
    assert files.read("nothing") is None


def test_appended_bytes_are_read_back_at_once(files: Files) -> None:
    handle = files.append("a")
    handle.write(b"one")
    assert files.read("a") == b"one"
    handle.write(b"")
    handle.write(b"two")
    handle.close()
    put(files, "a", b"three")
    assert files.read("a") == b"onetwothree"


def test_a_file_is_read_in_pieces(files: Files) -> None:
    put(files, "a", b"0123456789")
    handle = files.open("a")
    assert handle is not None
    assert [handle.read_at(offset, 4) for offset in (4, 0, 8, 10)] == [b"4567", b"0123", b"89", b""]
    handle.close()
    with pytest.raises(StorageError):
        handle.read_at(0, 4)
    assert files.open("nothing") is None


def test_what_is_open_is_read_after_its_name_was_removed(files: Files) -> None:
    put(files, "a", b"old")
    handle = files.open("a")
    assert handle is not None
    files.remove("a")
    put(files, "a", b"new")
    assert handle.read_at(0, 3) == b"old"
    handle.close()
    assert files.read("a") == b"new"


def test_names_are_sorted(files: Files) -> None:
    for name in ("b", "c", "a"):
        put(files, name, b"")
    assert files.names() == ["a", "b", "c"]


def test_truncate_cuts_and_extends_with_zeros(files: Files) -> None:
    put(files, "a", b"abcdef")
    files.truncate("a", 2)
    assert files.read("a") == b"ab"
    files.truncate("a", 4)
    assert files.read("a") == b"ab\0\0"


def test_handle_appends_behind_a_truncation(files: Files) -> None:
    handle = files.append("a")
    handle.write(b"abcdef")
    files.truncate("a", 3)
    handle.write(b"X")
    handle.close()
    assert files.read("a") == b"abcX"


def test_rename_replaces(files: Files) -> None:
    put(files, "old", b"new content")
    put(files, "name", b"old content")
    files.rename("old", "name")
    files.sync_directory()
    assert files.names() == ["name"]
    assert files.read("name") == b"new content"


def test_handle_follows_its_file_and_not_its_name(files: Files) -> None:
    handle = files.append("a")
    files.rename("a", "b")
    handle.write(b"to b")
    files.remove("b")
    handle.write(b"to nowhere")
    handle.close()
    assert files.names() == []


def test_what_was_removed_is_not_made_durable(files: Files) -> None:
    handle = files.append("a")
    handle.write(b"one")
    handle.sync()
    files.remove("a")
    handle.write(b"two")
    with pytest.raises(StorageError, match=r"cannot sync .*a: No such file"):
        handle.sync()
    handle.close()


def test_remove_forgives_what_is_not_there(files: Files) -> None:
    put(files, "a", b"x")
    files.remove("a")
    files.remove("a")
    assert files.read("a") is None


def test_write_atomically_leaves_one_file(files: Files) -> None:
    for data in (b"one", b"two"):
        write_atomically(files, "record", data)
    assert files.names() == ["record"]
    assert files.read("record") == b"two"


def test_missing_file_is_a_storage_error_that_names_it(files: Files) -> None:
    with pytest.raises(StorageError, match=f"cannot truncate {files.describe('a')}: No such file"):
        files.truncate("a", 0)
    with pytest.raises(StorageError, match=f"cannot replace {files.describe('b')}: No such file"):
        files.rename("a", "b")


def test_closed_handle_refuses_and_may_be_closed_again(files: Files) -> None:
    handle = files.append("a")
    handle.close()
    handle.close()
    with pytest.raises(StorageError, match=files.describe("a")):
        handle.write(b"x")
    with pytest.raises(StorageError, match="Bad file descriptor"):
        handle.sync()


def test_there_is_room(files: Files) -> None:
    assert files.free_bytes() > 1_000_000
