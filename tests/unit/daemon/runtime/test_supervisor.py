"""The supervisor: restarts, parking, order, and what must not be caught."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from muster.runtime.actions import Backoff
from muster.runtime.agent import Agent
from muster.runtime.directives import Asked, Reply, Spawn, Stop, StopAgent
from muster.runtime.host import HostState
from muster.runtime.supervisor import (
    AgentSpec,
    ChildStatistics,
    RestartPolicy,
    Strategy,
    Supervisor,
    describe,
)
from muster_protocol.effects import Effect
from muster_protocol.errors import Refused, StorageCorrupt, UsageError
from muster_protocol.types import Priority, Scope
from testkit.runtime_node import NodeUnderTest

STEADY = RestartPolicy(restarts_max=3, period_s=60.0, backoff=Backoff(first_s=1.0, jitter=0.0))


class Life:
    """What happened to the agents of a test, in order."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def spec(self, name: str, **options: Any) -> AgentSpec:
        defaults: dict[str, Any] = {"policy": STEADY}
        return AgentSpec(name, lambda: Mortal(name, self), **(defaults | options))

    def take(self) -> list[str]:
        events, self.events = self.events, []
        return events


class Mortal(Agent):
    """Raises what it is told to raise, does what it is told to do."""

    def __init__(self, name: str, life: Life) -> None:
        super().__init__(name=name)
        self.life = life
        self.number = life.events.count(f"{name} made")
        life.events.append(f"{name} made")

    async def serve(self) -> None:
        assert self.surroundings is not None
        self.life.events.append(f"{self.name} up")
        try:
            await self.surroundings.clock.sleep(1e9)
        finally:
            self.life.events.append(f"{self.name} down")

    def handle_event(self, event: Any, *, now: float) -> tuple[Effect, ...]:
        if isinstance(event, BaseException):
            raise event
        return (event,) if isinstance(event, Effect) else ()

    def handle_request(self, asked: Asked, *, now: float) -> tuple[Effect, ...]:
        return (Reply(asked.request, f"{self.name} answers"),)


@asynccontextmanager
async def running(
    node: NodeUnderTest, *specs: AgentSpec, **options: Any
) -> AsyncIterator[Supervisor]:
    supervisor = Supervisor(node.services, specs, **options)
    async with trio.open_nursery() as nursery:
        await nursery.start(supervisor.run)
        await node.settle()
        yield supervisor
        await supervisor.stop()


def of(supervisor: Supervisor, name: str) -> ChildStatistics:
    return next(child for child in supervisor.statistics() if child.name == name)


async def kill(
    node: NodeUnderTest, supervisor: Supervisor, name: str, error: BaseException | None = None
) -> None:
    supervisor.host(name).post(error or ValueError("killed"))
    await node.settle()


async def test_agents_start_in_order_and_stop_in_the_opposite_order(
    node: NodeUnderTest, autojump_clock: MockClock
) -> None:
    life = Life()
    async with running(node, life.spec("a"), life.spec("b"), life.spec("c")) as supervisor:
        assert [e for e in life.take() if e.endswith("made")] == ["a made", "b made", "c made"]
        assert supervisor.names() == ["a", "b", "c"]
    assert life.take() == ["c down", "b down", "a down"]


async def test_an_agent_that_fails_is_made_anew_and_takes_nothing_else_down(
    node: NodeUnderTest, autojump_clock: MockClock
) -> None:
    life = Life()
    async with running(node, life.spec("a"), life.spec("b")) as supervisor:
        life.take()
        await kill(node, supervisor, "a")
        assert life.take() == ["a down"]
        assert of(supervisor, "a").state is HostState.BACKING_OFF
        assert of(supervisor, "a").last_error == "ValueError: killed"
        with pytest.raises(Refused, match="backing-off"):
            supervisor.host("a")
        await trio.sleep(1.5)
        assert life.take() == ["a made", "a up"]
        assert of(supervisor, "a").state is HostState.RUNNING
        assert of(supervisor, "a").restarts == 1
        assert of(supervisor, "b").restarts == 0
        assert await supervisor.host("a").call("hello", timeout_s=1.0) == "a answers"
    assert "agent.failed" in node.events()


