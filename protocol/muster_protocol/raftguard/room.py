"""What a follower takes into memory before it is on the disk, and how much of that there may be.

Past `UNSYNCED_BYTES_MAX` without a sync, or with `LOG_ENTRIES_MAX` in the log, no more is taken: a
disk that hangs, or a snapshot that cannot be written, would else fill the memory with what the
leader commits without us.
"""

from __future__ import annotations

import collections
from collections.abc import Sequence
from typing import Final

from muster_protocol.limits import LOG_ENTRIES_MAX, UNSYNCED_BYTES_MAX
from muster_protocol.raftguard.events import LogView
from muster_protocol.wire.raft import Entry

ENTRY_BYTES: Final = 64
"""What an entry counts for beside its command, in memory and in the journal's buffer."""


class Room:
    """One follower's."""

    def __init__(self, log: LogView) -> None:
        self._log = log
        self._unsynced: collections.deque[tuple[int, int]] = collections.deque()
        """LSN before, and bytes, of each append that is not known to be on the disk."""
        self.unsynced_bytes = 0
        self._refused = (0, 0)
        """Entries and bytes of the last append that found no room."""

    def take_up(self, entries: Sequence[Entry]) -> bool:
        """Count what an append brings as not on the disk. False if there is no room for it."""
        size = sum(len(entry.command) + ENTRY_BYTES for entry in entries)
        if not self._has_room(len(entries), size):
            self._refused = (len(entries), size)
            return False
        self._refused = (0, 0)
        self._unsynced.append((self._log.lsn, size))
        self.unsynced_bytes += size
        return True

    def is_still_full(self) -> bool:
        """Would what found no room last find none now?"""
        return not self._has_room(*self._refused)

    def forget_synced(self) -> None:
        """What is on the disk takes no room. An append that brought nothing new made no record, so
        it is known to be there only with all others."""
        log = self._log
        while self._unsynced and (
            self._unsynced[0][0] < log.durable_lsn or log.durable_lsn == log.lsn
        ):
            self.unsynced_bytes -= self._unsynced.popleft()[1]

    def _has_room(self, entries: int, size: int) -> bool:
        self.forget_synced()
        held = self._log.last_index - self._log.first_index + 1
        return not entries or (
            held + entries <= LOG_ENTRIES_MAX and self.unsynced_bytes + size <= UNSYNCED_BYTES_MAX
        )
