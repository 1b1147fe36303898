"""Golden bytes of the journal's format 2 and the superblock's. What a daemon wrote yesterday must
be readable by the one that starts today; a difference here is a new format, or a bug."""

from __future__ import annotations

import random

import pytest

from muster.sim.disk import SimDisk
from muster.storage.journal import Journal, segment_name
from muster.storage.recovery import create_journal, open_journal
from muster.storage.superblock import Superblock, read_superblock, write_superblock
from muster_protocol.wire.raft import Configuration, Voter

BLOCK = Superblock(2, "a" * 32, "b" * 32, "c" * 16, bytes(range(16)))
SEGMENT = bytes.fromhex(
    "a601017500000096f7f654bb9902d92061616161616161616161616161616161616161616161616161616161"
    "61616161d9206262626262626262626262626262626262626262626262626262626262626262b06363636363"
    "63636363636363636363630100c0969192d92061616161616161616161616161616161616161616161616161"
    "61616161616161b06363636363636363636363636363636301900090a0005aa602996300000011512aaa1500"
    "000000000000010000000000000000015aa604877a000000039ab2773c9200c05aa606aa3a000000109853d7"
    "d8eae99b665595cf65f8151c84ee191f735aa604eb1a000000243bf330f39207d92061616161616161616161"
    "616161616161616161616161616161616161616161615aa602b44f00000013fa353f8f000000000000000200"
    "000000000000077075745aa606b19500000010be02b7bebe41237467fb1cca69ea4bd3e16e81215a"
)
"""The founding; a term with a vote and an entry, in a batch of their own; the mark behind it."""

WITHOUT_WITNESS = bytes.fromhex(
    "a601d33b00000095f66b3b499902d92061616161616161616161616161616161616161616161616161616161"
    "61616161d9206262626262626262626262626262626262626262626262626262626262626262b06363636363"
    "63636363636363636363630100c0959192d92061616161616161616161616161616161616161616161616161"
    "61616161616161b06363636363636363636363636363636301900090005aa602996300000011512aaa150000"
    "0000000000010000000000000000015aa604877a000000039ab2773c9200c05aa606a5a200000010f0aa9ba2"
    "6b60699cac3850a5d14a6093ef6a28255aa604eb1a000000243bf330f39207d9206161616161616161616161"
    "6161616161616161616161616161616161616161615aa602b44f00000013fa353f8f00000000000000020000"
    "0000000000077075745aa606873a000000101f57a59bab967700b3aca4553c1f0e2a2266623a5a"
)
"""The same as it was when no electorate said who its witness is."""

SUPERBLOCK = bytes.fromhex(
    "a610837d0000006b6e734d059702d92061616161616161616161616161616161616161616161616161616161"
    "61616161d9206262626262626262626262626262626262626262626262626262626262626262b06363636363"
    "6363636363636363636363c410000102030405060708090a0b0c0d0e0f00c25a"
)


def commit(journal: Journal) -> None:
    work = journal.begin_commit()
    assert work is not None
    work()
    journal.end_commit()


def test_a_journal_is_written_as_it_was() -> None:
    files = SimDisk(random.Random(1)).mount()
    journal = create_journal(
        files, BLOCK, Configuration((Voter("a" * 32, "c" * 16),)), (b"\1", 1, 0)
    )
    commit(journal)
    journal.setCurrentTerm(7, "a" * 32)
    journal.add(b"put", 2, 7)
    commit(journal)
    mark = journal.begin_mark()
    assert mark is not None
    mark()
    write_superblock(files, BLOCK)
    assert files.read(segment_name(1)) == SEGMENT
    assert files.read("superblock") == SUPERBLOCK


@pytest.mark.parametrize("segment", [SEGMENT, WITHOUT_WITNESS])
def test_a_journal_is_read_as_it_was(segment: bytes) -> None:
    files = SimDisk(random.Random(1)).mount()
    for name, data in ((segment_name(1), segment), ("superblock", SUPERBLOCK)):
        handle = files.append(name)
        handle.write(data)
        handle.sync()
    block = read_superblock(files)
    assert block == BLOCK
    journal, torn = open_journal(files, BLOCK, None)
    assert torn == 0
    assert journal[:] == [(b"\1", 1, 0), (b"put", 2, 7)]
    assert (journal.getCurrentTerm(), journal.getVotedForNodeId()) == (7, "a" * 32)
    assert files.read(segment_name(1)) == segment
