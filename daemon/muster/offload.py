"""The seam for work off the loop: an fsync, a hash, an encoding that would stall the others.

In the simulator such a call is an event with a simulated duration; a real thread there would let
virtual time race ahead of it (a 2 ms fsync took up to 383 virtual seconds).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar, cast

import trio

T = TypeVar("T")


class Offload(Protocol):
    """Runs blocking functions without blocking the loop."""

    async def run(self, work: Callable[[], T], *, kind: str) -> T:
        """`work()`'s result or exception. `kind` names the work ("fsync", "hash") for its
        statistics and, in the simulator, for its duration.

        Cancellation: the call is not abandoned; it returns when the work has ended, so that a
        file is never touched by a thread that nobody waits for.
        """


class ThreadOffload:
    """The real one: trio's worker threads, bounded."""

    THREADS_MAX = 4
    """One for the journal, one for a snapshot, two spare: fsyncs queue in the kernel anyway."""

    def __init__(self) -> None:
        # The library takes whatever acquires and releases like a limiter (says its manual).
        self._limiter = cast("trio.CapacityLimiter", _PromptLimiter(self.THREADS_MAX))

    async def run(self, work: Callable[[], T], *, kind: str) -> T:  # noqa: ARG002 (see Protocol)
        return await trio.to_thread.run_sync(work, limiter=self._limiter)


class _PromptLimiter:
    """A `trio.CapacityLimiter` that costs no turn of the loop while there is room: a put waits for
    the thread that syncs it."""

    def __init__(self, total: int) -> None:
        self._limiter = trio.CapacityLimiter(total)

    async def acquire_on_behalf_of(self, borrower: object) -> None:
        try:
            self._limiter.acquire_on_behalf_of_nowait(borrower)
        except trio.WouldBlock:
            await self._limiter.acquire_on_behalf_of(borrower)

    def release_on_behalf_of(self, borrower: object) -> None:
        self._limiter.release_on_behalf_of(borrower)
