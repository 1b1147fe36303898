"""The host: one agent, alive. Its machine in a driver, its sensors, its actions, its shell.

    signals, posts, calls ─▶ bounded mailbox ─▶ driver ─▶ Mailbox ─▶ agent
                                  ▲                                    │ effects
    sensors, outcomes of actions ─┘            executor ◀──────────────┘

A host lives once. When anything in it raises, `run` ends with that error and the agent's state is
gone with it: the supervisor makes a new agent. What waits in the mailbox is lost then, as with any
actor; whoever called gets `OutcomeUnknown`.

**Quiescing** stops an agent without ending it, to move or inspect it. `quiesce` lets the actions
that run end (under their own time-outs) and their outcomes be handled, lets records reach the
disk, and then returns; the mailbox goes on filling, within its bound. Sensors and `serve` are not
stopped: what they post waits like the rest. Timers come late after `resume`, none is lost.

Outcomes of actions do not pass through the mailbox. A full one would drop them, and the agent
would wait for ever for the end of what it began.
"""

from __future__ import annotations

import enum
import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

import trio

from muster.driver import DRAIN_EVENTS_MAX, OUTBOX_MAX, Driver, DriverStatistics, Overflow
from muster.runtime.actions import Action, ActionContext, Outcome, attempt
from muster.runtime.directives import (
    ActionFailed,
    ActionSucceeded,
    Asked,
    Cause,
    Fail,
    Reply,
    RunAction,
    Spawn,
    Started,
    Stop,
    StopAgent,
)
from muster.runtime.executor import Executor, Handler, Services
from muster.runtime.mailbox import TIMERS_MAX, Mailbox
from muster.runtime.sensors import Surroundings
from muster_protocol.effects import Effect
from muster_protocol.errors import OutcomeUnknown, Refused, UsageError
from muster_protocol.types import Size

if TYPE_CHECKING:
    from muster.runtime.agent import Agent

MAILBOX_MAX: Final = 1_024
"""Events that wait for one agent; the driver's own default."""

ACTIONS_MAX: Final = 64
"""Effectful actions of one agent at a time; one more fails with `Refused("busy")`."""

CALLS_MAX: Final = 1_024
"""Callers that wait for one agent; one more is refused. As many as its mailbox holds."""

STOP_FLUSH_S: Final = 5.0
"""How long a stopping agent's records may take to reach the disk; an fsync takes up to seconds."""


class HostState(enum.StrEnum):
    """What an agent is doing; the supervisor's states are among them."""

    STARTING = "starting"
    RUNNING = "running"
    QUIESCING = "quiescing"
    QUIESCED = "quiesced"
    STOPPED = "stopped"
    BACKING_OFF = "backing-off"
    """It failed and will be restarted."""
    PARKED = "parked"
    """It failed too often and waits for an operator (`unpark`)."""


class Lifecycle(Protocol):
    """What a supervisor does for its agents."""

    def spawn(self, effect: Spawn) -> None:
        """Start another agent; never waits."""

    def stop_agent(self, name: str) -> None:
        """Stop another agent; never waits."""


@dataclass(frozen=True, slots=True)
class HostStatistics:
    """One agent. `agent` is what the agent says of itself."""

    name: str
    state: HostState
    uptime_s: float
    driver: DriverStatistics
    timers: int
    actions_running: int
    actions_succeeded: int
    actions_failed: int
    calls_waiting: int
    agent: Mapping[str, Any]


class _Call:
    """A caller that waits."""

    def __init__(self) -> None:
        self.answered = trio.Event()
        self.value: Any = None
        self.error: Exception | None = None


