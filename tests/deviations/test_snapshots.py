"""Snapshots: what is forgotten for one, what is believed of one, and how one travels (D10, D12-D15,
D27, D32, D33)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from deviations.ours import Voters, command
from deviations.stock import (
    LIBRARY,
    Crashed,
    Sent,
    StockCluster,
    StockNode,
    trim_dies,
    way,
)
from deviations.table import deviation
from muster.agents.consistency.compaction import SnapshotPolicy
from muster.sim.machines.snapshots import SnapshotPlan
from muster.sim.machines.voter import SimVoter
from muster.storage.files import DiskFiles
from muster.storage.snapshots import SnapshotStore, verified_slices
from muster_protocol.consistency.commands import Command, Delete, Get, Operation, Put
from muster_protocol.consistency.registry import Registry
from muster_protocol.errors import RemoteError, StorageCorrupt
from muster_protocol.raftguard.events import SnapshotFailed
from muster_protocol.types import NodeId
from muster_protocol.wire.raft import Ack, Configuration, Entry, Manifest, SnapshotOffer, Voter

Stock = Callable[..., StockCluster]
PLAN = SnapshotPlan(SnapshotPolicy(every_entries=20, keep_entries=5), segment_bytes_max=300)
CONFIGURATION = Configuration((Voter("a" * 32, "c" * 16),))


def numbers(count: int) -> list[str]:
    return [str(number) for number in range(count)]


def is_piece(sent: Sent) -> bool:
    """Of a snapshot."""
    return bool(sent.message.get("serialized"))


def is_last_piece(sent: Sent) -> bool:
    return is_piece(sent) and bool(sent.message["serialized"][2])


def left_behind(voters: Voters) -> tuple[SimVoter, SimVoter]:
    """A leader, and a follower that needs a snapshot as soon as it is heard again."""
    leader = voters.steady()
    voters.write("before")
    behind = voters.followers()[0]
    voters.isolate(behind.id)
    voters.write(*numbers(60))
    assert leader.journal.first_index > behind.journal.last_index + 1
    return leader, behind


def a_snapshot(store: SnapshotStore, index: int, parts: Iterator[bytes] | list[bytes]) -> Manifest:
    previous, last = Entry(b"p", index - 1, 3), Entry(b"l", index, 3)
    return store.write(parts, previous=previous, last=last, configuration=CONFIGURATION)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SnapshotStore]:
    """Snapshots on a real directory."""
    files = DiskFiles(tmp_path / "ours")
    yield SnapshotStore(files)
    files.close()


def loses_nothing_without_power(operations: int, is_now: Callable[[Voters], bool]) -> bool:
    """One voter, whose power fails after so many operations of its disk, while it writes its first
    snapshot or then, while it removes what that covers. False if it did not come to that."""
    failed: list[NodeId] = []
    voters = Voters(1, snapshots=PLAN)
    voters.on_power_failed = failed.append
    (ours,) = voters.nodes.values()
    voters.steady()
    voters.write(*numbers(19))
    while not ours.is_taking:
        voters.write(f"{voters.now}")
    assert voters.run_until(voters.now + 1.0, lambda: ours.is_taking and is_now(voters))
    for number in range(5):
        voters.propose(ours, command(f"more {number}"))
    ours.disk.power_off_in(operations)
    voters.run_until(voters.now + 1.0)
    voters.restart(ours.id)
    voters.steady()
    voters.settle()
    return bool(failed)


@deviation(
    10,
    stock="killed while it rewrites its journal: 5 acknowledged writes are gone",
    ours="no power at any of 16 steps of it: nothing is lost",
)
def test_d10_a_kill_during_compaction_loses_the_end_of_the_log(
    stock: Stock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node writes a dump, acknowledges five writes more, trims its log and is killed then."""
    cluster = stock("a", journal=True, dump=True)
    node = cluster.lead("a")
    node.write_all(*range(10))
    cluster.run(1.0)
    outcomes = node.write_all(*range(10, 15))
    node.forceLogCompaction()
    cluster.tick("a")
    with monkeypatch.context() as patch:
        trim_dies(patch)
        with pytest.raises(Crashed):
            cluster.tick("a")
    assert all(outcome.is_acknowledged for outcome in outcomes)
    cluster.restart("a")
    cluster.lead("a")
    assert cluster["a"].values == list(range(10))

    for operations in range(10):
        assert loses_nothing_without_power(operations, lambda voters: voters.snapshots.taken == 0)
    for operations in range(6):
        assert loses_nothing_without_power(operations, lambda voters: voters.snapshots.taken == 1)


