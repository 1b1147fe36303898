"""Work off the loop, as an event with a duration.

The work itself runs inline, at the end of the simulated time: an fsync that the power failure
interrupted has not happened. A real thread would let virtual time race ahead of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, TypeVar

import trio

if TYPE_CHECKING:
    from muster.clock import Clock

T = TypeVar("T")

DURATION_S: Final = 0.001
"""Of work whose kind has no duration of its own: an fsync on a good SSD takes about as long."""


class SimOffload:
    """An `Offload` whose durations are set per kind of work, and can be changed during a run."""

    def __init__(
        self, clock: Clock, *, durations_s: Mapping[str, float] = MappingProxyType({})
    ) -> None:
        self.durations_s = dict(durations_s)
        self._clock = clock
        self._is_off = False

    async def run(self, work: Callable[[], T], *, kind: str) -> T:
        await trio.lowlevel.checkpoint_if_cancelled()
        with trio.CancelScope(shield=True):  # the call is not abandoned, as with a thread
            await self._clock.sleep(self.durations_s.get(kind, DURATION_S))
        if self._is_off:
            await trio.Event().wait()  # a dead process: whoever waits is being cancelled
        return work()

    def power_off(self) -> None:
        """The process is gone: work that was begun never ends."""
        self._is_off = True
