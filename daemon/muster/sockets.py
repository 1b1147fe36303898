"""Many sockets read by one task, for the price of one.

A task that waits for its own socket is woken, runs, and tells the kernel again what it waits for:
more work than a small request is. Here the sockets are in an epoll set of their own, which is
itself waited for, and whoever has something to read is called in turn. What came in one turn of the
loop is known to be all: `turn_ended` is called then, so that it can be handled together.
"""

from __future__ import annotations

import select
from collections.abc import Callable
from typing import Final

import trio

READY_MAX: Final = 256
"""Sockets that are read in one turn: some milliseconds of small requests. The others come next."""


class SocketSet:
    """`run` it in a nursery; `add` before the socket is used, `remove` before it is closed."""

    def __init__(self, turn_ended: Callable[[], None]) -> None:
        self._turn_ended = turn_ended
        self._epoll = select.epoll()
        self._readers: dict[int, Callable[[], None]] = {}
        self._held: set[int] = set()
        self._has_ended = False

    def add(self, fd: int, is_readable: Callable[[], None]) -> None:
        """Call `is_readable()` in each turn in which there is something to read, or the end. Never,
        once `run` has ended: who comes last is about to be cancelled with all others."""
        if not self._has_ended:
            self._epoll.register(fd, select.EPOLLIN)
            self._readers[fd] = is_readable

    def hold(self, fd: int) -> None:
        """Do not read it, until `go_on`. It leaves the set, or its end would be told for ever."""
        if fd in self._readers:
            self._epoll.unregister(fd)
            self._held.add(fd)

    def go_on(self, fd: int) -> None:
        """Read it again."""
        if fd in self._held:
            self._held.remove(fd)
            self._epoll.register(fd, select.EPOLLIN)

    def remove(self, fd: int) -> None:
        """Forget it. Once: its number may be another's after it was closed."""
        if self._readers.pop(fd, None) is not None and fd not in self._held:
            self._epoll.unregister(fd)
        self._held.discard(fd)

    async def run(self) -> None:
        """Until cancelled; not again after that."""
        try:
            while True:
                await trio.lowlevel.wait_readable(self._epoll.fileno())
                for fd, _ in self._epoll.poll(0, READY_MAX):
                    reader = self._readers.get(fd)
                    if reader is not None:  # else one before it removed it
                        reader()
                self._turn_ended()
        finally:
            self._has_ended = True
            trio.lowlevel.notify_closing(self._epoll.fileno())
            self._epoll.close()
            self._readers.clear()
            self._held.clear()
