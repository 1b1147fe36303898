"""The machine that stands between an agent and its driver: timers and causes.

`Schedule` never leaves it: a scheduled event is one more deadline of this machine, so timers are
as deterministic, as replayable and as much subject to "input before timers" as any other deadline,
and an agent that is paused finds them late, not lost. The other effects go on to the executor with
what led to them, because several timers that fire at once have different causes.
"""

from __future__ import annotations

import heapq
import itertools
from dataclasses import dataclass, field
from typing import Any, Final

from muster.runtime.agent import Agent
from muster.runtime.directives import Cause, Schedule, cause_of, with_cause
from muster_protocol.effects import DeadlineReached, Effect, earliest
from muster_protocol.errors import LocalError

TIMERS_MAX: Final = 4_096
"""Scheduled events of one agent; as many as effects may wait for the disk. More is a leak."""


class TooManyTimers(LocalError):
    """An agent schedules more than ever comes due: a bug in it."""


@dataclass(frozen=True, slots=True, order=True)
class _Timer:
    due: float
    number: int
    event: Any = field(compare=False)
    cause: Cause | None = field(compare=False)


class Mailbox:
    """The machine; see the module."""

    def __init__(self, agent: Agent) -> None:
        self.agent = agent
        self._timers: list[_Timer] = []
        self._numbers = itertools.count()

    @property
    def timers(self) -> int:
        """How many events are scheduled."""
        return len(self._timers)

    @property
    def deadline(self) -> float | None:
        due = self._timers[0].due if self._timers else None
        return earliest(due, self.agent.deadline)

    def handle(self, event: Any, *, now: float) -> tuple[Effect, ...]:
        """One event. Errors: the agent's own, and TooManyTimers."""
        if not isinstance(event, DeadlineReached):
            return self._pass_on(event, cause_of(event), now)
        due: list[_Timer] = []
        while self._timers and self._timers[0].due <= now:
            due.append(heapq.heappop(self._timers))
        effects: tuple[Effect, ...] = ()
        for timer in due:
            # A scheduled signal was caused by itself, anything else by what scheduled it.
            effects += self._pass_on(timer.event, cause_of(timer.event) or timer.cause, now)
        deadline = self.agent.deadline
        if deadline is not None and deadline <= now:
            effects += self._pass_on(event, None, now)
        return effects

    def _pass_on(self, event: Any, cause: Cause | None, now: float) -> tuple[Effect, ...]:
        effects = self.agent.handle(event, now=now)
        if not any(isinstance(effect, Schedule) for effect in effects):
            return with_cause(effects, cause)
        for effect in effects:
            if isinstance(effect, Schedule):
                self._add(effect, cause, now)
        return with_cause(tuple(e for e in effects if not isinstance(e, Schedule)), cause)

    def _add(self, effect: Schedule, cause: Cause | None, now: float) -> None:
        if len(self._timers) >= TIMERS_MAX:
            raise TooManyTimers(f"agent {self.agent.name}: {TIMERS_MAX} events are scheduled")
        due = now + max(0.0, effect.delay_s)
        heapq.heappush(self._timers, _Timer(due, next(self._numbers), effect.event, cause))
