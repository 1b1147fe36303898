"""The flight recorder: a ring of two files that survives what it is there to explain."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pytest
import trio
import trio.testing

from muster import recorder as recorder_module
from muster.clock import TrioClock
from muster.recorder import (
    BUFFER_BYTES_MAX,
    FILE_NAMES,
    FLUSH_PERIOD_S,
    RECORD_BYTES_MAX,
    FlightRecord,
    FlightRecorder,
    read_flight,
)
from muster.storage.files import DiskFiles
from muster_protocol.errors import StorageError

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


def a_recorder(files: DiskFiles) -> FlightRecorder:
    return FlightRecorder(clock=TrioClock(), files=files, offload=AtOnce())


def numbers(files: DiskFiles) -> list[int]:
    return [record.event["number"] for record in read_flight(files)]


async def test_what_was_recorded_can_be_read_back(files: DiskFiles) -> None:
    recorder = a_recorder(files)
    recorder.record("swim", Ping(1), 0.5)
    recorder.record("raft", "tick", 1.5)
    await recorder.flush()
    assert read_flight(files) == [
        FlightRecord("swim", "Ping", 0.5, {"number": 1}),
        FlightRecord("raft", "str", 1.5, "tick"),
    ]


async def test_records_are_written_once_in_a_while(
    files: DiskFiles, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    recorder = a_recorder(files)
    nursery.start_soon(recorder.run)
    recorder.record("swim", Ping(1), 0.0)
    await trio.testing.wait_all_tasks_blocked()
    assert read_flight(files) == []
    await trio.sleep(1.5 * FLUSH_PERIOD_S)
    assert numbers(files) == [1]


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
        assert len(files.read(name) or b"") <= 400


async def test_a_new_run_keeps_what_led_to_the_end_of_the_last_one(files: DiskFiles) -> None:
    """It must not begin by erasing the file that the crash is in."""
    for run in range(5):
        recorder = a_recorder(files)
        recorder.record("swim", Ping(run), 0.0)
        await recorder.flush()
        assert numbers(files) == list(range(max(0, run - 1), run + 1))


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
    assert read_flight(files) == []
    recorder = a_recorder(files)
    recorder.record("swim", Ping(1), 0.0)
    await recorder.flush()
    assert numbers(files) == [1]


async def test_an_event_without_an_encoding_is_recorded_as_text(files: DiskFiles) -> None:
    recorder = a_recorder(files)
    recorder.record("host", ValueError("boom"), 0.0)
    await recorder.flush()
    assert [record.event for record in read_flight(files)] == ["ValueError('boom')"]


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
    for _ in range(100):
        recorder.record("swim", payload, 0.0)
    assert recorder.records_dropped > 0
    assert len(recorder._buffer) < BUFFER_BYTES_MAX + RECORD_BYTES_MAX
    await recorder.flush()
    assert len(read_flight(files)) == 100 - recorder.records_dropped


async def test_a_disk_that_fails_is_the_callers_to_know(
    files: DiskFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = a_recorder(files)
    recorder.record("swim", Ping(1), 0.0)

    def fail(name: str) -> None:
        raise StorageError("cannot open")

    monkeypatch.setattr(files, "append", fail)
    with pytest.raises(StorageError):
        await recorder.flush()
