"""Snapshots on a real directory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from muster.storage.files import DiskFiles
from muster.storage.snapshots import SnapshotStore, verified_slices
from muster_protocol.errors import RemoteError, StorageCorrupt
from muster_protocol.wire.raft import Configuration, Entry, Manifest, Voter

CONFIGURATION = Configuration((Voter("a" * 32, "c" * 16),))


@pytest.fixture
def files(tmp_path: Path) -> Iterator[DiskFiles]:
    disk = DiskFiles(tmp_path)
    yield disk
    disk.close()


def write(store: SnapshotStore, index: int) -> Manifest:
    return store.write(
        [b"slice %d" % index, b"more"],
        previous=Entry(b"p", index - 1, 3),
        last=Entry(b"l", index, 3),
        configuration=CONFIGURATION,
    )


def test_the_newest_snapshot_comes_back(files: DiskFiles) -> None:
    store = SnapshotStore(files)
    assert store.newest() is None
    write(store, 9)
    newest = write(store, 100)
    assert store.newest() == (newest, [b"slice 100", b"more"])
    store.remove_older(newest)
    assert [name for name in files.names() if name.endswith(".snap")] == [
        f"snapshot-{100:020d}-{3:020d}.snap"
    ]


def test_a_snapshot_travels_and_is_the_same(files: DiskFiles, tmp_path: Path) -> None:
    manifest = write(SnapshotStore(files), 9)
    data = SnapshotStore(files).read_data(manifest)
    assert data is not None
    other = DiskFiles(tmp_path / "other")
    assert verified_slices(manifest, data) == [b"slice 9", b"more"]
    SnapshotStore(other).install(manifest, data)
    assert SnapshotStore(other).newest() == (manifest, [b"slice 9", b"more"])
    other.close()


def test_data_that_is_not_the_manifests_is_refused(files: DiskFiles) -> None:
    store = SnapshotStore(files)
    manifest = write(store, 9)
    data = store.read_data(manifest)
    assert data is not None
    for wrong in (data[:-1], data + b"x", bytes([data[0] ^ 1]) + data[1:]):
        with pytest.raises(RemoteError):
            verified_slices(manifest, wrong)


def test_d13_a_damaged_snapshot_refuses_to_start(files: DiskFiles, tmp_path: Path) -> None:
    write(SnapshotStore(files), 9)
    (path,) = tmp_path.glob("*.snap")
    data = bytearray(path.read_bytes())
    data[20] ^= 1
    path.write_bytes(data)
    with pytest.raises(StorageCorrupt, match=path.name):
        SnapshotStore(files).newest()


def test_a_half_written_snapshot_does_not_count(files: DiskFiles, tmp_path: Path) -> None:
    write(SnapshotStore(files), 9)
    (tmp_path / "snapshot.incoming").write_bytes(b"half")
    newest = SnapshotStore(files).newest()
    assert newest is not None
    assert newest[0].last.index == 9
