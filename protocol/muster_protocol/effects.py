"""The one effect vocabulary: what a machine asks the world to do.

Every decider, protocol machine or agent, has the same shape:

    effects = machine.handle(event, now=now)   # tuple of the values below
    machine.deadline                           # when it wants to be woken, or None

Effects are data. They are executed in the order in which they stand; a `Persist` is durable
before anything behind it leaves, while the machine itself goes on (`muster.driver`). A type that
the executor has no entry for is an error, never ignored. Each machine may add effect types of
its own beside it; what several machines share stands here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from muster_protocol.types import Address, NodeId, Priority, Scope, Severity


class Effect:
    """Marks a value as something that an executor can do."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class DeadlineReached:
    """The event that a driver posts when `machine.deadline` has passed.

    It carries nothing: a machine compares `now` with its own deadlines, so a stale timer cannot
    exist and nothing is ever cancelled.
    """


@dataclass(frozen=True, slots=True)
class SendPacket(Effect):
    """Send messages in one sealed packet. Best effort, as UDP is.

    `receiver` is None only for messages to an address of which the node id is not known (a join
    hint): the packet is then not bound to its receiver.
    """

    to: Address
    messages: tuple[Any, ...]
    receiver: NodeId | None


@dataclass(frozen=True, slots=True)
class Persist(Effect):
    """Make a small named record durable; it replaces the record of that name."""

    name: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Notify(Effect):
    """Something worth telling the operator. `event` is a stable dotted name for the log."""

    event: str
    severity: Severity = Severity.INFO
    fields: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Emit(Effect):
    """Publish a signal. The executor adds id, time, source, causation and trace."""

    type: str
    data: Mapping[str, Any]
    subject: str = ""
    scope: Scope = Scope.NODE
    priority: Priority = Priority.NORMAL
    metadata: Mapping[str, Any] = field(default_factory=dict)


class Machine(Protocol):
    """The shape of every decider."""

    @property
    def deadline(self) -> float | None:
        """The next instant at which it wants a `DeadlineReached`, or None."""

    def handle(self, event: Any, *, now: float) -> tuple[Effect, ...]:
        """Take one event and say what should be done about it."""


def earliest(*deadlines: float | None) -> float | None:
    """The first of several deadlines; None where there is none."""
    due = [deadline for deadline in deadlines if deadline is not None]
    return min(due) if due else None
