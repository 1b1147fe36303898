"""Actions: the named operations of an agent, with validated parameters.

A **pure** action decides: `(state, params, context) -> (state, effects)`. It is an ordinary
function, runs inside the agent's machine, and must not touch anything else. An **effectful** one
is an `async` function with the same arguments that does something and returns a result; the
executor runs it beside the agent, under a time-out and with retries, and the outcome comes back as
an event. The rule for the grey zone is Jido's: who needs the result to go on takes an effectful
action, who leaves the doing to the runtime returns an effect.

    class Announce(msgspec.Struct, frozen=True):
        load: float

    @action(name="AnnouncePresence", params=Announce)
    def announce_presence(state, params, context):
        return state, (patterns.node_announcement({"node_id": context.node}),)

An action that needs a resource is made from a bound method when the agent is built:
`action(name="Probe", params=Probe)(self._probe)`.

Which errors are outcomes? An effectful action fails with the errors that it declares, by default
those of the outside world (`ERRORS_OF_THE_WORLD`) and refusals; a `ValueError` in it is a bug, and
ends the agent like any other bug, for its supervisor to restart. Swallowing it here would leave an
agent that goes on with half of its work undone. Of the declared ones, only those that another
attempt can cure are retried.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec
import trio

from muster_protocol.effects import Effect
from muster_protocol.errors import (
    LocalError,
    MusterError,
    OutcomeUnknown,
    Refused,
    RemoteError,
    UsageError,
)
from muster_protocol.signals.signal import Signal

if TYPE_CHECKING:
    from muster.clock import Clock
    from muster.runtime.directives import Cause, RequestId
    from muster_protocol.types import Rng

F = TypeVar("F", bound=Callable[..., Any])

ACTION_TIMEOUT_S: Final = 30.0
ACTION_RETRIES: Final = 1
"""Time-out and retries of an action that says nothing: Jido's defaults."""


class ActionTimedOut(MusterError):
    """One attempt of an effectful action took too long. What it did outside may have happened."""


ERRORS_OF_THE_WORLD: Final[tuple[type[Exception], ...]] = (
    OSError,
    RemoteError,
    ActionTimedOut,
    trio.BrokenResourceError,
    trio.ClosedResourceError,
)
"""What another attempt may cure."""

REFUSALS: Final[tuple[type[Exception], ...]] = (Refused, UsageError, OutcomeUnknown)
"""Outcomes that no other attempt changes, or that only a retry with the same id may touch."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to wait before the n-th new attempt: `first_s * factor ** n`, capped, jittered.

    The defaults are Jido's. `jitter` is the part of the delay that is left to chance, so that a
    hundred agents that failed together do not come back together.
    """

    first_s: float = 0.25
    factor: float = 2.0
    max_s: float = 30.0
    jitter: float = 0.5

    def delay_s(self, attempt: int, rng: Rng) -> float:
        """The wait after failed attempt number `attempt`, counted from 0."""
        try:
            whole = min(self.max_s, self.first_s * self.factor**attempt)
        except OverflowError:
            whole = self.max_s
        return whole * (1.0 - self.jitter * rng.random())


class NoParams(msgspec.Struct, frozen=True):
    """An action that takes nothing; what a signal carries is not looked at."""


@dataclass(frozen=True, slots=True)
class ActionContext:
    """What an action may know beside its parameters. `now` is monotonic seconds.

    `signal` is the one that led here, if one did; `request` names the caller, if one waits. Only
    effectful actions have a `clock`.
    """

    agent: str
    node: str
    now: float
    signal: Signal | None = None
    request: RequestId | None = None
    cause: Cause | None = None
    clock: Clock | None = None


class ActionParamsInvalid(UsageError):
    """Parameters do not fit; the message names the action and the field."""


