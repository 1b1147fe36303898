"""The flight recorder: the last events that went into each machine, in a ring on disk.

Two files take turns: when the one in use is full, the other is emptied and used, so between one
and two times `FILE_BYTES_MAX` of the past is kept. Nothing is synced: it is evidence, not state.
A record is one framed MessagePack array: [machine, event type, now, event].
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from muster_protocol.wire.codec import encode
from muster_protocol.wire.framing import frame

if TYPE_CHECKING:
    from muster.clock import Clock
    from muster.offload import Offload
    from muster.storage.files import Files

FILE_BYTES_MAX: Final = 4 * 1024 * 1024
"""About 40,000 gossip events: the better part of an hour of a three-node cluster."""

BUFFER_BYTES_MAX: Final = 256 * 1024
"""What may wait for the disk. Past it, records are dropped and counted: the recorder must never
be why a node falls behind."""

FLUSH_PERIOD_S: Final = 1.0
RECORD_BYTES_MAX: Final = 64 * 1024
FILE_NAMES: Final = ("flight-0.rec", "flight-1.rec")


class FlightRecorder:
    """`record` from drivers, `run` in a nursery to write it out."""

    def __init__(self, *, clock: Clock, files: Files, offload: Offload) -> None:
        self._clock = clock
        self._files = files
        self._offload = offload
        self._buffer = bytearray()
        self._in_use = 0
        self._written = 0
        self.records_dropped = 0

    def record(self, machine: str, event: Any, now: float) -> None:
        payload = encode([machine, type(event).__name__, now, event])
        if len(payload) > RECORD_BYTES_MAX or len(self._buffer) > BUFFER_BYTES_MAX:
            self.records_dropped += 1
            return
        self._buffer += frame(payload, bytes_max=RECORD_BYTES_MAX)

    async def run(self) -> None:
        """Write until cancelled. A disk that fails here ends nothing but the recorder's caller."""
        while True:
            await self._clock.sleep(FLUSH_PERIOD_S)
            await self.flush()

    async def flush(self) -> None:
        """Write out what is buffered."""
        if not self._buffer:
            return
        data, self._buffer = bytes(self._buffer), bytearray()
        if self._written + len(data) > FILE_BYTES_MAX:
            self._in_use, self._written = 1 - self._in_use, 0
        name, is_fresh = FILE_NAMES[self._in_use], self._written == 0

        def write() -> None:
            if is_fresh:
                self._files.remove(name)
            handle = self._files.append(name)
            try:
                handle.write(data)
            finally:
                handle.close()

        await self._offload.run(write, kind="recorder")
        self._written += len(data)
