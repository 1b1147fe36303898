"""What a key should do: a register, a text, and a key of muster's own registry.

Beside `Model.step`, each says what the explanation needs to know of operations (`Explainable`): who
may have taken what it found from whom. Where that cannot be told, the answer is yes; a yes too many
makes an explanation longer, a no too many would make it a lie.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

from muster.sim.checkers.vocabulary import Model
from muster.sim.history import Op, Outcome, Reply, Request

ABSENT: Final = 0
"""The revision that `expected` names where no key must be."""


class Register(Model[str | None, Request, Reply]):
    """One value, None at first: get, put, and cas, which conflicts where another value is."""

    def initial(self) -> tuple[str | None, ...]:
        return (None,)

    def step(
        self, state: str | None, request: Request, reply: Reply | None
    ) -> tuple[str | None, ...]:
        if request.action == "put":
            return (request.value,)
        if request.action == "get":
            return (state,) if reply is None or reply.value == state else ()
        fits = state == request.expected
        if reply is not None and fits != (reply.outcome is Outcome.DONE):
            return ()
        return (request.value if fits else state,)

    def covers(self, state: str | None, other: str | None) -> bool:
        return state == other

    def rank(self, operation: Op) -> int:
        del operation
        return 0

    def changes(self, operation: Op) -> bool:
        return operation.input.action != "get" and not _conflicts(operation)

    def observes(self, operation: Op) -> bool:
        return operation.input.action != "put"

    def overwrites(self, operation: Op) -> bool:
        return self.changes(operation) and operation.output is not None

    def may_show(self, reader: Op, writer: Op) -> bool:
        if reader.input.action == "put":
            return False
        if reader.input.action == "cas":
            is_expected = reader.input.expected == writer.input.value
            return is_expected != _conflicts(reader)
        return reader.output is not None and reader.output.value == writer.input.value


class Text(Model[str, Request, Reply]):
    """A text, empty at first: get, put and append."""

    def initial(self) -> tuple[str, ...]:
        return ("",)

    def step(self, state: str, request: Request, reply: Reply | None) -> tuple[str, ...]:
        if request.action == "get":
            return (state,) if reply is None or reply.value == state else ()
        assert request.value is not None
        return (state + request.value if request.action == "append" else request.value,)

    def covers(self, state: str, other: str) -> bool:
        return state == other

    def rank(self, operation: Op) -> int:
        del operation
        return 0

    def changes(self, operation: Op) -> bool:
        return operation.input.action != "get"

    def observes(self, operation: Op) -> bool:
        return operation.input.action == "get"

    def overwrites(self, operation: Op) -> bool:
        return operation.input.action == "put" and operation.output is not None

    def may_show(self, reader: Op, writer: Op) -> bool:
        """A get shows every append behind the last put, and that put."""
        found = reader.output.value if reader.output is not None else None
        return found is not None and (writer.input.value or "") in found


class Cell(NamedTuple):
    """A key of the registry. `value` None: there is no such key, and both bounds are `ABSENT`.
    Its revision lies between the bounds, for nobody was told that of an unknown put. `floor` is the
    highest revision of the store that somebody was told so far."""

    value: str | None
    least: int
    most: float
    floor: int


class RegistryKey(Model[Cell, Request, Reply]):
    """A key of muster's store: get, put and delete, with or without an expected revision. Every
    reply tells the store's revision, which never goes back, and each change makes a new one."""

    def initial(self) -> tuple[Cell, ...]:
        return (Cell(None, ABSENT, ABSENT, 0),)

    def step(self, state: Cell, request: Request, reply: Reply | None) -> tuple[Cell, ...]:
        if reply is None:
            return self._unknown(state, request)
        assert reply.revision is not None
        if reply.revision < state.floor:
            return ()
        held = state._replace(floor=reply.revision, most=min(state.most, reply.revision))
        if reply.outcome is Outcome.CONFLICT:
            return self._conflict(held, request, reply)
        if reply.outcome is Outcome.NOT_FOUND:
            is_absent = state.value is None and request.expected in (None, ABSENT)
            return (held,) if is_absent and not reply.entry else ()
        if request.action == "get":
            return _at(held, reply.entry) if held.value == reply.value else ()
        return self._change(state, request, reply.revision, reply.entry)

    def _change(
        self, state: Cell, request: Request, revision: int, entry: int | None
    ) -> tuple[Cell, ...]:
        if revision <= state.floor or not _may_be(state, request.expected):
            return ()
        if entry not in (None, revision if request.action == "put" else ABSENT):
            return ()
        if request.action == "put":
            return (Cell(request.value, revision, revision, revision),)
        return (Cell(None, ABSENT, ABSENT, revision),) if state.value is not None else ()

    def _conflict(self, held: Cell, request: Request, reply: Reply) -> tuple[Cell, ...]:
        if held.least == held.most == request.expected:
            return ()
        return _at(held, reply.entry if reply.entry is not None else ABSENT)

    def _unknown(self, state: Cell, request: Request) -> tuple[Cell, ...]:
        """It took effect, if there was any to take."""
        if request.action == "get" or not _may_be(state, request.expected):
            return (state,)
        least = state.floor + 1
        if request.action == "put":
            return (Cell(request.value, least, math.inf, least),)
        return (Cell(None, ABSENT, ABSENT, least),) if state.value is not None else (state,)

    def covers(self, state: Cell, other: Cell) -> bool:
        return (
            state.value == other.value
            and state.floor <= other.floor
            and state.least <= other.least
            and state.most >= other.most
        )

    def rank(self, operation: Op) -> int:
        """A change comes before those who were told the revision that it made."""
        reply = operation.output
        if reply is None or reply.revision is None:
            return 0
        return 2 * reply.revision + (not self.changes(operation))

    def changes(self, operation: Op) -> bool:
        reply = operation.output
        return operation.input.action != "get" and (reply is None or reply.outcome is Outcome.DONE)

    def observes(self, operation: Op) -> bool:
        return operation.input.action != "put" or operation.input.expected is not None

    def overwrites(self, operation: Op) -> bool:
        return self.changes(operation) and operation.output is not None

    def may_show(self, reader: Op, writer: Op) -> bool:
        request, reply = reader.input, reader.output
        is_removal = writer.input.action == "delete"
        if reply is not None and reply.outcome is Outcome.NOT_FOUND:
            return is_removal
        if request.action != "get" and (reply is None or reply.outcome is Outcome.DONE):
            if request.expected is None:  # a put finds nothing out; a delete, that there was a key
                return request.action == "delete" and not is_removal
            return _may_have_made(writer, request.expected)
        if reply is None:
            return False
        is_same = request.action != "get" or reply.value == writer.input.value
        return is_same and _may_have_made(writer, reply.entry or ABSENT)


def _at(cell: Cell, entry: int | None) -> tuple[Cell, ...]:
    """The cell, now that its revision is known; none if it cannot be that."""
    if entry is None or not cell.least <= entry <= cell.most:
        return ()
    return (cell._replace(least=entry, most=entry),)


def _may_be(cell: Cell, expected: int | str | None) -> bool:
    return expected is None or (isinstance(expected, int) and cell.least <= expected <= cell.most)


def _may_have_made(writer: Op, entry: int | str) -> bool:
    """May the key's own revision be `entry` directly behind this put or delete?"""
    if (writer.input.action == "delete") != (entry == ABSENT):
        return False
    return entry == ABSENT or writer.output is None or writer.output.revision == entry


def _conflicts(operation: Op) -> bool:
    return operation.output is not None and operation.output.outcome is Outcome.CONFLICT
