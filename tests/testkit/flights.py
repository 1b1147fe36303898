"""Flight records without a disk: made by hand, or taken from a simulated cluster."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from muster.flight.births import Birth, Line
from muster.flight.records import (
    FILE_NAMES,
    Decided,
    FlightFile,
    encode_birth,
    encode_event,
    encode_header,
    file_generation,
    read_flight_file,
)
from muster.flight.tape import Tape
from muster.replay.replaying import Replay, Step
from muster.sim.cluster import SimCluster, SimNode


class MemoryLog:
    """What tapes write to: one file, in memory."""

    def __init__(self, *, generation: int = 1, build: str = "0.1.0") -> None:
        self.data = bytearray(encode_header(generation, build))
        self.machines: dict[str, tuple[Any, Any, Line[Any]]] = {}

    def begin(self, name: str, machine: Any, birth: Any, line: Line[Any], now: float) -> None:
        self.machines[name] = (machine, birth, line)
        self.data += encode_birth(name, now, birth, None)

    def record(self, machine: str, event: Any, now: float, decided: Decided = None) -> None:
        self.data += encode_event(machine, event, now, decided)

    def turn(self, generation: int, now: float) -> MemoryLog:
        """The next file of the ring: it begins with what the machines remember."""
        other = MemoryLog(generation=generation)
        other.machines = self.machines
        for name, (machine, birth, line) in self.machines.items():
            again, memory = line.remember(machine, birth, now)
            other.data += encode_birth(name, now, again, memory)
        return other

    @property
    def file(self) -> FlightFile:
        return read_flight_file(bytes(self.data), "a flight")


def taped(name: str, birth: Birth[Any], log: MemoryLog) -> Tape[Any]:
    """A machine that writes to `log`."""
    return Tape.begin(name, birth, log)


def steps_of(*files: FlightFile, only: str | None = None) -> list[Step]:
    """All steps of one replay."""
    return list(Replay(only=only).steps(files))


def files_of(node: SimNode) -> list[FlightFile]:
    """What is on a simulated node's disk, the oldest first, without what a power cut emptied."""
    contents = [bytes(f.data) for name in FILE_NAMES if (f := node.host.disk.files.get(name))]
    files = [read_flight_file(data, node.name) for data in contents if file_generation(data)]
    return sorted(files, key=lambda file: file.generation)


def flights_of(cluster: SimCluster) -> Iterable[tuple[str, Sequence[FlightFile]]]:
    """Of every node: the whole ring, and its newer file alone."""
    for node in cluster.nodes:
        files = files_of(node)
        yield node.name, files
        if len(files) > 1:
            yield f"{node.name}, the newer file", files[1:]
