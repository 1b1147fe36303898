"""The seam for work off the loop: an fsync, a hash, an encoding that would stall the others.

In the simulator such a call is an event with a simulated duration; a real thread there would let
virtual time race ahead of it (a 2 ms fsync took up to 383 virtual seconds).
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeVar, cast

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


@dataclass(slots=True)
class _Job:
    work: Callable[[], Any]
    token: trio.lowlevel.TrioToken
    task: trio.lowlevel.Task
    result: Any = None
    error: BaseException | None = None

    def do(self) -> None:
        """In the thread: work, and wake who waits."""
        try:
            self.result = self.work()
        except BaseException as error:  # noqa: BLE001 (it is raised where the work was asked for)
            self.error = error
        self.token.run_sync_soon(trio.lowlevel.reschedule, self.task)


class _Worker:
    """A thread that does one thing after the other, and waits for the next meanwhile. One of trio's
    is named anew for each, and takes the interpreter from the loop twice as often."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._jobs: queue.SimpleQueue[_Job] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    async def run(self, work: Callable[[], T]) -> T:
        """As `Offload.run`."""
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._thread is None:
            # A daemon: a disk that hangs must not keep the process from its end.
            self._thread = threading.Thread(target=self._serve, name=self._name, daemon=True)
            self._thread.start()
        job = _Job(work, trio.lowlevel.current_trio_token(), trio.lowlevel.current_task())
        self._jobs.put(job)
        await trio.lowlevel.wait_task_rescheduled(lambda _: trio.lowlevel.Abort.FAILED)
        if job.error is not None:
            raise job.error
        return cast("T", job.result)

    def _serve(self) -> None:
        while True:
            self._jobs.get().do()