@deviation(
    10,
    stock="a snapshot removes the acknowledged log behind it",
    ours="one that is not newer than the log is answered, and nothing is removed",
)
def test_d10_a_snapshot_removes_a_log_that_agrees_with_it(stock: Stock) -> None:
    """A follower has everything. An answer from long ago makes the leader send it a snapshot of
    some time before, of which only the follower hears; then the leader dies."""
    cluster = stock("abc")
    leader = cluster.lead("a")
    leader.write_all(*range(10))
    cluster.run(1.0)
    early = next(s for s in cluster.sent if way("b", "a")(s) and s.kind == "next_node_idx")
    cluster.compact("a")
    cluster.isolate("c")
    outcomes = leader.write_all(*range(10, 20))
    cluster.run(1.0)
    assert all(outcome.is_acknowledged for outcome in outcomes)
    assert cluster["b"].values == list(range(20))
    cluster.arrives(Sent("b", "a", {**early.message, "reset": True, "success": False}))
    cluster.is_held = lambda sent: "prevLogIdx" in sent.message
    cluster.run(0.2, only="a")
    cluster.crash("a")
    cluster.heal()
    new = cluster.lead("b").write("new")
    assert cluster.run(2.0, lambda: new.is_acknowledged)
    assert cluster["b"].values == [*range(10), "new"]

    voters = Voters(3, snapshots=PLAN)
    ours = voters.steady()
    voters.write(*numbers(30))
    voters.run_until(voters.now + 1.0)
    voters.write("behind it")
    manifest = ours.journal.manifest
    assert manifest is not None
    follower = voters.followers()[0]
    voters.run_until(voters.now + 1.0)
    before = follower.journal.last_index
    voters.hears(follower, ours.id, SnapshotOffer(ours.core.term, manifest))
    voters.run_until(voters.now + 1.0)
    assert voters.snapshots.installed == voters.snapshots.failed == 0
    assert follower.journal.last_index >= before > manifest.last.index
    voters.crash(ours.id)
    voters.settle()


@deviation(
    12,
    stock="the state is gone after a restart, and the empty node leads",
    ours="the state is the same after a restart",
)
def test_d12_compaction_without_a_dump_file_loses_the_state(stock: Stock) -> None:
    """A journal, no dump file: the log is compacted, and the node restarted."""
    cluster = stock("a", journal=True)
    node = cluster.lead("a")
    node.write_all(*range(10))
    cluster.run(1.0)
    cluster.compact("a")
    cluster.restart("a")
    cluster.lead("a")
    new = cluster["a"].write("new")
    cluster.run(5.0)
    assert cluster["a"].values == []
    assert not new.is_acknowledged

    voters = Voters(3, snapshots=PLAN)
    voters.steady()
    voters.write(*numbers(60))
    voters.run_until(voters.now + 1.0)
    assert voters.snapshots.taken >= 6
    for each in voters.ids:
        voters.crash(each)
    voters.settle()
    assert all(len(node.applied) > 60 for node in voters.live())


@deviation(
    13,
    stock="starts with an empty state, and leads",
    ours="refuses to start, and names the file",
)
def test_d13_a_damaged_dump_is_an_empty_state(stock: Stock) -> None:
    """The end of the only dump is missing, and the log before it was trimmed."""
    cluster = stock("a", journal=True, dump=True)
    cluster.lead("a").write_all(*range(10))
    cluster.run(1.0)
    cluster.compact("a")
    cluster.crash("a")
    file = cluster.path("a", "fullDumpFile")
    file.write_bytes(file.read_bytes()[:20])
    cluster.start("a")
    assert cluster.lead("a").values == []

    voters = Voters(1, snapshots=PLAN)
    ours = voters.steady()
    voters.write(*numbers(30))
    voters.run_until(voters.now + 1.0)
    voters.crash(ours.id)
    (name,) = (name for name in ours.disk.files if name.endswith(".snap"))
    del ours.disk.files[name].data[20:]
    with pytest.raises(StorageCorrupt, match=name):
        voters.restart(ours.id)


