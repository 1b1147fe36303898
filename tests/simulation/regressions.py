"""Seeds that found something, and what. Each ran into it before its cause was mended.

A seed is only as good as the code that drew it: when draws change, it is a seed like any other. So
each bug has a test of its own as well, which is named here.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Regression:
    """A drawn plan (see `muster.sim.swarm`) that once failed."""

    seed: str
    why: str
    test: str


REGRESSIONS = (
    Regression(
        seed="51",
        why="a link's watch slept until an instant that rounding put before now, and never ended",
        test="tests/unit/daemon/consistency/test_links.py",
    ),
    Regression(
        seed="301",
        why="the simulator did not wait for a node that was stopping when the faults ended",
        test="tests/unit/daemon/sim/test_faults.py",
    ),
)
