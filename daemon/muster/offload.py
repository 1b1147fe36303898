"""The seam for work off the loop: an fsync, a hash, an encoding that would stall the others.

In the simulator such a call is an event with a simulated duration; a real thread there would let
virtual time race ahead of it (a 2 ms fsync took up to 383 virtual seconds).
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable
from typing import Any, Final, Protocol, TypeVar, cast

import trio

from muster.locks import take

T = TypeVar("T")


class Offload(Protocol):
    """Runs blocking functions without blocking the loop."""

    async def run(self, work: Callable[[], T], *, kind: str) -> T:
        """`work()`'s result or exception. `kind` names the work ("fsync", "hash") for its
        statistics and, in the simulator, for its duration.

        Cancellation: the call is not abandoned; it returns when the work has ended, so that a
        file is never touched by a thread that nobody waits for.
        """


SYNC: Final = "fsync"
"""The kind that every put waits for."""


class ThreadOffload:
    """The real one: trio's worker threads, bounded, and one of our own for what syncs."""

    THREADS_MAX = 4
    """One for a snapshot, one for the recorder, two spare: fsyncs queue in the kernel anyway."""

    def __init__(self) -> None:
        self._limiter = trio.CapacityLimiter(self.THREADS_MAX)
        self._syncs = _Worker("muster-sync")

    async def run(self, work: Callable[[], T], *, kind: str) -> T:
        if kind == SYNC:
            return await self._syncs.run(work)
        return await trio.to_thread.run_sync(work, limiter=self._limiter)


class _Worker:
    """A thread that does one thing after the other, and waits for the next meanwhile. One of trio's
    is named anew for each, takes the interpreter from the loop more often, and is heard two turns
    of the loop later."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = trio.Lock()
        self._works: queue.SimpleQueue[Callable[[], Any]] = queue.SimpleQueue()
        self._done_fd = -1
        self._result: Any = None
        self._error: BaseException | None = None

    async def run(self, work: Callable[[], T]) -> T:
        """As `Offload.run`."""
        await take(self._lock)
        try:
            if self._done_fd < 0:
                self._start()
            self._works.put(work)
            with trio.CancelScope(shield=True):
                await trio.lowlevel.wait_readable(self._done_fd)
            os.eventfd_read(self._done_fd)
            result, error = self._result, self._error
            self._result = self._error = None
        finally:
            self._lock.release()
        if error is not None:
            raise error
        return cast("T", result)

    def _start(self) -> None:
        self._done_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        # A daemon: once nobody waits for it any more, it does not keep the process.
        threading.Thread(target=self._serve, name=self._name, daemon=True).start()

    def _serve(self) -> None:
        while True:
            work = self._works.get()
            try:
                self._result = work()
            except BaseException as error:  # noqa: BLE001 (it is raised where the work was asked for)
                self._error = error
            del work
            os.eventfd_write(self._done_fd, 1)
