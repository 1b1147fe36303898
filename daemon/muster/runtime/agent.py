"""An agent: a machine with a name, a state, actions, and routes from signals to actions.

It has the shape of every decider, `handle(event, now=now)` and `deadline`, so an agent can be
tested without any runtime, replayed from the flight recorder, and run in the simulator. What is in
front of it, its host, is `muster.runtime.host`.

What happens to an event:

    Signal           the actions of all matching routes, in the router's order
    Sensed           the action that `readings` names for the sensor
    ActionSucceeded  the action that `outcomes` names, with the result as its parameters;
                     whoever waits for it gets the result
    ActionFailed     `handle_failure`: a warning, and whoever waits for it gets the error
    Started          `mount`, and the first round of `schedules`
    Asked            `Invoke`: that action; any other command goes to `handle_request`
    anything else    `handle_event`: where an agent that wraps a protocol machine feeds it

Parameters that do not fit are refused, not raised: a signal can come from another member of
another version, and must not be able to end an agent. What a pure action itself raises is a bug,
except a refusal (`Refused`, `UsageError`): that is an answer, and nothing has changed.

Actions, sensors and skills are declared as class attributes, or set in `__init__` where they need
something that the instance has. Jido's `mount`, "plugin" (for skill) and "directive" (for effect)
mean the same here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, ClassVar, Final

import msgspec

from muster.runtime.actions import Action, ActionContext, apply
from muster.runtime.directives import (
    ActionFailed,
    ActionSucceeded,
    Asked,
    Fail,
    Invoke,
    Reply,
    RunAction,
    Schedule,
    Sensed,
    Started,
    cause_of,
    is_answer,
)
from muster.runtime.sensors import SensorMaker, Surroundings
from muster.runtime.skills import SKILL_PRIORITY, Skill
from muster_protocol.effects import DeadlineReached, Effect, Notify
from muster_protocol.errors import LocalError, Refused, UsageError
from muster_protocol.signals.router import Router
from muster_protocol.signals.signal import Signal
from muster_protocol.types import Severity

Targets = Action | Sequence[Action]
"""Where a route leads: one action or several, in order."""

_NO_ROUTES: Final[Mapping[str, Targets]] = MappingProxyType({})
_NO_ACTIONS: Final[Mapping[str, Action]] = MappingProxyType({})


class EmptyState(msgspec.Struct, frozen=True):
    """The state of an agent that keeps none."""


class StateInvalid(LocalError):
    """A state does not fit its schema: a bug in the action that returned it."""


class UnknownEvent(LocalError):
    """Something was posted to an agent that it has no use for: a wiring mistake."""


@dataclass(frozen=True, slots=True)
class Every:
    """Do this action at fixed instants, `period_s` apart, the first one period after the start."""

    period_s: float
    action: Action
    params: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Tick:
    """The event behind `Every`; `due` is the instant that it stands for."""

    index: int
    due: float


class Agent:
    """See the module. Subclasses declare; instances hold the state."""

    name: str = ""
    state_schema: ClassVar[type[msgspec.Struct]] = EmptyState
    actions: Sequence[Action] = ()
    routes: Mapping[str, Targets] = _NO_ROUTES
    outcomes: Mapping[str, Action] = _NO_ACTIONS
    readings: Mapping[str, Action] = _NO_ACTIONS
    schedules: Sequence[Every] = ()
    sensors: Sequence[SensorMaker] = ()
    lag_event: Callable[[float], Any] | None = None
    """Makes the event by which this agent hears that a deadline fired so many seconds late."""
    skills: Sequence[Skill] = ()
    keeps_tape: bool = False
    """Whether a `Tape` records what goes into its machine; the driver then records nothing."""

    def __init__(self, *, name: str = "", state: Any = None) -> None:
        """`state` is a struct of the schema, a mapping, or None for the schema's defaults.

        Errors: UsageError when the declarations contradict each other, StateInvalid.
        """
        self.name = name or self.name or type(self).__name__
        self.surroundings: Surroundings | None = None
        self._wiring = _Wiring(self)
        self.state: Any = self._validated({} if state is None else state)
        self._on_event: Mapping[type[Any], Callable[[Any, float], tuple[Effect, ...]]] = {
            Signal: self._on_signal,
            Sensed: self._on_sensed,
            ActionSucceeded: self._on_succeeded,
            ActionFailed: lambda event, now: self.handle_failure(event, now=now),
            Started: self._on_started,
            Asked: self._on_asked,
            _Tick: self._on_tick,
        }

    # ── what subclasses override ────────────────────────────────────────────────────────────────

    @property
    def deadline(self) -> float | None:
        """The deadline of the wrapped machine, if there is one."""
        return None

    def mount(self, *, now: float) -> tuple[Effect, ...]:  # noqa: ARG002
        """What to do first."""
        return ()

    def handle_event(self, event: Any, *, now: float) -> tuple[Effect, ...]:  # noqa: ARG002
        """An event that is not the runtime's own: packets, deadlines, commands of one's own."""
        if isinstance(event, DeadlineReached):
            return ()
        raise UnknownEvent(f"agent {self.name} has no use for a {type(event).__name__}")

    def handle_request(self, asked: Asked, *, now: float) -> tuple[Effect, ...]:  # noqa: ARG002
        """A command that is no `Invoke`; answered by `Reply` or `Fail`, now or later. Raising a
        refusal (`Refused`, `UsageError`) is an answer, too; nothing may have changed then."""
        kind = type(asked.command).__name__
        return (Fail(asked.request, UsageError(f"agent {self.name} does not know {kind}")),)

    def handle_failure(self, failed: ActionFailed, *, now: float) -> tuple[Effect, ...]:  # noqa: ARG002
        """An effectful action failed for good. Overrides should keep the answer to who waits."""
        fields = {"action": failed.action, "error": str(failed.error), "attempts": failed.attempts}
        notice = Notify("agent.action.failed", Severity.WARNING, fields)
        if failed.request is None:
            return (notice,)
        return (notice, Fail(failed.request, failed.error))

    def effect_handlers(self) -> Mapping[type[Effect], Callable[[Effect], None]]:
        """How effects of this agent's own are done, added to the executor's table. They must not
        wait; what waits belongs to `serve`."""
        return {}

    async def serve(self) -> None:
        """The agent's shell, run beside its machine; `self.surroundings` is set. Returning early
        is fine, raising ends the agent."""

    def statistics(self) -> Mapping[str, Any]:
        """What is worth knowing about this agent, as plain values."""
        return {}

    # ── the machine ─────────────────────────────────────────────────────────────────────────────

    def handle(self, event: Any, *, now: float) -> tuple[Effect, ...]:
        """One event. Errors: whatever a pure action or the wrapped machine raises; after that the
        agent must not be used any more."""
        own = self._on_event.get(type(event))
        return own(event, now) if own is not None else self.handle_event(event, now=now)

    def attach(self, surroundings: Surroundings) -> None:
        """Called by the host, before anything else happens."""
        self.surroundings = surroundings

    def patterns(self) -> list[str]:
        """The patterns of the signals that this agent wants, without repetition."""
        return list(dict.fromkeys(route.pattern for route in self._wiring.router.routes()))

    def action(self, name: str) -> Action:
        """A declared action. Errors: UsageError with the names that there are."""
        found = self._wiring.actions.get(name)
        if found is None:
            known = ", ".join(self._wiring.actions) or "none"
            raise UsageError(f"agent {self.name} has no action {name!r}; it has: {known}")
        return found

    def validate_state(self) -> None:
        """Check the whole state against the schema: for tests; `handle` checks only its type.

        Errors: StateInvalid, which names the field.
        """
        self._validated(self.state)

    def view_for(self, declared: Action) -> Any:
        """The part of the state that an action sees."""
        key = self._wiring.state_keys.get(declared.name)
        return getattr(self.state, key) if key else self.state

    def context(self, event: Any, now: float, *, request: int | None = None) -> ActionContext:
        """What an action gets to know about the event that led to it."""
        return ActionContext(
            agent=self.name,
            node=self.surroundings.node if self.surroundings is not None else "",
            now=now,
            signal=event if isinstance(event, Signal) else None,
            request=request,
            cause=cause_of(event),
        )

    def _on_signal(self, signal: Signal, now: float) -> tuple[Effect, ...]:
        effects: tuple[Effect, ...] = ()
        for declared in self._wiring.router.match(signal.type):
            effects += self._do(declared, signal.data, self.context(signal, now))
        return effects

    def _on_sensed(self, sensed: Sensed, now: float) -> tuple[Effect, ...]:
        declared = self._wiring.readings.get(sensed.sensor)
        if declared is None:
            return self.handle_event(sensed, now=now)
        return self._do(declared, sensed.value, self.context(sensed, now))

    def _on_succeeded(self, outcome: ActionSucceeded, now: float) -> tuple[Effect, ...]:
        effects: tuple[Effect, ...] = ()
        declared = self._wiring.outcomes.get(outcome.action)
        if declared is not None:
            result = {} if outcome.result is None else outcome.result
            effects = self._do(declared, result, self.context(outcome, now))
        if outcome.request is not None:
            effects += (Reply(outcome.request, outcome.result),)
        return effects

    def _on_started(self, event: Started, now: float) -> tuple[Effect, ...]:  # noqa: ARG002
        first = tuple(
            Schedule(_Tick(index, now + every.period_s), every.period_s)
            for index, every in enumerate(self._wiring.schedules)
        )
        return self.mount(now=now) + first

    def _on_tick(self, tick: _Tick, now: float) -> tuple[Effect, ...]:
        every = self._wiring.schedules[tick.index]
        missed = max(0, int((now - tick.due) / every.period_s))
        due = tick.due + (missed + 1) * every.period_s
        again = Schedule(_Tick(tick.index, due), due - now)
        return (again, *self._do(every.action, every.params, self.context(tick, now)))

    def _on_asked(self, asked: Asked, now: float) -> tuple[Effect, ...]:
        command = asked.command
        context = self.context(asked, now, request=asked.request)
        try:
            if not isinstance(command, Invoke):
                return self.handle_request(asked, now=now)
            effects = self._run(self.action(command.action), command.params, context, strict=True)
        except (Refused, UsageError) as error:
            return (Fail(asked.request, error),)
        if not any(is_answer(effect, asked.request) for effect in effects):
            effects += (Reply(asked.request),)
        return effects

    def _do(self, declared: Action, params: Any, context: ActionContext) -> tuple[Effect, ...]:
        """An action that nobody waits for: a refusal is told to the operator."""
        try:
            return self._run(declared, params, context, strict=False)
        except (Refused, UsageError) as error:
            fields = {"action": declared.name, "error": str(error)}
            return (Notify("agent.action.refused", Severity.WARNING, fields),)

    def _run(
        self, declared: Action, raw: Any, context: ActionContext, *, strict: bool
    ) -> tuple[Effect, ...]:
        params = declared.validate(raw, allow_unknown=not strict)
        if declared.is_effectful:
            values = msgspec.structs.asdict(params)
            return (RunAction(declared.name, values, request=context.request),)
        key = self._wiring.state_keys.get(declared.name)
        before = getattr(self.state, key) if key else self.state
        after, effects = apply(declared, before, params, context)
        if type(after) is not type(before):
            raise StateInvalid(
                f"action {declared.name}: returned a {type(after).__name__} as state, "
                f"expected a {type(before).__name__}"
            )
        self.state = msgspec.structs.replace(self.state, **{key: after}) if key else after
        return effects

    def _validated(self, state: Any) -> Any:
        raw = msgspec.to_builtins(state) if isinstance(state, msgspec.Struct) else state
        try:
            return msgspec.convert(raw, self.state_schema)
        except msgspec.ValidationError as error:
            raise StateInvalid(f"state of agent {self.name}: {error}") from error


class _Wiring:
    """The declarations of an agent and its skills, brought together and checked once."""

    def __init__(self, agent: Agent) -> None:
        self.actions: dict[str, Action] = {}
        self.state_keys: dict[str, str] = {}
        self.outcomes: dict[str, Action] = {}
        self.readings: dict[str, Action] = {}
        self.schedules: list[Every] = []
        self.router: Router[Action] = Router()
        self._agent = agent
        self._take(agent, priority=0, state_key="")
        for skill in agent.skills:
            self._check_slice(skill)
            self._take(skill, priority=SKILL_PRIORITY, state_key=skill.state_key)

    def _take(self, part: Agent | Skill, *, priority: int, state_key: str) -> None:
        for declared in part.actions:
            self._add_action(declared, state_key)
        for pattern, targets in part.routes.items():
            for target in (targets,) if isinstance(targets, Action) else targets:
                self.router.add(pattern, self._add_action(target, state_key), priority=priority)
        tables = ((self.outcomes, part.outcomes), (self.readings, part.readings))
        for table, declarations in tables:
            for name, target in declarations.items():
                if name in table:
                    raise UsageError(f"agent {self._agent.name}: {name!r} is claimed twice")
                table[name] = self._add_action(target, state_key)
        for every in part.schedules:
            self._add_action(every.action, state_key)
            self.schedules.append(every)

    def _add_action(self, declared: Action, state_key: str) -> Action:
        """An action that a table names need not be declared a second time."""
        known = self.actions.setdefault(declared.name, declared)
        if known is not declared or self.state_keys.get(declared.name, state_key) != state_key:
            raise UsageError(f"agent {self._agent.name} has two actions named {declared.name!r}")
        self.state_keys[declared.name] = state_key
        return declared

    def _check_slice(self, skill: Skill) -> None:
        fields = {f.name: f.type for f in msgspec.structs.fields(self._agent.state_schema)}
        if skill.state_key and fields.get(skill.state_key) is not skill.state_schema:
            raise UsageError(
                f"agent {self._agent.name}: skill {skill.name} keeps its state in the field "
                f"{skill.state_key!r}, which the agent's state must have with the skill's type"
            )