async def test_waits_between_restarts_grow_and_then_the_agent_is_parked_with_an_alert(
    node: NodeUnderTest, autojump_clock: MockClock
) -> None:
    made: list[float] = []

    def factory() -> Agent:
        made.append(round(node.clock.now() - started, 6))
        raise OSError("no such device")

    started = node.clock.now()
    life = Life()
    async with running(node, AgentSpec("bad", factory, STEADY), life.spec("good")) as supervisor:
        await trio.sleep(600.0)
        assert made == [0.0, 1.0, 3.0, 7.0]
        assert of(supervisor, "bad").state is HostState.PARKED
        assert of(supervisor, "bad").last_error == "OSError: no such device"
        assert of(supervisor, "good").state is HostState.RUNNING
        (alert,) = node.signals
        assert alert.type == "cluster.health.alerted"
        assert alert.source == "n1/supervisor"
        assert (alert.priority, alert.scope) == (Priority.HIGH, Scope.CLUSTER)
        assert alert.data["alert_type"] == "agent_parked"
        assert alert.data["data"]["agent"] == "bad"
        assert node.events() == ["agent.failed"] * 3 + ["agent.parked"]


async def test_restarts_that_are_long_past_do_not_count(
    node: NodeUnderTest, autojump_clock: MockClock
) -> None:
    life = Life()
    async with running(node, life.spec("a")) as supervisor:
        for _ in range(10):
            await kill(node, supervisor, "a")
            await trio.sleep(40.0)
        assert of(supervisor, "a").state is HostState.RUNNING
        assert of(supervisor, "a").restarts == 10
        assert of(supervisor, "a").restarts_recent <= 2


async def test_an_unparked_agent_starts_with_a_clean_record(
    node: NodeUnderTest, autojump_clock: MockClock
) -> None:
    life = Life()
    async with running(node, life.spec("a", policy=RestartPolicy(restarts_max=0))) as supervisor:
        await kill(node, supervisor, "a")
        assert of(supervisor, "a").state is HostState.PARKED
        supervisor.unpark("a")
        await node.settle()
        assert of(supervisor, "a").state is HostState.RUNNING
        assert of(supervisor, "a").restarts_recent == 0
        with pytest.raises(UsageError, match="not parked"):
            supervisor.unpark("a")
        with pytest.raises(UsageError, match="no agent is called"):
            supervisor.unpark("x")


async def test_parked_and_waiting_agents_do_not_hold_up_a_stop(
    node: NodeUnderTest, autojump_clock: MockClock
) -> None:
    life = Life()
    parked = life.spec("parked", policy=RestartPolicy(restarts_max=0))
    waiting = life.spec("waiting", policy=RestartPolicy(backoff=Backoff(first_s=1e6, max_s=1e6)))
    async with running(node, parked, waiting) as supervisor:
        await kill(node, supervisor, "parked")
        await kill(node, supervisor, "waiting")
        started = node.clock.now()
    assert node.clock.now() == started
    assert [child.state for child in supervisor.statistics()] == [HostState.STOPPED] * 2
    assert [child.restarts for child in supervisor.statistics()] == [0, 0]


async def test_one_bad_agent_does_not_keep_the_others_from_starting(
    node: NodeUnderTest, autojump_clock: MockClock
) -> None:
    life = Life()

    def factory() -> Agent:
        raise OSError("no")

    for strategy in Strategy:
        specs = (life.spec("a"), AgentSpec("bad", factory, STEADY))
        async with running(node, *specs, strategy=strategy) as supervisor:
            assert of(supervisor, "a").state is HostState.RUNNING


@pytest.mark.parametrize("strategy", list(Strategy))
@pytest.mark.parametrize("companions", [(), (ValueError,)])
async def test_a_fatal_error_ends_the_whole_daemon(
    node: NodeUnderTest,
    autojump_clock: MockClock,
    strategy: Strategy,
    companions: tuple[type[Exception], ...],
) -> None:
    """However deep in groups it is, and whatever else there is in them."""
    life = Life()
    specs = [life.spec("a"), life.spec("b"), life.spec("c")]
    fatal = StorageCorrupt("journal")
    error = ExceptionGroup("deep", [ExceptionGroup("er", [fatal]), *(c("x") for c in companions)])
    with pytest.RaisesGroup(StorageCorrupt, *companions, flatten_subgroups=True):
        async with running(node, *specs, strategy=strategy) as supervisor:
            await kill(node, supervisor, "b", error)
            await trio.sleep_forever()
    assert "c down" in life.events