@dataclass(frozen=True, slots=True)
class Action:
    """A declared operation; made by `action`. Calling it calls the function."""

    name: str
    function: Callable[..., Any]
    params: type[msgspec.Struct] = NoParams
    timeout_s: float = ACTION_TIMEOUT_S
    retries: int = ACTION_RETRIES
    backoff: Backoff = field(default_factory=Backoff)
    errors: tuple[type[Exception], ...] = ERRORS_OF_THE_WORLD + REFUSALS
    retry_on: tuple[type[Exception], ...] = ERRORS_OF_THE_WORLD

    @property
    def expected(self) -> tuple[type[Exception], ...]:
        """What may come out of it without being a bug, a nursery's group among it."""
        return (*self.errors, *self.retry_on, ExceptionGroup)

    @property
    def is_effectful(self) -> bool:
        return inspect.iscoroutinefunction(inspect.unwrap(self.function))

    def __call__(self, state: Any, params: Any, context: ActionContext) -> Any:
        return self.function(state, params, context)

    def validate(self, raw: Any, *, allow_unknown: bool) -> msgspec.Struct:
        """`raw`, a mapping or a struct, as this action's parameters.

        Fields that we do not know are skipped in what another member may have sent
        (`allow_unknown`), and refused in what a client asks for.
        Errors: ActionParamsInvalid, which names the field.
        """
        if isinstance(raw, self.params):
            raw = msgspec.structs.asdict(raw)
        elif isinstance(raw, msgspec.Struct):
            raw = msgspec.to_builtins(raw)
        if not isinstance(raw, Mapping):
            raise ActionParamsInvalid(
                f"action {self.name}: expected named parameters, got {type(raw).__name__}"
            )
        if not allow_unknown:
            known = {f.encode_name for f in msgspec.structs.fields(self.params)}
            for key in raw:
                if key not in known:
                    raise ActionParamsInvalid(f"action {self.name}: unknown parameter {key!r}")
        try:
            return msgspec.convert(dict(raw), self.params)
        except (msgspec.ValidationError, RecursionError) as error:
            raise ActionParamsInvalid(f"action {self.name}: {_naming_the_field(error)}") from error


def _naming_the_field(error: Exception) -> str:
    """msgspec says "Expected `int`, got `str` - at `$.count`"; the field belongs in front."""
    reason, separator, path = str(error).partition(" - at `$.")
    return f"parameter {path.rstrip('`')!r}: {reason}" if separator else reason


def action(
    *,
    name: str,
    params: type[msgspec.Struct] = NoParams,
    timeout_s: float = ACTION_TIMEOUT_S,
    retries: int = ACTION_RETRIES,
    backoff: Backoff | None = None,
    errors: tuple[type[Exception], ...] = ERRORS_OF_THE_WORLD + REFUSALS,
    retry_on: tuple[type[Exception], ...] = ERRORS_OF_THE_WORLD,
) -> Callable[[Callable[..., Any]], Action]:
    """Make a function an action; an `async` one is effectful.

    `timeout_s`, `retries` (attempts beyond the first), `backoff`, `errors` (which are outcomes; the
    others are bugs) and `retry_on` matter for effectful ones only.
    """
    assert timeout_s > 0
    assert retries >= 0

    def declare(function: Callable[..., Any]) -> Action:
        return Action(
            name=name,
            function=function,
            params=params,
            timeout_s=timeout_s,
            retries=retries,
            backoff=backoff or Backoff(),
            errors=errors,
            retry_on=retry_on,
        )

    return declare


class PureActionInvalid(LocalError):
    """A pure action did not return (state, effects): a bug in it."""


def apply(
    declared: Action, state: Any, params: Any, context: ActionContext
) -> tuple[Any, tuple[Effect, ...]]:
    """Call a pure action and check the shape of what it returns.

    Errors: PureActionInvalid, and whatever the action raises; the state is as it was.
    """
    outcome = declared(state, params, context)
    match outcome:
        case (new_state, tuple(effects)) if all(isinstance(e, Effect) for e in effects):
            return new_state, effects
        case _:
            raise PureActionInvalid(
                f"action {declared.name}: expected (state, (effect, ...)), got {outcome!r}"
            )


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an effectful action ended: `error` is None where it succeeded."""

    result: Any
    error: Exception | None
    attempts: int


async def attempt(
    declared: Action, state: Any, params: Any, context: ActionContext, *, clock: Clock, rng: Rng
) -> Outcome:
    """Run an effectful action to its end, with its retries.

    Errors: those that the action did not declare.
    Cancellation: the attempt is cancelled, and nothing is retried.
    """
    for number in range(declared.retries + 1):
        try:
            with clock.move_on_after(declared.timeout_s):
                result = await declared(state, params, context)
                return Outcome(result, None, number + 1)
            raise ActionTimedOut(f"action {declared.name}: took longer than {declared.timeout_s} s")
        except declared.expected as raised:
            error = _declared_error(raised, declared)
            if number == declared.retries or not isinstance(error, declared.retry_on):
                return Outcome(None, error, number + 1)
        await clock.sleep(declared.backoff.delay_s(number, rng))
    raise AssertionError("the loop returns or raises")


def _declared_error(raised: Exception, declared: Action) -> Exception:
    """`raised`, or what is in it where it is a nursery's group of one. Raises what is a bug."""
    error = raised
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    if not isinstance(error, (*declared.errors, *declared.retry_on)):
        raise raised
    return error
