"""What the simulated disk loses, and when."""

from __future__ import annotations

import errno
from collections.abc import Callable

import pytest

from muster.entropy import SeededEntropy
from muster.sim.disk import SECTOR_BYTES, SimDisk, SimFiles
from muster.storage.files import write_atomically
from muster_protocol.errors import StorageError


@pytest.fixture
def disk() -> SimDisk:
    return SimDisk(SeededEntropy("disk").stream("disk"))


def put(files: SimFiles, name: str, data: bytes, *, sync: bool = True) -> None:
    handle = files.append(name)
    handle.write(data)
    if sync:
        handle.sync()
    handle.close()


def test_unsynced_bytes_are_lost_with_the_power(disk: SimDisk) -> None:
    files = disk.mount()
    put(files, "log", b"synced")
    files.sync_directory()
    put(files, "log", b" and not", sync=False)
    assert files.read("log") == b"synced and not"
    disk.power_off()
    assert disk.mount().read("log") == b"synced"


def test_unsynced_names_are_lost_with_the_power(disk: SimDisk) -> None:
    files = disk.mount()
    put(files, "kept", b"1")
    files.sync_directory()
    put(files, "created", b"2")
    files.remove("kept")
    disk.power_off()
    assert disk.mount().names() == ["kept"]


def test_rename_is_undone_without_a_sync_of_the_directory(disk: SimDisk) -> None:
    files = disk.mount()
    put(files, "record", b"old")
    files.sync_directory()
    put(files, "new", b"new")
    files.rename("new", "record")
    disk.power_off()
    assert disk.mount().read("record") == b"old"


def test_power_may_fail_between_two_operations(disk: SimDisk) -> None:
    files = disk.mount()
    disk.power_off_in(4)
    put(files, "log", b"synced")  # opens, writes, syncs
    files.sync_directory()
    with pytest.raises(StorageError):
        put(files, "log", b" and not")
    assert not files.is_mounted
    assert disk.mount().read("log") == b"synced"


def test_killed_process_loses_nothing(disk: SimDisk) -> None:
    files = disk.mount()
    put(files, "log", b"not synced", sync=False)
    disk.unmount()
    assert disk.mount().read("log") == b"not synced"


def test_write_atomically_survives_the_power_at_every_step(disk: SimDisk) -> None:
    """With each of its calls failing in turn, there is the old content or the new one."""
    write_atomically(disk.mount(), "record", b"old")
    for action in ("remove", "open", "write", "sync", "replace"):
        disk.fail(action)
        with pytest.raises(StorageError):
            write_atomically(disk.mount(), "record", b"new")
        disk.power_off(tear=True)
        assert disk.mount().read("record") in (b"old", b"new")


def test_torn_write_keeps_a_part_and_may_zero_the_rest_of_the_sector() -> None:
    """Or it leaves holes, of which the next test is."""
    kept: dict[int, None] = {}
    zeroed = 0
    for seed in range(200):
        disk = SimDisk(SeededEntropy(f"tear {seed}").stream("disk"))
        files = disk.mount()
        put(files, "log", b"S" * 100)
        files.sync_directory()
        put(files, "log", b"u" * 300, sync=False)
        disk.power_off(tear=True)
        data = disk.mount().read("log")
        assert data is not None
        assert data.startswith(b"S" * 100)
        assert len(data) <= 400
        rest = data[100:]
        if rest.rstrip(b"\0").strip(b"u") == b"":
            kept[len(rest.rstrip(b"\0"))] = None
            zeroed += rest.endswith(b"\0")
    assert len(kept) > 50
    assert 50 < zeroed < 150
    assert SECTOR_BYTES > 400


def test_torn_write_may_have_holes_of_whole_pages_and_garbage_in_them() -> None:
    seen: dict[str, int] = {}
    for seed in range(200):
        disk = SimDisk(SeededEntropy(f"holes {seed}").stream("disk"))
        files = disk.mount()
        put(files, "log", b"S" * 5_000)
        files.sync_directory()
        put(files, "log", b"u" * 20_000, sync=False)
        disk.power_off(tear=True)
        data = disk.mount().read("log") or b""
        assert data.startswith(b"S" * 5_000)
        assert len(data) <= 25_000
        if b"u" not in data[data.find(b"\0") :]:
            continue  # no hole, or nothing behind it
        first_zero = data.find(b"\0")
        for page in range(5_056, len(data) - 64, 64):
            part = data[page : page + 64]
            kind = {b"u": "kept", b"\0": "zeros"}.get(part[:1] * (part == part[:1] * 64), "garbage")
            seen[kind] = seen.get(kind, 0) + 1
        seen["in the sector of what was synced"] = seen.get("in the sector of what was synced", 0)
        seen["in the sector of what was synced"] += first_zero == 5_000
    assert min(seen.values()) > 20, seen
    assert len(seen) == 4


