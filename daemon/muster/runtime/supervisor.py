"""The supervisor: agents that fail are made anew, and take nothing else down.

Every agent has a task of its own that lives through all its lives: build an agent from the
factory, host it, and when that raises, wait a little and begin again. The wait grows with the
number of recent failures and is jittered. After `restarts_max` restarts within `period_s` the agent
is **parked**: it is shown, an alert goes out, and `unpark` starts it again. Restarting for ever
would hide the bug and burn the host; ending the daemon would take the healthy agents with it.

The strategies are Erlang's, as trio nurseries give them:

    one-for-one   every agent in a task beside the others
    rest-for-one  agent k+1 lives inside the nursery of agent k, so what was started after a failed
                  agent ends with it and is started again after it, in order

Lifetimes form a tree, so nothing has to be remembered about who depends on whom. While an agent is
backing off or parked, those that live inside it are stopped.

`Exception` is caught here and nowhere else, with two exceptions that pass. Cancellation is never an
`Exception`. And a *fatal* error (storage that is corrupt, say) means that the daemon as a whole
must not go on: it propagates, and so ends the nursery above us.

What a signal said while its agent was down is gone. Facts that must not be lost are in the store.
"""

from __future__ import annotations

import collections
import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import trio

from muster.driver import Overflow
from muster.runtime.actions import Backoff
from muster.runtime.directives import Spawn
from muster.runtime.executor import Executor, Services
from muster.runtime.host import MAILBOX_MAX, AgentHost, HostState, HostStatistics
from muster_protocol.effects import Notify
from muster_protocol.errors import Refused, StorageCorrupt, UsageError
from muster_protocol.signals import patterns
from muster_protocol.types import Severity

if TYPE_CHECKING:
    from muster.runtime.agent import Agent

NAME: Final = "supervisor"
"""How the supervisor signs its own signals and notices."""

ERROR_CHARS_MAX: Final = 500
"""Of an error's text in statistics and alerts: it goes into a signal."""


class Strategy(enum.StrEnum):
    """What a failed agent takes with it."""

    ONE_FOR_ONE = "one-for-one"
    REST_FOR_ONE = "rest-for-one"


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """When to restart and when to give up.

    Erlang's intensity is 1 in 5 s, made for trees with supervisors above; there is none above this
    one, so it is more patient: five restarts in a minute, which their back-off (0.2 s doubling to
    3.2 s) spends in about six seconds when an agent fails at once each time.
    """

    restarts_max: int = 5
    period_s: float = 60.0
    backoff: Backoff = field(default_factory=lambda: Backoff(first_s=0.2, max_s=30.0))


DEFAULT_POLICY: Final = RestartPolicy()


@dataclass(frozen=True, slots=True)
class AgentSpec:
    """How to make one agent, again and again. `name` must be what the made agents are called."""

    name: str
    factory: Callable[[], Agent]
    policy: RestartPolicy = DEFAULT_POLICY
    mailbox_max: int = MAILBOX_MAX
    overflow: Overflow = Overflow.DROP_NEWEST


@dataclass(frozen=True, slots=True)
class ChildStatistics:
    """One supervised agent. `restarts` are all, `restarts_recent` those that count against it."""

    name: str
    state: HostState
    restarts: int
    restarts_recent: int
    last_error: str
    host: HostStatistics | None


Kinds = Mapping[str, Callable[[str, Mapping[str, Any]], AgentSpec]]
"""What `Spawn` can start: kind -> (name, options) -> how to make it."""


class _Child:
    """One agent through all its lives."""

    def __init__(self, spec: AgentSpec) -> None:
        self.spec = spec
        self.state = HostState.STARTING
        self.host: AgentHost | None = None
        self.restarts = 0
        self.recent: collections.deque[float] = collections.deque()
        self.last_error = ""
        self.is_stopping = False
        self.wake = trio.Event()

    def restarts_within(self, now: float) -> int:
        while self.recent and now - self.recent[0] >= self.spec.policy.period_s:
            self.recent.popleft()
        return len(self.recent)


