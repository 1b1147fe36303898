"""One agent alive: mailbox, actions, calls, timers, quiescing, and its end."""

# ruff: noqa: RUF012 (what an agent declares is only read)

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import pytest
import trio
from trio.testing import MockClock

from muster.driver import Overflow
from muster.runtime import host as host_module
from muster.runtime.actions import ActionContext, Backoff, action
from muster.runtime.agent import Agent, Every, UnknownEvent
from muster.runtime.directives import (
    ActionFailed,
    Asked,
    Invoke,
    Reply,
    RunAction,
    Schedule,
    Spawn,
    Stop,
)
from muster.runtime.executor import UnknownEffect
from muster.runtime.host import AgentHost, HostState
from muster.runtime.sensors import every
from muster_protocol.effects import Effect, Emit, Notify, Persist
from muster_protocol.errors import OutcomeUnknown, Refused, UsageError
from testkit.runtime_node import NodeUnderTest


class Count(msgspec.Struct, frozen=True):
    total: int = 0


class Add(msgspec.Struct, frozen=True):
    n: int


Outcome = tuple[Count, tuple[Effect, ...]]


@action(name="Add", params=Add)
def add(state: Count, params: Add, context: ActionContext) -> Outcome:
    total = state.total + params.n
    return Count(total), (Emit("count.changed", {"total": total}),)


@action(name="Total")
def total(state: Count, params: Any, context: ActionContext) -> Outcome:
    assert context.request is not None
    return state, (Reply(context.request, state.total),)


@action(name="Crash")
def crash(state: Count, params: Any, context: ActionContext) -> Outcome:
    raise ZeroDivisionError


@action(name="SaveAndStop")
def save_and_stop(state: Count, params: Any, context: ActionContext) -> Outcome:
    return state, (Persist("count", b"saved"), Stop("done"))


@action(name="Slow", params=Add, timeout_s=60.0)
async def slow(state: Count, params: Add, context: ActionContext) -> Mapping[str, int]:
    assert context.clock is not None
    await context.clock.sleep(10.0)
    return {"n": state.total + params.n}


@action(name="Unreachable", retries=2, backoff=Backoff(first_s=1.0, jitter=0.0))
async def unreachable(state: Count, params: Any, context: ActionContext) -> None:
    raise OSError("unreachable")


@action(name="Buggy")
async def buggy(state: Count, params: Any, context: ActionContext) -> None:
    raise KeyError("bug")


class Counter(Agent):
    name = "counter"
    state_schema = Count
    actions = (total, crash, slow, unreachable, buggy, save_and_stop)
    routes = {"count.asked": add, "count.crashed": crash}
    outcomes = {"Slow": add}

    def __init__(self, on_event: Callable[[Any], tuple[Effect, ...]] = lambda event: ()) -> None:
        super().__init__()
        self.on_event = on_event
        self.failures: list[ActionFailed] = []

    def handle_event(self, event: Any, *, now: float) -> tuple[Effect, ...]:
        return self.on_event(event)

    def handle_request(self, asked: Asked, *, now: float) -> tuple[Effect, ...]:
        return self.on_event(asked)

    def handle_failure(self, failed: ActionFailed, *, now: float) -> tuple[Effect, ...]:
        self.failures.append(failed)
        return super().handle_failure(failed, now=now)


async def start(node: NodeUnderTest, nursery: trio.Nursery, agent: Agent, **options: Any) -> Any:
    host = AgentHost(agent, node.services, **options)
    await nursery.start(host.run)
    await node.settle()
    return host


