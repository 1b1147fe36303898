"""From what a consistency machine is made, and what it remembers: `RaftCore` and its log.

The log is the journal's image in memory: the terms of all entries, as runs, and the commands of
the newest, up to `COMMANDS_BYTES_MAX`. What an older entry holds is decided upon by nobody, but a
leader sends it to a follower that lags; a replay that comes to such an entry cannot say whether it
sent the same, and says that (`ReplayedJournal.met_unknown`).

The engine is remembered as far as its attributes are data, whatever their names: the rest is made
by its constructor, the log again by the image.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from muster.agents.consistency.raft.core import RaftCore
from muster.agents.consistency.raft.engine import FIRST_ENTRY, PeerNode
from muster.entropy import RngState, rng_of, rng_state
from muster.flight.memory import Codec, Memory, recall, remember
from muster.flight.tape import FlightLog, Tape
from muster.storage.journal import EngineEntry, Journal
from muster_protocol.errors import RemoteError
from muster_protocol.raftguard.electorate import Electorates
from muster_protocol.types import NodeId
from muster_protocol.wire.raft import Configuration, Manifest

if TYPE_CHECKING:
    import random

COMMANDS_BYTES_MAX: Final = 256 * 1024
"""Some thousand usual commands, and a quarter of the largest record."""

ENTRIES_MAX: Final = 1_000_000
"""Of an image: far above what a journal keeps. A damaged one must not be why a replay takes all
memory."""

UNKNOWN: Final = bytes(FIRST_ENTRY[0])
"""Stands for a command that is not on the record: for the engine it does nothing when applied."""

CODECS: Final[Mapping[type[Any], Codec]] = {
    PeerNode: Codec(to_plain=lambda node: node.id, from_plain=PeerNode)
}


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalImage:
    """A journal, without its disk. `terms` are runs of (how many entries, term)."""

    first_index: int
    terms: tuple[tuple[int, int], ...]
    commands: tuple[bytes, ...]
    term: int
    vote: str | None
    commit_index: int
    lsn: int
    meta_lsn: int
    durable_lsn: int
    durable_index: int
    electorates: tuple[Configuration, ...]
    generation: str
    manifest: Manifest | None


@dataclass(frozen=True, slots=True)
class LogTrimmed:
    """A durable snapshot covers the log up to `manifest.last`: the journal forgot what it covers.
    It happens beside the machine's events, and the machine sees it in its log."""

    manifest: Manifest
    keep_entries: int
    keep_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RaftBirth:
    """One voter's machine."""

    me: NodeId
    log: JournalImage
    rng: RngState
    now: float

    def build(self) -> RaftCore:
        """On a journal without a disk; what is committed is applied to nothing."""
        return RaftCore(
            me=self.me,
            journal=ReplayedJournal(self.log),
            rng=rng_of(self.rng),
            now=self.now,
            apply=_apply_nowhere,
        )


class RaftLine:
    """How the machine is remembered: its log beside its parts."""

    def remember(self, machine: RaftCore, birth: RaftBirth, now: float) -> tuple[RaftBirth, Memory]:
        born = replace(birth, log=image_of(machine.journal), now=now)
        return born, remember(machine, CODECS)

    def revive(self, birth: RaftBirth, memory: Memory | None) -> RaftCore:
        if memory is None:
            return birth.build()
        # An engine that has just been built applies what is committed; this one has long done so.
        at_rest = replace(birth.log, commit_index=1, manifest=None)
        core = replace(birth, log=at_rest).build()
        recall(core, memory, CODECS)
        assert isinstance(core.journal, ReplayedJournal)
        core.journal.load(birth.log)
        return core


def taped_core(
    *,
    me: NodeId,
    journal: Journal,
    rng: random.Random,
    now: float,
    apply: Callable[[bytes, int], None],
    log: FlightLog | None,
) -> Tape[RaftCore]:
    """A voter's machine on its real journal, on the record from its first moment."""
    born = RaftBirth(me=me, log=image_of(journal), rng=rng_state(rng), now=now)
    core = RaftCore(me=me, journal=journal, rng=rng, now=now, apply=apply)
    return Tape.of("raft", core, born, RaftLine(), log)


def image_of(journal: Journal) -> JournalImage:
    """What a machine sees of its journal now."""
    entries: list[EngineEntry] = journal[0:]
    runs = itertools.groupby(entries, key=lambda entry: entry[2])
    return JournalImage(
        first_index=journal.first_index,
        terms=tuple((sum(1 for _ in run), term) for term, run in runs),
        commands=_newest_commands(entries),
        term=journal.current_term,
        vote=journal.getVotedForNodeId(),
        commit_index=journal.commit_index,
        lsn=journal.lsn,
        meta_lsn=journal.meta_lsn,
        durable_lsn=journal.durable_lsn,
        durable_index=journal.durable_index,
        electorates=journal.electorates.all,
        generation=journal.generation,
        manifest=journal.manifest,
    )


def _newest_commands(entries: list[EngineEntry]) -> tuple[bytes, ...]:
    room, commands = COMMANDS_BYTES_MAX, []
    for command, _, _ in reversed(entries):
        room -= len(command)
        if room < 0:
            break
        commands.append(command)
    return tuple(reversed(commands))


def _apply_nowhere(data: bytes, index: int) -> None:
    del data, index


class ReplayedJournal(Journal):
    """A journal from an image, for a machine that lives again. It writes nothing."""

    def __init__(self, image: JournalImage) -> None:
        self.log_bytes = 0
        self.commits = 0
        self._committing = None
        self._buffer = bytearray()
        self._buffer_highest = 0
        self._segments = []
        self.load(image)

    def load(self, image: JournalImage) -> None:
        """Be as the image says. Errors: RemoteError for one that cannot be."""
        total = sum(count for count, _ in image.terms)
        unknown = total - len(image.commands)
        if not 0 < total <= ENTRIES_MAX or unknown < 0:
            raise RemoteError("garbage", f"a log of {total} entries, {unknown} without commands")
        terms = [term for count, term in image.terms for _ in range(count)]
        commands = [UNKNOWN] * unknown + list(image.commands)
        self._entries = [
            (command, image.first_index + place, term)
            for place, (command, term) in enumerate(zip(commands, terms, strict=True))
        ]
        self.log_bytes = sum(len(command) for command in commands)
        self._known_from = image.first_index + unknown
        self.met_unknown = False
        self._term, self._vote = image.term, image.vote
        self._commit_index = image.commit_index
        self._lsn, self._meta_lsn = image.lsn, image.meta_lsn
        self._durable_lsn, self._durable_index = image.durable_lsn, image.durable_index
        if not image.electorates:
            raise RemoteError("garbage", "a log without an electorate")
        self.electorates = Electorates(image.electorates[0], image.electorates[1:])
        self._generation, self._manifest = image.generation, image.manifest

    @property
    def generation(self) -> str:
        return self._generation

    def __getitem__(self, item: int | slice) -> Any:
        found = super().__getitem__(item)
        oldest = found[:1] if isinstance(item, slice) else [found]
        if oldest and oldest[0][1] < self._known_from:
            self.met_unknown = True
        return found

    def mark_durable(self, *, lsn: int, index: int) -> None:
        """What a group commit said."""
        self._durable_lsn, self._durable_index = lsn, index

    def _append_record(self, kind: int, payload: bytes) -> None:
        del kind, payload
        self._lsn += 1
