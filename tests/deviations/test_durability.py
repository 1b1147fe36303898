"""What is on the disk when it was acknowledged, and what is believed of it after a crash (D6-D9,
D11)."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from deviations.ours import Voters, command
from deviations.stock import StockCluster, counted_syncs, way
from deviations.table import deviation
from muster.agents.consistency.raft.engine import FIRST_ENTRY
from muster.storage.files import DiskFiles
from muster.storage.journal import Journal, segment_name
from muster.storage.recovery import create_journal, open_journal
from muster.storage.segments import MARK_BYTES
from muster.storage.superblock import SUPERBLOCK_FORMAT, Superblock
from muster_protocol.errors import StorageCorrupt
from muster_protocol.raftguard.events import Role
from muster_protocol.wire.raft import Configuration, Voter

Stock = Callable[..., StockCluster]
ME = "a" * 32
BLOCK = Superblock(SUPERBLOCK_FORMAT, ME, "b" * 32, "c" * 16, b"k" * 16)


def a_journal(directory: Path, *, is_closed: bool = True) -> Path:
    """A journal of ours with one command and a vote, all of it durable, and what is written when
    nothing comes behind it for a second. Returns its file."""
    files = DiskFiles(directory)
    journal = create_journal(files, BLOCK, Configuration((Voter(ME, "c" * 16),)), FIRST_ENTRY)
    commit(journal)
    journal.add(b"\0pay 100 to A", 2, 7)
    journal.setCurrentTerm(7, ME)
    commit(journal)
    if is_closed and (mark := journal.begin_mark()) is not None:
        mark()
    journal.close()
    files.close()
    return directory / segment_name(1)


def commit(journal: Journal) -> None:
    work = journal.begin_commit()
    assert work is not None
    work()
    journal.end_commit()


def reopened(directory: Path) -> Journal:
    files = DiskFiles(directory)
    try:
        return open_journal(files, BLOCK, None)[0]
    finally:
        files.close()


@deviation(
    6,
    stock="10 acknowledged writes without one sync: a power cut loses them",
    ours="nothing acknowledged is lost",
)
def test_d06_a_power_cut_loses_what_was_acknowledged(stock: Stock, tmp_path: Path) -> None:
    """Ten writes are acknowledged, and then the power of all three nodes fails: what was not
    synced is as it was before."""
    cluster = stock("abc", journal=True, dump=True)
    leader = cluster.lead("a")
    cluster.run(2.0)
    on_disk = tmp_path / "on disk"
    shutil.copytree(cluster.directory, on_disk)
    with counted_syncs() as syncs:
        outcomes = leader.write_all(*range(10))
        assert cluster.run(2.0, lambda: all(outcome.is_acknowledged for outcome in outcomes))
        assert syncs == []
    cluster.crash("a", "b", "c")
    shutil.rmtree(cluster.directory)
    shutil.copytree(on_disk, cluster.directory)
    cluster.restart("a", "b", "c")
    outcome = cluster.lead("a").write("new")
    assert cluster.run(2.0, lambda: outcome.is_acknowledged)
    assert cluster["a"].values == ["new"]

    voters = Voters(3)
    voters.steady()
    voters.write(*(str(number) for number in range(10)))
    for node in voters.ids:
        voters.crash(node, lose_unsynced=True)
    voters.settle()
    assert voters.is_acknowledged("9")


@deviation(6, ours="one voter alone answers after its own sync")
def test_d06_one_voter_alone_acknowledges_before_a_sync(stock: Stock) -> None:
    """A cluster of one, whose disk takes half a second for a sync."""
    cluster = stock("a", journal=True, dump=True)
    leader = cluster.lead("a")
    with counted_syncs() as syncs:
        outcome = leader.write("x")
        assert cluster.run(1.0, lambda: outcome.is_acknowledged)
        assert syncs == []

    voters = Voters(1, sync_s_max=0.5)
    ours = voters.steady()
    voters.propose(ours, command("x"))
    assert voters.run_until(voters.now + 2.0, lambda: voters.is_acknowledged("x"))
    assert ours.journal.durable_index == ours.journal.last_index


@deviation(
    7,
    stock="an emptied file is no vote: two leaders of one term",
    ours="it refuses to start",
)
def test_d07_a_vote_that_cannot_be_read_is_forgotten(stock: Stock, tmp_path: Path) -> None:
    """A node has voted. After a crash the file with its vote is empty, or one bit of it wrong."""
    cluster = stock("abc", journal=True, dump=True)
    cluster.isolate("c")
    cluster.is_held = lambda sent: sent.kind == "append_entries"
    cluster.elect("a")
    cluster.crash("b")
    cluster.heal()
    cluster.isolate("a")
    Path(f"{cluster.path('b', 'journalFile')}.meta").write_bytes(b"")
    cluster.restart("b")
    cluster.elect("c")
    assert cluster.leaders() == ["a", "c"]
    assert cluster["a"].raftCurrentTerm == cluster["c"].raftCurrentTerm

    emptied = a_journal(tmp_path / "emptied")
    emptied.write_bytes(b"")
    with pytest.raises(StorageCorrupt, match="no journal"):
        reopened(emptied.parent)
    flipped = a_journal(tmp_path / "flipped")
    data = bytearray(flipped.read_bytes())
    data[-8 - MARK_BYTES] ^= 1
    flipped.write_bytes(data)
    with pytest.raises(StorageCorrupt, match=flipped.name):
        reopened(flipped.parent)


@deviation(
    8,
    stock="carries out another command, or can never start again",
    ours="refuses to start, and names file and byte",
)
def test_d08_a_flipped_bit_changes_a_command(stock: Stock, tmp_path: Path) -> None:
    """One bit of an acknowledged command rots in the journal; or a page of it reads as zeros."""
    cluster = stock("a", journal=True, dump=True)
    outcome = cluster.lead("a").write("pay 100 to A")
    assert cluster.run(1.0, lambda: outcome.is_acknowledged)
    cluster.crash("a")
    file = cluster.path("a", "journalFile")
    sound = file.read_bytes()
    file.write_bytes(sound.replace(b"pay 100 to A", b"pay 900 to A"))  # 1 and 9 differ in one bit
    cluster.restart("a")
    cluster.lead("a")
    assert cluster["a"].values == ["pay 900 to A"]
    cluster.crash("a")
    at = sound.index(b"pay 100 to A")
    file.write_bytes(sound[: at - 40] + bytes(80) + sound[at + 40 :])
    with pytest.raises(Exception, match=r"unpack|buffer"):
        cluster.start("a")

    rotten = a_journal(tmp_path / "rotten")
    whole = rotten.read_bytes()
    rotten.write_bytes(whole.replace(b"pay 100 to A", b"pay 900 to A"))
    with pytest.raises(StorageCorrupt, match=rf"{rotten.name}: the record at byte \d+"):
        reopened(rotten.parent)
    rotten.write_bytes(whole.replace(b"pay 100 to A", bytes(12)))
    with pytest.raises(StorageCorrupt, match=rf"{rotten.name}: the record at byte \d+"):
        reopened(rotten.parent)


@deviation(
    8,
    stock="stumbles over a half-written command for ever",
    ours="a torn tail is cut off, and what was synced before it stays",
)
def test_d08_a_torn_tail_is_told_from_damage(stock: Stock, tmp_path: Path) -> None:
    """The power fails while a record is written: of it, only the first half is on the disk."""
    cluster = stock("a", journal=True, dump=True)
    cluster.lead("a").write_all("first", "second")
    cluster.run(1.0)
    cluster.crash("a")
    file = cluster.path("a", "journalFile")
    at = file.read_bytes().index(b"second")
    file.write_bytes(file.read_bytes()[:at] + bytes(file.stat().st_size - at))
    again = cluster.start("a")
    cluster.run(3.0)
    new = again.write("new")
    cluster.run(3.0)
    assert len(again.errors) > 50
    assert not new.is_acknowledged

    torn = a_journal(tmp_path / "torn", is_closed=False)
    torn.write_bytes(torn.read_bytes()[:-5])
    journal = reopened(torn.parent)
    assert journal.entry_at(2).command == b"\0pay 100 to A"


@deviation(
    9,
    stock="the follower throws its whole log away: 10 acknowledged writes are lost",
    ours="the log is as it was; nothing is lost",
)
def test_d09_a_crash_between_dump_and_trim_clears_the_journal(stock: Stock) -> None:
    """A follower has acknowledged ten entries and not heard yet that they are committed. It writes
    a dump, and is killed before it trims its log. Then the leader dies for good."""
    cluster = stock("abc", journal=True, dump=True)
    leader = cluster.lead("a")
    leader.write_all("before 1", "before 2", "before 3")
    cluster.run(1.0)
    cluster.isolate("c")
    outcomes = leader.write_all(*range(10))
    cluster.is_held = way("b", "a")
    cluster.run(0.2, only="a")
    assert cluster["b"].log_length == leader.log_length
    cluster["b"].forceLogCompaction()
    cluster.tick("b")
    assert cluster.path("b", "fullDumpFile").exists()
    cluster.is_held = way("a", "b")
    cluster.deliver()
    cluster.tick("a")
    assert all(outcome.is_acknowledged for outcome in outcomes)
    cluster.crash("a", "b")
    cluster.heal()
    cluster.start("b")
    new = cluster.lead("b").write("new")
    assert cluster.run(3.0, lambda: new.is_acknowledged)
    assert cluster["b"].values == ["before 1", "before 2", "before 3", "new"]

    voters = Voters(3)
    ours = voters.steady()
    holder, away = voters.followers()
    voters.write("before 1", "before 2", "before 3")
    voters.isolate(away.id)
    voters.write(*(str(number) for number in range(10)))
    last = holder.journal.durable_index
    manifest = holder.compaction.begin()()
    assert manifest.last.index <= last
    voters.crash(holder.id)
    voters.restart(holder.id)
    again = voters.nodes[holder.id]
    assert again.journal.manifest == manifest
    assert again.journal.last_index == last
    voters.crash(ours.id)
    voters.heal()
    voters.steady()
    voters.settle()


@deviation(
    11,
    stock="acknowledges 5 writes that nobody else has",
    ours="acknowledges none of them",
)
def test_d11_a_commit_index_beyond_the_log_commits_alone(stock: Stock, tmp_path: Path) -> None:
    """A power cut took the end of everybody's log, and left the commit index, which is in another
    file. Then a leader is elected, and cut off."""
    cluster = stock("abc", journal=True)
    leader = cluster.lead("a")
    logs = {name: cluster.path(name, "journalFile").read_bytes() for name in "abc"}
    leader.write_all(*range(10))
    cluster.run(3.0)
    cluster.crash("a", "b", "c")
    for name, log in logs.items():
        cluster.path(name, "journalFile").write_bytes(log)
    cluster.restart("a", "b", "c")
    again = cluster.elect("a")
    cluster.isolate("a")
    outcomes = again.write_all(*range(5))
    cluster.run(1.0)
    assert all(outcome.is_acknowledged for outcome in outcomes)
    assert cluster["b"].values == cluster["c"].values == []

    voters = Voters(3)
    voters.steady()
    voters.write(*(str(number) for number in range(10)))
    for node in voters.ids:
        voters.crash(node)
    for node in voters.ids:
        voters.restart(node)
        assert voters.nodes[node].journal.commit_index == 1
    ours = voters.steady()
    voters.silence_all(ours)
    for number in range(5):
        voters.propose(ours, command(f"alone {number}"))
    assert voters.run_until(voters.now + 3.0, lambda: ours.core.role is Role.FOLLOWER)
    assert not any(voters.is_acknowledged(f"alone {number}") for number in range(5))
