"""The runtime's own effects ("directives" in Jido) and the events that answer them.

An agent returns effects; these few are about the agent itself. Every one of them is really
executed: `Schedule` by the host's mailbox machine, which turns it into a deadline, the others by
the executor's table. There is none for starting sensors or for cron: an agent's sensors live as
long as it does, and `Every` (`muster.runtime.agent`) is made of `Schedule`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from muster_protocol.effects import Effect, Persist
from muster_protocol.signals.signal import Signal

RequestId = int
"""Names one waiting caller of one host."""


@dataclass(frozen=True, slots=True)
class Cause:
    """What led to something: the id of a signal ("" if none) and the trace that it belongs to."""

    signal: str
    trace: str


# ── effects ─────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Schedule(Effect):
    """Give this agent `event` after `delay_s`. Never cancelled: an event that may be stale carries
    a token by which the agent tells."""

    event: Any
    delay_s: float


@dataclass(frozen=True, slots=True)
class RunAction(Effect):
    """Run an effectful action beside the agent. `ActionSucceeded` or `ActionFailed` comes back.

    `token` comes back with it; with a `request`, that caller gets the outcome as its answer.
    """

    action: str
    params: Mapping[str, Any] = field(default_factory=dict)
    token: Any = None
    request: RequestId | None = None


@dataclass(frozen=True, slots=True)
class Reply(Effect):
    """Answer the caller that waits for `request`. Nobody waiting any more is no error."""

    request: RequestId
    value: Any = None


@dataclass(frozen=True, slots=True)
class Fail(Effect):
    """Raise `error` in the caller that waits for `request`."""

    request: RequestId
    error: Exception


@dataclass(frozen=True, slots=True)
class Spawn(Effect):
    """Start an agent of a kind that the supervisor knows, under its own name."""

    kind: str
    name: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StopAgent(Effect):
    """Stop another agent of the same supervisor; it is not restarted."""

    name: str


@dataclass(frozen=True, slots=True)
class Stop(Effect):
    """End this agent: its records are made durable first, and it is not restarted."""

    reason: str = ""


@dataclass(frozen=True, slots=True)
class Caused(Effect):
    """An effect and what led to it; how the mailbox machine hands effects to the executor.

    Made by the runtime only. Effects can wait for a disk, so "the event that is being handled now"
    is not a thing that the executor could ask for.
    """

    effect: Effect
    cause: Cause | None


# ── events ──────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Started:
    """The first event of every agent; it answers with what its `mount` returns."""


@dataclass(frozen=True, slots=True)
class Invoke:
    """A command, for `AgentHost.call`: do this action. Unknown parameters are an error."""

    action: str
    params: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Asked:
    """Somebody waits for the answer to `command`: a `Reply` or a `Fail` to `request`."""

    request: RequestId
    command: Any
    cause: Cause | None = None


@dataclass(frozen=True, slots=True)
class Sensed:
    """A sensor read something. `value` holds the parameters of the action that takes it."""

    sensor: str
    value: Any


@dataclass(frozen=True, slots=True)
class ActionSucceeded:
    """An effectful action ended with `result`."""

    action: str
    result: Any
    token: Any = None
    request: RequestId | None = None
    cause: Cause | None = None
    attempts: int = 1


@dataclass(frozen=True, slots=True)
class ActionFailed:
    """An effectful action ended with an error that it declared, after all its retries."""

    action: str
    error: Exception
    token: Any = None
    request: RequestId | None = None
    cause: Cause | None = None
    attempts: int = 1


def cause_of(event: Any) -> Cause | None:
    """What an event says about its own origin."""
    if isinstance(event, Signal):
        return Cause(event.id, event.trace)
    if isinstance(event, Asked | ActionSucceeded | ActionFailed):
        return event.cause
    return None


def is_answer(effect: Effect, request: RequestId) -> bool:
    """Whether `effect` answers that request, now or when an action ends."""
    return isinstance(effect, Reply | Fail | RunAction) and effect.request == request


def with_cause(effects: tuple[Effect, ...], cause: Cause | None) -> tuple[Effect, ...]:
    """The effects as the executor takes them. A `Persist` stays bare: the driver looks for it."""
    return tuple(e if isinstance(e, Persist) else Caused(e, cause) for e in effects)
