"""The driver's rules, one by one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import trio
import trio.testing

from muster.clock import TrioClock
from muster.driver import (
    DRAIN_EVENTS_MAX,
    LAG_REPORT_S,
    OUTBOX_MAX,
    Driver,
    Overflow,
)
from muster_protocol.effects import DeadlineReached, Effect, Persist


@dataclass(frozen=True, slots=True)
class Say(Effect):
    what: Any


@dataclass
class Script:
    """A machine that remembers what it got, and answers by a function."""

    answer: Callable[[Any, float], tuple[Effect, ...]] = lambda event, now: ()
    deadline: float | None = None
    events: list[Any] = field(default_factory=list)
    times: list[float] = field(default_factory=list)

    def handle(self, event: Any, *, now: float) -> tuple[Effect, ...]:
        self.events.append(event)
        self.times.append(now)
        if isinstance(event, DeadlineReached):
            self.deadline = None
        return self.answer(event, now)


class Channel:
    """A source that hands events to a waiting pump directly, as trio's channels do."""

    def __init__(self) -> None:
        self.send, self._receive = trio.open_memory_channel[Any](100)

    async def next(self) -> Any:
        return await self._receive.receive()

    def next_nowait(self) -> Any | None:
        try:
            return self._receive.receive_nowait()
        except trio.WouldBlock:
            return None


class LateClock(TrioClock):
    """A clock that can be set forward, as if the loop had been stuck."""

    def __init__(self) -> None:
        self.offset = 0.0

    def now(self) -> float:
        return super().now() + self.offset


class Disk:
    """A `persist` that takes as long as the test wants."""

    def __init__(self) -> None:
        self.records: list[bytes] = []
        self.allowed = trio.Event()

    async def __call__(self, record: Persist) -> None:
        await self.allowed.wait()
        self.records.append(record.data)


def a_driver(machine: Script, **options: Any) -> Driver:
    defaults: dict[str, Any] = {"name": "m", "clock": TrioClock(), "perform": lambda effect: None}
    return Driver(machine, **(defaults | options))


