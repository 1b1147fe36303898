"""The flight recorder: what went into each machine lately and what it decided, in a ring on disk.

Two files take turns: when the one in use is full, the other is emptied and used, so between one
and two times `FILE_BYTES_MAX` of the past is kept. Nothing is synced: it is evidence, not state.

The generation in a file's header grows with every turn and tells a new run which of the two is the
older one, so that a daemon which crashed and was started again does not begin by erasing what led
to the crash. A new file begins with the memory of every machine, so each file can be replayed by
itself. Where records were lost, because the disk hung or one was too large, the machine's memory
takes their place when there is room again. So it is with a disk that fails: that is said once, and
tried again in the other file, since behind a torn write nothing can be read. `flight.records` has
the format.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import trio

from muster.flight.records import (
    FILE_NAMES,
    Decided,
    encode_birth,
    encode_event,
    encode_header,
    encode_lost,
    file_generation,
)
from muster_protocol.effects import Notify
from muster_protocol.errors import StorageError
from muster_protocol.types import Severity

if TYPE_CHECKING:
    from muster.clock import Clock
    from muster.flight.births import Line
    from muster.offload import Offload
    from muster.storage.files import Files

FILE_BYTES_MAX: Final = 4 * 1024 * 1024
"""About 40,000 gossip events: the better part of an hour of a three-node cluster. When a file has
so much, it is the other one's turn; it may exceed it by what waited."""

BUFFER_BYTES_MAX: Final = 2 * 1024 * 1024
"""What may wait for the disk: two of the largest records. Past it, records are dropped and counted:
the recorder must never be why a node falls behind."""

FLUSH_BYTES: Final = BUFFER_BYTES_MAX // 4
"""So much is written before its time: a busy store's entries are larger than gossip."""

FLUSH_PERIOD_S: Final = 5.0

UNENCODABLE: Final = (TypeError, ValueError, OverflowError, RecursionError)


@dataclass(frozen=True, slots=True)
class _Taped:
    """A machine whose memory can be taken."""

    machine: Any
    birth: Any
    line: Line[Any]


class FlightRecorder:
    """`record` from drivers, `begin` and `record` from tapes, `run` in a nursery to write it."""

    def __init__(
        self,
        *,
        clock: Clock,
        files: Files,
        offload: Offload,
        notify: Callable[[Notify], None],
        build: str = "",
    ) -> None:
        self._clock = clock
        self._files = files
        self._offload = offload
        self._notify = notify
        self._build = build
        self._buffer = bytearray()
        self._waiting = 0
        self._is_failing = False
        self._filled = trio.Event()
        self._machines: dict[str, _Taped] = {}
        self._gaps: dict[str, str] = {}
        self._generation = 0
        self._in_use = 0
        self._written = 0
        self.records_dropped = 0

    @property
    def buffered_bytes(self) -> int:
        """What waits for the disk."""
        return len(self._buffer)

    def begin(self, name: str, machine: Any, birth: Any, line: Line[Any], now: float) -> None:
        """A machine begins, in place of an earlier one of that name."""
        self._machines[name] = _Taped(machine, birth, line)
        self._gaps.pop(name, None)
        try:
            self._append(name, encode_birth(name, now, birth, None))
        except UNENCODABLE as error:
            self._lose(name, f"its beginning: {error}", now)

    def record(self, machine: str, event: Any, now: float, decided: Decided = None) -> None:
        """Keep one event. Never blocks and never raises: what cannot be kept is counted."""
        if machine in self._gaps:
            self.records_dropped += 1
            self._bridge(machine, now)  # its memory is from behind this event, too
            return
        try:
            self._append(machine, encode_event(machine, event, now, decided))
        except UNENCODABLE as error:
            self._lose(machine, f"{type(event).__name__}: {error}", now)

    def _append(self, name: str, data: bytes) -> None:
        if len(self._buffer) + len(data) > BUFFER_BYTES_MAX:
            self.records_dropped += 1
            self._gaps.setdefault(name, "the disk was too slow")
            return
        self._buffer += data
        self._waiting += 1
        if len(self._buffer) >= FLUSH_BYTES:
            self._filled.set()

    def _lose(self, name: str, why: str, now: float) -> None:
        self.records_dropped += 1
        self._gaps.setdefault(name, why)
        self._bridge(name, now)

    def _bridge(self, name: str, now: float) -> None:
        """Go on behind a gap; later, if most of the buffer is taken: memories are large."""
        if len(self._buffer) > BUFFER_BYTES_MAX // 2:
            return
        data = encode_lost(name, now, self._gaps[name]) + self._memory_of(name, now)
        del self._gaps[name]
        self._append(name, data)

    def _memory_of(self, name: str, now: float) -> bytes:
        """What makes this machine as it is now; nothing of an agent, or of what is too large."""
        taped = self._machines.get(name)
        if taped is None:
            return b""
        try:
            birth, memory = taped.line.remember(taped.machine, taped.birth, now)
            return encode_birth(name, now, birth, memory)
        except UNENCODABLE as error:
            return encode_lost(name, now, f"its memory: {error}")

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            with self._clock.move_on_after(FLUSH_PERIOD_S):
                await self._filled.wait()
            await self.flush()

    async def flush(self) -> None:
        """Write out what is buffered. Not to be called twice at the same time. Never raises: a disk
        that fails here costs records, and a node that can still serve is worth more than those."""
        self._filled = trio.Event()
        if not self._buffer:
            return
        data, self._buffer = bytes(self._buffer), bytearray()
        records, self._waiting = self._waiting, 0
        opening = b""
        if is_full := self._written + len(data) > FILE_BYTES_MAX:
            now = self._clock.now()
            opening = b"".join(self._memory_of(name, now) for name in self._machines)
        try:
            await self._offload.run(lambda: self._write(data, opening, is_full), kind="recorder")
        except StorageError as error:
            self._failed(str(error), records)
        else:
            self._succeeded()

    def _failed(self, why: str, records: int) -> None:
        self.records_dropped += records
        self._generation = 0  # the file that failed is the newer one, so the other is used next
        for name in self._machines:
            self._gaps.setdefault(name, why)
        if not self._is_failing:
            self._is_failing = True
            told = {"why": why, "records_dropped": self.records_dropped}
            self._notify(Notify("recorder.failed", Severity.WARNING, told))

    def _succeeded(self) -> None:
        if self._is_failing:
            self._is_failing = False
            self._notify(
                Notify("recorder.recovered", fields={"records_dropped": self.records_dropped})
            )

    def _write(self, data: bytes, opening: bytes, is_full: bool) -> None:
        """Append to the file in use, and where it is full begin the other one. Blocks."""
        if self._generation == 0:
            generations = [file_generation(self._files.read(name)) for name in FILE_NAMES]
            in_use = generations.index(min(generations))
            self._begin_file(in_use, max(generations) + 1, data)
        else:
            self._append_to_file(data)
        if is_full:
            self._begin_file(1 - self._in_use, self._generation + 1, opening)

    def _begin_file(self, in_use: int, generation: int, data: bytes) -> None:
        self._in_use, self._generation, self._written = in_use, generation, 0
        self._files.remove(FILE_NAMES[in_use])
        self._append_to_file(encode_header(generation, self._build) + data)

    def _append_to_file(self, data: bytes) -> None:
        handle = self._files.append(FILE_NAMES[self._in_use])
        try:
            handle.write(data)
        finally:
            handle.close()
        self._written += len(data)