class AgentHost:
    """See the module. Make it inside a trio run; `run` it in a nursery, once."""

    def __init__(
        self,
        agent: Agent,
        services: Services,
        *,
        mailbox_max: int = MAILBOX_MAX,
        overflow: Overflow = Overflow.DROP_NEWEST,
        lifecycle: Lifecycle | None = None,
        with_shell: bool = True,
        own_handlers: Mapping[type[Effect], Callable[[Any], None]] | None = None,
    ) -> None:
        """Without its shell, the agent's sensors and `serve` are left out; `own_handlers` replaces
        `agent.effect_handlers()`: both are for tests.

        Errors: UsageError when the agent's handlers contradict the runtime's.
        """
        self.agent = agent
        self.name = agent.name
        self.state = HostState.STARTING
        self._services = services
        self._started_at = services.clock.now()
        self._overflow = overflow
        self._lifecycle = lifecycle
        self._with_shell = with_shell
        self._rng = services.entropy.stream(f"actions/{agent.name}")
        surroundings = Surroundings(
            node=services.node,
            agent=agent.name,
            clock=services.clock,
            entropy=services.entropy,
            post=self.post,
        )
        agent.attach(surroundings)
        self._mailbox = Mailbox(agent)
        own = agent.effect_handlers() if own_handlers is None else own_handlers
        self._executor = Executor(services, agent=agent.name, host=self._handlers(), own=own)
        makers = agent.sensors if with_shell else ()
        self._driver = Driver(
            self._mailbox,
            name=agent.name,
            clock=services.clock,
            perform=self._executor.perform,
            persist=self._executor.persist,
            sources=[make(surroundings) for make in makers],
            recorder=None if agent.keeps_tape else services.recorder,
            lag_event=agent.lag_event,
            inbox_max=mailbox_max,
            overflow=overflow,
        )
        self._nursery: trio.Nursery | None = None
        self._calls: dict[int, _Call] = {}
        self._call_numbers = itertools.count(1)
        self._actions_running = self._actions_succeeded = self._actions_failed = 0
        self._actions_ended = trio.Event()
        self._stopping = trio.Event()
        self._ended = trio.Event()
        self._driver.post(Started())

    def _handlers(self) -> dict[type[Effect], Handler]:
        table: dict[type[Effect], Handler] = {
            RunAction: self._start_action,
            Reply: self._answer,
            Fail: self._answer,
            Stop: lambda effect, cause: self.request_stop(),  # noqa: ARG005
        }
        if (lifecycle := self._lifecycle) is not None:
            table[Spawn] = lambda effect, cause: lifecycle.spawn(effect)  # noqa: ARG005
            table[StopAgent] = lambda effect, cause: lifecycle.stop_agent(effect.name)  # noqa: ARG005
        return table

    def sizes(self) -> Iterator[Size]:
        """What waits here, and how much may. Of effects the last event may add its own."""
        driver = self._driver.statistics()
        yield Size("mailbox", driver.inbox_length, driver.inbox_max)
        yield Size("outbox", driver.outbox_length, OUTBOX_MAX + DRAIN_EVENTS_MAX)
        yield Size("timers", self._mailbox.timers, TIMERS_MAX)
        yield Size("calls", len(self._calls), CALLS_MAX)
        yield Size("actions", self._actions_running, ACTIONS_MAX)

    # ── towards the agent ───────────────────────────────────────────────────────────────────────

    def post(self, event: Any) -> bool:
        """Put an event into the mailbox; False when it was full and this, or the oldest, is lost,
        or when the agent has ended."""
        return not self._ended.is_set() and self._driver.post(event)

    async def call(self, command: Any, *, timeout_s: float, cause: Cause | None = None) -> Any:
        """Ask the agent and wait for its `Reply`: `Invoke(action, params)`, or a command of its
        own.

        Errors: Refused "stopped" or "overloaded" when the agent was not even asked; what it fails
        with; OutcomeUnknown when no answer came in time, or the agent ended before.
        Cancellation: the agent may do it nevertheless.
        """
        if self._ended.is_set() or self._stopping.is_set():
            raise Refused("stopped", f"agent {self.name} does not run")
        number, call = next(self._call_numbers), _Call()
        if len(self._calls) >= CALLS_MAX or not self._post_call(Asked(number, command, cause)):
            raise Refused("overloaded", f"agent {self.name} has too much to do")
        self._calls[number] = call
        try:
            with self._services.clock.move_on_after(timeout_s):
                await call.answered.wait()
        finally:
            del self._calls[number]
        if not call.answered.is_set():
            raise OutcomeUnknown(f"agent {self.name} did not answer within {timeout_s} s")
        if call.error is not None:
            raise call.error
        return call.value

    def _post_call(self, asked: Asked) -> bool:
        return self._driver.post(asked) or self._overflow is Overflow.DROP_OLDEST

    def _take_signal(self, signal: Any) -> bool:
        # With DROP_OLDEST the driver says False for the one that was lost, but took this one.
        return self._driver.post(signal) or self._overflow is Overflow.DROP_OLDEST

    # ── life ────────────────────────────────────────────────────────────────────────────────────

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Live until `request_stop`. Errors: whatever the agent, an effect, a sensor, the shell or
        an action's bug raises, in an ExceptionGroup."""
        attachment = self._services.bus.attach(
            self.agent.patterns(),
            name=self.name,
            sink=self._take_signal,
            length=lambda: self._driver.statistics().inbox_length,
        )
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                await nursery.start(self._driver.run)
                if self._with_shell:
                    nursery.start_soon(self.agent.serve)
                self.state = HostState.RUNNING
                task_status.started()
                await self._stopping.wait()
                attachment.close()
                self._driver.pause()
                with self._services.clock.move_on_after(STOP_FLUSH_S):
                    await self._driver.wait_flushed()
                nursery.cancel_scope.cancel()
        finally:
            attachment.close()
            self._end()

    def request_stop(self) -> None:
        """Ask the agent to end; `run` returns when it has."""
        self._stopping.set()

    async def wait_ended(self) -> None:
        """Wait until `run` has ended, one way or the other."""
        await self._ended.wait()

    def _end(self) -> None:
        self.state = HostState.STOPPED
        self._ended.set()
        self._actions_ended.set()
        for call in self._calls.values():
            call.error = OutcomeUnknown(f"agent {self.name} ended before it answered")
            call.answered.set()

    async def quiesce(self) -> None:
        """Finish what runs and take no more. See the module.

        Errors: UsageError when the agent does not run, Refused "resumed" when somebody resumed it
        meanwhile, OutcomeUnknown when it ended.
        Cancellation: it stays quiescing; `resume` undoes it.
        """
        if self.state not in (HostState.RUNNING, HostState.QUIESCING, HostState.QUIESCED):
            raise UsageError(f"agent {self.name} is {self.state}, it cannot be quiesced")
        self.state = HostState.QUIESCING
        self._driver.pause()
        while self._is_busy() and not self._is_ending():
            await self._driver.wait_flushed()  # behind a record there may be one more action
            if self._actions_running:
                if self._actions_ended.is_set():
                    self._actions_ended = trio.Event()
                await self._actions_ended.wait()
        if self._is_ending():
            raise OutcomeUnknown(f"agent {self.name} ended while it was quiescing")
        if self.state is HostState.RUNNING:
            raise Refused("resumed", f"agent {self.name} was resumed while it was quiescing")
        self.state = HostState.QUIESCED

    def _is_ending(self) -> bool:
        return self._stopping.is_set() or self._driver.has_ended or self._ended.is_set()

    def _is_busy(self) -> bool:
        return self._actions_running > 0 or self._driver.statistics().outbox_length > 0

    def resume(self) -> None:
        """Go on. Errors: UsageError when the agent is not quiesced."""
        if self.state not in (HostState.QUIESCING, HostState.QUIESCED):
            raise UsageError(f"agent {self.name} is {self.state}, there is nothing to resume")
        self.state = HostState.RUNNING
        self._driver.resume()

    def statistics(self) -> HostStatistics:
        return HostStatistics(
            name=self.name,
            state=self.state,
            uptime_s=self._services.clock.now() - self._started_at,
            driver=self._driver.statistics(),
            timers=self._mailbox.timers,
            actions_running=self._actions_running,
            actions_succeeded=self._actions_succeeded,
            actions_failed=self._actions_failed,
            calls_waiting=len(self._calls),
            agent=self.agent.statistics(),
        )

    # ── effects ─────────────────────────────────────────────────────────────────────────────────

    def _answer(self, effect: Reply | Fail, cause: Cause | None) -> None:  # noqa: ARG002
        call = self._calls.get(effect.request)
        if call is None or call.answered.is_set():
            return
        if isinstance(effect, Reply):
            call.value = effect.value
        else:
            call.error = effect.error
        call.answered.set()

    def _start_action(self, effect: RunAction, cause: Cause | None) -> None:
        declared = self.agent.action(effect.action)
        if not declared.is_effectful:
            raise UsageError(f"agent {self.name}: action {declared.name} is pure; call it directly")
        assert self._nursery is not None, "effects come from a driver that runs"
        self._actions_running += 1
        self._nursery.start_soon(self._act, declared, effect, cause)

    async def _act(self, declared: Action, effect: RunAction, cause: Cause | None) -> None:
        try:
            outcome = await self._outcome(declared, effect, cause)
            ended: dict[str, Any] = {
                "token": effect.token,
                "request": effect.request,
                "cause": cause,
                "attempts": outcome.attempts,
            }
            if outcome.error is None:
                self._actions_succeeded += 1
                self._driver.complete(ActionSucceeded(declared.name, outcome.result, **ended))
            else:
                self._actions_failed += 1
                self._driver.complete(ActionFailed(declared.name, outcome.error, **ended))
        finally:
            self._actions_running -= 1
        self._actions_ended.set()  # where it was cancelled, `_end` says so

    async def _outcome(self, declared: Action, effect: RunAction, cause: Cause | None) -> Outcome:
        if self._actions_running > ACTIONS_MAX:
            busy = Refused("busy", f"agent {self.name} runs {ACTIONS_MAX} actions already")
            return Outcome(None, busy, 0)
        clock = self._services.clock
        try:
            params = declared.validate(effect.params, allow_unknown=True)
        except UsageError as error:
            return Outcome(None, error, 0)
        context = ActionContext(
            agent=self.name,
            node=self._services.node,
            now=clock.now(),
            request=effect.request,
            cause=cause,
            clock=clock,
        )
        state = self.agent.view_for(declared)
        return await attempt(declared, state, params, context, clock=clock, rng=self._rng)
