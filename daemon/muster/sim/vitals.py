"""Vital signs by script: what a test says, or what a function of time says."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from muster.vitals import VitalsReading

if TYPE_CHECKING:
    from muster.clock import Clock

IDLE: Final = VitalsReading(
    cpu_fraction=0.02,
    memory_fraction=0.25,
    load_1m=0.1,
    process_memory_bytes=60 * 1024 * 1024,
    process_cpu_s=1.0,
    open_files=32,
)
"""A host with nothing to do."""


class SimVitals:
    """`Vitals` that say what `script` says of the present instant."""

    def __init__(
        self, clock: Clock, script: Callable[[float], VitalsReading] = lambda _now: IDLE
    ) -> None:
        self.script = script
        self._clock = clock

    def read(self) -> VitalsReading:
        return self.script(self._clock.now())
