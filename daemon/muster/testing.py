"""The test kit: one agent against a script, on a virtual clock, with no network and no disk.

What runs is the real thing: host, driver, executor, bus. Only the seams are replaced, so an agent
that passes here behaves the same in the daemon. Hours of virtual time take no time.

>>> import msgspec
>>> from muster.runtime.actions import action
>>> from muster.runtime.agent import Agent
>>> from muster.testing import AgentHarness, mock_agent, simulate
>>> from muster_protocol.effects import Emit
>>>
>>> class Epoch(msgspec.Struct, frozen=True):
...     loss: float
...
>>> class Best(msgspec.Struct, frozen=True):
...     loss: float = 1.0
...
>>> @action(name="KeepBest", params=Epoch)
... def keep_best(state, params, context):
...     if params.loss >= state.loss:
...         return state, ()
...     return Best(params.loss), (Emit("trainer.record.broken", {"loss": params.loss}),)
...
>>> class Trainer(Agent):
...     name = "trainer"
...     state_schema = Best
...     routes = {"trainer.epoch.finished": keep_best}
...
>>> async def scenario():
...     listener = mock_agent("listener", {"trainer.record.*": ()})
...     async with AgentHarness(Trainer(), listener) as harness:
...         await harness.send(Emit("trainer.epoch.finished", {"loss": 0.4}))
...         await harness.send(Emit("trainer.epoch.finished", {"loss": 0.7}))
...         await harness.advance(60.0)
...         print([signal.data for signal in harness.emitted], harness.agent.state)
...         print([signal.type for signal in listener.received])
...
>>> simulate(scenario)
[{'loss': 0.4}] Best(loss=0.4)
['trainer.record.broken']

With pytest-trio, write the scenario as a test that takes the fixture `autojump_clock`.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from types import MappingProxyType, TracebackType
from typing import Any, Final, TypeVar

import trio
import trio.testing

from muster.clock import TrioClock
from muster.entropy import SeededEntropy
from muster.runtime.actions import Action, ActionContext, action
from muster.runtime.agent import Agent
from muster.runtime.bus import Bus
from muster.runtime.directives import Asked, Fail, Invoke, Reply
from muster.runtime.executor import Executor, Services
from muster.runtime.host import AgentHost
from muster_protocol.effects import Effect, Emit, Notify, Persist
from muster_protocol.errors import UsageError
from muster_protocol.signals.signal import Signal

T = TypeVar("T")

WALL_EPOCH_S: Final = 1_767_225_600.0
"""The wall clock at the start of a scenario: 2026-01-01T00:00:00Z."""

TESTER: Final = "test"
"""Who signs the signals that a test sends."""


class VirtualClock(TrioClock):
    """The clock of a trio run under `trio.testing.MockClock`; its wall clock is virtual, too."""

    def __init__(self) -> None:
        self._origin = trio.current_time()

    def wall(self) -> float:
        return WALL_EPOCH_S + (self.now() - self._origin)

    def boot(self) -> float:
        return self.now()


def simulate(scenario: Callable[[], Awaitable[T]]) -> T:
    """Run an async function on a virtual clock that jumps ahead whenever nothing can be done."""
    return trio.run(scenario, clock=trio.testing.MockClock(autojump_threshold=0))


class AgentHarness:
    """`async with AgentHarness(agent, *peers) as harness`: the agent lives inside the block.

    `peers` are other agents on the same bus, usually made by `mock_agent`. Sensors and `serve` are
    not run, and effects that the agent does itself (`effect_handlers`) are recorded but not done,
    unless `with_shell` is set. What the agent raises comes out of the block, and where it is the
    only error, out of the groups in which nurseries wrap it.
    """

    def __init__(
        self,
        agent: Agent,
        *peers: Agent,
        node: str = "node-1",
        seed: str = "0",
        with_shell: bool = False,
        recording: Sequence[type[Effect]] = (),
    ) -> None:
        """`recording` names further effects that are recorded only."""
        self.agent = agent
        self.effects: list[Effect] = []
        """What the agent had done, in order. (`Schedule` is done inside it: watch the time.)"""
        self.emitted: list[Signal] = []
        """The agent's own signals."""
        self.persisted: dict[str, bytes] = {}
        """The agent's records by name, as they would be found after a crash."""
        self._peers = peers
        self._node = node
        self._seed = seed
        self._with_shell = with_shell
        self._recording = recording
        self._exit = contextlib.AsyncExitStack()

    async def __aenter__(self) -> AgentHarness:
        clock = trio.lowlevel.current_clock()
        if not isinstance(clock, trio.testing.MockClock) or clock.autojump_threshold > 1.0:
            raise UsageError(
                "AgentHarness needs a virtual clock: use muster.testing.simulate, or pytest-trio's "
                "fixture autojump_clock"
            )
        await self._exit.enter_async_context(self._open())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        try:
            return bool(await self._exit.__aexit__(kind, error, traceback))
        except BaseExceptionGroup as group:
            leaf: BaseException = group
            while isinstance(leaf, BaseExceptionGroup) and len(leaf.exceptions) == 1:
                leaf = leaf.exceptions[0]
            if leaf is group:
                raise
        raise leaf

    @contextlib.asynccontextmanager
    async def _open(self) -> AsyncIterator[None]:
        self.clock = VirtualClock()
        self.bus = Bus()
        services = Services(
            node=self._node,
            clock=self.clock,
            entropy=SeededEntropy(self._seed),
            bus=self.bus,
            log=lambda agent, notice: None,  # noqa: ARG005
            persist=self._keep,
            observe=self._observe,
        )
        self._tester = Executor(services, agent=TESTER)
        self.bus.attach(("**",), name=TESTER, sink=self._overhear)
        async with trio.open_nursery() as nursery:
            for peer in self._peers:
                await nursery.start(AgentHost(peer, services).run)
            self.host = AgentHost(
                self.agent,
                services,
                with_shell=self._with_shell,
                own_handlers=self._recorders(),
            )
            await nursery.start(self.host.run)
            await self.settle()
            yield
            nursery.cancel_scope.cancel()

    async def send(self, what: Any) -> None:
        """A `Signal` or an `Emit` is published on the bus, anything else is posted to the agent.
        Returns when all is quiet again, without letting time pass."""
        if isinstance(what, Emit):
            what = self._tester.signal_for(what, None)
        if isinstance(what, Signal):
            self.bus.publish(what)
        elif not self.host.post(what):
            raise UsageError(f"agent {self.agent.name} did not take {what!r}")
        await self.settle()

    async def call(self, command: Any, *, timeout_s: float = 60.0, **params: Any) -> Any:
        """Ask the agent: a command, or the name of an action with its parameters.

        Errors: as `AgentHost.call`.
        """
        if isinstance(command, str):
            command = Invoke(command, params)
        try:
            return await self.host.call(command, timeout_s=timeout_s)
        finally:
            await self.settle()

    async def advance(self, seconds: float) -> None:
        """Let virtual time pass."""
        await self.clock.sleep(seconds)
        await self.settle()

    async def settle(self) -> None:
        """Wait until nobody can do anything before time passes, and check the agent's state.

        Errors: StateInvalid.
        """
        await trio.testing.wait_all_tasks_blocked()
        self.agent.validate_state()

    def of(self, kind: type[T]) -> list[T]:
        """The effects of one kind: `harness.of(Notify)`."""
        return [effect for effect in self.effects if isinstance(effect, kind)]

    @property
    def notices(self) -> list[str]:
        """The events of the agent's notices."""
        return [notice.event for notice in self.of(Notify)]

    def _recorders(self) -> Mapping[type[Effect], Callable[[Any], None]]:
        own = dict(self.agent.effect_handlers())
        if not self._with_shell:
            own = dict.fromkeys(own, _do_nothing)
        return own | dict.fromkeys(self._recording, _do_nothing)

    def _observe(self, agent: str, effect: Effect) -> None:
        if agent == self.agent.name:
            self.effects.append(effect)

    def _overhear(self, signal: Signal) -> bool:
        if signal.source == f"{self._node}/{self.agent.name}":
            self.emitted.append(signal)
        return True

    async def _keep(self, agent: str, record: Persist) -> None:
        if agent == self.agent.name:
            self.persisted[record.name] = record.data


