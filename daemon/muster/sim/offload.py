"""Work off the loop, as an event with a duration.

The work itself runs inline, at the end of the simulated time: an fsync that the power failure
interrupted has not happened. A real thread would let virtual time race ahead of it.

Everything that a node takes off its loop works on the disk, so all of it waits while that hangs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeVar

import trio

if TYPE_CHECKING:
    from muster.clock import Clock
    from muster.sim.disk import SimDisk

T = TypeVar("T")

DURATION_S: Final = 0.001
"""Of work whose kind has no duration of its own: an fsync on a good SSD takes about as long."""


class SimOffload:
    """An `Offload` whose durations are set per kind of work, and can be changed during a run."""

    def __init__(
        self,
        clock: Clock,
        *,
        durations_s: dict[str, float] | None = None,
        disk: SimDisk | None = None,
    ) -> None:
        """`durations_s` is kept, not copied: a host's disk stays slow when its process changes.
        Kinds: "fsync", "read", "snapshot", "recorder"."""
        self.durations_s = {} if durations_s is None else durations_s
        self._clock = clock
        self._disk = disk
        self._is_off = False
        self._stuck: list[trio.Event] = []

    async def run(self, work: Callable[[], T], *, kind: str) -> T:
        await trio.lowlevel.checkpoint_if_cancelled()
        with trio.CancelScope(shield=True):  # the call is not abandoned, as with a thread
            await self._clock.sleep(self.durations_s.get(kind, DURATION_S))
            if self._disk is not None and self._disk.is_hung:
                await self._released(self._disk)
        if self._is_off:
            await trio.Event().wait()  # a dead process: whoever waits is being cancelled
        return work()

    def power_off(self) -> None:
        """The process is gone: work that was begun never ends."""
        self._is_off = True
        for released in list(self._stuck):
            released.set()

    async def _released(self, disk: SimDisk) -> None:
        """Wait until the disk goes on, or the process is gone."""
        while disk.is_hung and not self._is_off:
            released = trio.Event()
            self._stuck.append(released)
            disk.when_released(released.set)
            await released.wait()
            self._stuck.remove(released)
