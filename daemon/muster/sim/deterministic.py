"""A trio run that is the same whenever its seed is.

Trio shuffles the tasks of each scheduler turn, so that nobody comes to depend on their order. The
order is drawn from a generator of trio's own, out of an unordered set unless a private switch is
set. Both are trio's own means for such runs (its Hypothesis plugin uses them). This function alone
touches them; `tests/unit/daemon/sim/test_deterministic.py` notices if a new trio takes them away.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio
import trio.testing
from trio._core import _run

from muster.entropy import SeededEntropy

T = TypeVar("T")


def run_seeded(work: Callable[[], Awaitable[T]], *, seed: str) -> T:
    """Run `work` on virtual time, which jumps to the next deadline whenever nobody can go on.

    Virtual time begins at 0.0. One such run at a time in a process; what `work` raises comes out.
    """
    scheduler = vars(_run)
    private = {
        "_ALLOW_DETERMINISTIC_SCHEDULING": True,
        "_r": SeededEntropy(seed).stream("scheduler"),
    }
    before = {name: scheduler[name] for name in private}
    scheduler.update(private)
    try:
        return trio.run(work, clock=trio.testing.MockClock(autojump_threshold=0))
    finally:
        scheduler.update(before)