def test_torn_names_are_kept_in_their_order() -> None:
    seen: dict[tuple[str, ...], None] = {}
    for seed in range(50):
        disk = SimDisk(SeededEntropy(f"names {seed}").stream("disk"))
        files = disk.mount()
        for name in "abc":
            put(files, name, b"x")
        disk.power_off(tear=True)
        seen[tuple(disk.mount().names())] = None
    assert sorted(seen) == [(), ("a",), ("a", "b"), ("a", "b", "c")]


def test_bytes_of_a_failed_sync_are_gone_even_if_a_later_one_succeeds(disk: SimDisk) -> None:
    """As Linux does: the pages are marked clean, and the error is told only once."""
    files = disk.mount()
    handle = files.append("log")
    files.sync_directory()
    handle.write(b"lost")
    disk.fail("sync")
    with pytest.raises(StorageError, match=r"cannot sync /sim/log: Input/output error"):
        handle.sync()
    handle.write(b"kept")
    handle.sync()
    assert files.read("log") == b"lostkept"
    disk.power_off()
    assert disk.mount().read("log") == b"\0\0\0\0kept"


def test_full_disk_takes_what_fits_and_says_so(disk: SimDisk) -> None:
    disk.capacity_bytes = 10
    files = disk.mount()
    put(files, "a", b"123456")
    handle = files.append("b")
    with pytest.raises(StorageError, match="cannot write /sim/b: No space left on device"):
        handle.write(b"123456")
    assert files.read("b") == b"1234"
    assert files.free_bytes() == 0
    files.remove("a")
    handle.write(b"56")
    assert files.read("b") == b"123456"


def test_injected_failures_come_as_often_as_asked(disk: SimDisk) -> None:
    files = disk.mount()
    disk.fail("read", errno.EACCES, times=2)
    for _ in range(2):
        with pytest.raises(StorageError, match="Permission denied"):
            files.read("x")
    assert files.read("x") is None


def test_dead_process_does_not_reach_the_disk_of_its_successor(disk: SimDisk) -> None:
    old = disk.mount()
    handle = old.append("log")
    disk.power_off()
    new = disk.mount()
    put(new, "log", b"new", sync=False)
    calls: list[Callable[[], None]] = [
        lambda: handle.write(b"old"),
        handle.sync,
        lambda: old.remove("log"),
    ]
    for call in calls:
        with pytest.raises(StorageError, match="No such device"):
            call()
    handle.close()
    assert new.read("log") == b"new"
    put(new, "log", b"", sync=True)
    new.sync_directory()
    disk.power_off()
    assert disk.mount().read("log") == b"new"


def test_rot_changes_one_bit(disk: SimDisk) -> None:
    put(disk.mount(), "log", b"\0\0")
    disk.flip_bit("log", 9)
    assert disk.mount().read("log") == b"\0\x02"


def test_name_may_be_durable_before_its_bytes_are(disk: SimDisk) -> None:
    """Renaming over the old file without syncing the new one first loses both (ext4's zero-length
    files)."""
    files = disk.mount()
    put(files, "record", b"old")
    files.sync_directory()
    put(files, "new", b"new", sync=False)
    files.rename("new", "record")
    files.sync_directory()
    disk.power_off()
    assert disk.mount().read("record") == b""


def test_torn_power_failure_may_keep_a_rename_that_was_not_synced_or_not() -> None:
    seen = set()
    for seed in range(40):
        disk = SimDisk(SeededEntropy(f"rename {seed}").stream("disk"))
        files = disk.mount()
        put(files, "record", b"old")
        files.sync_directory()
        put(files, "new", b"new")
        files.rename("new", "record")
        disk.power_off(tear=True)
        left = disk.mount()
        seen.add((tuple(left.names()), left.read("record")))
    assert seen == {
        (("record",), b"old"),
        (("new", "record"), b"old"),
        (("record",), b"new"),
    }


