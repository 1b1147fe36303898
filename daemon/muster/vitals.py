"""The seam to the host's vital signs: CPU, memory, load, and the process's own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import psutil


@dataclass(frozen=True, slots=True)
class VitalsReading:
    """One look at the host. Fractions are 0.0 to 1.0, sizes bytes."""

    cpu_fraction: float
    memory_fraction: float
    load_1m: float
    process_memory_bytes: int
    process_cpu_s: float
    open_files: int


class Vitals(Protocol):
    """Where vital signs come from."""

    def read(self) -> VitalsReading:
        """The present reading; CPU is the mean since the previous one."""


class HostVitals:
    """The real ones, by psutil."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        psutil.cpu_percent()

    def read(self) -> VitalsReading:
        with self._process.oneshot():
            cpu = self._process.cpu_times()
            return VitalsReading(
                cpu_fraction=psutil.cpu_percent() / 100.0,
                memory_fraction=psutil.virtual_memory().percent / 100.0,
                load_1m=psutil.getloadavg()[0],
                process_memory_bytes=self._process.memory_info().rss,
                process_cpu_s=cpu.user + cpu.system,
                open_files=self._process.num_fds(),
            )
