"""Sensors: what an agent notices by itself.

A sensor is an async task that turns what happens outside into events of its agent. It has the
shape of a `muster.driver.Source`, so the driver asks it for what is ready before it lets a timer
fire, and a failing sensor ends its agent like any other bug. A sensor that reads something which
may fail in ordinary life (a network scan) handles that itself, and says so in what it reads.

An agent declares sensors as *makers*, functions of its surroundings, so that a restarted agent
gets new ones and no two share state:

    sensors = (every(5.0, "NodeVitalsSensor", read_vitals),)

What a sensor returns is posted to the agent as it is: an event of the agent's own, a `Signal`, or
a `Sensed` reading, which the agent routes to an action by its table `readings`.
"""

from __future__ import annotations

import abc
import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from muster.runtime.directives import Sensed

if TYPE_CHECKING:
    from muster.clock import Clock
    from muster.entropy import Entropy


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the shell of an agent (its sensors and `serve`) gets from its host.

    `post` puts an event into the agent's own mailbox; False when it, or the oldest, was dropped.
    """

    node: str
    agent: str
    clock: Clock
    entropy: Entropy
    post: Callable[[Any], bool]


class Sensor(abc.ABC):
    """One source of events. `name` is what a reading and the statistics call it."""

    name: str

    @abc.abstractmethod
    async def next(self) -> Any:
        """Wait for what happens next.

        Cancellation: nothing that was not returned is lost.
        """

    def next_nowait(self) -> Any | None:
        """What has happened already and was not asked for yet, or None."""
        return None


SensorMaker = Callable[[Surroundings], Sensor]
"""How an agent declares a sensor: a class that takes its surroundings is one."""

Read = Callable[[], Any] | Callable[[], Awaitable[Any]]


class PeriodicSensor(Sensor):
    """Reads something at fixed instants, and reports it as `Sensed`.

    The instants are a whole number of periods apart, whatever the reading takes; those that passed
    meanwhile are skipped, never made up for. A reading of None is not reported.
    """

    def __init__(self, name: str, period_s: float, read: Read, surroundings: Surroundings) -> None:
        """`read` takes nothing and returns the reading, or an awaitable of it."""
        assert period_s > 0
        self.name = name
        self._period_s = period_s
        self._read = read
        self._clock = surroundings.clock
        # The first instant is left to chance: agents that start together should not read together.
        rng = surroundings.entropy.stream(f"{surroundings.agent}/{name}")
        self._due = self._clock.now() + period_s * rng.random()

    async def next(self) -> Any:
        """The next reading."""
        while True:
            await self._clock.sleep_until(self._due)
            reading = self._read()
            if inspect.isawaitable(reading):
                reading = await reading
            missed = max(0, int((self._clock.now() - self._due) / self._period_s))
            self._due += (missed + 1) * self._period_s
            if reading is not None:
                return Sensed(self.name, reading)


def every(period_s: float, name: str, read: Read) -> SensorMaker:
    """Declares a `PeriodicSensor`."""
    return lambda surroundings: PeriodicSensor(name, period_s, read, surroundings)
