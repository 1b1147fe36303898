"""Recovery from a lost quorum, on the files of a node that does not run.

`survey` says what this node has; `raftguard.survivors` says what that means beside the others.
`recover` makes this node the only voter of another cluster that has the whole of this one's state:
the snapshot and all of the log behind it, committed or not, as a leader elected now would commit
it.

Why another cluster id: the dead may come back. They are a majority of the old electorate, and
would go on as if nothing had happened. Nothing is accepted across two clusters.

Why the revision jumps: the dead may have acknowledged revisions that are unknown here. Were they
given a second time, `cas` with one from the lost history would hit something else.

Rejected: an electorate forced into the log as an entry of its own (etcd's `--force-new-cluster`,
Consul's `peers.json`), with the cluster's id as it was: the old majority would still be one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from muster.agents.consistency.replica import Replica
from muster.entropy import Entropy
from muster.runtime.executor import read_record
from muster.storage.files import Files
from muster.storage.images import write_log
from muster.storage.journal import Journal, Recovered, engine_entry, is_segment, sequence_of
from muster.storage.recovery import read_journal
from muster.storage.snapshots import SnapshotStore
from muster.storage.succession import WITNESS_NAME, Staged, begin_life, settle, stage_ancestors
from muster.storage.superblock import MARK_KEY_BYTES, Superblock, read_superblock
from muster_protocol.consistency.registry import Registry
from muster_protocol.errors import RemoteError, StorageCorrupt
from muster_protocol.raftguard.survivors import Survey, sole_voter
from muster_protocol.raftguard.translation import batch_of, call_of
from muster_protocol.raftguard.witness import load_promises
from muster_protocol.types import ClusterId
from muster_protocol.wire.codec import encode
from muster_protocol.wire.raft import Entry, Reconfiguration, Voter, is_reconfiguration

REVISIONS_SKIPPED: Final = 10**12
"""Three years of ten thousand changes a second, which the dead cannot have been ahead; and a number
in which people still see the old revision. 2**62 holds four million recoveries, and a double, as
JSON's readers have it, nine thousand."""


@dataclass(frozen=True, slots=True)
class Held:
    """What a voter's directory holds."""

    superblock: Superblock
    journal: Journal
    registry: Registry
    """With all of the log applied."""

    def survey(self, name: str) -> Survey:
        """`name`: what people call this node."""
        journal, electorate = self.journal, self.journal.configuration
        manifest = journal.manifest
        return Survey(
            name=name,
            node=self.superblock.node,
            cluster=self.superblock.cluster,
            generation=self.superblock.generation,
            term=journal.current_term,
            last_term=journal.term_at(journal.last_index) or 0,
            last_index=journal.last_index,
            committed_index=manifest.last.index if manifest is not None else 1,
            revision=self.registry.revision,
            keys=len(self.registry),
            voters=electorate.voters,
            learners=electorate.learners,
            electorate_index=electorate.index,
            witness=electorate.witness,
        )


def witness_survey(files: Files, name: str) -> Survey | None:
    """What a witness's directory says; None where it is none. Blocks.

    Errors: StorageCorrupt, StorageError.
    """
    path = files.describe(WITNESS_NAME)
    promises = load_promises(read_record(files, WITNESS_NAME), path=path)
    if promises is None:
        return None
    return Survey(
        name=name,
        node=promises.node,
        cluster=promises.cluster,
        generation=promises.generation,
        term=promises.term,
        last_term=promises.mark_term,
        last_index=promises.mark_index,
        committed_index=0,
        revision=0,
        keys=0,
        voters=(),
        electorate_index=0,
        is_witness=True,
    )


def held(files: Files) -> Held | None:
    """What is there; None where this node has no seat. Changes nothing, but that a recovery which
    has begun is finished. Blocks. Errors: StorageCorrupt, StorageError."""
    superblock = read_superblock(files)
    if superblock is None or superblock.is_retired:
        return None
    settle(files, superblock)
    newest = SnapshotStore(files).newest()
    journal = read_journal(files, superblock, newest[0] if newest is not None else None)
    applied = newest[0].last.index if newest is not None else 1
    try:
        registry = Registry.restore(newest[1]) if newest is not None else Registry()
    except RemoteError as error:
        raise StorageCorrupt(f"the snapshot does not hold a state: {error}") from error
    return Held(superblock, journal, _with_log(registry, applied, journal))


def _with_log(registry: Registry, applied: int, journal: Journal) -> Registry:
    """As every replica applies it: what cannot be decoded is skipped by all of them."""
    replica = Replica(
        registry=registry,
        applied_index=applied,
        known=_knows_no_proposal,
        on_applied=_tells_nobody,
        notify=_tells_nobody,
    )
    for command, index, _ in journal[applied + 1 - journal.first_index :]:
        data = batch_of(command)
        if data is not None and not is_reconfiguration(data):
            replica.apply(data, index)
    return replica.registry


def _knows_no_proposal(origin: str, number: int) -> None:
    del origin, number


def _tells_nobody(*told: Any) -> None:
    del told


def recover(files: Files, found: Held, entropy: Entropy) -> Superblock:
    """Begin another cluster's life with what was `found`, and this node as its only voter. Blocks.

    Errors: StorageError: the old life goes on, or the new one has begun, whichever the superblock
    says.
    """
    old, journal = found.superblock, found.journal
    new = msgspec.structs.replace(
        old,
        cluster=entropy.token_bytes(16).hex(),
        generation=entropy.token_bytes(8).hex(),
        mark_key=entropy.token_bytes(MARK_KEY_BYTES),
        told_index=0,
    )
    term, index = journal.current_term + 1, journal.last_index + 1
    electorate = sole_voter(journal.configuration, Voter(new.node, new.generation), index)
    previous = journal.entry_at(journal.last_index)
    last = Entry(call_of(encode(Reconfiguration(electorate))), index, term)
    found.registry.skip_revisions(REVISIONS_SKIPPED)
    staged = Staged(files, new.generation)
    SnapshotStore(staged).write(
        found.registry.capture().slices(), previous=previous, last=last, configuration=electorate
    )
    log = Recovered(electorate, [engine_entry(previous), engine_entry(last)], term, new.node)
    write_log(staged, new, log, _next_sequence(files.names()))
    stage_ancestors(files, new.generation, ClusterId(old.cluster))
    begin_life(files, new)
    return new


def _next_sequence(names: Sequence[str]) -> int:
    return max((sequence_of(name) for name in names if is_segment(name)), default=0) + 1
