"""A wall clock of its own for a process, which can be stepped while the process runs.

Debian's libfaketime stands below it, and reads the step from a file at every look at the clock,
which takes 4 us. Only CLOCK_REALTIME is stepped; CLOCK_MONOTONIC, waits and the times of files are
those of the machine. What its defaults would cost is why each variable stands there:

* `FAKETIME_FORCE_MONOTONIC_FIX=0`: else it polls where a thread waits for a condition with a
  deadline on the monotonic clock, and so passes Python's interpreter lock on. Under load the loops
  of five daemons were up to 5.7 s late by that, and 19 puts a second were left of 235. With 0
  neither CPU nor latency nor elections differ from those without the library.
* `FAKETIME_DONT_FAKE_MONOTONIC=1`: else deadlines jump with the step.
* the library for threads (MT): the other one has no lock around what it has read.

`time.sleep` raises EINVAL below it from Python 3.11 on (it corrects an absolute instant by the step
of another clock); the daemon waits in epoll.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

PACKAGE: Final = "libfaketime"
"""Debian's."""

STEP_S: Final = 40 * 86_400
_FOUND: Final = "*/faketime/libfaketimeMT.so.1"


def library() -> Path | None:
    """None where it is not installed."""
    return next(iter(sorted(Path("/usr/lib").glob(_FOUND))), None)


class WallClock:
    """Of every process that is started with `prefix`."""

    def __init__(self, file: Path) -> None:
        """`file` says how far it is from the machine's; made here."""
        self._file = file
        self.set(0)

    def prefix(self) -> tuple[str, ...]:
        """A command that runs another one by this clock; its process id stays."""
        found = library()
        assert found is not None, f"{PACKAGE} is not installed"
        variables = {
            "LD_PRELOAD": found,
            "FAKETIME_TIMESTAMP_FILE": self._file,
            "FAKETIME_NO_CACHE": 1,
            "FAKETIME_DONT_FAKE_MONOTONIC": 1,
            "FAKETIME_FORCE_MONOTONIC_FIX": 0,
            "NO_FAKE_STAT": 1,
        }
        return ("env", *(f"{name}={value}" for name, value in variables.items()))

    def set(self, ahead_s: int) -> None:
        """So many seconds ahead of the machine's, or behind it. In force when this returns."""
        new = self._file.with_suffix(".new")
        new.write_text(f"{ahead_s:+d}\n", encoding="ascii")
        os.replace(new, self._file)


def is_stepped(clock: WallClock) -> bool:
    """Does it do what it should here? Asked of a process that begins and ends with the question."""
    look = "import time; print(round(time.time()), time.monotonic())"
    clock.set(STEP_S)
    before = round(time.time()), time.monotonic()
    done = subprocess.run(
        [*clock.prefix(), sys.executable, "-c", look], capture_output=True, text=True, check=True
    )
    after = round(time.time()), time.monotonic()
    clock.set(0)
    wall, monotonic = map(float, done.stdout.split())
    return before[0] <= wall - STEP_S <= after[0] and before[1] <= monotonic <= after[1]


def clean_up(pid: int) -> None:
    """What the library leaves in memory of a process that was killed."""
    for name in (f"faketime_shm_{pid}", f"sem.faketime_sem_{pid}"):
        Path("/dev/shm", name).unlink(missing_ok=True)
