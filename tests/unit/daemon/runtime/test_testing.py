"""The test kit itself, and the example in its docstring."""

# ruff: noqa: RUF012 (what an agent declares is only read)

from __future__ import annotations

import doctest
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest
import trio
from trio.testing import MockClock

import muster.testing
from muster.runtime.actions import ActionContext, action
from muster.runtime.agent import Agent, StateInvalid
from muster.runtime.directives import Schedule
from muster.testing import AgentHarness, InTurn, mock_agent, simulate
from muster_protocol.effects import Effect, Emit, Notify, Persist
from muster_protocol.errors import OutcomeUnknown, Refused, UsageError


@dataclass(frozen=True, slots=True)
class Launch(Effect):
    code: int


@dataclass(frozen=True, slots=True)
class Status:
    of: str


class Memory(msgspec.Struct, frozen=True):
    seen: int = 0


@action(name="See")
def see(state: Memory, params: Any, context: ActionContext) -> tuple[Memory, tuple[Effect, ...]]:
    return Memory(state.seen + 1), (Persist("seen", b"%d" % (state.seen + 1)), Launch(1))


@action(name="Spoil")
def spoil(state: Memory, params: Any, context: ActionContext) -> tuple[Memory, tuple[Effect, ...]]:
    return Memory("x"), ()  # type: ignore[arg-type]


@action(name="Wait")
async def wait(state: Memory, params: Any, context: ActionContext) -> int:
    assert context.clock is not None
    await context.clock.sleep(20.0)
    return 7


class Watcher(Agent):
    name = "watcher"
    state_schema = Memory
    actions = (wait,)
    routes = {"thing.happened": see, "thing.spoiled": spoil}
    launched: list[Effect]

    def mount(self, *, now: float) -> tuple[Effect, ...]:
        return (Schedule("remind", 30.0),)

    def handle_event(self, event: Any, *, now: float) -> tuple[Effect, ...]:
        return (Notify(f"got.{event}"), Emit("watcher.reminded", {}))

    def effect_handlers(self) -> Mapping[type[Effect], Callable[[Any], None]]:
        self.launched = []
        return {Launch: self.launched.append}

    async def serve(self) -> None:
        assert self.surroundings is not None
        self.surroundings.post("shell")


def test_the_example_in_the_docstring_works() -> None:
    result = doctest.testmod(muster.testing)
    assert result.attempted > 5
    assert result.failed == 0


async def test_an_agent_runs_without_its_shell_and_its_own_effects_are_recorded(
    autojump_clock: MockClock,
) -> None:
    agent = Watcher()
    async with AgentHarness(agent) as harness:
        await harness.send(Emit("thing.happened", {}))
        assert harness.effects == [Persist("seen", b"1"), Launch(1)]
        assert harness.persisted == {"seen": b"1"}
        assert agent.launched == []
        await harness.advance(29.0)
        assert harness.notices == []
        await harness.advance(1.0)
        assert harness.notices == ["got.remind"]
        assert [signal.type for signal in harness.emitted] == ["watcher.reminded"]


async def test_with_its_shell_an_agent_does_everything(autojump_clock: MockClock) -> None:
    agent = Watcher()
    async with AgentHarness(agent, with_shell=True) as harness:
        await harness.send(Emit("thing.happened", {}))
        assert agent.launched == [Launch(1)]
        assert harness.notices == ["got.shell"]


async def test_actions_can_be_called_by_name(autojump_clock: MockClock) -> None:
    async with AgentHarness(Watcher()) as harness:
        assert await harness.call("Wait") == 7
        with pytest.raises(UsageError, match="unknown parameter 'size'"):
            await harness.call("Wait", size=3)


async def test_a_state_that_does_not_fit_its_schema_is_found(autojump_clock: MockClock) -> None:
    with pytest.raises(StateInvalid):
        async with AgentHarness(Watcher()) as harness:
            await harness.send(Emit("thing.spoiled", {}))


async def test_what_the_agent_raises_comes_out_of_the_block(autojump_clock: MockClock) -> None:
    class Failing(Agent):
        def handle_event(self, event: Any, *, now: float) -> tuple[Effect, ...]:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):  # noqa: PT012
        async with AgentHarness(Failing()) as harness:
            await harness.send("x")
            await harness.advance(1.0)


async def test_a_failing_assertion_comes_out_as_it_is(autojump_clock: MockClock) -> None:
    with pytest.raises(AssertionError, match="mine"):
        async with AgentHarness(Watcher()):
            raise AssertionError("mine")


async def test_further_effects_can_be_recorded_only(autojump_clock: MockClock) -> None:
    class Launching(Agent):
        def handle_event(self, event: Any, *, now: float) -> tuple[Effect, ...]:
            return (Launch(event),)

    async with AgentHarness(Launching(), recording=(Launch,)) as harness:
        await harness.send(3)
        assert harness.of(Launch) == [Launch(3)]


async def test_a_mock_records_and_answers_from_its_script(autojump_clock: MockClock) -> None:
    mock = mock_agent(
        "mock",
        {
            "watcher.reminded": (Emit("thing.happened", {}),),
            "thing.*": lambda signal: (Notify(f"heard.{signal.type}"),),
        },
    )
    watcher = Watcher()
    async with AgentHarness(watcher, mock) as harness:
        await harness.advance(31.0)
        assert [signal.type for signal in mock.received] == ["watcher.reminded", "thing.happened"]
        assert watcher.state == Memory(1)


async def test_a_mock_can_answer_differently_each_time(autojump_clock: MockClock) -> None:
    script = InTurn((Notify("first"),), lambda signal: (Notify("second"),))
    mock = mock_agent("mock", {"a.rebuilt": script})
    async with AgentHarness(mock) as harness:
        for _ in range(4):
            await harness.send(Emit("a.rebuilt", {}))
        assert harness.notices == ["first", "second"]


async def test_a_mock_answers_commands(autojump_clock: MockClock) -> None:
    mock = mock_agent(
        "mock", answers={Status: lambda command: f"{command.of} is fine", str: Refused("no", "no")}
    )
    async with AgentHarness(mock) as harness:
        assert await harness.call(Status("disk")) == "disk is fine"
        with pytest.raises(Refused):
            await harness.host.call("x", timeout_s=1.0)
        with pytest.raises(OutcomeUnknown):
            await harness.call(3, timeout_s=1.0)
        assert mock.requests == [Status("disk"), "x", 3]


async def test_a_mock_can_fail(autojump_clock: MockClock) -> None:
    with pytest.raises(OSError, match="scripted"):
        async with AgentHarness(mock_agent("mock", {"**": OSError("scripted")})) as harness:
            await harness.send(Emit("a.rebuilt", {}))


def test_a_scenario_takes_no_time_and_is_the_same_every_time() -> None:
    async def scenario() -> list[tuple[str, str, float]]:
        async with AgentHarness(Watcher()) as harness:
            await harness.advance(86_400.0)
            await harness.send("x")
            return [(s.id, s.trace, s.time) for s in harness.emitted]

    first, second = simulate(scenario), simulate(scenario)
    assert len(first) == 2
    assert [(i, t) for i, t, _ in first] == [(i, t) for i, t, _ in second]


def test_without_a_virtual_clock_the_harness_says_what_to_do() -> None:
    async def scenario() -> None:
        async with AgentHarness(Watcher()):
            pass

    with pytest.raises(UsageError, match="simulate"):
        trio.run(scenario)