async def test_posted_events_are_handled_in_order(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    machine = Script()
    driver = a_driver(machine)
    await nursery.start(driver.run)
    assert all(driver.post(number) for number in range(3))
    await trio.testing.wait_all_tasks_blocked()
    assert machine.events == [0, 1, 2]
    assert driver.statistics().events_handled == 3


async def test_a_deadline_fires_when_it_is_due_and_once(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    start = trio.current_time()
    machine = Script(deadline=start + 5.0)
    driver = a_driver(machine)
    await nursery.start(driver.run)
    await trio.sleep(20.0)
    assert machine.events == [DeadlineReached()]
    assert machine.times == [start + 5.0]
    assert driver.statistics().deadlines_fired == 1


async def test_a_deadline_that_an_event_moves_forward_is_kept(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    start = trio.current_time()
    machine = Script(deadline=start + 50.0)

    def answer(event: Any, now: float) -> tuple[Effect, ...]:
        if event == "sooner":
            machine.deadline = now + 1.0
        return ()

    machine.answer = answer
    driver = a_driver(machine)
    await nursery.start(driver.run)
    driver.post("sooner")
    await trio.sleep(10.0)
    assert machine.times == [start, start + 1.0]


async def test_ready_input_comes_before_a_due_deadline(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    machine = Script(deadline=trio.current_time() - 1.0)
    driver = a_driver(machine)
    driver.post("answer")
    await nursery.start(driver.run)
    await trio.testing.wait_all_tasks_blocked()
    assert machine.events == ["answer", DeadlineReached()]


async def test_a_late_loop_asks_its_sources_before_it_accuses_anybody(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    """The pump is busy elsewhere: only `next_nowait` shows what came."""

    class Buffer:
        def __init__(self) -> None:
            self.waiting = ["ack-1", "ack-2"]

        async def next(self) -> Any:
            await trio.sleep_forever()

        def next_nowait(self) -> Any | None:
            return self.waiting.pop(0) if self.waiting else None

    machine = Script(deadline=trio.current_time() + 1.0)
    driver = a_driver(machine, sources=[Buffer()])
    await nursery.start(driver.run)
    await trio.sleep(2.0)
    assert machine.events == ["ack-1", "ack-2", DeadlineReached()]


@pytest.mark.parametrize("attempt", range(20))
async def test_input_that_a_pump_was_just_handed_comes_before_the_deadline_of_a_late_loop(
    attempt: int, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    """It is in no buffer any more and in no inbox yet. Trio runs ready tasks in random order, so
    one attempt shows nothing."""
    clock = LateClock()
    machine = Script(deadline=trio.current_time() + 1.0)
    channel = Channel()
    driver = a_driver(machine, clock=clock, sources=[channel])
    await nursery.start(driver.run)
    await trio.testing.wait_all_tasks_blocked()
    clock.offset = 0.5

    async def send_when_the_driver_wakes() -> None:
        await trio.sleep(1.0)
        await channel.send.send("ack")

    nursery.start_soon(send_when_the_driver_wakes)
    await trio.sleep(2.0)
    assert machine.events == ["ack", DeadlineReached()]


async def test_an_answer_that_clears_the_deadline_stops_it_from_firing(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    machine = Script(deadline=trio.current_time() - 1.0)

    def answer(event: Any, now: float) -> tuple[Effect, ...]:
        machine.deadline = None
        return ()

    machine.answer = answer
    driver = a_driver(machine)
    driver.post("answer")
    await nursery.start(driver.run)
    await trio.sleep(5.0)
    assert machine.events == ["answer"]
    assert driver.statistics().deadlines_fired == 0


async def test_one_turn_of_input_is_bounded_so_a_flood_cannot_hold_back_a_deadline(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    machine = Script(deadline=trio.current_time() - 1.0)
    driver = a_driver(machine, inbox_max=10_000)
    for number in range(3 * DRAIN_EVENTS_MAX):
        driver.post(number)
    await nursery.start(driver.run)
    await trio.testing.wait_all_tasks_blocked()
    assert machine.events.index(DeadlineReached()) == DRAIN_EVENTS_MAX
    numbers = [event for event in machine.events if event != DeadlineReached()]
    assert numbers == list(range(3 * DRAIN_EVENTS_MAX))


async def test_a_flooded_inbox_is_not_overtaken_by_newer_input_of_a_source(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    channel = Channel()
    machine = Script(deadline=trio.current_time() - 1.0)
    driver = a_driver(machine, inbox_max=10_000, sources=[channel])
    for number in range(DRAIN_EVENTS_MAX + 1):
        driver.post(number)
    channel.send.send_nowait("newer")
    await nursery.start(driver.run)
    await trio.testing.wait_all_tasks_blocked()
    order = [event for event in machine.events if event != DeadlineReached()]
    assert order == [*range(DRAIN_EVENTS_MAX + 1), "newer"]


async def test_one_turn_of_input_is_bounded_in_time(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    clock = LateClock()

    def slow(event: Any, now: float) -> tuple[Effect, ...]:
        clock.offset += 0.015
        return ()

    machine = Script(answer=slow, deadline=trio.current_time() - 1.0)
    driver = a_driver(machine, clock=clock)
    for number in range(10):
        driver.post(number)
    await nursery.start(driver.run)
    await trio.testing.wait_all_tasks_blocked()
    assert machine.events[:3] == [0, 1, DeadlineReached()]


async def test_effects_behind_a_persist_wait_for_it_while_the_machine_goes_on(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    disk, done = Disk(), []

    def answer(event: Any, now: float) -> tuple[Effect, ...]:
        if event == "vote":
            return (Say("before"), Persist("term", b"7"), Say("granted"))
        return (Say(event),)

    machine = Script(answer=answer)
    driver = a_driver(machine, perform=lambda e: done.append((e.what, list(disk.records))))  # type: ignore[attr-defined]
    driver._persist = disk
    await nursery.start(driver.run)
    driver.post("vote")
    driver.post("later")
    await trio.testing.wait_all_tasks_blocked()
    assert machine.events == ["vote", "later"]
    assert done == [("before", [])]
    assert driver.statistics().outbox_length == 3
    disk.allowed.set()
    await trio.testing.wait_all_tasks_blocked()
    assert done == [("before", []), ("granted", [b"7"]), ("later", [b"7"])]
    assert driver.statistics().outbox_length == 0


async def test_a_turn_ends_when_too_much_waits_for_the_disk(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    machine = Script(answer=lambda event, now: (Persist("r", b""),) * (OUTBOX_MAX // 2))
    driver = a_driver(machine, persist=Disk())
    for number in range(DRAIN_EVENTS_MAX):
        driver.post(number)
    await nursery.start(driver.run)
    await trio.sleep(1.0)
    assert driver.statistics().outbox_length == OUTBOX_MAX


async def test_no_input_is_taken_while_too_much_waits_for_the_disk(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    disk = Disk()
    machine = Script(answer=lambda event, now: (Persist("r", b""),) * OUTBOX_MAX)
    driver = a_driver(machine, persist=disk)
    await nursery.start(driver.run)
    driver.post("first")
    await trio.sleep(1.0)
    driver.post("second")
    await trio.sleep(1.0)
    assert machine.events == ["first"]
    disk.allowed.set()
    await trio.sleep(1.0)
    assert machine.events == ["first", "second"]


async def test_a_persist_that_nobody_can_do_is_an_effect_like_any_other(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """It must not hold back all that stands behind it for ever."""
    done: list[Effect] = []
    machine = Script(answer=lambda event, now: (Persist("r", b""), Say("behind")))
    driver = a_driver(machine, perform=done.append)
    async with trio.open_nursery() as nursery:
        await nursery.start(driver.run)
        driver.post("go")
        await trio.testing.wait_all_tasks_blocked()
        assert done == [Persist("r", b""), Say("behind")]
        nursery.cancel_scope.cancel()


async def test_a_disk_that_fails_ends_the_driver(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def fail(record: Persist) -> None:
        raise OSError("no space")

    driver = a_driver(Script(answer=lambda event, now: (Persist("r", b""),)), persist=fail)
    driver.post("go")
    with pytest.RaisesGroup(OSError):
        await driver.run()


async def test_a_machine_that_raises_ends_the_driver(
    autojump_clock: trio.testing.MockClock,
) -> None:
    def fail(event: Any, now: float) -> tuple[Effect, ...]:
        raise ZeroDivisionError

    driver = a_driver(Script(answer=fail))
    driver.post("go")
    with pytest.RaisesGroup(ZeroDivisionError):
        await driver.run()


async def test_nobody_gets_at_a_machine_that_has_raised(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Not in the turns that pass until the driver's task ends, and though the caller of `complete`
    took no notice, either."""

    def fail(event: Any, now: float) -> tuple[Effect, ...]:
        raise ZeroDivisionError

    script = Script(answer=fail)
    driver = a_driver(script)
    with pytest.RaisesGroup(ZeroDivisionError, flatten_subgroups=True):
        async with trio.open_nursery() as nursery:
            await nursery.start(driver.run)
            with pytest.raises(ZeroDivisionError):
                driver.complete("first")
            driver.post("second")
            assert not driver.complete("third")
            await trio.sleep(1.0)
    assert driver.is_closed
    assert script.events == ["first"]


async def test_a_closed_driver_rests_although_a_deadline_is_due(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    """A loop that went round and round would keep virtual time from passing."""
    script = Script(deadline=trio.current_time() + 1.0)
    driver = a_driver(script)
    await nursery.start(driver.run)
    driver.close()
    driver.post("nobody hears it")
    with trio.fail_after(5.0):
        await trio.sleep(3.0)
    assert script.events == []


async def test_a_driver_that_has_ended_handles_nothing_more(
    autojump_clock: trio.testing.MockClock,
) -> None:
    script = Script()
    driver = a_driver(script)
    async with trio.open_nursery() as nursery:
        await nursery.start(driver.run)
        assert driver.complete("before")
        nursery.cancel_scope.cancel()
    assert not driver.complete("after")
    assert script.events == ["before"]


async def test_a_full_inbox_refuses_the_newest_where_senders_repeat(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    machine = Script()
    driver = a_driver(machine, inbox_max=2, overflow=Overflow.DROP_NEWEST)
    assert [driver.post(number) for number in range(4)] == [True, True, False, False]
    assert driver.statistics().events_dropped == 2
    assert driver.statistics().inbox_length == 2
    await nursery.start(driver.run)
    await trio.testing.wait_all_tasks_blocked()
    assert machine.events == [0, 1]


async def test_a_full_inbox_forgets_the_oldest_where_the_newest_counts(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    machine = Script()
    driver = a_driver(machine, inbox_max=2, overflow=Overflow.DROP_OLDEST)
    assert [driver.post(number) for number in range(4)] == [True, True, False, False]
    assert driver.statistics().events_dropped == 2
    await nursery.start(driver.run)
    await trio.testing.wait_all_tasks_blocked()
    assert machine.events == [2, 3]


async def test_the_end_of_something_is_handled_ahead_of_the_inbox(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    done: list[Effect] = []
    machine = Script(answer=lambda event, now: (Say(event),))
    driver = a_driver(machine, inbox_max=1, perform=done.append)
    await nursery.start(driver.run)
    driver.post("queued")
    driver.complete("synced")
    assert done == [Say("synced")]
    await trio.testing.wait_all_tasks_blocked()
    assert machine.events == ["synced", "queued"]


async def test_lag_is_measured_and_told_to_a_machine_that_wants_to_know(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    clock = LateClock()
    machine = Script(deadline=clock.now() + 1.0)
    driver = a_driver(machine, clock=clock, lag_event=lambda lag_s: ("late", lag_s))
    await nursery.start(driver.run)
    clock.offset = 1.0 + 5 * LAG_REPORT_S
    driver.post("wake")
    await trio.testing.wait_all_tasks_blocked()
    assert machine.events == ["wake", ("late", pytest.approx(0.5)), DeadlineReached()]
    statistics = driver.statistics()
    assert statistics.lag_last_s == pytest.approx(0.5)
    assert statistics.lag_max_s == pytest.approx(0.5)


async def test_a_punctual_deadline_is_no_lag(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    machine = Script(deadline=trio.current_time() + 1.0)
    driver = a_driver(machine, lag_event=lambda lag_s: ("late", lag_s))
    await nursery.start(driver.run)
    await trio.sleep(2.0)
    assert machine.events == [DeadlineReached()]
    assert driver.statistics().lag_max_s < LAG_REPORT_S


async def test_everything_that_goes_in_is_recorded_before_it_is_handled(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    start = trio.current_time()
    machine = Script(deadline=start + 1.0)
    recorded: list[tuple[str, Any, float, int]] = []

    class Recorder:
        def record(self, name: str, event: Any, now: float) -> None:
            recorded.append((name, event, now, len(machine.events)))

    driver = a_driver(machine, recorder=Recorder())
    driver.post("hello")
    await nursery.start(driver.run)
    await trio.sleep(2.0)
    assert recorded == [("m", "hello", start, 0), ("m", DeadlineReached(), start + 1.0, 1)]


async def test_a_paused_driver_keeps_input_and_deadlines_for_later(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    machine = Script(deadline=trio.current_time() + 1.0)
    channel = Channel()
    driver = a_driver(machine, inbox_max=2, sources=[channel])
    await nursery.start(driver.run)
    driver.pause()
    driver.post("posted")
    await channel.send.send("read")
    await trio.sleep(5.0)
    assert machine.events == []
    assert driver.post("too much") is False
    driver.resume()
    await trio.testing.wait_all_tasks_blocked()
    assert machine.events == ["posted", "read", DeadlineReached()]


async def test_a_paused_driver_still_writes_what_waits_for_the_disk(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    disk, done = Disk(), []
    machine = Script(answer=lambda event, now: (Persist("r", b"x"), Say(event)))
    driver = a_driver(machine, persist=disk, perform=done.append)
    await nursery.start(driver.run)
    driver.post("go")
    await trio.testing.wait_all_tasks_blocked()
    driver.pause()
    with trio.move_on_after(1.0) as scope:
        await driver.wait_flushed()
    assert scope.cancelled_caught
    disk.allowed.set()
    await driver.wait_flushed()
    assert done == [Say("go")]


async def test_waiting_for_the_disk_ends_with_the_driver(
    autojump_clock: trio.testing.MockClock,
) -> None:
    driver = a_driver(Script(answer=lambda event, now: (Persist("r", b""),)), persist=Disk())
    async with trio.open_nursery() as outer, trio.open_nursery() as nursery:
        await nursery.start(driver.run)
        driver.post("go")
        await trio.testing.wait_all_tasks_blocked()
        outer.start_soon(driver.wait_flushed)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()


async def test_what_is_completed_wakes_the_driver_for_an_earlier_deadline_only(
    autojump_clock: object, nursery: trio.Nursery
) -> None:
    """To be woken costs more than most events do, and under load there are thousands a second."""
    machine = Planned()
    driver = Driver(machine, name="planned", clock=TrioClock(), perform=lambda effect: None)
    await nursery.start(driver.run)
    started = trio.current_time()
    driver.complete(started + 2.0)
    await trio.sleep(0.5)
    looked = machine.looks
    driver.complete(started + 3.0)
    await trio.sleep(0.5)
    assert machine.looks == looked + 1, "only `complete` itself looked"
    driver.complete(started + 1.5)
    await trio.sleep(3.0)
    assert machine.fired == [pytest.approx(started + 1.5)]


class Planned:
    """Its events are deadlines."""

    def __init__(self) -> None:
        self._deadline: float | None = None
        self.looks = 0
        self.fired: list[float] = []

    @property
    def deadline(self) -> float | None:
        self.looks += 1
        return self._deadline

    @deadline.setter
    def deadline(self, instant: float | None) -> None:
        self._deadline = instant

    def handle(self, event: Any, *, now: float) -> tuple[Effect, ...]:
        if isinstance(event, DeadlineReached):
            self.fired.append(now)
            self._deadline = None
        else:
            self._deadline = event
        return ()