def test_files_lose_their_unsynced_ends_independently() -> None:
    """Written in this order, but the second may be there without the first."""
    seen = set()
    for seed in range(60):
        disk = SimDisk(SeededEntropy(f"order {seed}").stream("disk"))
        files = disk.mount()
        for name in ("first", "second"):
            put(files, name, b"")
        files.sync_directory()
        for name in ("first", "second"):
            put(files, name, b"x", sync=False)
        disk.power_off(tear=True)
        left = disk.mount()
        seen.add((left.read("first") or b"", left.read("second") or b""))
    assert (b"", b"x") in seen
    assert (b"x", b"") in seen


def test_read_error_hits_the_file_it_is_meant_for(disk: SimDisk) -> None:
    files = disk.mount()
    put(files, "a", b"1")
    put(files, "b", b"2")
    disk.fail("read", name="b")
    assert files.read("a") == b"1"
    with pytest.raises(StorageError, match="cannot read /sim/b: Input/output error"):
        files.read("b")
    assert files.read("b") == b"2"


def test_directory_that_does_not_sync_keeps_its_names_unsafe(disk: SimDisk) -> None:
    files = disk.mount()
    put(files, "a", b"1")
    disk.fail("sync", name="")
    with pytest.raises(StorageError):
        files.sync_directory()
    disk.power_off()
    assert disk.mount().names() == []


def test_capacity_may_shrink_below_what_is_used_and_grow_again(disk: SimDisk) -> None:
    files = disk.mount()
    handle = files.append("a")
    handle.write(b"12345678")
    disk.capacity_bytes = 4
    assert files.free_bytes() == 0
    with pytest.raises(StorageError, match="No space left"):
        handle.write(b"9")
    handle.sync()  # what is there already has its place
    assert files.read("a") == b"12345678"
    disk.capacity_bytes = 9
    handle.write(b"9")
    assert files.read("a") == b"123456789"


def test_rot_hits_every_sector_of_what_is_durable_and_nothing_else(disk: SimDisk) -> None:
    files = disk.mount()
    put(files, "large", bytes(3 * SECTOR_BYTES))
    put(files, "small", b"\0")
    files.sync_directory()
    put(files, "large", bytes(10 * SECTOR_BYTES), sync=False)
    put(files, "unknown", b"\0")
    rng = SeededEntropy("rot").stream("rot")
    hits = [disk.rot(rng) for _ in range(200)]
    sectors = {(name, bit // 8 // SECTOR_BYTES) for name, bit in filter(None, hits)}
    assert sectors == {("large", 0), ("large", 1), ("large", 2), ("small", 0)}
    assert files.read("large") != bytes(13 * SECTOR_BYTES)
    assert files.read("unknown") == b"\0"


def test_rot_keeps_to_the_files_that_are_meant(disk: SimDisk) -> None:
    files = disk.mount()
    for name in ("journal", "notes"):
        put(files, name, bytes(SECTOR_BYTES))
    files.sync_directory()
    rng = SeededEntropy("rot").stream("rot")
    hits = [
        disk.rot(rng, within=lambda name, data: len(data) * (name == "journal")) for _ in range(20)
    ]
    assert {hit[0] for hit in hits if hit is not None} == {"journal"}
    assert disk.rot(rng, within=lambda *_: 0) is None


def test_failures_that_are_called_off_do_not_happen(disk: SimDisk) -> None:
    files = disk.mount()
    disk.fail("sync", times=2)
    disk.fail("write", name="a")
    disk.stop_failing()
    put(files, "a", b"1")
    assert files.read("a") == b"1"


def test_rot_changes_exactly_one_bit_and_survives_the_power(disk: SimDisk) -> None:
    files = disk.mount()
    put(files, "a", bytes(1000))
    files.sync_directory()
    hit = disk.rot(SeededEntropy("rot").stream("rot"))
    disk.power_off()
    data = disk.mount().read("a")
    assert data is not None
    assert hit is not None
    assert int.from_bytes(data, "little") == 1 << hit[1]
    assert (
        SimDisk(SeededEntropy("empty").stream("disk")).rot(SeededEntropy("r").stream("r")) is None
    )


def test_sync_tells_what_it_has_made_durable(disk: SimDisk) -> None:
    told: list[tuple[str, bytes]] = []
    disk.on_sync = lambda name, data: told.append((name, data))
    handle = disk.mount().append("log")
    handle.write(b"one")
    handle.write(b"two")
    handle.sync()
    handle.sync()
    handle.write(b"three")
    disk.fail("sync")
    with pytest.raises(StorageError):
        handle.sync()
    assert told == [("log", b"onetwo"), ("log", b"")]