@deviation(
    14,
    stock="is counted for 40 entries that it does not have; a write on one node is acknowledged",
    ours="acknowledges nothing of it",
)
def test_d14_a_failed_install_is_acknowledged(
    stock: Stock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node with a long log that nobody agreed upon is sent a snapshot, which does not arrive
    intact. Then the leader reaches that node only, and dies."""
    cluster = stock("abc")
    cluster.lead("a")
    cluster.isolate("a")
    cluster["a"].write_all(*(f"never {number}" for number in range(40)))
    cluster.tick("a")
    leader = cluster.elect("b")
    leader.write_all(*range(10))
    cluster.run(1.0, only="bc")
    cluster.compact("b")
    cluster.heal()
    cluster.is_held = is_piece
    cluster.run(2.0, lambda: is_whole(cluster), only="b")
    for piece in [sent for sent in cluster.sent if is_piece(sent)]:
        data, is_first, is_last = piece.message["serialized"]
        broken = (data[: len(data) // 2], is_first, is_last)
        cluster.arrives(Sent("b", "a", {**piece.message, "serialized": broken}))
    cluster.deliver()
    cluster.isolate("c")
    lost = leader.write("lost")
    cluster.tick("b")
    cluster.tick("b")
    assert lost.is_acknowledged
    assert cluster["a"].values == []

    voters = Voters(3, snapshots=PLAN)
    ours, behind = left_behind(voters)
    read, before = ours.store.read_data, len(voters.sent_by(behind, Ack))
    voters.heal()
    with monkeypatch.context() as patch:
        patch.setattr(ours.store, "read_data", lambda manifest: (read(manifest) or b"")[:-1])
        with pytest.raises(RemoteError, match="digest"):
            voters.run_until(voters.now + 5.0)
    behind.store_queue.done()
    voters.step(behind, SnapshotFailed("as the shell says then"))
    assert not any(ack.success for ack in voters.sent_by(behind, Ack)[before:])
    voters.settle()
    assert voters.snapshots.installed == 1


def pieces_in(cluster: StockCluster, run: Callable[[], object]) -> bytes:
    """What is sent of a snapshot meanwhile."""
    before = len(cluster.sent)
    run()
    return b"".join(s.message["serialized"][0] for s in cluster.sent[before:] if is_piece(s))


def is_sending(cluster: StockCluster) -> bool:
    return any(map(is_piece, cluster.sent))


def is_whole(cluster: StockCluster) -> bool:
    return any(map(is_last_piece, cluster.sent))


@deviation(
    15,
    stock="takes a file with a hole for whole, in place of its own good one",
    ours="the data is refused, and its own snapshot stays",
)
def test_d15_a_snapshot_with_a_hole_is_taken_for_whole(stock: Stock, store: SnapshotStore) -> None:
    """In the middle of a snapshot the connection breaks and is there again at once: some pieces
    are lost with the old one."""
    cluster = stock("abc", journal=True, dump=True, logCompactionBatchSize=64)
    leader = cluster.lead("a")
    leader.write_all(*(f"value {number * number}" for number in range(100)))
    cluster.run(1.0)
    cluster.compact("b")
    cluster.isolate("b")
    leader.write_all("new 1", "new 2", "new 3", "new 4")
    cluster.run(1.0, only="ac")
    cluster.compact("a")
    cluster.heal()
    cluster.send_s = 0.05
    arrived = pieces_in(cluster, lambda: cluster.run(1.0, lambda: is_sending(cluster), only="a"))
    cluster.cut.add(("a", "b"))
    lost = pieces_in(cluster, lambda: cluster.run(0.2, only="a"))
    cluster.reconnect("a", "b")
    cluster.heal()
    rest = pieces_in(cluster, lambda: cluster.run(9.0, lambda: is_whole(cluster), only="a"))
    assert all((arrived, lost, rest))
    assert cluster.path("a", "fullDumpFile").read_bytes() == arrived + lost + rest
    assert cluster.path("b", "fullDumpFile").read_bytes() == arrived + rest
    cluster.crash("a", "b")
    cluster.start("b")
    cluster.run(1.0, only="b")
    assert cluster["b"].values == []

    own = a_snapshot(store, 9, [b"own"])
    manifest = Manifest(own.previous, own.last, CONFIGURATION, own.size_bytes, own.sha256)
    data = store.read_data(manifest)
    assert data is not None
    with pytest.raises(RemoteError, match="digest"):
        verified_slices(manifest, data[:4] + data[8:])
    newest = store.newest()
    assert newest is not None
    assert newest[0] == own


@deviation(
    27,
    stock="the leader steps down in the midst of a long snapshot",
    ours="it leads until the end, and after it",
)
def test_d27_a_long_snapshot_costs_the_leader_its_office(stock: Stock) -> None:
    """One follower is down. The other one needs a snapshot that takes longer on its way than a
    leader may be without an answer."""
    cluster = stock("abc", logCompactionBatchSize=64)
    leader = cluster.lead("a")
    cluster.isolate("b")
    leader.write_all(*(str(number * number * 7919) for number in range(12_000)))
    cluster.run(1.0, only="ac")
    cluster.compact("a")
    cluster.crash("c")
    cluster.heal()
    cluster.send_s = 0.05
    cluster.run(0.5, only="a")  # or the other one, which heard nothing, would depose it (D24)
    term = leader.raftCurrentTerm
    assert cluster.run(60.0, lambda: not leader.is_leader)
    assert is_piece(cluster.newest(way("a", "b")))
    assert leader.raftCurrentTerm == term

    slow = SnapshotPlan(PLAN.policy, segment_bytes_max=300, transfer_s_max=20.0)
    voters = Voters(3, snapshots=slow, seed=3)
    ours, behind = left_behind(voters)
    voters.crash(next(node.id for node in voters.followers() if node is not behind))
    term, began = ours.core.term, voters.now
    voters.heal()
    assert voters.run_until(voters.now + 60.0, lambda: voters.snapshots.installed == 1)
    assert voters.now - began > 10.0
    assert (voters.leaders(), ours.core.term) == ([ours], term)
    voters.write("after it")


@deviation(
    27,
    stock="a new dump in the midst of it begins the stream anew, again and again",
    ours="a node that is behind catches up while new snapshots are taken",
)
def test_d27_a_new_dump_begins_the_stream_anew(stock: Stock) -> None:
    """A node needs a snapshot that takes seconds on its way; every second there is a newer one."""
    cluster = stock("abc", logCompactionBatchSize=64)
    leader = cluster.lead("a")
    cluster.isolate("b")
    leader.write_all(*(str(number * number * 7919) for number in range(2_000)))
    cluster.run(1.0, only="ac")
    cluster.compact("a")
    cluster.heal()
    cluster.send_s = 0.05
    for number in range(10):
        leader.write(number)
        cluster.run(1.0, only="a")
        cluster.compact("a")
    pieces = [sent.message["serialized"] for sent in cluster.sent if is_piece(sent)]
    assert sum(is_first for _, is_first, _ in pieces) >= 10
    assert not any(is_last for _, _, is_last in pieces)

    slow = SnapshotPlan(PLAN.policy, segment_bytes_max=300, transfer_s_max=0.5, piece_bytes=60)
    voters = Voters(3, snapshots=slow)
    ours, behind = left_behind(voters)
    voters.heal()
    assert voters.run_until(voters.now + 5.0, lambda: behind.transfer.received_bytes > 0)
    fetched, offered = voters.snapshots.arrived_bytes, ours.journal.manifest
    newer: list[Manifest | None] = [offered]
    while voters.snapshots.installed == 0:
        voters.write(f"meanwhile {len(voters.acknowledged)}")
        if ours.journal.manifest != newer[-1]:
            newer.append(ours.journal.manifest)
    assert len(newer) > 3, "too few snapshots came meanwhile for this to show anything"
    assert offered is not None
    assert fetched < voters.snapshots.arrived_bytes == offered.size_bytes
    same = lambda: behind.history.digest == ours.history.digest  # noqa: E731
    assert voters.run_until(voters.now + 30.0, same)


@deviation(27, ours="a transfer that is cut goes on where it was")
def test_d27_a_transfer_that_is_cut_goes_on_where_it_was() -> None:
    """The way is cut again and again while a snapshot travels in pieces."""
    voters, ours, behind = travelling()
    offered, cuts = ours.journal.manifest, 0
    assert offered is not None
    while voters.snapshots.installed == 0:
        arrived = behind.transfer.received_bytes
        if not voters.run_until(
            voters.now + 5.0,
            lambda: behind.transfer.received_bytes > arrived or voters.snapshots.installed > 0,  # noqa: B023 (used at once)
        ):
            break
        if voters.snapshots.installed == 0:
            cuts += 1
            failed = voters.snapshots.failed
            voters.isolate(behind.id)
            voters.run_until(voters.now + 5.0, lambda: voters.snapshots.failed > failed)  # noqa: B023
            voters.heal()
    assert cuts >= 3
    assert voters.snapshots.installed == 1
    assert voters.snapshots.arrived_bytes == offered.size_bytes
    voters.settle()


@deviation(27, ours="a snapshot that takes its place meanwhile begins anew")
def test_d27_a_newer_snapshot_after_a_cut_begins_anew() -> None:
    """While the way is cut the leader takes a newer snapshot; the old one is no more."""
    voters, ours, behind = travelling()
    offered = ours.journal.manifest
    voters.isolate(behind.id)
    voters.write(*(f"meanwhile {number}" for number in range(60)))
    lost = voters.snapshots.arrived_bytes
    newer = ours.journal.manifest
    assert newer != offered
    voters.heal()
    assert voters.run_until(voters.now + 30.0, lambda: voters.snapshots.installed == 1)
    assert newer is not None
    assert lost > 0
    assert voters.snapshots.arrived_bytes == lost + newer.size_bytes
    voters.settle()


def travelling() -> tuple[Voters, SimVoter, SimVoter]:
    """A leader, and a follower that has the first piece of a snapshot."""
    pieces = SnapshotPlan(PLAN.policy, segment_bytes_max=300, piece_bytes=150)
    voters = Voters(3, snapshots=pieces)
    ours, behind = left_behind(voters)
    voters.heal()
    assert voters.run_until(voters.now + 5.0, lambda: behind.transfer.received_bytes > 0)
    return voters, ours, behind


@deviation(
    32,
    stock="a half-written dump takes the place of the good one",
    ours="the good one stays until the new one is whole and synced",
)
def test_d32_a_dump_takes_its_name_before_it_is_written(
    stock: Stock, store: SnapshotStore, tmp_path: Path
) -> None:
    """The dump is written by a program in the background, which has written half of it when the
    node is killed."""
    pickle = LIBRARY.pickle
    halfway = False

    def write(path: str, internal: Any) -> None:
        whole = bytes(pickle.dumps(internal))
        Path(path).write_bytes(whole[: len(whole) // 2] if halfway else whole)

    def read(path: str) -> Any:
        return pickle.loads(Path(path).read_bytes())

    cluster = stock("a", journal=True, dump=True, serializer=write, deserializer=read)
    node = cluster.lead("a")
    node.write_all(*range(10))
    cluster.run(1.0)
    cluster.compact("a")
    file = cluster.path("a", "fullDumpFile")
    good = file.read_bytes()
    node.write_all(*range(10))
    cluster.run(1.0)
    halfway = True
    node.forceLogCompaction()
    cluster.tick("a")
    assert file.read_bytes() != good
    cluster.restart("a")
    new = cluster.lead("a").write("new")
    cluster.run(5.0)
    assert not new.is_acknowledged

    def killed() -> Iterator[bytes]:
        yield b"half of it"
        raise Crashed

    own = a_snapshot(store, 9, [b"good"])
    with pytest.raises(Crashed):
        a_snapshot(store, 100, killed())
    assert store.newest() == (own, [b"good"])


class Eager(StockNode):
    """Sets some of its state before the library's constructor."""

    def __init__(self, *arguments: Any) -> None:
        self.count = 0
        super().__init__(*arguments)

    @LIBRARY.replicated  # type: ignore[untyped-decorator]  # the library has no types
    def put(self, value: Any) -> int:
        self.count += 1
        self.values.append(value)
        return self.count


@deviation(
    33,
    stock="a part of the state is 0 after a restart, without a word",
    ours="everything comes back",
)
def test_d33_a_part_of_the_state_is_left_out_of_the_dump(stock: Stock) -> None:
    """A counter is set up before the library's constructor, the values behind it; then the log is
    compacted, and the node restarted."""
    cluster = stock("a", journal=True, dump=True, node_class=Eager)
    node = cluster.lead("a")
    node.write_all(*range(10))
    cluster.run(1.0)
    assert node.__dict__["count"] == 10
    cluster.compact("a")
    cluster.restart("a")
    again = cluster.lead("a")
    assert (again.values, again.__dict__["count"]) == (list(range(10)), 0)

    registry = Registry()
    operations: list[Operation] = [
        Put("a", b"1"),
        Put("b", b"2"),
        Put("a", b"3"),
        Delete("b"),
        Get("a"),
    ]
    for number, operation in enumerate(operations, start=1):
        registry.apply(Command("5" * 32, number, 0, 1.5, operation))
    restored = Registry.restore(list(registry.capture().slices()))
    assert restored.digest() == registry.digest()
    repeated = Command("5" * 32, 5, 0, 1.5, Get("a"))
    assert restored.apply(repeated) == registry.apply(repeated)
    assert restored.apply(Command("6" * 32, 1, 0, 2.0, Put("b", b"4"))) == registry.apply(
        Command("6" * 32, 1, 0, 2.0, Put("b", b"4"))
    )


@deviation(33, stock="a dump that fails is tried again at every tick")
def test_d33_a_dump_that_fails_is_tried_at_every_tick(stock: Stock) -> None:
    """The disk is full: no dump can be written."""
    tries: list[str] = []

    def write(path: str, internal: Any) -> None:
        tries.append(path)
        raise OSError

    conf = {"serializer": write, "deserializer": lambda _: None, "logCompactionMinEntries": 5}
    cluster = stock("a", journal=True, dump=True, **conf)
    cluster.lead("a").write_all(*range(10))
    cluster.run(5.0)
    assert len(tries) > 40
