"""The bus: who gets what, in which order, and what a stalled subscriber costs."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from muster.driver import Overflow
from muster.runtime.bus import SUBSCRIPTIONS_MAX, Bus
from muster_protocol.errors import Refused, UsageError
from muster_protocol.signals.signal import Signal
from muster_protocol.types import Scope


def a_signal(number: int = 0, signal_type: str = "a.counted", **fields: object) -> Signal:
    return Signal(id=str(number), source="n/x", type=signal_type, time=0.0, **fields)  # type: ignore[arg-type]


async def test_a_subscriber_gets_what_matches_in_the_order_of_publication() -> None:
    bus = Bus()
    subscription = bus.subscribe(("a.*",), name="s")
    for number in range(3):
        assert bus.publish(a_signal(number)) == 1
    assert bus.publish(a_signal(9, "b.counted")) == 0
    assert [(await subscription.next()).id for _ in range(3)] == ["0", "1", "2"]
    assert subscription.next_nowait() is None


async def test_publish_says_how_many_it_reached() -> None:
    bus = Bus()
    bus.subscribe(("a.**",), name="1")
    bus.subscribe(("**",), name="2")
    bus.subscribe(("b.**",), name="3")
    assert bus.publish(a_signal()) == 2


async def test_a_signal_that_matches_twice_is_delivered_once() -> None:
    bus = Bus()
    subscription = bus.subscribe(("a.*", "**", "a.*"), name="s")
    assert bus.publish(a_signal()) == 1
    assert subscription.statistics().queue_length == 1


async def test_a_full_queue_loses_its_oldest_by_default() -> None:
    bus = Bus()
    subscription = bus.subscribe(("**",), name="s", queue_max=2)
    assert [bus.publish(a_signal(number)) for number in range(4)] == [1, 1, 1, 1]
    statistics = subscription.statistics()
    assert (statistics.delivered, statistics.dropped, statistics.queue_length) == (4, 2, 2)
    assert [(await subscription.next()).id for _ in range(2)] == ["2", "3"]


async def test_a_full_queue_can_refuse_the_newest_instead() -> None:
    bus = Bus()
    subscription = bus.subscribe(("**",), name="s", queue_max=2, overflow=Overflow.DROP_NEWEST)
    assert [bus.publish(a_signal(number)) for number in range(4)] == [1, 1, 0, 0]
    statistics = subscription.statistics()
    assert (statistics.delivered, statistics.dropped) == (2, 2)
    assert [(await subscription.next()).id for _ in range(2)] == ["0", "1"]


async def test_a_subscriber_that_stalls_costs_nobody_else_anything() -> None:
    bus = Bus()
    stalled = bus.subscribe(("**",), name="stalled", queue_max=1)
    lively = bus.subscribe(("**",), name="lively", queue_max=1)
    for number in range(100):
        bus.publish(a_signal(number))
        assert (await lively.next()).id == str(number)
    assert stalled.statistics().dropped == 99
    assert lively.statistics().dropped == 0


async def test_a_waiting_reader_is_woken(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    bus = Bus()
    subscription = bus.subscribe(("**",), name="s")
    got: list[str] = []

    async def read() -> None:
        async for signal in subscription:
            got.append(signal.id)
        got.append("end")

    nursery.start_soon(read)
    await trio.sleep(1.0)
    bus.publish(a_signal(1))
    bus.publish(a_signal(2))
    await trio.sleep(1.0)
    subscription.close()
    bus.publish(a_signal(3))
    await trio.sleep(1.0)
    assert got == ["1", "2", "end"]


async def test_what_was_queued_can_be_read_after_closing() -> None:
    bus = Bus()
    subscription = bus.subscribe(("**",), name="s")
    bus.publish(a_signal(1))
    subscription.close()
    subscription.close()
    assert (await subscription.next()).id == "1"
    with pytest.raises(trio.ClosedResourceError):
        await subscription.next()
    assert bus.statistics().subscriptions == ()


async def test_a_cancelled_reader_loses_nothing(autojump_clock: MockClock) -> None:
    bus = Bus()
    subscription = bus.subscribe(("**",), name="s")
    with trio.move_on_after(1.0) as scope:
        await subscription.next()
    assert scope.cancelled_caught
    bus.publish(a_signal(1))
    with trio.CancelScope() as scope:
        scope.cancel()
        await subscription.next()
    assert (await subscription.next()).id == "1"


def test_signals_of_cluster_scope_go_to_the_relay_too() -> None:
    relayed: list[str] = []
    bus = Bus(relay=lambda signal: relayed.append(signal.id))
    bus.publish(a_signal(1))
    bus.publish(a_signal(2, scope=Scope.CLUSTER))
    assert relayed == ["2"]
    assert bus.statistics().relayed == 1


def test_what_the_relay_brings_stays_on_this_node() -> None:
    relayed: list[Signal] = []
    bus = Bus()
    bus.connect_relay(relayed.append)
    got: list[Signal] = []
    bus.attach(("**",), name="s", sink=lambda signal: not got.append(signal))
    assert bus.deliver(a_signal(1, scope=Scope.CLUSTER)) == 1
    assert (len(got), relayed) == (1, [])


def test_a_signal_that_reaches_nobody_is_a_dead_letter() -> None:
    bus = Bus(relay=lambda signal: None)
    bus.publish(a_signal(1))
    bus.publish(a_signal(2, scope=Scope.CLUSTER))
    bus.deliver(a_signal(3, scope=Scope.CLUSTER))
    bus.attach(("**",), name="full", sink=lambda signal: False)
    bus.publish(a_signal(4))
    statistics = bus.statistics()
    assert statistics.dead_letters == 3
    assert (statistics.published, statistics.received) == (3, 1)
    assert statistics.subscriptions[0].dropped == 1


def test_a_bad_pattern_subscribes_to_nothing() -> None:
    bus = Bus()
    with pytest.raises(UsageError):
        bus.subscribe(("a.*", "b..c"), name="s")
    assert bus.publish(a_signal()) == 0
    assert bus.statistics().subscriptions == ()


async def test_readers_of_signals_are_not_taken_without_end() -> None:
    bus = Bus()
    bus.attach(("**",), name="an agent", sink=lambda _: True)
    held = [bus.subscribe(("**",), name="tail") for _ in range(SUBSCRIPTIONS_MAX)]
    with pytest.raises(Refused, match="subscribers"):
        bus.subscribe(("**",), name="tail")
    held[0].close()
    bus.subscribe(("**",), name="tail")
