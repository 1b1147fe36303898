"""A tape: one machine, and the record of all that went into it and of what it decided.

Whoever owns a machine hands it its events through the tape. What an agent does with a signal before
its machine sees anything, or what it asks of others meanwhile, is not on the record, and need not
be: the machine's own events hold the outcome, and they are all that it decides upon.
"""

from __future__ import annotations

from typing import Any, Generic, Protocol, TypeVar

from muster.flight.births import Birth, Line, PlainLine
from muster.flight.records import Decided, checksum
from muster_protocol.effects import Effect, Machine

M = TypeVar("M", bound=Machine)


class FlightLog(Protocol):
    """Where tapes are written to (`muster.recorder`)."""

    def begin(self, name: str, machine: Any, birth: Any, line: Line[Any], now: float) -> None:
        """A machine begins, in place of an earlier one of that name."""

    def record(self, machine: str, event: Any, now: float, decided: Decided = None) -> None:
        """Keep one event; never blocks and never raises."""


class Tape(Generic[M]):
    """See the module."""

    def __init__(self, name: str, machine: M, log: FlightLog | None) -> None:
        self.machine = machine
        self._name = name
        self._log = log

    @classmethod
    def begin(cls, name: str, birth: Birth[M], log: FlightLog | None) -> Tape[M]:
        """A new machine, made from what is recorded of it; without `log`, nothing is recorded."""
        return cls.of(name, birth.build(), birth, PlainLine(), log)

    @classmethod
    def of(cls, name: str, machine: M, birth: Any, line: Line[M], log: FlightLog | None) -> Tape[M]:
        """A machine that was just made from `birth`."""
        if log is not None:
            log.begin(name, machine, birth, line, birth.now)
        return cls(name, machine, log)

    def handle(self, event: Any, *, now: float) -> tuple[Effect, ...]:
        """The machine's `handle`. Errors: the machine's."""
        if self._log is None:
            return self.machine.handle(event, now=now)
        try:
            effects = self.machine.handle(event, now=now)
        except Exception as raised:  # let through: it is on the record then, with what led to it
            self._log.record(self._name, event, now, f"{type(raised).__name__}: {raised}")
            raise
        self._log.record(self._name, event, now, checksum(effects))
        return effects

    def note(self, event: Any, *, now: float) -> None:
        """Record what happened to the machine beside its events."""
        if self._log is not None:
            self._log.record(self._name, event, now)
