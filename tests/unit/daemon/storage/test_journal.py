"""The journal on a real directory: what comes back after a restart, and what is refused."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import muster.storage.journal as journal_module
from muster.sim.disk import SimDisk
from muster.storage.files import DiskFiles
from muster.storage.images import write_image
from muster.storage.journal import APPLY_AT_ONCE_BYTES, SLACK_SEGMENTS, Journal, segment_name
from muster.storage.recovery import create_journal, open_journal
from muster.storage.segments import MARK_BYTES
from muster.storage.superblock import (
    SUPERBLOCK_FORMAT,
    Superblock,
    read_superblock,
    write_superblock,
)
from muster_protocol.errors import StorageCorrupt, StorageError
from muster_protocol.wire.raft import Configuration, Entry, Manifest, Voter

BLOCK = Superblock(SUPERBLOCK_FORMAT, "a" * 32, "b" * 32, "c" * 16, b"k" * 16)
CONFIGURATION = Configuration((Voter("a" * 32, "c" * 16),))
FIRST = (b"\x01", 1, 0)


class InlineOffload:
    async def run(self, work: Callable[[], Any], *, kind: str) -> Any:
        return work()


INLINE = InlineOffload()


@pytest.fixture
def files(tmp_path: Path) -> Iterator[DiskFiles]:
    disk = DiskFiles(tmp_path)
    yield disk
    disk.close()


async def journal_with(files: DiskFiles, *terms: int) -> Journal:
    journal = create_journal(files, BLOCK, CONFIGURATION, FIRST)
    for index, term in enumerate(terms, start=2):
        journal.add(b"command %d" % index, index, term)
    await journal.commit(INLINE)
    return journal


def reopen(files: DiskFiles, manifest: Manifest | None = None) -> Journal:
    return open_journal(files, BLOCK, manifest)[0]


def manifest_at(index: int, term: int) -> Manifest:
    previous, last = Entry(b"p", index - 1, term), Entry(b"l", index, term)
    return Manifest(previous, last, CONFIGURATION, 0, b"\0" * 32)


async def test_entries_term_and_vote_come_back(files: DiskFiles) -> None:
    journal = await journal_with(files, 1, 1)
    journal.setCurrentTerm(7, "me")
    await journal.commit(INLINE)
    journal.close()
    again = reopen(files)
    assert [entry[1:] for entry in again[:]] == [(1, 0), (2, 1), (3, 1)]
    assert (again.getCurrentTerm(), again.getVotedForNodeId()) == (7, "me")
    assert again.durable_index == 3
    assert again.configuration == CONFIGURATION
    again.close()


async def test_d11_the_commit_index_is_not_believed_after_a_restart(files: DiskFiles) -> None:
    journal = await journal_with(files, 1, 1)
    journal.setRaftCommitIndex(3)
    journal.close()
    assert reopen(files).getRaftCommitIndex() == 1


async def test_what_was_not_committed_is_gone(files: DiskFiles) -> None:
    journal = await journal_with(files, 1)
    journal.add(b"x", 3, 1)
    assert (journal.last_index, journal.durable_index) == (3, 2)
    journal.close()
    assert reopen(files).last_index == 2


async def test_a_truncation_comes_back_and_lowers_the_durable_mark(files: DiskFiles) -> None:
    journal = await journal_with(files, 1, 1, 1)
    journal.deleteEntriesFrom(2)
    journal.add(b"other", 3, 2)
    assert journal.durable_index == 2
    await journal.commit(INLINE)
    assert journal.durable_index == 3
    journal.close()
    assert [entry[2] for entry in reopen(files)[:]] == [0, 1, 2]


async def test_a_truncation_during_a_sync_does_not_become_durable_with_it(
    files: DiskFiles,
) -> None:
    journal = await journal_with(files)
    journal.add(b"a", 2, 1)
    journal.add(b"b", 3, 1)

    class TruncatingOffload:
        async def run(self, work: Callable[[], Any], *, kind: str) -> Any:
            work()
            journal.deleteEntriesFrom(1)
            journal.add(b"c", 2, 2)

    await journal.commit(TruncatingOffload())
    assert journal.durable_index == 1
    await journal.commit(INLINE)
    assert journal.durable_index == 2
    journal.close()


async def test_a_committed_entry_is_never_truncated(files: DiskFiles) -> None:
    journal = await journal_with(files, 1, 1)
    journal.setRaftCommitIndex(3)
    with pytest.raises(AssertionError, match="committed"):
        journal.deleteEntriesFrom(2)
    journal.close()


async def test_a_torn_tail_is_cut_and_the_next_append_follows_it(
    files: DiskFiles, tmp_path: Path
) -> None:
    journal = await journal_with(files, 1)
    journal.add(b"not acknowledged", 3, 1)
    await journal.commit(INLINE)
    journal.close()
    path = tmp_path / segment_name(1)
    path.write_bytes(path.read_bytes()[:-5])
    journal, torn = open_journal(files, BLOCK, None)
    assert torn > 0
    assert journal.last_index == 2
    journal.add(b"again", 3, 2)
    await journal.commit(INLINE)
    journal.close()
    assert reopen(files).entry_at(3) == Entry(b"again", 3, 2)


async def test_d08_a_flipped_bit_in_the_last_record_refuses_to_start(
    files: DiskFiles, tmp_path: Path
) -> None:
    journal = await journal_with(files, 1, 1)
    await journal.close_batch(INLINE)
    journal.close()
    path = tmp_path / segment_name(1)
    data = bytearray(path.read_bytes())
    data[-4 - MARK_BYTES] ^= 1
    path.write_bytes(data)
    with pytest.raises(StorageCorrupt, match=r"journal-00000001.seg.*move it away"):
        reopen(files)


async def test_another_nodes_segment_is_refused(files: DiskFiles) -> None:
    (await journal_with(files, 1)).close()
    with pytest.raises(StorageCorrupt, match="another node"):
        open_journal(
            files, Superblock(SUPERBLOCK_FORMAT, "d" * 32, "b" * 32, "c" * 16, b"k" * 16), None
        )


async def test_segments_follow_each_other_and_are_forgotten_behind_a_snapshot(
    files: DiskFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("muster.storage.journal.SEGMENT_BYTES_MAX", 2_000)
    journal = await journal_with(files)
    for index in range(2, 60):
        journal.add(b"x" * 200, index, 1)
        await journal.commit(INLINE)
    segments = [name for name in files.names() if name.endswith(".seg")]
    assert len(segments) > 5
    manifest = Manifest(journal.entry_at(49), journal.entry_at(50), CONFIGURATION, 0, b"\0" * 32)
    journal.setRaftCommitIndex(59)
    for name in journal.trim(manifest, keep_entries=5, keep_bytes=10_000):
        files.remove(name)
    assert journal.first_index == 44
    assert len([name for name in files.names() if name.endswith(".seg")]) < len(segments)
    journal.close()
    again = reopen(files, manifest)
    assert (again.first_index, again.last_index) == (49, 59)


@pytest.mark.parametrize(
    ("keep_entries", "keep_bytes", "first"),
    [(5, 10_000, 44), (40, 1_000, 44), (40, 1_199, 44), (40, 0, 49), (100, 10_000, 1)],
)
async def test_what_is_kept_behind_a_snapshot_is_bounded_twice(
    files: DiskFiles, keep_entries: int, keep_bytes: int, first: int
) -> None:
    journal = await journal_with(files)
    for index in range(2, 60):
        journal.add(b"x" * 200, index, 1)
    await journal.commit(INLINE)
    before = journal.log_bytes
    manifest = Manifest(journal.entry_at(49), journal.entry_at(50), CONFIGURATION, 0, b"\0" * 32)
    journal.setRaftCommitIndex(59)
    journal.trim(manifest, keep_entries=keep_entries, keep_bytes=keep_bytes)
    assert journal.first_index == first
    assert journal.log_bytes == sum(len(entry[0]) for entry in journal[:])
    assert journal.log_bytes <= before


async def test_a_truncation_may_reach_into_a_segment_that_is_forgotten(
    files: DiskFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "SEGMENT_BYTES_MAX", 2000)
    journal = await journal_with(files, *[1] * 59)  # one segment: entries 1 to 60
    journal.setRaftCommitIndex(50)
    journal.setCurrentTerm(2, None)
    journal.deleteEntriesFrom(54)  # a new leader replaces the tail, in the next segment
    for index in range(55, 200):
        journal.add(b"command %d" % index, index, 2)
        if index == 129:
            await journal.commit(INLINE)
    await journal.commit(INLINE)
    journal.setRaftCommitIndex(199)
    manifest = manifest_at(190, 2)
    for name in journal.trim(manifest, keep_entries=100, keep_bytes=1 << 30):
        files.remove(name)
    journal.close()
    assert segment_name(1) not in files.names()
    assert reopen(files, manifest).last_index == 199


async def test_segments_stay_until_what_follows_them_is_on_the_disk(
    files: DiskFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A follower may apply, and take a snapshot of, what it has not written yet (Raft 24637)."""
    monkeypatch.setattr(journal_module, "SEGMENT_BYTES_MAX", 300)
    journal = await journal_with(files, 1, 1)
    journal.setCurrentTerm(2, "other")
    await journal.commit(INLINE)
    for index in range(4, 30):
        journal.add(b"command %d" % index, index, 2)
    assert journal.begin_commit() is not None  # its own segment, and the power fails before
    journal.setRaftCommitIndex(29)
    manifest = Manifest(journal.entry_at(27), journal.entry_at(28), CONFIGURATION, 0, b"\0" * 32)
    for name in journal.trim(manifest, keep_entries=0, keep_bytes=0):
        files.remove(name)
    journal.close()
    again = reopen(files, manifest)
    assert (again.getCurrentTerm(), again.getVotedForNodeId()) == (2, "other")
    assert [entry[1] for entry in again[:]] == [27, 28]
    again.close()


