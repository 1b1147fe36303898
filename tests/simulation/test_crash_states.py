"""Every crash that the storage code can have, replayed: journal, snapshots, superblock, records.

A voter's storage works through founding, votes, entries, conflicts, segments, images, snapshots
taken and installed, and restarts. For every prefix of what it did to its directory, and every state
that a loss of power may leave behind it, the production code recovers, and what it finds must be
no older than what was acknowledged and no newer than what was asked for. What recovery has said is
durable: it is replayed in the same way. `make test-durability` runs this too.

The control are planted faults: each of them must be found.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast

import pytest

from muster.agents.consistency.compaction import Compaction, Replicated, SnapshotPolicy
from muster.sim.disk import SimFiles
from muster.sim.machines.applied import History
from muster.storage import recovery, segments
from muster.storage.files import Files, write_atomically
from muster.storage.journal import EngineEntry, Journal
from muster.storage.records import encode_record, scan_records
from muster.storage.recovery import create_journal, open_journal
from muster.storage.segments import MARK_BYTES
from muster.storage.snapshots import SnapshotStore
from muster.storage.superblock import Superblock, read_superblock, write_superblock
from muster_protocol.errors import StorageCorrupt
from muster_protocol.wire.raft import Configuration, Entry, Manifest, Voter
from testkit.crash_states import Directory, Recorder, content_of, crash_states, disk_with

ME, OTHER = "a" * 32, "d" * 32
BLOCK = Superblock(2, ME, "b" * 32, "c" * 16, b"k" * 16)
CONFIGURATION = Configuration((Voter(ME, "c" * 16), Voter(OTHER, "e" * 16)))
FIRST = (b"\x01", 1, 0)
RECORD = "agent.promise.rec"
POLICY = SnapshotPolicy(every_entries=10, keep_entries=3)

Log = tuple[EngineEntry, ...]
Vote = tuple[int, str | None]


@dataclass(frozen=True)
class Bounds:
    """What may be found: of each list, anything from `acknowledged` on up to what was asked for."""

    logs: tuple[int, int]
    votes: tuple[int, int]
    snapshots: tuple[int, int]
    records: tuple[int, int]
    is_founded: bool


class Node:
    """The storage of one voter at work, and beside it what is asked for and acknowledged."""

    def __init__(self, files: Files) -> None:
        self.bounds: list[Bounds] = []
        self.recorder = Recorder(files, before=lambda _: self.bounds.append(self._bounds()))
        self.files = cast("Files", self.recorder)
        self.logs: list[Log] = []
        self.votes: list[Vote] = []
        self.snapshots: list[tuple[Manifest, History] | None] = [None]
        self.records: list[bytes | None] = [None]
        self.acknowledged = {"logs": 0, "votes": 0, "snapshots": 0, "records": 0}
        self.is_founded = False
        self.history = History()
        self.store = SnapshotStore(self.files)
        self.journal: Journal

    def _bounds(self) -> Bounds:
        issued = {
            "logs": len(self.logs),
            "votes": len(self.votes),
            "snapshots": len(self.snapshots),
            "records": len(self.records),
        }
        ranges = {what: (self.acknowledged[what], issued[what]) for what in issued}
        return Bounds(**ranges, is_founded=self.is_founded)

    def found(self) -> None:
        self.journal = create_journal(self.files, BLOCK, CONFIGURATION, FIRST)
        self._changed()
        self.commit()
        write_superblock(self.files, BLOCK)
        self.is_founded = True
        self._start()

    def restart(self) -> None:
        """The process dies, the page cache stays."""
        self.journal.close()
        self.store = SnapshotStore(self.files)
        newest = self.store.newest()
        self.journal, _ = open_journal(self.files, BLOCK, newest[0] if newest else None)
        self.history = History.restore(newest[1]) if newest else History()
        self._changed()
        self.acknowledged["logs"] = len(self.logs) - 1
        self.acknowledged["votes"] = len(self.votes) - 1
        self._start()

    def _start(self) -> None:
        self.journal.segment_bytes_max = 400
        self.core = SimpleNamespace(journal=self.journal, applied_index=self.history.last_index)
        self.compaction: Compaction[History] = Compaction(
            core=cast("Any", self.core),
            store=self.store,
            files=self.files,
            state=Replicated(self._capture, History.restore, self._replace),
            policy=POLICY,
        )

    def _capture(self) -> Any:
        return self.history.capture()

    def _replace(self, history: History, index: int) -> None:
        del index
        self.history = history

    # --- changes, which are asked for here and acknowledged by `commit` -------------------------

    def vote(self, term: int, whom: str | None) -> None:
        self.journal.setCurrentTerm(term, whom)
        self._changed()

    def append(self, count: int, *, size: int = 20) -> None:
        for _ in range(count):
            index, term = self.journal.last_index + 1, self.journal.current_term
            self.journal.add(b"%d of term %d " % (index, term) + b"x" * size, index, term)
            self._changed()

    def conflict(self, index: int) -> None:
        self.journal.deleteEntriesFrom(index - self.journal.first_index)
        self._changed()

    def commit(self, *, meanwhile: Callable[[], None] = lambda: None) -> None:
        work = self.journal.begin_commit()
        assert work is not None
        covered = len(self.logs) - 1, len(self.votes) - 1
        meanwhile()
        work()
        self.journal.end_commit()
        self.acknowledged["logs"], self.acknowledged["votes"] = covered
        if self.journal.is_bloated:
            self._image()

    def killed_before_the_sync(self) -> None:
        """The process dies in a commit: what it wrote is in the page cache, and nowhere else."""
        work = self.journal.begin_commit()
        assert work is not None
        self.recorder.is_skipped = lambda kind, _: kind == "sync"
        work()
        del self.recorder.is_skipped

    def close_batch(self) -> None:
        work = self.journal.begin_mark()
        if work is not None:
            work()

    def persist(self, data: bytes) -> None:
        self.records.append(data)
        write_atomically(self.files, RECORD, encode_record(0x30, data))
        self.acknowledged["records"] = len(self.records) - 1

    def apply_to(self, index: int) -> None:
        self.journal.setRaftCommitIndex(index)
        for each in range(max(self.history.last_index + 1, 2), index + 1):
            self.history.apply(self.journal.entry_at(each).command, each)
        self.core.applied_index = index

    def _changed(self) -> None:
        self.logs.append(tuple(self.journal[:]))
        self.votes.append((self.journal.getCurrentTerm(), self.journal.getVotedForNodeId()))

    # --- snapshots and images -------------------------------------------------------------------

    def take_snapshot(self, *, meanwhile: Callable[[], None] = lambda: None) -> None:
        index = self.core.applied_index
        history = History.restore(self.history.capture().slices())
        previous, last = self.journal.entry_at(index - 1), self.journal.entry_at(index)
        expected = Manifest(previous, last, CONFIGURATION, 0, bytes(32))
        self.snapshots.append((expected, history))
        work = self.compaction.begin()
        meanwhile()
        manifest = work()
        self.acknowledged["snapshots"] = len(self.snapshots) - 1
        remove = self.compaction.end(manifest)
        if remove is not None:
            remove()

    def install_snapshot(self, index: int, term: int) -> None:
        """One of a leader whose log is another, and ahead."""
        history = History()
        for each in range(2, index + 1):
            history.apply(b"the leader's %d" % each, each)
        previous, last = (Entry(b"the leader's %d" % i, i, term) for i in (index - 1, index))
        leader = SnapshotStore(disk_with({}).mount())
        manifest = leader.write(
            history.capture().slices(), previous=previous, last=last, configuration=CONFIGURATION
        )
        data = leader.read_data(manifest)
        assert data is not None
        self.snapshots.append((manifest, history))
        behind = ((previous.command, index - 1, term), (last.command, index, term))
        self.logs.append(behind)  # a start between the two steps begins the log there itself
        self.votes.append(self.votes[-1])
        restored = self.compaction.save(manifest, data)
        self.acknowledged["snapshots"] = len(self.snapshots) - 1
        self.compaction.put_in_force(manifest, restored)
        self.journal.reset_to(manifest)
        self._changed()
        self.core.applied_index = index
        self.compaction.clean_up(manifest)()

    def _image(self) -> None:
        work = self.compaction.begin_image()
        assert work is not None
        self.compaction.end_image(work())()


def workload(node: Node) -> None:
    """Some of everything, in an order in which each leans on what was before."""
    node.persist(b"a promise")
    node.found()
    node.vote(1, OTHER)
    node.commit()
    node.append(3)
    node.commit(meanwhile=lambda: node.append(2))
    node.commit()
    node.close_batch()
    node.append(4, size=60)
    node.vote(2, ME)
    node.commit()
    node.apply_to(8)
    node.take_snapshot(meanwhile=lambda: (node.append(2), node.commit())[0])
    node.conflict(11)
    node.vote(3, None)
    node.append(3)
    node.commit(meanwhile=lambda: node.conflict(12))
    node.append(1)
    node.commit()
    node.restart()
    node.append(1)
    node.killed_before_the_sync()
    node.restart()
    node.persist(b"another promise")
    for term in range(4, 40):  # what no snapshot shortens
        node.vote(term, OTHER if term % 2 else None)
        node.conflict(11)
        node.append(1, size=30)
        node.commit()
        if term % 3 == 0:
            node.close_batch()  # more follows in the same segment, or in the next one
    node.close_batch()
    node.append(6, size=100)
    node.commit()
    node.apply_to(16)
    node.take_snapshot()
    node.install_snapshot(40, 41)
    node.vote(41, None)
    node.append(5)
    node.commit()
    node.apply_to(44)
    node.take_snapshot()
    node.restart()
    node.append(2)
    node.vote(42, ME)
    node.commit()


@dataclass(frozen=True)
class Found:
    """What a start finds."""

    log: Log
    vote: Vote
    snapshot: tuple[Manifest, bytes] | None
    record: bytes | None
    is_founded: bool


def recover(files: Files) -> Found:
    """With the production code. Errors: StorageCorrupt."""
    data = files.read(RECORD)
    record = the_record(data) if data is not None else None
    if read_superblock(files) is None:
        create_journal(files, BLOCK, CONFIGURATION, FIRST)  # the founding may be repeated
        return Found((), (0, None), None, record, is_founded=False)
    newest = SnapshotStore(files).newest()
    journal, _ = open_journal(files, BLOCK, newest[0] if newest is not None else None)
    vote = (journal.getCurrentTerm(), journal.getVotedForNodeId())
    snapshot = (newest[0], History.restore(newest[1]).digest) if newest is not None else None
    return Found(tuple(journal[:]), vote, snapshot, record, is_founded=True)


def the_record(data: bytes) -> bytes:
    """As the executor reads it at start. Errors: StorageCorrupt."""
    records = scan_records(data, path=RECORD)
    if len(records) != 1:
        raise StorageCorrupt(f"{RECORD}: holds {len(records)} records")
    return records[0][1]


def judge(node: Node, bounds: Bounds, found: Found) -> str | None:
    """What is wrong with what was found, or None."""
    if not found.is_founded:
        return "the founding is forgotten" if bounds.is_founded else None
    if found.record not in node.records[slice(*bounds.records)]:
        return f"the record {found.record!r}"
    if found.vote not in node.votes[slice(*bounds.votes)]:
        return f"the vote {found.vote}"
    if not any(is_same(found, log) for log in node.logs[slice(*bounds.logs)]):
        return f"the log {[entry[1:] for entry in found.log]}"
    kept = node.snapshots[slice(*bounds.snapshots)]
    if found.snapshot is None:
        return None if None in kept else "the snapshot is gone"
    manifest, digest = found.snapshot
    for each in kept:
        if each is not None and each[0].last == manifest.last and each[1].digest == digest:
            return None
    return f"the snapshot at {manifest.last.index}"


def is_same(found: Found, log: Log) -> bool:
    """Behind a snapshot the log begins with its two entries, else with all that is kept."""
    begin = found.log[0][1]
    return log[-1][1] >= begin and tuple(e for e in log if e[1] >= begin) == found.log


@dataclass
class Tally:
    """How much was looked at, and the first that was wrong."""

    prefixes: int = 0
    states: int = 0
    recoveries_replayed: int = 0
    states_of_recoveries: int = 0
    wrong: str | None = None


def replay(node: Node, *, every: int = 1) -> Tally:
    """Every prefix and state; the recovery of every `every`th is replayed too."""
    tally = Tally(prefixes=len(node.recorder.operations) + 1)
    node.bounds.append(node._bounds())
    seen: dict[bytes, None] = {}
    for done, state in crash_states({}, node.recorder.operations):
        bounds = node.bounds[done]
        key = digest_of(state, bounds)
        if key in seen:
            continue
        seen[key] = None
        tally.states += 1
        where = f"after {done} operations: {node.recorder.operations[max(0, done - 3) : done]}"
        try:
            wrong = judge_recovery(node, bounds, state, tally, is_replayed=not tally.states % every)
        except StorageCorrupt as refusal:
            wrong = f"it refuses to start: {refusal}"
        if wrong is not None:
            tally.wrong = f"{wrong} ({where})"
            return tally
    return tally


def judge_recovery(
    node: Node, bounds: Bounds, state: Directory, tally: Tally, *, is_replayed: bool
) -> str | None:
    """Errors: StorageCorrupt."""
    recorder = Recorder(disk_with(state).mount())
    files = cast("SimFiles", recorder)
    found = recover(files)
    wrong = judge(node, bounds, found)
    if wrong is not None:
        return wrong
    left = content_of(files)
    if recover(files) != found or content_of(files) != left:
        return "the second start finds something else than the first"
    if not is_replayed:
        return None
    tally.recoveries_replayed += 1
    operations = recorder.operations
    for done, again in crash_states(state, operations):
        tally.states_of_recoveries += 1
        second = recover(disk_with(again).mount())
        wrong = judge(node, bounds, second)
        if wrong is None and done == len(operations) and second != found:
            wrong = "what a start had found is not durable"
        if wrong is not None:
            return f"{wrong}, after {done} of {operations} of a recovery"
    return None


def digest_of(state: Directory, bounds: Bounds) -> bytes:
    digest = hashlib.blake2b(repr(bounds).encode())
    for name in sorted(state):
        digest.update(name.encode() + b"\0" + hashlib.blake2b(state[name]).digest())
    return digest.digest()


def recorded() -> Node:
    node = Node(disk_with({}).mount())
    workload(node)
    return node


@pytest.mark.timeout(120)
def test_no_crash_loses_what_was_acknowledged() -> None:
    node = recorded()
    kinds = {operation[0] for operation in node.recorder.operations}
    assert kinds == {"create", "write", "sync", "rename", "remove", "sync-names"}
    names = {operation[-1] for operation in node.recorder.operations if operation[0] == "rename"}
    assert any(str(name).endswith(".img") for name in names)
    tally = replay(node, every=8)
    print(f"\n{tally}")
    assert tally.wrong is None
    assert tally.prefixes > 250
    assert tally.states > 2_000
    assert tally.states_of_recoveries > 10_000


# --- planted faults -----------------------------------------------------------------------------


def skipped(kind: str, matches: Callable[[str], bool]) -> Callable[[pytest.MonkeyPatch], None]:
    """Operations of this kind on such files are left out."""

    def plant(patch: pytest.MonkeyPatch) -> None:
        skips = staticmethod(lambda done, name: done == kind and matches(name))
        patch.setattr(Recorder, "is_skipped", skips)

    return plant


def log_goes_before_the_snapshot_is_durable(patch: pytest.MonkeyPatch) -> None:
    begin = Compaction.begin

    def hasty(self: Compaction[Any]) -> Callable[[], Manifest]:
        work, index, journal = begin(self), self._core.applied_index, self._journal
        previous, last = journal.entry_at(index - 1), journal.entry_at(index)
        manifest = Manifest(previous, last, CONFIGURATION, 0, bytes(32))
        for name in journal.trim(manifest, keep_entries=0, keep_bytes=0):
            self._files.remove(name)
        return work

    patch.setattr(Compaction, "begin", hasty)


def old_snapshot_goes_before_the_new_one_has_its_name(patch: pytest.MonkeyPatch) -> None:
    publish = SnapshotStore._publish

    def hasty(self: SnapshotStore, manifest: Manifest) -> None:
        self.remove_older(manifest)
        publish(self, manifest)

    patch.setattr(SnapshotStore, "_publish", hasty)


def superblock_comes_before_the_journal(patch: pytest.MonkeyPatch) -> None:
    found = Node.found

    def hasty(self: Node) -> None:
        write_superblock(self.files, BLOCK)
        found(self)

    patch.setattr(Node, "found", hasty)


def segments_go_before_their_image_is_durable(patch: pytest.MonkeyPatch) -> None:
    begin = Compaction.begin_image

    def hasty(self: Compaction[Any]) -> Any:
        work = begin(self)
        assert work is not None
        sealed = [each.name for each in self._journal.sealed]

        def write() -> Any:
            files = self._files
            kept = {name: files.read(name) for name in sealed}
            for name in sealed:
                files.remove(name)
            with pytest.MonkeyPatch.context() as reads:
                reads.setattr(files, "read", lambda name: kept.get(name) or b"", raising=False)
                return work()

        return write

    patch.setattr(Compaction, "begin_image", hasty)


def start_believes_the_page_cache(patch: pytest.MonkeyPatch) -> None:
    def believe(files: Files, name: str, data: bytes) -> None:
        there = files.read(name) or b""
        sound = len(data) - MARK_BYTES if not there.startswith(data) else len(data)
        if len(there) > sound:
            files.truncate(name, sound)
        handle = files.append(name)
        handle.write(data[sound:])
        handle.close()

    patch.setattr(recovery, "_write_again", believe)


def hole_is_refused(patch: pytest.MonkeyPatch) -> None:
    def strict(data: bytes, **options: Any) -> segments.SegmentRead:
        read = segments.read_segment(data, **options)
        if data[read.sound_bytes + 60 :].rstrip(b"\0"):
            raise StorageCorrupt("a hole")
        return read

    patch.setattr(recovery, "read_segment", strict)


def all_that_is_unsound_is_refused(patch: pytest.MonkeyPatch) -> None:
    def strict(data: bytes, **options: Any) -> segments.SegmentRead:
        read = segments.read_segment(data, **options)
        if read.torn_bytes and options["synced_bytes"] is None:
            raise StorageCorrupt("not whole")
        return read

    patch.setattr(recovery, "read_segment", strict)


def mark_ahead_is_followed_by_another_one(patch: pytest.MonkeyPatch) -> None:
    begin = Journal.begin_mark

    def wrong(self: Journal) -> Any:
        work = begin(self)
        self._segments[-1].is_closed = False
        return work

    patch.setattr(Journal, "begin_mark", wrong)


def acknowledged_with_the_next_sync(patch: pytest.MonkeyPatch) -> None:
    commit = Node.commit

    def early(self: Node, *, meanwhile: Callable[[], None] = lambda: None) -> None:
        self.acknowledged["logs"] = len(self.logs) - 1
        commit(self, meanwhile=meanwhile)

    patch.setattr(Node, "commit", early)


FAULTS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "no directory sync": skipped("sync-names", lambda _: True),
    "no sync before a rename": skipped("sync", lambda name: name.endswith(".tmp")),
    "snapshot not synced": skipped("sync", lambda name: name.startswith("snapshot")),
    "image not synced": skipped("sync", lambda name: name.endswith(".img.tmp")),
    "journal not synced": skipped("sync", lambda name: name.endswith(".seg")),
    "log goes before the snapshot is durable": log_goes_before_the_snapshot_is_durable,
    "old snapshot goes first": old_snapshot_goes_before_the_new_one_has_its_name,
    "superblock before the journal": superblock_comes_before_the_journal,
    "segments go before their image": segments_go_before_their_image_is_durable,
    "a start believes the page cache": start_believes_the_page_cache,
    "a hole is refused": hole_is_refused,
    "all that is unsound is refused": all_that_is_unsound_is_refused,
    "a mark ahead and another one": mark_ahead_is_followed_by_another_one,
    "acknowledged before the sync": acknowledged_with_the_next_sync,
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    FAULTS[fault](monkeypatch)
    tally = replay(recorded(), every=8)
    print(f"\n{fault}: {tally.states} states, {str(tally.wrong)[:150]}")
    assert tally.wrong is not None
