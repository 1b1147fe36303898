"""The flight recorder: the last events that went into each machine, in a ring on disk.

Two files take turns: when the one in use is full, the other is emptied and used, so between one
and two times `FILE_BYTES_MAX` of the past is kept. Nothing is synced: it is evidence, not state.

A file is framed MessagePack arrays. The first is [format, generation]; the generation grows with
every turn and tells a new run which of the two files is the older one, so that a daemon which
crashed and was started again does not begin by erasing what led to the crash. Every other is
[machine, event type, now, event].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec

from muster_protocol.errors import RemoteError
from muster_protocol.wire.codec import Decoder
from muster_protocol.wire.framing import FrameDecoder, frame

if TYPE_CHECKING:
    from muster.clock import Clock
    from muster.offload import Offload
    from muster.storage.files import Files

FORMAT: Final = 1

FILE_BYTES_MAX: Final = 4 * 1024 * 1024
"""About 40,000 gossip events: the better part of an hour of a three-node cluster."""

BUFFER_BYTES_MAX: Final = 256 * 1024
"""What may wait for the disk. Past it, records are dropped and counted: the recorder must never
be why a node falls behind."""

FLUSH_PERIOD_S: Final = 5.0
RECORD_BYTES_MAX: Final = 64 * 1024
FILE_NAMES: Final = ("flight-0.rec", "flight-1.rec")


@dataclass(frozen=True, slots=True)
class FlightRecord:
    """One event that went into one machine. `event` is as it was encoded: plain values."""

    machine: str
    kind: str
    now: float
    event: Any


class FlightRecorder:
    """`record` from drivers, `run` in a nursery to write it out."""

    def __init__(self, *, clock: Clock, files: Files, offload: Offload) -> None:
        self._clock = clock
        self._files = files
        self._offload = offload
        # An event may carry what has no encoding (an exception, say); its text will do.
        self._encoder = msgspec.msgpack.Encoder(enc_hook=repr)
        self._buffer = bytearray()
        self._generation = 0
        self._in_use = 0
        self._written = 0
        self.records_dropped = 0

    def record(self, machine: str, event: Any, now: float) -> None:
        """Keep one event. Never blocks and never raises: what cannot be kept is counted."""
        try:
            payload = self._encoder.encode([machine, type(event).__name__, now, event])
        except (TypeError, ValueError, OverflowError, RecursionError):
            self.records_dropped += 1
            return
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
        """Write out what is buffered. Not to be called twice at the same time."""
        if not self._buffer:
            return
        data, self._buffer = bytes(self._buffer), bytearray()
        await self._offload.run(lambda: self._write(data), kind="recorder")

    def _write(self, data: bytes) -> None:
        """Append to the file in use, or to the other one where it is full. Blocks."""
        if self._generation == 0:
            generations = [file_generation(self._files.read(name)) for name in FILE_NAMES]
            self._take_turn(generations.index(min(generations)), max(generations) + 1)
        elif self._written + len(data) > FILE_BYTES_MAX:
            self._take_turn(1 - self._in_use, self._generation + 1)
        name = FILE_NAMES[self._in_use]
        if self._written == 0:
            self._files.remove(name)
            header = self._encoder.encode([FORMAT, self._generation])
            data = frame(header, bytes_max=RECORD_BYTES_MAX) + data
        handle = self._files.append(name)
        try:
            handle.write(data)
        finally:
            handle.close()
        self._written += len(data)

    def _take_turn(self, in_use: int, generation: int) -> None:
        self._in_use, self._generation, self._written = in_use, generation, 0


def file_generation(data: bytes | None) -> int:
    """Which turn a file was written in; 0 for a file that is missing, empty or not ours."""
    frames = _frames(data or b"", count_max=1)
    if not frames:
        return 0
    header: Decoder[tuple[int, int]] = Decoder(tuple[int, int])
    try:
        written_format, generation = header.decode(frames[0])
    except RemoteError:
        return 0
    return generation if written_format == FORMAT else 0


def read_flight(files: Files) -> list[FlightRecord]:
    """All that both files hold, the oldest first; a record that was cut off ends its file.

    Errors: StorageError. Blocks.
    """
    contents = [files.read(name) or b"" for name in FILE_NAMES]
    contents.sort(key=file_generation)
    decoder: Decoder[tuple[str, str, float, Any]] = Decoder(tuple[str, str, float, Any])
    records: list[FlightRecord] = []
    for content in contents:
        if file_generation(content) == 0:
            continue
        records.extend(FlightRecord(*decoder.decode(payload)) for payload in _frames(content)[1:])
    return records


def _frames(data: bytes, count_max: int | None = None) -> Sequence[bytes]:
    decoder = FrameDecoder(bytes_max=RECORD_BYTES_MAX)
    decoder.receive(data)
    frames: list[bytes] = []
    try:
        while count_max is None or len(frames) < count_max:
            payload = decoder.next_frame()
            if payload is None:
                break
            frames.append(payload)
    except RemoteError:
        pass  # damaged from here on; what stands before is still evidence
    return frames
