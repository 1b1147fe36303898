"""The flight recorder: a ring of two files that survives what it is there to explain."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest
import trio
import trio.testing

from muster import recorder as recorder_module
from muster.clock import TrioClock
from muster.entropy import SeededEntropy
from muster.flight.births import PlainLine
from muster.flight.records import (
    FILE_NAMES,
    RECORD_BYTES_MAX,
    Born,
    Handled,
    Lost,
    Record,
    file_generation,
    read_flight_file,
)
from muster.recorder import BUFFER_BYTES_MAX, FLUSH_BYTES, FLUSH_PERIOD_S, FlightRecorder
from muster.sim.disk import SimDisk
from muster.storage.files import DiskFiles, Files
from muster_protocol.effects import Effect, Notify
from muster_protocol.wire.codec import Decoder

T = TypeVar("T")


@dataclass(frozen=True)
class Ping:
    number: int


class AtOnce:
    """Work off the loop, on the loop: threads and a virtual clock do not go together."""

    async def run(self, work: Callable[[], T], *, kind: str) -> T:
        assert kind == "recorder"
        return work()


@pytest.fixture
def files(tmp_path: Path) -> DiskFiles:
    return DiskFiles(tmp_path / "state")


def a_recorder(files: Files, notify: Callable[[Notify], None] = lambda _: None) -> FlightRecorder:
    return FlightRecorder(
        clock=TrioClock(), files=files, offload=AtOnce(), notify=notify, build="0.1"
    )


class Sum:
    """A machine: adds up what it is given."""

    deadline = None

    def __init__(self) -> None:
        self.total = 0

    def handle(self, event: Ping, *, now: float) -> tuple[Effect, ...]:
        self.total += event.number
        return ()


class SumLine(PlainLine[Sum]):
    def remember(self, machine: Sum, birth: object, now: float) -> tuple[object, dict[str, int]]:
        return birth, {"total": machine.total}


def records(files: Files) -> list[Record]:
    """All that both files hold, the oldest first."""
    contents = [files.read(name) or b"" for name in FILE_NAMES]
    read = [read_flight_file(data, "x") for data in contents if file_generation(data)]
    read.sort(key=lambda file: file.generation)
    return [record for file in read for record in file.records]


def events(files: Files) -> list[tuple[str, str, float, object]]:
    plain: Decoder[object] = Decoder(object)
    return [
        (record.machine, record.kind, record.now, plain.decode(record.event))
        for record in records(files)
        if isinstance(record, Handled)
    ]


def numbers(files: Files) -> list[int]:
    return [event["number"] for _, _, _, event in events(files)]  # type: ignore[index]


async def test_what_was_recorded_can_be_read_back(files: DiskFiles) -> None:
    recorder = a_recorder(files)
    recorder.record("swim", Ping(1), 0.5)
    recorder.record("raft", "tick", 1.5)
    await recorder.flush()
    assert events(files) == [("swim", "Ping", 0.5, {"number": 1}), ("raft", "str", 1.5, "tick")]


async def test_records_are_written_once_in_a_while(
    files: DiskFiles, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    recorder = a_recorder(files)
    nursery.start_soon(recorder.run)
    recorder.record("swim", Ping(1), 0.0)
    await trio.testing.wait_all_tasks_blocked()
    assert records(files) == []
    await trio.sleep(1.5 * FLUSH_PERIOD_S)
    assert numbers(files) == [1]


async def test_much_is_written_before_its_time(
    files: DiskFiles, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    recorder = a_recorder(files)
    nursery.start_soon(recorder.run)
    await trio.testing.wait_all_tasks_blocked()
    recorder.record("swim", "x" * FLUSH_BYTES, 0.0)
    await trio.testing.wait_all_tasks_blocked()
    assert len(records(files)) == 1


async def test_the_ring_keeps_the_newest_and_is_bounded(
    files: DiskFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder_module, "FILE_BYTES_MAX", 400)
    recorder = a_recorder(files)
    for number in range(100):
        recorder.record("swim", Ping(number), 0.0)
        await recorder.flush()
    kept = numbers(files)
    assert kept == list(range(kept[0], 100))
    assert len(kept) >= 10
    for name in FILE_NAMES:
        assert len(files.read(name) or b"") <= 400 + 40  # and the last one that was written


async def test_a_new_run_keeps_what_led_to_the_end_of_the_last_one(files: DiskFiles) -> None:
    """It must not begin by erasing the file that the crash is in."""
    for run in range(5):
        recorder = a_recorder(files)
        recorder.record("swim", Ping(run), 0.0)
        await recorder.flush()
        assert numbers(files) == list(range(max(0, run - 1), run + 1))


async def test_a_file_of_the_earlier_format_is_older_than_what_is_written_now(
    files: DiskFiles,
) -> None:
    handle = files.append(FILE_NAMES[0])
    handle.write(b"\0\0\0\3\x92\x01\x07")
    handle.close()
    recorder = a_recorder(files)
    recorder.record("swim", Ping(1), 0.0)
    await recorder.flush()
    assert [file_generation(files.read(name)) for name in FILE_NAMES] == [7, 8]


async def test_a_new_file_begins_with_what_the_machines_remember(
    files: DiskFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder_module, "FILE_BYTES_MAX", 200)
    recorder, machine = a_recorder(files), Sum()
    recorder.begin("sum", machine, {"from": 0}, SumLine(), 0.0)
    for number in range(16):
        machine.handle(Ping(number), now=0.0)
        recorder.record("sum", Ping(number), 0.0, 0)
        await recorder.flush()
    for name in FILE_NAMES:
        first, second, *_ = read_flight_file(files.read(name) or b"", name).records
        assert isinstance(first, Born)
        assert isinstance(second, Handled)
        after = Decoder(Ping).decode(second.event).number
        assert first.memory == {"total": sum(range(after))}


async def test_what_is_lost_is_bridged_by_the_machines_memory(files: DiskFiles) -> None:
    recorder, machine = a_recorder(files), Sum()
    recorder.begin("sum", machine, {}, SumLine(), 0.0)
    machine.total = 7
    recorder.record("sum", "x" * RECORD_BYTES_MAX, 1.0)
    recorder.record("sum", Ping(1), 2.0, 0)
    await recorder.flush()
    _, lost, memory, event = records(files)
    assert isinstance(lost, Lost)
    assert lost.why.startswith("str: record of")
    assert isinstance(memory, Born)
    assert memory.memory == {"total": 7}
    assert isinstance(event, Handled)


async def test_after_a_slow_disk_a_machine_goes_on_from_its_memory(files: DiskFiles) -> None:
    recorder, machine = a_recorder(files), Sum()
    recorder.begin("sum", machine, {}, SumLine(), 0.0)
    while not recorder.records_dropped:
        recorder.record("sum", "x" * 10_000, 1.0)
    await recorder.flush()
    machine.total = 9
    recorder.record("sum", Ping(1), 2.0, 0)
    recorder.record("sum", Ping(2), 3.0, 0)
    await recorder.flush()
    lost, memory, event = records(files)[-3:]
    assert lost == Lost("sum", 2.0, "the disk was too slow")
    assert isinstance(memory, Born)
    assert memory.memory == {"total": 9}
    assert isinstance(event, Handled)
    assert event.now == 3.0


async def test_a_machine_that_is_too_large_to_remember_is_said_to_be(files: DiskFiles) -> None:
    class Large(SumLine):
        def remember(self, machine: Sum, birth: object, now: float) -> tuple[object, Any]:
            return birth, {"total": "x" * RECORD_BYTES_MAX}

    recorder = a_recorder(files)
    recorder.begin("sum", Sum(), {}, Large(), 0.0)
    recorder.record("sum", "x" * RECORD_BYTES_MAX, 1.0)
    await recorder.flush()
    assert [type(record) for record in records(files)] == [Born, Lost, Lost]


async def test_a_record_that_was_cut_off_hides_nothing_before_it(files: DiskFiles) -> None:
    recorder = a_recorder(files)
    recorder.record("swim", Ping(1), 0.0)
    recorder.record("swim", Ping(2), 0.0)
    await recorder.flush()
    files.truncate(FILE_NAMES[0], len(files.read(FILE_NAMES[0]) or b"") - 3)
    assert numbers(files) == [1]


@pytest.mark.parametrize("content", [b"", b"\x00\x00", b"\xff" * 100, b"\0\0\0\1\xc1"])
async def test_a_file_that_is_not_ours_is_replaced(files: DiskFiles, content: bytes) -> None:
    handle = files.append(FILE_NAMES[0])
    handle.write(content)
    handle.close()
    assert records(files) == []
    recorder = a_recorder(files)
    recorder.record("swim", Ping(1), 0.0)
    await recorder.flush()
    assert numbers(files) == [1]


async def test_an_event_without_an_encoding_is_recorded_as_text(files: DiskFiles) -> None:
    recorder = a_recorder(files)
    recorder.record("host", ValueError("boom"), 0.0)
    await recorder.flush()
    assert [event for _, _, _, event in events(files)] == ["ValueError: boom"]


async def test_what_cannot_be_recorded_is_counted_and_never_raised(files: DiskFiles) -> None:
    recorder = a_recorder(files)
    endless: list[object] = []
    endless.append(endless)
    recorder.record("host", endless, 0.0)
    recorder.record("host", 2**70, 0.0)
    recorder.record("host", "x" * (RECORD_BYTES_MAX + 1), 0.0)
    assert recorder.records_dropped == 3


async def test_records_that_the_disk_is_too_slow_for_are_dropped_and_counted(
    files: DiskFiles,
) -> None:
    recorder = a_recorder(files)
    payload = "x" * 10_000
    for _ in range(BUFFER_BYTES_MAX // 10_000 + 20):
        recorder.record("swim", payload, 0.0)
    assert recorder.records_dropped > 0
    assert len(recorder._buffer) <= BUFFER_BYTES_MAX
    await recorder.flush()
    assert len(records(files)) == BUFFER_BYTES_MAX // 10_000 + 20 - recorder.records_dropped


@pytest.mark.parametrize("action", ["open", "write", "remove", "read"])
async def test_a_disk_that_fails_costs_records_and_nothing_else(action: str) -> None:
    disk, said = SimDisk(SeededEntropy("recorder").stream("disk")), list[Notify]()
    files = disk.mount()
    recorder, machine = a_recorder(files, said.append), Sum()
    recorder.begin("sum", machine, {}, SumLine(), 0.0)
    disk.fail(action, times=2)
    for number in range(2):
        recorder.record("sum", Ping(number), 1.0, 0)
        await recorder.flush()
    assert [notice.event for notice in said] == ["recorder.failed"]
    machine.total = 9
    recorder.record("sum", Ping(2), 2.0, 0)
    recorder.record("sum", Ping(3), 3.0, 0)
    await recorder.flush()
    assert [notice.event for notice in said] == ["recorder.failed", "recorder.recovered"]
    lost, memory, event = records(files)[-3:]
    assert isinstance(lost, Lost)
    assert isinstance(memory, Born)
    assert memory.memory == {"total": 9}
    assert isinstance(event, Handled)
    assert event.now == 3.0


async def test_what_led_to_the_failure_of_the_disk_is_kept() -> None:
    disk = SimDisk(SeededEntropy("recorder").stream("disk"))
    files = disk.mount()
    recorder = a_recorder(files)
    for number in range(3):
        recorder.record("swim", Ping(number), 0.0)
        await recorder.flush()
    for number in range(3, 6):
        disk.fail("write")
        recorder.record("swim", Ping(number), 0.0)
        await recorder.flush()
    assert numbers(files) == [0, 1, 2]
    recorder.record("swim", Ping(6), 0.0)
    await recorder.flush()
    assert numbers(files) == [0, 1, 2, 6]
    assert recorder.records_dropped == 3
