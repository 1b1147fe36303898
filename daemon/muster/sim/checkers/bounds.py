"""Every queue, log and table stays under its limit.

What grows with input or with time and has no end is how a daemon that runs for a year dies. Each
part of the product says how much it keeps and how much it may (`Size`); the limits are its own. A
part whose limit is not kept is a bug even where nothing else is wrong yet.
"""

from __future__ import annotations

from collections.abc import Iterable

from muster.sim.checkers.violated import Violated
from muster_protocol.types import Size

CHECKER = "bounds"


def within_bounds(node: str, sizes: Iterable[Size]) -> None:
    """`sizes`: all that `node` keeps at one moment. Errors: Violated."""
    for what, size, limit in sizes:
        if size > limit:
            raise Violated(CHECKER, f"{node} keeps {size} of {what}, the limit is {limit}")