def _do_nothing(effect: Effect) -> None:
    """A recorded effect."""


Answer = Sequence[Effect] | Callable[[Any], Any] | Exception
"""What a mock does: these effects, what the function says, or this error."""


class InTurn:
    """Answers for one time each; afterwards there is none."""

    def __init__(self, *answers: Answer) -> None:
        self._answers = list(answers)

    def __call__(self, what: Any) -> Any:
        return _answered(self._answers.pop(0), what) if self._answers else ()


class MockAgent(Agent):
    """Made by `mock_agent`."""

    def __init__(
        self, name: str, routes: Mapping[str, Answer], answers: Mapping[type[Any], Any]
    ) -> None:
        self.received: list[Signal] = []
        """The signals that came, in order; one that matches two routes comes twice."""
        self.requests: list[Any] = []
        """The commands that came, in order."""
        self._answers = answers
        self.routes = {pattern: self._react(pattern, answer) for pattern, answer in routes.items()}
        super().__init__(name=name)

    def handle_request(self, asked: Asked, *, now: float) -> tuple[Effect, ...]:  # noqa: ARG002
        self.requests.append(asked.command)
        if type(asked.command) not in self._answers:
            return ()
        try:
            value = self._answers[type(asked.command)]
            return (Reply(asked.request, _answered(value, asked.command)),)
        except Exception as error:  # noqa: BLE001 (the error is the scripted answer)
            return (Fail(asked.request, error),)

    def _react(self, pattern: str, answer: Answer) -> Action:
        return action(name=f"answer to {pattern}")(functools.partial(self._record, answer))

    def _record(
        self, answer: Answer, state: Any, params: Any, context: ActionContext
    ) -> tuple[Any, tuple[Effect, ...]]:
        del params
        assert context.signal is not None
        self.received.append(context.signal)
        return state, tuple(_answered(answer, context.signal))


def mock_agent(
    name: str,
    routes: Mapping[str, Answer] = MappingProxyType({}),
    *,
    answers: Mapping[type[Any], Any] = MappingProxyType({}),
) -> MockAgent:
    """An agent that records what it gets and answers from a script.

    `routes` maps a pattern to what is done about each matching signal: a sequence of effects, a
    function of the signal that returns one, or an exception to raise (which ends the mock, and so
    the scenario). `InTurn(a, b)` answers each time with the next of these. `answers` maps the type
    of a command to its reply; a function is called with the command, an exception is the failure,
    and a command without an answer gets none.
    """
    return MockAgent(name, routes, answers)


def _answered(answer: Any, what: Any) -> Any:
    if isinstance(answer, Exception):
        raise answer
    return answer(what) if callable(answer) else answer