async def test_what_is_fatal_can_be_configured(
    node: NodeUnderTest, autojump_clock: MockClock
) -> None:
    life = Life()
    with pytest.RaisesGroup(ZeroDivisionError, flatten_subgroups=True):
        async with running(node, life.spec("a"), fatal=(ZeroDivisionError,)) as supervisor:
            await kill(node, supervisor, "a", StorageCorrupt("tolerated"))
            await trio.sleep(5.0)
            assert of(supervisor, "a").state is HostState.RUNNING
            await kill(node, supervisor, "a", ZeroDivisionError())
            await trio.sleep_forever()


async def test_what_is_no_exception_is_never_caught(
    node: NodeUnderTest, autojump_clock: MockClock
) -> None:
    life = Life()
    with pytest.RaisesGroup(KeyboardInterrupt, flatten_subgroups=True):
        async with running(node, life.spec("a")) as supervisor:
            await kill(node, supervisor, "a", KeyboardInterrupt())
            await trio.sleep_forever()


async def test_cancellation_goes_through(node: NodeUnderTest, autojump_clock: MockClock) -> None:
    life = Life()
    supervisor = Supervisor(node.services, [life.spec("a"), life.spec("b")])
    with trio.move_on_after(5.0) as scope:
        await supervisor.run()
    assert scope.cancelled_caught
    assert life.events.count("a made") == 1
    assert [child.state for child in supervisor.statistics()] == [HostState.STOPPED] * 2


async def test_an_agent_that_raises_while_it_is_cancelled_is_heard_of_and_ends(
    node: NodeUnderTest, autojump_clock: MockClock
) -> None:
    class Bitter(Agent):
        async def serve(self) -> None:
            try:
                await trio.sleep_forever()
            finally:
                raise ValueError("last words")

    supervisor = Supervisor(node.services, [AgentSpec("bitter", lambda: Bitter(name="bitter"))])
    with trio.move_on_after(5.0) as scope:
        await supervisor.run()
    assert scope.cancelled_caught
    ((_, notice),) = node.notices
    assert notice.fields["error"] == "ValueError: last words"


# ── rest for one ────────────────────────────────────────────────────────────────────────────────


async def test_rest_for_one_restarts_what_was_started_after_the_failed_agent_in_order(
    node: NodeUnderTest, autojump_clock: MockClock
) -> None:
    life = Life()
    specs = [life.spec(name) for name in "abcd"]
    async with running(node, *specs, strategy=Strategy.REST_FOR_ONE) as supervisor:
        life.take()
        await kill(node, supervisor, "b")
        assert sorted(life.take()) == ["b down", "c down", "d down"]
        assert of(supervisor, "a").state is HostState.RUNNING
        assert of(supervisor, "c").state is HostState.STOPPED
        await trio.sleep(5.0)
        events = life.take()
        assert [e for e in events if e.endswith("made")] == ["b made", "c made", "d made"]
        assert [child.state for child in supervisor.statistics()] == [HostState.RUNNING] * 4
        assert [child.restarts for child in supervisor.statistics()] == [0, 1, 0, 0]
    assert life.take() == ["d down", "c down", "b down", "a down"]


async def test_rest_for_one_leaves_those_before_the_failed_agent_alone(
    node: NodeUnderTest, autojump_clock: MockClock
) -> None:
    life = Life()
    specs = [life.spec(name) for name in "abc"]
    async with running(node, *specs, strategy=Strategy.REST_FOR_ONE) as supervisor:
        life.take()
        await kill(node, supervisor, "c")
        await trio.sleep(5.0)
        assert life.take() == ["c down", "c made", "c up"]


