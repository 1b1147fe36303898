"""How the daemon's process sets up its interpreter, so that the loop never waits for it for long.

* **What is imported is never looked at by the collector again** (`gc.freeze`). A collection of the
  oldest generation walks all that lives, on whichever thread happens to allocate, with the
  interpreter held: some 40 ms for the modules alone, which live as long as the process. With the
  collector off instead, the cycles that trio's cancelled tasks leave would pile up. Stored entries
  hold no references that could make a cycle, and cost a collection next to nothing.
* **The youngest are looked at less often**, by the ten thousand: most of what a request makes is
  gone with it, and what a collection finds alive it has looked at in vain. Of a busy leader's time
  the collections that come every 700 objects took a thirtieth.
* **A thread that computes gives way after 1 ms instead of 5** (`sys.setswitchinterval`). The loop
  gives the interpreter up at each system call. While a snapshot is encoded or restored in a
  thread, it waits that long to get it back, some ten times a turn.
"""

from __future__ import annotations

import gc
import sys
from typing import Final

SWITCH_S: Final = 0.001

YOUNG_OBJECTS: Final = 10_000
"""That wait for a collection: some MiB, were all of them garbage; one then takes 1 ms."""


def set_up() -> None:
    """Once, when all is imported and before the loop begins."""
    gc.collect()  # or what is garbage now would be kept for ever
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, *gc.get_threshold()[1:])
    sys.setswitchinterval(SWITCH_S)
