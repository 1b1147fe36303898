"""The machine between an agent and its driver: timers and causes, without any runtime."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from muster.runtime import mailbox as mailbox_module
from muster.runtime.agent import Agent
from muster.runtime.directives import Cause, Caused, Schedule
from muster.runtime.mailbox import Mailbox, TooManyTimers
from muster_protocol.effects import DeadlineReached, Effect, Emit, Persist
from muster_protocol.signals.signal import Signal


class Scripted(Agent):
    """Answers each event by a function, and has a deadline that a test can set."""

    def __init__(self, answer: Callable[[Any], tuple[Effect, ...]] = lambda event: ()) -> None:
        super().__init__()
        self.answer = answer
        self.due: float | None = None
        self.seen: list[Any] = []

    @property
    def deadline(self) -> float | None:
        return self.due

    def handle(self, event: Any, *, now: float) -> tuple[Effect, ...]:
        self.seen.append(event)
        return self.answer(event)


def a_signal(signal_id: str) -> Signal:
    return Signal(id=signal_id, source="n/x", type="a.b", time=0.0, trace="t" + signal_id)


def echo(event: Any) -> tuple[Effect, ...]:
    """Ask for the text in an event later; emit for everything else."""
    if isinstance(event, Signal):
        return (Schedule("later " + event.id, 5.0),)
    return (Emit("x.done", {"event": str(event)}),)


def test_a_scheduled_event_comes_when_it_is_due() -> None:
    agent = Scripted(lambda event: (Schedule("later", 5.0),) if event == "now" else ())
    mailbox = Mailbox(agent)
    assert mailbox.handle("now", now=10.0) == ()
    assert mailbox.deadline == 15.0
    assert mailbox.timers == 1
    mailbox.handle(DeadlineReached(), now=14.9)
    assert agent.seen == ["now"]
    mailbox.handle(DeadlineReached(), now=15.0)
    assert agent.seen == ["now", "later"]
    assert mailbox.deadline is None


def test_events_that_are_due_together_come_in_the_order_of_their_instants() -> None:
    delays = {"a": 3.0, "b": 1.0, "c": 1.0, "d": 9.0}
    agent = Scripted(lambda event: (Schedule(event.upper(), delays.get(event, 0.0)),))
    mailbox = Mailbox(agent)
    for event in delays:
        mailbox.handle(event, now=0.0)
    agent.answer = lambda event: ()
    mailbox.handle(DeadlineReached(), now=5.0)
    assert agent.seen[4:] == ["B", "C", "A"]


def test_an_event_that_is_scheduled_for_now_comes_in_the_next_turn() -> None:
    """Else two agents' worth of bugs would spin inside one `handle`."""
    agent = Scripted(lambda event: (Schedule("again", 0.0),))
    mailbox = Mailbox(agent)
    mailbox.handle("go", now=1.0)
    mailbox.handle(DeadlineReached(), now=1.0)
    assert agent.seen == ["go", "again"]
    assert mailbox.deadline == 1.0


def test_a_delay_is_never_negative() -> None:
    mailbox = Mailbox(Scripted(lambda event: (Schedule("again", -5.0),)))
    mailbox.handle("go", now=1.0)
    assert mailbox.deadline == 1.0


def test_the_agents_own_deadline_is_told_to_it_and_only_when_it_is_due() -> None:
    agent = Scripted(lambda event: (Schedule("later", 1.0),) if event == "now" else ())
    agent.due = 2.0
    mailbox = Mailbox(agent)
    mailbox.handle("now", now=0.0)
    assert mailbox.deadline == 1.0
    mailbox.handle(DeadlineReached(), now=1.0)
    assert agent.seen == ["now", "later"]
    assert mailbox.deadline == 2.0
    mailbox.handle(DeadlineReached(), now=2.0)
    assert agent.seen == ["now", "later", DeadlineReached()]


def test_effects_carry_what_led_to_them() -> None:
    mailbox = Mailbox(Scripted(lambda event: (Emit("x.done", {}),)))
    assert mailbox.handle(a_signal("1"), now=0.0) == (Caused(Emit("x.done", {}), Cause("1", "t1")),)
    assert mailbox.handle("event", now=0.0) == (Caused(Emit("x.done", {}), None),)


def test_timers_that_fire_together_keep_their_different_causes() -> None:
    mailbox = Mailbox(Scripted(echo))
    mailbox.handle(a_signal("1"), now=0.0)
    mailbox.handle(a_signal("2"), now=0.0)
    effects = mailbox.handle(DeadlineReached(), now=5.0)
    assert [effect.cause for effect in effects if isinstance(effect, Caused)] == [
        Cause("1", "t1"),
        Cause("2", "t2"),
    ]


def test_a_persist_stays_visible_to_the_driver() -> None:
    mailbox = Mailbox(Scripted(lambda event: (Persist("r", b""), Schedule("x", 1.0))))
    assert mailbox.handle(a_signal("1"), now=0.0) == (Persist("r", b""),)


def test_timers_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mailbox_module, "TIMERS_MAX", 3)
    mailbox = Mailbox(Scripted(lambda event: (Schedule("x", 1.0),)))
    for _ in range(3):
        mailbox.handle("go", now=0.0)
    with pytest.raises(TooManyTimers):
        mailbox.handle("go", now=0.0)
