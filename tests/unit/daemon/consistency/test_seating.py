"""A journal that has no seat any more is forgotten, whatever moment the power fails in."""

from __future__ import annotations

from typing import cast

from muster.agents.consistency.raft.engine import FIRST_ENTRY
from muster.agents.consistency.seating import forget, retire
from muster.storage.files import Files
from muster.storage.journal import is_segment
from muster.storage.recovery import create_journal, open_journal
from muster.storage.succession import CLUSTER_NAME
from muster.storage.superblock import Superblock, read_superblock, write_superblock
from muster_protocol.wire.raft import Configuration, Voter
from testkit.crash_states import Recorder, content_of, crash_states, disk_with

ME, CLUSTER = "a" * 32, "b" * 32
BLOCK = Superblock(2, ME, CLUSTER, "c" * 16, b"k" * 16)


def founded() -> Files:
    files = disk_with({}).mount()
    journal = create_journal(files, BLOCK, Configuration((Voter(ME, "c" * 16),)), FIRST_ENTRY)
    for number in range(3):
        journal.segment_bytes_max = 1
        journal.add(b"%d" % number, 2 + number, 1)
        work = journal.begin_commit()
        assert work is not None
        work()
        journal.end_commit()
    journal.close()
    write_superblock(files, BLOCK)
    return files


def test_a_retirement_is_whole_or_has_not_begun_or_goes_on() -> None:
    initial = content_of(founded())
    recorder = Recorder(disk_with(initial).mount())
    retire(cast("Files", recorder), BLOCK)
    outcomes = {"as before": 0, "goes on": 0, "done": 0}
    for _, left in crash_states(initial, recorder.operations):
        files = disk_with(left).mount()
        block = read_superblock(files)
        if block == BLOCK:
            journal, _ = open_journal(files, BLOCK, None)
            assert journal.last_index == 4
            outcomes["as before"] += 1
            continue
        assert files.read(CLUSTER_NAME) == CLUSTER.encode()
        if block is not None:
            assert block.is_retired
            forget(files)
            outcomes["goes on"] += 1
        else:
            outcomes["done"] += 1
        assert read_superblock(files) is None
        assert [name for name in files.names() if is_segment(name)] == []
    assert min(outcomes.values()) > 0, outcomes