async def test_a_signal_on_the_bus_reaches_the_agent_and_its_answer_the_bus(
    node: NodeUnderTest, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    host = await start(node, nursery, Counter())
    assert host.state is HostState.RUNNING
    node.publish("count.asked", n=3)
    await node.settle()
    asked, changed = node.signals
    assert changed.data == {"total": 3}
    assert changed.source == "n1/counter"
    assert (changed.causation, changed.trace) == (asked.id, asked.trace)


async def test_a_called_action_answers(
    node: NodeUnderTest, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    host = await start(node, nursery, Counter())
    assert await host.call(Invoke("Add", {"n": 2}), timeout_s=1.0) is None
    assert await host.call(Invoke("Total"), timeout_s=1.0) == 2
    with pytest.raises(UsageError, match="parameter 'n'"):
        await host.call(Invoke("Add", {"n": "x"}), timeout_s=1.0)
    assert host.statistics().calls_waiting == 0


async def test_a_called_effectful_action_answers_with_its_result(
    node: NodeUnderTest, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    host = await start(node, nursery, Counter())
    started = node.clock.now()
    assert await host.call(Invoke("Slow", {"n": 5}), timeout_s=30.0) == {"n": 5}
    assert node.clock.now() == pytest.approx(started + 10.0)
    assert await host.call(Invoke("Total"), timeout_s=1.0) == 5
    assert host.statistics().actions_succeeded == 1


async def test_a_call_without_an_answer_ends_in_an_unknown_outcome(
    node: NodeUnderTest, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    host = await start(node, nursery, Counter())
    with pytest.raises(OutcomeUnknown, match=r"3\.0 s"):
        await host.call("silence", timeout_s=3.0)


async def test_an_answer_that_comes_too_late_is_dropped(
    node: NodeUnderTest, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    def answer_late(event: Any) -> tuple[Effect, ...]:
        if isinstance(event, Asked):
            return (Schedule(("answer", event.request), 5.0),)
        return (Reply(event[1], "late"),)

    host = await start(node, nursery, Counter(answer_late))
    with pytest.raises(OutcomeUnknown):
        await host.call("slow", timeout_s=3.0)
    await trio.sleep(10.0)
    assert await host.call("slow", timeout_s=30.0) == "late"


async def test_a_failed_action_is_retried_and_then_told_to_the_agent_and_the_caller(
    node: NodeUnderTest, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    agent = Counter()
    host = await start(node, nursery, agent)
    started = node.clock.now()
    with pytest.raises(OSError, match="unreachable"):
        await host.call(Invoke("Unreachable"), timeout_s=30.0)
    assert node.clock.now() == pytest.approx(started + 3.0)
    assert [failed.attempts for failed in agent.failures] == [3]
    assert node.events() == ["agent.action.failed"]
    assert host.statistics().actions_failed == 1


async def test_an_outcome_reaches_the_agent_even_when_its_mailbox_is_full(
    node: NodeUnderTest, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    agent = Counter()
    host = await start(node, nursery, agent, mailbox_max=1)
    host.post("x")
    await node.settle()
    agent.on_event = lambda event: (RunAction("Slow", {"n": 1}),) if event == "go" else ()
    host.post("go")
    await node.settle()
    host._driver.pause()
    assert host.post("fills it") is True
    assert host.post("too much") is False
    await trio.sleep(20.0)
    assert agent.state == Count(1)


async def test_more_actions_than_may_run_fail_at_once(
    node: NodeUnderTest,
    nursery: trio.Nursery,
    autojump_clock: MockClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(host_module, "ACTIONS_MAX", 2)
    agent = Counter(lambda event: (RunAction("Slow", {"n": 1}, token=event),))
    host = await start(node, nursery, agent)
    for token in range(3):
        host.post(token)
    await node.settle()
    (failed,) = agent.failures
    assert failed.token in (0, 1, 2)
    assert isinstance(failed.error, Refused)
    assert host.statistics().actions_running == 2


async def test_parameters_that_do_not_fit_fail_the_action_not_the_agent(
    node: NodeUnderTest, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    agent = Counter(lambda event: (RunAction("Slow", {"n": "x"}),))
    host = await start(node, nursery, agent)
    host.post("go")
    await node.settle()
    assert isinstance(agent.failures[0].error, UsageError)


@pytest.mark.parametrize(
    ("event", "error"),
    [
        (Invoke("Crash"), ZeroDivisionError),
        (Invoke("Buggy"), KeyError),
        (Spawn("kind", "name"), UnknownEffect),
        (RunAction("Total"), UsageError),
        (RunAction("Nothing"), UsageError),
    ],
)
async def test_a_bug_ends_the_agent_and_its_callers_are_told(
    node: NodeUnderTest, autojump_clock: MockClock, event: Any, error: type[Exception]
) -> None:
    agent = Counter(lambda event: (event.command,))
    host = AgentHost(agent, node.services)

    async def ask() -> None:
        with pytest.raises(OutcomeUnknown, match="ended before"):
            await host.call(event, timeout_s=5.0)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        with pytest.RaisesGroup(error, flatten_subgroups=True):
            await host.run()
    assert host.state is HostState.STOPPED
    assert host.post("x") is False
    with pytest.raises(Refused):
        await host.call("x", timeout_s=1.0)
    assert [s.name for s in node.bus.statistics().subscriptions] == ["test"]


async def test_a_failing_shell_ends_the_agent(
    node: NodeUnderTest, autojump_clock: MockClock
) -> None:
    class Shelled(Agent):
        async def serve(self) -> None:
            assert self.surroundings is not None
            await self.surroundings.clock.sleep(1.0)
            raise OSError("port in use")

    with pytest.RaisesGroup(OSError):
        await AgentHost(Shelled(), node.services).run()


async def test_a_shell_may_post_to_its_own_agent_and_return(
    node: NodeUnderTest, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    class Shelled(Counter):
        async def serve(self) -> None:
            assert self.surroundings is not None
            assert self.surroundings.node == "n1"
            self.surroundings.post("from the shell")

    seen: list[Any] = []
    host = await start(node, nursery, Shelled(lambda event: (seen.append(event), ())[1]))
    assert seen == ["from the shell"]
    assert host.state is HostState.RUNNING


async def test_readings_of_a_sensor_reach_the_agent(
    node: NodeUnderTest, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    class Sensing(Counter):
        sensors = (every(5.0, "OneSensor", lambda: Add(1)),)
        readings = {"OneSensor": add}

    agent = Sensing()
    await start(node, nursery, agent)
    await trio.sleep(26.0)
    assert agent.state in (Count(5), Count(6))


async def test_schedules_keep_their_period_on_the_clock(
    node: NodeUnderTest, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    class Ticking(Counter):
        schedules = (Every(5.0, add, {"n": 1}),)

    agent = Ticking()
    await start(node, nursery, agent)
    await trio.sleep(26.0)
    assert agent.state == Count(5)


async def test_effects_behind_a_record_wait_for_the_disk(
    node: NodeUnderTest, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    node.disk_s = 2.0
    agent = Counter(lambda event: (Persist("r", b"1"), Notify("saved")))
    host = await start(node, nursery, agent)
    host.post("go")
    await trio.sleep(1.0)
    assert node.events() == []
    await trio.sleep(2.0)
    assert node.events() == ["saved"]
    assert node.records == {("counter", "r"): b"1"}


async def test_the_mailbox_is_bounded_and_says_what_it_drops(
    node: NodeUnderTest, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    seen: list[Any] = []
    agent = Counter(lambda event: (seen.append(event), ())[1])
    host = await start(node, nursery, agent, mailbox_max=2)
    host._driver.pause()
    assert [node.publish("count.asked", n=1) for _ in range(4)] == [2, 2, 1, 1]
    subscription = next(s for s in node.bus.statistics().subscriptions if s.name == "counter")
    assert (subscription.delivered, subscription.dropped, subscription.queue_length) == (2, 2, 2)
    with pytest.raises(Refused, match="too much"):
        await host.call("x", timeout_s=1.0)


async def test_a_mailbox_that_drops_its_oldest_takes_the_newest(
    node: NodeUnderTest, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    agent = Counter()
    host = await start(node, nursery, agent, mailbox_max=2, overflow=Overflow.DROP_OLDEST)
    host._driver.pause()
    assert [node.publish("count.asked", n=n) for n in (1, 2, 4, 8)] == [2, 2, 2, 2]
    host._driver.resume()
    await node.settle()
    assert agent.state == Count(12)
    assert host.statistics().driver.events_dropped == 2


# ── quiescing ───────────────────────────────────────────────────────────────────────────────────


async def test_a_quiesced_agent_handles_nothing_and_loses_nothing(
    node: NodeUnderTest, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    class Ticking(Counter):
        schedules = (Every(5.0, add, {"n": 100}),)

    agent = Ticking()
    host = await start(node, nursery, agent)
    await host.quiesce()
    assert host.state is HostState.QUIESCED
    node.publish("count.asked", n=1)
    await trio.sleep(7.0)
    assert agent.state == Count(0)
    host.resume()
    await node.settle()
    assert agent.state == Count(101)
    assert host.state is HostState.RUNNING


async def test_quiescing_waits_for_running_actions_and_for_the_disk(
    node: NodeUnderTest, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """Also for an action that stands behind a record, and has not begun when the waiting does."""
    node.disk_s = 15.0
    agent = Counter(lambda event: (Persist("r", b"1"), RunAction("Slow", {"n": 1})))
    host = await start(node, nursery, agent)
    started = node.clock.now()
    host.post("go")
    await node.settle()
    await host.quiesce()
    assert node.clock.now() == pytest.approx(started + 25.0)
    assert agent.state == Count(1)
    assert node.records == {("counter", "r"): b"1"}


async def test_a_quiescing_that_is_cancelled_can_be_undone(
    node: NodeUnderTest, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    agent = Counter(lambda event: (RunAction("Slow", {"n": 1}),) if event == "go" else ())
    host = await start(node, nursery, agent)
    host.post("go")
    await node.settle()
    with trio.move_on_after(1.0) as scope:
        await host.quiesce()
    assert scope.cancelled_caught
    assert host.state is HostState.QUIESCING
    host.resume()
    assert await host.call(Invoke("Total"), timeout_s=1.0) == 0


async def test_two_may_wait_for_the_same_quiet(
    node: NodeUnderTest, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    agent = Counter(lambda event: (RunAction("Slow", {"n": 1}),))
    host = await start(node, nursery, agent)
    host.post("go")
    await node.settle()
    async with trio.open_nursery() as waiting:
        waiting.start_soon(host.quiesce)
        waiting.start_soon(host.quiesce)
    assert host.state is HostState.QUIESCED


async def test_who_waits_for_quiet_is_told_when_it_does_not_come(
    node: NodeUnderTest, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    agent = Counter(lambda event: (RunAction("Slow", {"n": 1}),) if event == "go" else ())
    host = await start(node, nursery, agent)

    async def wait_for(error: type[Exception]) -> None:
        host.post("go")
        await node.settle()
        async with trio.open_nursery() as waiting:
            waiting.start_soon(expect, error)
            await node.settle()
            (host.resume if error is Refused else host.request_stop)()

    async def expect(error: type[Exception]) -> None:
        with pytest.raises(error):
            await host.quiesce()

    await wait_for(Refused)
    await wait_for(OutcomeUnknown)


@pytest.mark.parametrize("event", ["save", "act"])
async def test_who_waits_for_quiet_is_told_when_the_agent_fails(
    node: NodeUnderTest, autojump_clock: MockClock, event: str
) -> None:
    """With a record that will never reach the disk, or an action that will never end."""
    node.disk_s = 1e6
    failing = trio.Event()

    class Failing(Counter):
        async def serve(self) -> None:
            await failing.wait()
            raise OSError("shell")

    effects: dict[str, Effect] = {"save": Persist("r", b"1"), "act": RunAction("Slow", {"n": 1})}
    host = AgentHost(Failing(lambda event: (effects[event],)), node.services)

    async def wait_for_quiet() -> None:
        host.post(event)
        await node.settle()
        with pytest.raises(OutcomeUnknown):
            await host.quiesce()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait_for_quiet)
        with pytest.RaisesGroup(OSError, flatten_subgroups=True):
            async with trio.open_nursery() as living:
                await living.start(host.run)
                await node.settle()
                failing.set()


async def test_what_does_not_run_cannot_be_quiesced_or_resumed(
    node: NodeUnderTest, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    host = await start(node, nursery, Counter())
    with pytest.raises(UsageError, match="nothing to resume"):
        host.resume()
    host.request_stop()
    await host.wait_ended()
    with pytest.raises(UsageError, match="stopped"):
        await host.quiesce()


# ── the end ─────────────────────────────────────────────────────────────────────────────────────


async def test_an_agent_that_stops_itself_ends_without_an_error_after_its_records(
    node: NodeUnderTest, autojump_clock: MockClock
) -> None:
    node.disk_s = 1.0
    agent = Counter()
    host = AgentHost(agent, node.services)
    async with trio.open_nursery() as nursery:
        await nursery.start(host.run)
        host.post(Asked(99, Invoke("SaveAndStop")))
    assert node.records == {("counter", "count"): b"saved"}
    assert host.state is HostState.STOPPED


async def test_a_stopped_agent_gets_its_records_to_the_disk_first(
    node: NodeUnderTest, autojump_clock: MockClock
) -> None:
    node.disk_s = 1.0
    host = AgentHost(Counter(lambda event: (Persist("r", b"1"),)), node.services)
    async with trio.open_nursery() as nursery:
        await nursery.start(host.run)
        host.post("go")
        await node.settle()
        host.request_stop()
    assert node.records == {("counter", "r"): b"1"}


async def test_a_disk_that_hangs_does_not_keep_an_agent_from_stopping(
    node: NodeUnderTest, autojump_clock: MockClock
) -> None:
    node.disk_s = 1e6
    host = AgentHost(Counter(lambda event: (Persist("r", b"1"),)), node.services)
    async with trio.open_nursery() as nursery:
        await nursery.start(host.run)
        host.post("go")
        await node.settle()
        started = node.clock.now()
        host.request_stop()
    assert node.clock.now() - started < 10.0


async def test_cancelling_a_host_ends_it_at_once(
    node: NodeUnderTest, autojump_clock: MockClock
) -> None:
    host = AgentHost(Counter(), node.services)
    with trio.move_on_after(1.0) as scope:
        await host.run()
    assert scope.cancelled_caught
    assert host.state is HostState.STOPPED


async def test_what_a_sensor_says_that_the_agent_cannot_use_is_a_wiring_mistake(
    node: NodeUnderTest, autojump_clock: MockClock
) -> None:
    class Deaf(Agent):
        sensors = (every(1.0, "S", dict),)

    with pytest.RaisesGroup(UnknownEvent, flatten_subgroups=True):
        await AgentHost(Deaf(), node.services).run()
