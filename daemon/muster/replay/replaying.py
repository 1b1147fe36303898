"""Runs machines again on what a flight record says went into them, and compares what they decide.

A machine lives from a birth, or from a memory where its life before is not on the record, until
the record ends or has a gap. While it lives, later memories are not looked at: what this code would
have made of all of it is the question. A decision is compared by the checksum of its effects. After
one that differs the machine goes on with the state that *this* code gave it, so what differs later
may only follow from the first; that is why the first is told.

What is in a file may be anything. A machine that raises is reported like a decision, and its life
ends there; that is why exceptions of all kinds are caught around it.
"""

from __future__ import annotations

import enum
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from muster.flight.records import Born, FlightFile, Handled, Lost, Record, checksum
from muster.replay.machines import KINDS, Kind
from muster_protocol.effects import Effect
from muster_protocol.errors import RemoteError
from muster_protocol.wire.codec import Decoder

BEFORE_THE_FILES = "its beginning was overwritten, or is in another file"

_ANY: Decoder[Any] = Decoder(Any)


class Outcome(enum.StrEnum):
    """What became of one record."""

    SAME = "same"
    DIFFERS = "differs"
    NOT_COMPARED = "not compared"
    """It was replayed, and what was decided then is not known, or cannot be known now."""
    NOT_REPLAYED = "not replayed"
    """There is no machine to give it to."""
    BEGINS = "begins"
    GOES_ON = "goes on"
    """From a memory."""
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Step:
    """One record, and what this code makes of it. `event` is typed where the machine knows it, else
    as it was encoded; `why` says more of an outcome."""

    machine: str
    at: float
    outcome: Outcome
    kind: str = ""
    event: Any = None
    effects: tuple[Effect, ...] = ()
    why: str = ""


@dataclass(slots=True)
class Tally:
    """One machine over the whole record."""

    machine: str
    is_machine: bool
    same: int = 0
    differing: int = 0
    not_compared: int = 0
    not_replayed: int = 0
    first_difference: Step | None = None
    why_not_replayed: str = ""
    """Of the first that was not."""

    def count(self, step: Step) -> None:
        match step.outcome:
            case Outcome.SAME:
                self.same += 1
            case Outcome.DIFFERS:
                self.differing += 1
                self.first_difference = self.first_difference or step
            case Outcome.NOT_COMPARED:
                self.not_compared += 1
            case Outcome.NOT_REPLAYED:
                self.not_replayed += 1
                self.why_not_replayed = self.why_not_replayed or step.why


class _Life:
    """The present machine of one name, or why there is none."""

    def __init__(self, name: str, kind: Kind) -> None:
        self.name = name
        self.kind = kind
        self.machine: Any = None
        self.why_none = BEFORE_THE_FILES

    def begin(self, born: Born) -> Step | None:
        """None: it lives already, and does not need the memory."""
        if born.memory is not None and self.machine is not None:
            return None
        try:
            birth = self.kind.birth.decode(born.birth)
            self.machine = self.kind.line.revive(birth, born.memory)
        except Exception as error:  # noqa: BLE001 (whatever a record may lead to)
            why = f"what is recorded makes no machine of this version: {_told(error)}"
            return self.lose(born.now, why)
        outcome = Outcome.BEGINS if born.memory is None else Outcome.GOES_ON
        return Step(self.name, born.now, outcome)

    def lose(self, now: float, why: str) -> Step:
        self.machine, self.why_none = None, why
        return Step(self.name, now, Outcome.LOST, why=why)

    def handle(self, record: Handled) -> Step:
        event, why = self._event_of(record)
        if self.machine is None:
            return _step(record, Outcome.NOT_REPLAYED, _plain(record), why=self.why_none)
        if why:
            self.lose(record.now, why)
            return _step(record, Outcome.NOT_REPLAYED, _plain(record), why=why)
        if (happened := self.kind.beside.get(type(event))) is not None:
            return self._beside(record, event, happened)
        return self._compared(record, event)

    def _event_of(self, record: Handled) -> tuple[Any, str]:
        decoder = self.kind.events.get(record.kind)
        if decoder is None:
            return None, f"this version knows no event {record.kind}"
        try:
            return decoder.decode(record.event), ""
        except RemoteError as error:
            kept = "kept as text only" if isinstance(_plain(record), str) else str(error)
            return None, f"an event cannot be read: {kept}"

    def _beside(self, record: Handled, event: Any, happened: Any) -> Step:
        try:
            happened(self.machine, event)
        except Exception as error:  # noqa: BLE001 (as in `begin`)
            self.lose(record.now, f"it does not go on: {_told(error)}")
        return _step(record, Outcome.NOT_COMPARED, event, why="it happened beside the machine")

    def _compared(self, record: Handled, event: Any) -> Step:
        effects: tuple[Effect, ...] = ()
        decided: int | str | None
        try:
            if (prepare := self.kind.before.get(type(event))) is not None:
                prepare(self.machine, event)
            effects = self.machine.handle(event, now=record.now)
            decided = checksum(effects)
        except Exception as error:  # noqa: BLE001 (the bug that is looked for, perhaps)
            decided = _told(error)
        step = self._judged(record, event, effects, decided)
        if isinstance(decided, str):
            self.lose(record.now, f"it raised {decided}")
        return step

    def _judged(
        self, record: Handled, event: Any, effects: tuple[Effect, ...], decided: int | str | None
    ) -> Step:
        if decided is None or record.decided is None:
            why = "what was decided has no checksum"
            return _step(record, Outcome.NOT_COMPARED, event, effects, why=why)
        if decided == record.decided:
            why = f"it raised {decided}, as then" if isinstance(decided, str) else ""
            return _step(record, Outcome.SAME, event, effects, why=why)
        if getattr(getattr(self.machine, "journal", None), "met_unknown", False):
            why = "it needs log entries whose content is not on the record"
            return _step(record, Outcome.NOT_COMPARED, event, effects, why=why)
        then = _then(record)
        why = f"{then}, now raises {decided}" if isinstance(decided, str) else then
        return _step(record, Outcome.DIFFERS, event, effects, why=why)