async def test_what_lives_inside_a_parked_agent_waits_for_it(
    node: NodeUnderTest, autojump_clock: MockClock
) -> None:
    life = Life()
    never = RestartPolicy(restarts_max=0)
    specs = [life.spec("a", policy=never), life.spec("b")]
    async with running(node, *specs, strategy=Strategy.REST_FOR_ONE) as supervisor:
        await kill(node, supervisor, "a")
        assert of(supervisor, "a").state is HostState.PARKED
        assert of(supervisor, "b").state is HostState.STOPPED
        supervisor.unpark("a")
        await trio.sleep(1.0)
        assert [child.state for child in supervisor.statistics()] == [HostState.RUNNING] * 2


async def test_an_agent_removed_from_the_middle_leaves_the_others_running(
    node: NodeUnderTest, autojump_clock: MockClock
) -> None:
    life = Life()
    specs = [life.spec(name) for name in "abc"]
    async with running(node, *specs, strategy=Strategy.REST_FOR_ONE) as supervisor:
        await supervisor.remove_agent("b")
        assert supervisor.names() == ["a", "c"]
        assert of(supervisor, "c").state is HostState.RUNNING
        await kill(node, supervisor, "a")
        await trio.sleep(5.0)
        assert [child.state for child in supervisor.statistics()] == [HostState.RUNNING] * 2
        assert life.events.count("b made") == 1


# ── agents that come and go ─────────────────────────────────────────────────────────────────────


async def test_an_agent_can_be_added_and_removed_while_running(
    node: NodeUnderTest, autojump_clock: MockClock
) -> None:
    life = Life()
    async with running(node, life.spec("a")) as supervisor:
        await supervisor.start_agent(life.spec("b"))
        assert of(supervisor, "b").state is HostState.RUNNING
        with pytest.raises(UsageError, match="already"):
            await supervisor.start_agent(life.spec("b"))
        await supervisor.remove_agent("b")
        assert supervisor.names() == ["a"]
        await supervisor.start_agent(life.spec("b"))
    with pytest.raises(Refused):
        await supervisor.start_agent(life.spec("c"))


async def test_an_agent_can_spawn_and_stop_another(
    node: NodeUnderTest, autojump_clock: MockClock
) -> None:
    life = Life()

    def worker(name: str, options: Any) -> AgentSpec:
        life.events.append(f"{name} {options}")
        return life.spec(name)

    async with running(node, life.spec("a"), kinds={"worker": worker}) as supervisor:
        supervisor.host("a").post(Spawn("worker", "w1", {"size": 1}))
        await node.settle()
        assert "w1 {'size': 1}" in life.events
        assert of(supervisor, "w1").state is HostState.RUNNING
        supervisor.host("a").post(Spawn("worker", "w1"))
        supervisor.host("a").post(Spawn("unheard-of", "w2"))
        supervisor.host("a").post(StopAgent("w3"))
        await node.settle()
        assert node.events() == ["agent.spawn.refused"] * 2 + ["agent.stop.refused"]
        supervisor.host("a").post(StopAgent("w1"))
        await node.settle()
        assert supervisor.names() == ["a"]


async def test_an_agent_that_stops_itself_is_not_restarted(
    node: NodeUnderTest, autojump_clock: MockClock
) -> None:
    life = Life()
    async with running(node, life.spec("a"), life.spec("b")) as supervisor:
        supervisor.host("a").post(Stop("enough"))
        await trio.sleep(60.0)
        assert of(supervisor, "a").state is HostState.STOPPED
        assert of(supervisor, "b").state is HostState.RUNNING
        assert life.events.count("a made") == 1


async def test_two_agents_of_one_name_are_refused(
    node: NodeUnderTest, autojump_clock: MockClock
) -> None:
    life = Life()
    with pytest.raises(UsageError, match="already"):
        Supervisor(node.services, [life.spec("a"), life.spec("a")])


def test_an_error_is_described_in_a_line() -> None:
    group = ExceptionGroup("g", [ExceptionGroup("h", [ValueError("x"), OSError()]), OSError()])
    assert describe(group) == "ValueError: x (and 2 more)"
    assert describe(OSError("y")) == "OSError: y"
    assert len(describe(OSError("y" * 10_000))) == 500