async def test_a_segment_with_the_end_of_the_log_stays_where_only_votes_follow(
    files: DiskFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same, and a segment without entries lies between (Raft 24337)."""
    monkeypatch.setattr(journal_module, "SEGMENT_BYTES_MAX", 300)
    journal = await journal_with(files, 1, 1)
    for term in range(2, 12):
        journal.setCurrentTerm(term, "other")
    await journal.commit(INLINE)
    for index in range(4, 30):
        journal.add(b"command %d" % index, index, 11)
    journal.setRaftCommitIndex(29)
    manifest = Manifest(journal.entry_at(27), journal.entry_at(28), CONFIGURATION, 0, b"\0" * 32)
    for name in journal.trim(manifest, keep_entries=0, keep_bytes=0):
        files.remove(name)
    journal.close()
    again = reopen(files, manifest)
    assert again.getCurrentTerm() == 11
    assert [entry[1] for entry in again[:]] == [27, 28]
    again.close()


async def test_the_log_before_an_installed_snapshot_stays_until_its_reset_is_on_the_disk(
    files: DiskFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "SEGMENT_BYTES_MAX", 300)
    journal = await journal_with(files, 1, 1)
    for term in range(2, 12):
        journal.setCurrentTerm(term, "other")
    await journal.commit(INLINE)
    manifest = manifest_at(50, 11)
    journal.reset_to(manifest)
    assert journal.trim(manifest, keep_entries=0, keep_bytes=0) == []
    await journal.commit(INLINE)
    for name in journal.trim(manifest, keep_entries=0, keep_bytes=0):
        files.remove(name)
    assert segment_name(1) not in files.names()
    journal.close()
    again = reopen(files, manifest)
    assert again.getCurrentTerm() == 11
    assert [entry[1] for entry in again[:]] == [49, 50]
    again.close()


async def test_a_snapshot_without_its_reset_takes_the_logs_place(files: DiskFiles) -> None:
    """Crash between the installation of a snapshot and the journal's RESET (D9)."""
    (await journal_with(files, 1, 1)).close()
    manifest = manifest_at(10, 2)
    journal = reopen(files, manifest)
    assert [entry[1] for entry in journal[:]] == [9, 10]
    journal.add(b"next", 11, 2)
    await journal.commit(INLINE)
    journal.close()
    assert [entry[1] for entry in reopen(files, manifest)[:]] == [9, 10, 11]


async def test_a_log_that_agrees_with_the_snapshot_keeps_what_follows(files: DiskFiles) -> None:
    journal = await journal_with(files, 1, 1, 1, 1)
    manifest = Manifest(journal.entry_at(2), journal.entry_at(3), CONFIGURATION, 0, b"\0" * 32)
    journal.close()
    assert [entry[1] for entry in reopen(files, manifest)[:]] == [2, 3, 4, 5]


async def test_a_missing_snapshot_refuses_to_start(files: DiskFiles, tmp_path: Path) -> None:
    journal = await journal_with(files)
    journal.reset_to(manifest_at(10, 2))
    await journal.commit(INLINE)
    journal.close()
    with pytest.raises(StorageCorrupt, match="snapshot"):
        reopen(files)


def damage(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


async def two_segments(files: DiskFiles) -> Journal:
    """Entries 1 to 3 in the first one, and a mark behind it; entry 4 in the second."""
    journal = await journal_with(files, 1, 1)
    await journal.close_batch(INLINE)
    journal.segment_bytes_max = 1
    journal.add(b"in the second", 4, 1)
    await journal.commit(INLINE)
    return journal


async def test_a_hole_in_a_batch_that_was_not_acknowledged_is_cut(
    files: DiskFiles, tmp_path: Path
) -> None:
    journal = await journal_with(files, 1)
    begin = journal.bytes_on_disk
    for index in range(3, 9):
        journal.add(b"%d" % index * 200, index, 1)
    await journal.commit(INLINE)
    journal.close()
    damage(tmp_path / segment_name(1), begin + 700)
    again, torn = open_journal(files, BLOCK, None)
    assert again.last_index == 4
    assert torn > 600
    again.add(b"new", 5, 2)
    await again.commit(INLINE)
    again.close()
    assert reopen(files).entry_at(5) == Entry(b"new", 5, 2)


async def test_a_batch_is_evidence_once_something_is_behind_it(
    files: DiskFiles, tmp_path: Path
) -> None:
    """A second without a commit, a restart, the next batch."""
    path = tmp_path / segment_name(1)
    journal = await journal_with(files)
    for index in (2, 3, 4):
        begin = journal.bytes_on_disk
        journal.add(b"evidence", index, 1)
        await journal.commit(INLINE)
        if index == 2:
            await journal.close_batch(INLINE)
        if index == 3:
            journal.close()
            journal = reopen(files)
        if index == 4:
            journal.setCurrentTerm(2, None)
            await journal.commit(INLINE)
        whole = path.read_bytes()
        damage(path, begin + 33)
        with pytest.raises(StorageCorrupt, match="byte"):
            reopen(files)
        path.write_bytes(whole)
    journal.close()


async def test_a_closing_mark_is_the_next_batchs_and_written_once(files: DiskFiles) -> None:
    journal = await journal_with(files)
    assert journal.begin_mark() is not None
    assert journal.begin_mark() is None
    size = journal.bytes_on_disk
    journal.setCurrentTerm(1, None)
    size_of_record = journal.bytes_on_disk - size
    await journal.commit(INLINE)
    assert journal.bytes_on_disk == size + size_of_record
    journal.close()


async def test_the_mark_at_the_end_of_an_older_segment_may_be_lost(
    files: DiskFiles, tmp_path: Path
) -> None:
    """It was not synced, and the next batch went into another file."""
    (await two_segments(files)).close()
    path = tmp_path / segment_name(1)
    path.write_bytes(path.read_bytes()[:-9])
    assert reopen(files).last_index == 4


async def test_records_missing_at_the_end_of_an_older_segment_are_damage(
    files: DiskFiles, tmp_path: Path
) -> None:
    """Though what is there is sound, and an entry may follow on any other after a truncation."""
    journal = await journal_with(files, 1)
    before = journal.bytes_on_disk
    journal.setCurrentTerm(2, "me")
    await journal.commit(INLINE)
    journal.segment_bytes_max = 1
    journal.add(b"in the second", 3, 2)
    await journal.commit(INLINE)
    journal.close()
    path = tmp_path / segment_name(1)
    path.write_bytes(path.read_bytes()[:before])
    with pytest.raises(StorageCorrupt, match=segment_name(1)):
        reopen(files)


async def test_a_segment_whose_creation_was_torn_goes(files: DiskFiles, tmp_path: Path) -> None:
    """Its first batch has a hole, in the header or behind it, and nothing proves that it was
    acknowledged."""
    (await two_segments(files)).close()
    path = tmp_path / segment_name(2)
    whole = path.read_bytes()
    for at, last_index in ((5, 3), (30, 3), (len(whole) - 5, 3)):
        path.write_bytes(whole[:at] + bytes(len(whole) - at - 1) + whole[-1:])
        journal, torn = open_journal(files, BLOCK, None)
        assert torn > 0
        assert journal.last_index == last_index
        journal.close()


async def test_a_damaged_header_is_told_from_a_torn_one_by_a_later_mark(
    files: DiskFiles, tmp_path: Path
) -> None:
    journal = await two_segments(files)
    await journal.close_batch(INLINE)
    journal.close()
    damage(tmp_path / segment_name(2), 20)
    before = {name: files.read(name) for name in files.names()}
    with pytest.raises(StorageCorrupt, match=r"journal-00000002.seg: the record at byte 0"):
        reopen(files)
    assert {name: files.read(name) for name in files.names()} == before


async def test_a_removed_segment_may_be_back_without_its_successor(files: DiskFiles) -> None:
    """Names that were not synced are lost in any order."""
    journal = await journal_with(files, 1)
    journal.segment_bytes_max = 1
    for index in range(3, 8):
        journal.add(b"x", index, 1)
        await journal.commit(INLINE)
    manifest = Manifest(journal.entry_at(5), journal.entry_at(6), CONFIGURATION, 0, b"\0" * 32)
    journal.close()
    files.remove(segment_name(2))
    with pytest.raises(StorageCorrupt, match="the snapshot that covers what came before"):
        reopen(files)
    again = reopen(files, manifest)
    assert (again.first_index, again.last_index) == (5, 7)
    assert files.names()[0] == segment_name(3)
    again.close()


async def test_a_segment_under_another_ones_name_is_refused(files: DiskFiles) -> None:
    (await two_segments(files)).close()
    files.rename(segment_name(2), segment_name(1))
    with pytest.raises(StorageCorrupt, match=r"journal-00000001.seg: is segment 2"):
        reopen(files)


async def test_power_may_fail_at_any_step_of_a_recovery() -> None:
    for operations in range(20):
        disk = SimDisk(random.Random(operations))
        journal = create_journal(disk.mount(), BLOCK, CONFIGURATION, FIRST)
        await journal.commit(INLINE)
        journal.add(b"acknowledged", 2, 1)
        await journal.commit(INLINE)
        journal.segment_bytes_max = 1
        for index in range(3, 6):
            journal.add(b"%d" % index * 500, index, 1)
        work = journal.begin_commit()
        disk.fail("sync", name=segment_name(2))
        with pytest.raises(StorageError):
            work()  # type: ignore[misc]
        disk.power_off(tear=True)
        disk.power_off_in(operations)
        with contextlib.suppress(StorageError):
            open_journal(disk.mount(), BLOCK, None)
        disk.power_off_in(None)
        disk.power_off(tear=True)
        again = open_journal(disk.mount(), BLOCK, None)[0]
        assert again.last_index >= 2
        last_index = again.last_index
        disk.power_off()
        assert open_journal(disk.mount(), BLOCK, None)[0].last_index == last_index


async def test_a_torn_founding_is_replaced_and_a_used_journal_is_not(
    files: DiskFiles, tmp_path: Path
) -> None:
    journal = await journal_with(files)
    path = tmp_path / segment_name(1)
    whole = path.read_bytes()
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes(min(30, len(whole) - at)) + whole[at + 30 :])
        create_journal(files, BLOCK, CONFIGURATION, FIRST)
    journal.close()
    journal = await journal_with(files)
    journal.setCurrentTerm(0, None)
    await journal.commit(INLINE)
    journal.close()
    damage(path, 20)
    with pytest.raises(StorageCorrupt, match="superblock"):
        create_journal(files, BLOCK, CONFIGURATION, FIRST)


async def test_a_failed_sync_is_final(files: DiskFiles) -> None:
    class FailingOffload:
        async def run(self, work: Callable[[], Any], *, kind: str) -> Any:
            raise StorageError("cannot sync: Input/output error")

    journal = await journal_with(files)
    journal.add(b"x", 2, 1)
    with pytest.raises(StorageError):
        await journal.commit(FailingOffload())
    with pytest.raises(StorageError):
        await journal.commit(INLINE)
    journal.close()


async def test_what_a_failed_sync_left_in_the_cache_is_durable_after_the_next_start() -> None:
    """The kernel takes it for written, so a sync alone would say so too, and lose it with the
    power."""
    disk = SimDisk(random.Random(1))
    journal = create_journal(disk.mount(), BLOCK, CONFIGURATION, FIRST)
    await journal.commit(INLINE)
    journal.add(b"lost?", 2, 1)
    disk.fail("sync")
    with pytest.raises(StorageError):
        await journal.commit(INLINE)
    disk.unmount()
    again = open_journal(disk.mount(), BLOCK, None)[0]
    assert again.durable_index == 2
    disk.power_off()
    assert open_journal(disk.mount(), BLOCK, None)[0].last_index == 2


async def test_closed_slices_bound_what_one_tick_applies(files: DiskFiles) -> None:
    journal = await journal_with(files, *([1] * 200))
    assert len(journal[1:190]) == 64
    assert len(journal[1:]) == 200
    journal.close()


async def test_closed_slices_of_large_entries_are_shorter(files: DiskFiles) -> None:
    journal = await journal_with(files, *([1] * 10))
    for index in range(journal.last_index + 1, journal.last_index + 11):
        journal.add(b"x" * (APPLY_AT_ONCE_BYTES // 4), index, 1)
    journal.add(b"y" * (2 * APPLY_AT_ONCE_BYTES), journal.last_index + 1, 1)
    journal.add(b"z", journal.last_index + 1, 1)
    assert len(journal[11:22]) == 4
    assert len(journal[11:]) == 12
    assert [len(journal[start : start + 2]) for start in (0, 15, 21)] == [2, 2, 2]
    journal.close()


async def test_the_rest_of_an_interrupted_founding_is_replaced(files: DiskFiles) -> None:
    (await journal_with(files)).close()
    journal = create_journal(files, BLOCK, CONFIGURATION, FIRST)
    await journal.commit(INLINE)
    journal.close()
    assert reopen(files).last_index == 1


async def test_a_used_journal_without_its_superblock_is_not_replaced(files: DiskFiles) -> None:
    (await journal_with(files, 1)).close()
    with pytest.raises(StorageCorrupt, match="superblock"):
        create_journal(files, BLOCK, CONFIGURATION, FIRST)


def test_the_superblock_comes_back_and_damage_is_refused(files: DiskFiles, tmp_path: Path) -> None:
    assert read_superblock(files) is None
    write_superblock(files, BLOCK)
    assert read_superblock(files) == BLOCK
    path = tmp_path / "superblock"
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(StorageCorrupt):
        read_superblock(files)


async def test_what_no_snapshot_shortens_is_bounded_by_images(files: DiskFiles) -> None:
    """Votes in term after term, and a tail that each new leader replaces."""
    journal = await journal_with(files, 1, 1)
    journal.segment_bytes_max = 2_000
    largest, images = 0, 0
    for term in range(2, 400):
        journal.deleteEntriesFrom(2)
        journal.setCurrentTerm(term, "a" * 32)
        for index in range(3, 6):
            journal.add(b"of term %d" % term, index, term)
        await journal.commit(INLINE)
        if journal.is_bloated:
            image = write_image(files, BLOCK, list(journal.sealed), None)
            for name in journal.put_image(image):
                files.remove(name)
            images += 1
        largest = max(largest, sum(len(files.read(name) or b"") for name in files.names()))
    assert images > 5
    assert largest < 2_000 * (SLACK_SEGMENTS + 3)
    journal.close()
    again = reopen(files)
    assert (again.getCurrentTerm(), again.getVotedForNodeId()) == (399, "a" * 32)
    assert [entry[1:] for entry in again[:]] == [(1, 0), (2, 1), (3, 399), (4, 399), (5, 399)]
    again.close()


async def test_an_image_leaves_out_what_a_snapshot_covers_and_goes_behind_the_next_one(
    files: DiskFiles,
) -> None:
    journal = await journal_with(files)
    journal.segment_bytes_max = 300
    for index in range(2, 60):
        journal.add(b"command %d" % index, index, 1)
        await journal.commit(INLINE)
    manifest = Manifest(journal.entry_at(29), journal.entry_at(30), CONFIGURATION, 0, b"\0" * 32)
    image = write_image(files, BLOCK, list(journal.sealed), manifest)
    for name in journal.put_image(image):
        files.remove(name)
    assert [name for name in files.names() if name.endswith(".img")] == [image.name]
    journal.close()
    again = reopen(files, manifest)
    assert (again.first_index, again.last_index) == (29, 59)
    for index in range(60, 63):
        again.add(b"more", index, 1)
    await again.commit(INLINE)
    last = Manifest(again.entry_at(60), again.entry_at(61), CONFIGURATION, 0, b"\0" * 32)
    assert image.name in again.trim(last, keep_entries=0, keep_bytes=0)
    again.close()


async def test_an_image_that_is_not_whole_is_damage(files: DiskFiles, tmp_path: Path) -> None:
    journal = await two_segments(files)
    image = write_image(files, BLOCK, list(journal.sealed), None)
    journal.close()
    path = tmp_path / image.name
    whole = path.read_bytes()
    for data in (whole[:-5], whole[: whole.rindex(b"\xa6")], whole[:50] + b"?" + whole[51:]):
        path.write_bytes(data)
        with pytest.raises(StorageCorrupt, match=r"journal-00000001.img"):
            reopen(files)
    path.write_bytes(whole)
    assert reopen(files).last_index == 4
    assert segment_name(1) not in files.names()


async def test_an_image_that_is_back_without_what_followed_it_is_left_aside(
    files: DiskFiles,
) -> None:
    journal = await journal_with(files, 1)
    journal.segment_bytes_max = 1
    for index in range(3, 8):
        journal.add(b"x", index, 1)
        await journal.commit(INLINE)
    write_image(files, BLOCK, journal.sealed[:1], None)
    manifest = Manifest(journal.entry_at(5), journal.entry_at(6), CONFIGURATION, 0, b"\0" * 32)
    journal.close()
    files.remove(segment_name(2))
    again = reopen(files, manifest)
    assert (again.first_index, again.last_index) == (5, 7)
    again.close()