class Supervisor:
    """See the module. `run` it in a nursery; `stop` ends it in order."""

    def __init__(
        self,
        services: Services,
        specs: Sequence[AgentSpec] = (),
        *,
        strategy: Strategy = Strategy.ONE_FOR_ONE,
        fatal: tuple[type[BaseException], ...] = (StorageCorrupt,),
        kinds: Kinds = MappingProxyType({}),
    ) -> None:
        """`specs` are started in order. `fatal` errors end `run` instead of the agent alone.

        Errors: UsageError when a name occurs twice.
        """
        self._services = services
        self._strategy = strategy
        self._fatal = fatal
        self._kinds = kinds
        self._executor = Executor(services, agent=NAME)
        self._rng = services.entropy.stream(NAME)
        self._children: dict[str, _Child] = {}
        for spec in specs:
            self._add(spec)
        self._nursery: trio.Nursery | None = None
        self._stopping = trio.Event()

    # ── life ────────────────────────────────────────────────────────────────────────────────────

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Start all in order, then keep them alive until `stop`. `task_status` is told when each
        has begun its first life, or failed to.

        Errors: fatal ones, in an ExceptionGroup.
        Cancellation: all agents are cancelled at once; for an ordered end, `stop` first.
        """
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            first = list(self._children.values())
            if self._strategy is Strategy.REST_FOR_ONE:
                if first:
                    await nursery.start(self._supervise, first[0], first[1:])
            else:
                for child in first:
                    await nursery.start(self._supervise, child, [])
            task_status.started()
            await self._stopping.wait()

    async def stop(self) -> None:
        """End all agents, the last one first, each after its records are on the disk."""
        for child in reversed(list(self._children.values())):
            await self._stop_child(child)
        self._stopping.set()

    async def start_agent(self, spec: AgentSpec) -> None:
        """One more agent, beside the others whatever the strategy; stopped before them.

        Errors: UsageError when the name is taken; Refused when the supervisor does not run.
        """
        if self._nursery is None or self._stopping.is_set():
            raise Refused("stopped", "the supervisor does not run")
        await self._nursery.start(self._supervise, self._add(spec), [])

    async def remove_agent(self, name: str) -> None:
        """End an agent and forget it. Errors: UsageError for an unknown name."""
        child = self._child(name)
        await self._stop_child(child)
        if self._children.get(name) is child:
            del self._children[name]

    def unpark(self, name: str) -> None:
        """Start a parked agent again, with a clean record.

        Errors: UsageError when it is unknown or not parked.
        """
        child = self._child(name)
        if child.state is not HostState.PARKED:
            raise UsageError(f"agent {name} is {self._state(child)}, not parked")
        child.recent.clear()
        child.wake.set()

    # ── for whoever talks to agents by name ─────────────────────────────────────────────────────

    def host(self, name: str) -> AgentHost:
        """The present host of an agent. It is another one after a restart: do not keep it.

        Errors: UsageError for an unknown name, Refused "unavailable" while the agent is down.
        """
        child = self._child(name)
        if child.host is None:
            raise Refused("unavailable", f"agent {name} is {self._state(child)}")
        return child.host

    def hosts(self) -> list[AgentHost]:
        """Of all agents that run now; see `host`."""
        return [child.host for child in self._children.values() if child.host is not None]

    def names(self) -> list[str]:
        """All agents, in the order in which they were started."""
        return list(self._children)

    def statistics(self) -> tuple[ChildStatistics, ...]:
        now = self._services.clock.now()
        return tuple(
            ChildStatistics(
                name=child.spec.name,
                state=self._state(child),
                restarts=child.restarts,
                restarts_recent=child.restarts_within(now),
                last_error=child.last_error,
                host=child.host.statistics() if child.host is not None else None,
            )
            for child in self._children.values()
        )

    # ── for agents (`Lifecycle`) ────────────────────────────────────────────────────────────────

    def spawn(self, effect: Spawn) -> None:
        """`Spawn`: refused with a notice when the kind is unknown or the name taken."""
        try:
            make = self._kinds.get(effect.kind)
            if make is None:
                raise UsageError(f"no kind of agent is called {effect.kind!r}")
            child = self._add(make(effect.name, effect.options))
        except UsageError as error:
            fields = {"agent": effect.name, "kind": effect.kind, "error": str(error)}
            self._notify("agent.spawn.refused", Severity.WARNING, fields)
            return
        assert self._nursery is not None, "who asks is an agent of ours"
        self._nursery.start_soon(self._supervise, child, [])

    def stop_agent(self, name: str) -> None:
        """`StopAgent`: an unknown name is a notice."""
        if name not in self._children:
            self._notify("agent.stop.refused", Severity.WARNING, {"agent": name})
            return
        assert self._nursery is not None, "who asks is an agent of ours"
        self._nursery.start_soon(self.remove_agent, name)

    # ── one agent ───────────────────────────────────────────────────────────────────────────────

    async def _supervise(
        self,
        child: _Child,
        rest: Sequence[_Child],
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """All lives of one agent, and of those that live inside it."""
        report = _StartReport(task_status)
        if child.is_stopping and rest:  # it was removed; those that lived inside it were not
            await self._supervise(rest[0], rest[1:], task_status=task_status)
        try:
            while not child.is_stopping:
                error = await self._live(child, rest, report)
                if error is None:
                    return
                report.send()
                await self._pause_after(child, error)
        finally:
            child.state = HostState.STOPPED

    async def _live(
        self, child: _Child, rest: Sequence[_Child], report: _StartReport
    ) -> Exception | None:
        """One life: None when the agent ended because it should, else what it died of."""
        child.state = HostState.STARTING
        try:
            agent = child.spec.factory()
            assert agent.name == child.spec.name, f"agent {child.spec.name} is called {agent.name}"
            child.host = AgentHost(
                agent,
                self._services,
                mailbox_max=child.spec.mailbox_max,
                overflow=child.spec.overflow,
                lifecycle=self,
            )
            async with trio.open_nursery() as nursery:
                await nursery.start(child.host.run)
                if rest:
                    await nursery.start(self._supervise, rest[0], rest[1:])
                report.send()
        except self._fatal:
            raise
        except BaseExceptionGroup as group:
            return self._survivable(child, group)
        except Exception as error:  # noqa: BLE001 (this is the place for errors nobody foresaw)
            return error
        finally:
            child.host = None
        return None

    def _survivable(self, child: _Child, group: BaseExceptionGroup[BaseException]) -> Exception:
        """What an agent died of, unless there is something in it that must go up."""
        if group.subgroup(self._fatal) is not None:
            raise group
        ordinary, passing = group.split(Exception)
        if passing is None:
            assert isinstance(ordinary, ExceptionGroup)
            return ordinary
        # Cancelled, and it raised while it was: the first must go up, the second be heard of.
        if ordinary is not None:
            fields = {"agent": child.spec.name, "error": describe(ordinary)}
            self._notify("agent.failed", Severity.ERROR, fields)
        raise passing

    async def _pause_after(self, child: _Child, error: Exception) -> None:
        """Wait until the next life may begin: for a while, or for an operator."""
        if child.is_stopping:
            return
        policy, clock = child.spec.policy, self._services.clock
        child.wake = trio.Event()
        child.last_error = describe(error)
        recent = child.restarts_within(clock.now())
        fields = {"agent": child.spec.name, "error": child.last_error, "restarts": recent}
        if recent >= policy.restarts_max:
            child.state = HostState.PARKED
            self._notify("agent.parked", Severity.ERROR, fields)
            self._executor.perform(patterns.health_alert("agent_parked", fields))
            await child.wake.wait()
        else:
            child.state = HostState.BACKING_OFF
            delay_s = policy.backoff.delay_s(recent, self._rng)
            self._notify("agent.failed", Severity.ERROR, {**fields, "retry_in_s": delay_s})
            with clock.move_on_after(delay_s):
                await child.wake.wait()
            child.recent.append(clock.now())
        child.restarts += not child.is_stopping

    async def _stop_child(self, child: _Child) -> None:
        child.is_stopping = True
        child.wake.set()
        if (host := child.host) is not None:
            host.request_stop()
            await host.wait_ended()

    def _add(self, spec: AgentSpec) -> _Child:
        if spec.name in self._children:
            raise UsageError(f"there is an agent called {spec.name} already")
        self._children[spec.name] = _Child(spec)
        return self._children[spec.name]

    def _child(self, name: str) -> _Child:
        child = self._children.get(name)
        if child is None:
            raise UsageError(f"no agent is called {name!r}")
        return child

    def _state(self, child: _Child) -> HostState:
        return child.host.state if child.host is not None else child.state

    def _notify(self, event: str, severity: Severity, fields: Mapping[str, Any]) -> None:
        self._executor.perform(Notify(event, severity, fields))


class _StartReport:
    """Tells once, and only once, that an agent has begun or failed to."""

    def __init__(self, task_status: trio.TaskStatus[None]) -> None:
        self._task_status: trio.TaskStatus[None] | None = task_status

    def send(self) -> None:
        if self._task_status is not None:
            self._task_status.started()
            self._task_status = None


def describe(error: BaseException) -> str:
    """The error in a line: type and text of the first that is no group, and how many there were."""
    first, others = error, 0
    while isinstance(first, BaseExceptionGroup):
        others += len(first.exceptions) - 1
        first = first.exceptions[0]
    text = f"{type(first).__name__}: {first}"[:ERROR_CHARS_MAX]
    return f"{text} (and {others} more)" if others else text
