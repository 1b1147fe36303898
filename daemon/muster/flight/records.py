"""The flight recorder's file: what is in it, to the byte.

A file is framed MessagePack arrays (`wire.framing`). The first is the header, [format, generation,
build]; every other begins with its kind:

    [0, machine, event type, now, event, decided]   what went in, and what was decided
    [1, machine, now, birth, memory]                a machine begins, or goes on from a memory
    [2, machine, now, why]                          something of this machine is not on the record

`decided` is the checksum of the effects that were returned (0: none), a text where the machine
raised instead, or nil where there is nothing to compare: of agents, which are no machines, only
what went in is kept. `memory` is nil in the beginning.

Format 1 had events alone. Nothing can be replayed from it, so it is not read.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from muster.flight.memory import Memory
from muster_protocol.effects import Effect
from muster_protocol.errors import RemoteError, UsageError
from muster_protocol.wire.codec import Decoder
from muster_protocol.wire.framing import FrameDecoder, frame

FORMAT: Final = 2

RECORD_BYTES_MAX: Final = 1024 * 1024
"""The largest Raft frame (`BATCH_BYTES_MAX`) and the memory of a thousand members fit."""

FILE_NAMES: Final = ("flight-0.rec", "flight-1.rec")

EVENT, BIRTH, LOST = 0, 1, 2

Decided = int | str | None


@dataclass(frozen=True, slots=True)
class Handled:
    """One event that went into one machine; `event` as it was encoded."""

    machine: str
    kind: str
    now: float
    event: msgspec.Raw
    decided: Decided


@dataclass(frozen=True, slots=True)
class Born:
    """A machine begins; with a memory, it goes on from there."""

    machine: str
    now: float
    birth: msgspec.Raw
    memory: Memory | None


@dataclass(frozen=True, slots=True)
class Lost:
    """What comes next of this machine does not follow from what stands before."""

    machine: str
    now: float
    why: str


Record = Handled | Born | Lost


@dataclass(frozen=True, slots=True)
class FlightFile:
    """One file. `damage` says where reading ended early, "" if it did not."""

    generation: int
    build: str
    records: tuple[Record, ...]
    damage: str


def _plain(value: Any) -> Any:
    """An event may carry what has no encoding (an exception, say); its text will do."""
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, BaseException):
        return f"{type(value).__name__}: {value}"
    return repr(value)


def _plain_only(value: Any) -> Any:
    """A text may differ from process to process; a checksum must not."""
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} has no encoding")


_ENCODER: Final = msgspec.msgpack.Encoder(enc_hook=_plain)
_CHECKED: Final = msgspec.msgpack.Encoder(enc_hook=_plain_only)


def encode_header(generation: int, build: str) -> bytes:
    return _framed([FORMAT, generation, build])


def encode_event(machine: str, event: Any, now: float, decided: Decided) -> bytes:
    """Errors: TypeError, ValueError, OverflowError, RecursionError for what cannot be kept."""
    return _framed([EVENT, machine, type(event).__name__, now, event, decided])


def encode_birth(machine: str, now: float, birth: Any, memory: Memory | None) -> bytes:
    """Errors: as `encode_event`."""
    return _framed([BIRTH, machine, now, birth, memory])


def encode_lost(machine: str, now: float, why: str) -> bytes:
    return _framed([LOST, machine, now, why])


def _framed(record: list[Any]) -> bytes:
    payload = _ENCODER.encode(record)
    if len(payload) > RECORD_BYTES_MAX:
        raise OverflowError(f"record of {len(payload)} bytes, at most {RECORD_BYTES_MAX}")
    return frame(payload, bytes_max=RECORD_BYTES_MAX)


def checksum(effects: Sequence[Effect]) -> int | None:
    """Of what was decided: 0 for nothing, None for what cannot be encoded. A checksum, not a hash:
    it meets bugs, not enemies."""
    if not effects:
        return 0
    named = [(type(effect).__name__, effect) for effect in effects]
    try:
        return zlib.crc32(_CHECKED.encode(named)) or 1
    except (TypeError, ValueError, OverflowError, RecursionError):
        return None


# --- reading ------------------------------------------------------------------------------------

_HEADERS: Decoder[tuple[Any, ...]] = Decoder(tuple[Any, ...])
_KINDS: Decoder[tuple[msgspec.Raw, ...]] = Decoder(tuple[msgspec.Raw, ...])
_NUMBERS: Decoder[int] = Decoder(int)
_EVENTS: Decoder[tuple[int, str, str, float, msgspec.Raw, Decided]] = Decoder(
    tuple[int, str, str, float, msgspec.Raw, Decided]
)
_BIRTHS: Decoder[tuple[int, str, float, msgspec.Raw, dict[str, Any] | None]] = Decoder(
    tuple[int, str, float, msgspec.Raw, dict[str, Any] | None]
)
_LOSSES: Decoder[tuple[int, str, float, str]] = Decoder(tuple[int, str, float, str])


def file_generation(data: bytes | None) -> int:
    """Which turn a file was written in, also by an earlier format; 0 for one that is missing,
    empty or not ours."""
    frames, _ = _frames(data or b"", count_max=1)
    header = _header(frames[0]) if frames else ()
    return header[1] if header else 0


def read_flight_file(data: bytes, name: str) -> FlightFile:
    """All that one file holds. A record that is cut off or damaged ends it.

    Errors: UsageError, one line, for what is no flight record, or one of another format.
    """
    frames, damage = _frames(data)
    header = _header(frames[0]) if frames else ()
    if not header:
        raise UsageError(f"{name}: not a flight recorder's file")
    if header[0] != FORMAT:
        holds = " (it holds no beginnings and cannot be replayed)" if header[0] == 1 else ""
        raise UsageError(f"{name}: format {header[0]}{holds}; this version reads {FORMAT}")
    records: list[Record] = []
    for number, payload in enumerate(frames[1:], start=1):
        try:
            records.append(_record(payload))
        except RemoteError:
            damage = f"record {number} is damaged"
            break
    build = header[2] if len(header) > 2 and isinstance(header[2], str) else ""
    return FlightFile(header[1], build, tuple(records), damage)


def _header(payload: bytes) -> tuple[Any, ...]:
    """Format, generation and what follows; () for anything else."""
    try:
        header = _HEADERS.decode(payload)
    except RemoteError:
        return ()
    is_ours = len(header) >= 2 and all(type(n) is int and n > 0 for n in header[:2])
    return header if is_ours else ()


def _record(payload: bytes) -> Record:
    """Errors: RemoteError."""
    parts = _KINDS.decode(payload)
    kind = _NUMBERS.decode(parts[0]) if parts else -1
    if kind == EVENT:
        return Handled(*_EVENTS.decode(payload)[1:])
    if kind == BIRTH:
        return Born(*_BIRTHS.decode(payload)[1:])
    if kind == LOST:
        return Lost(*_LOSSES.decode(payload)[1:])
    raise RemoteError("garbage", f"record of unknown kind {kind}")


def _frames(data: bytes, count_max: int | None = None) -> tuple[list[bytes], str]:
    """The frames, and how they end before the end: "" if they do not."""
    decoder = FrameDecoder(bytes_max=RECORD_BYTES_MAX)
    decoder.receive(data)
    frames: list[bytes] = []
    try:
        while count_max is None or len(frames) < count_max:
            payload = decoder.next_frame()
            if payload is None:
                break
            frames.append(payload)
    except RemoteError as error:
        return frames, f"record {len(frames)} is damaged: {error}"
    is_whole = count_max is not None or decoder.is_between_frames
    return frames, "" if is_whole else f"record {len(frames)} is cut off"