class Replay:
    """One pass over files in their order. `steps` runs it; `tallies` is of all that it has met."""

    def __init__(self, *, only: str | None = None) -> None:
        """`only`: one machine's name."""
        self._only = only
        self._lives: dict[str, _Life] = {}
        self.tallies: dict[str, Tally] = {}

    def steps(self, files: Sequence[FlightFile]) -> Iterator[Step]:
        """What each record comes to. Errors: none that the files can cause."""
        before: FlightFile | None = None
        for file in files:
            if before is not None and (before.damage or file.generation != before.generation + 1):
                for life in self._lives.values():
                    life.lose(0.0, "records before it are missing")
            for record in file.records:
                if self._only in (None, record.machine):
                    step = self._step(record)
                    if step is not None:
                        self._tally(record.machine).count(step)
                        yield step
            before = file

    def _step(self, record: Record) -> Step | None:
        life = self._life(record.machine)
        if life is None:
            if isinstance(record, Handled):
                return _step(record, Outcome.NOT_REPLAYED, _plain(record), why="it is an agent")
            why = record.why if isinstance(record, Lost) else "this version has no such machine"
            return Step(record.machine, record.now, Outcome.LOST, why=why)
        if isinstance(record, Handled):
            return life.handle(record)
        return life.begin(record) if isinstance(record, Born) else life.lose(record.now, record.why)

    def _life(self, name: str) -> _Life | None:
        if name in KINDS and name not in self._lives:
            self._lives[name] = _Life(name, KINDS[name])
        return self._lives.get(name)

    def _tally(self, name: str) -> Tally:
        return self.tallies.setdefault(name, Tally(name, name in KINDS))


def in_order(files: Mapping[str, FlightFile]) -> list[FlightFile]:
    """By age, whatever their names. Errors: ValueError for files that belong to different rings."""
    ordered = sorted(files.items(), key=lambda named: named[1].generation)
    for (name, one), (other, two) in itertools.pairwise(ordered):
        if one.generation == two.generation:
            raise ValueError(f"{name} and {other} are not of one node: both are its same turn")
    return [file for _, file in ordered]


def _step(
    record: Handled,
    outcome: Outcome,
    event: Any,
    effects: tuple[Effect, ...] = (),
    *,
    why: str = "",
) -> Step:
    return Step(record.machine, record.now, outcome, record.kind, event, effects, why)


def _plain(record: Handled) -> Any:
    """The event as it was encoded."""
    try:
        return _ANY.decode(record.event)
    except RemoteError:
        return None


def _then(record: Handled) -> str:
    if isinstance(record.decided, str):
        return f"then it raised {record.decided}"
    return "then nothing was decided" if record.decided == 0 else "then it decided otherwise"


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
