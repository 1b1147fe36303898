"""The executor's table, the signals that it builds, and the records that it keeps."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pytest
from trio.testing import MockClock

from muster.runtime.directives import Cause, Caused
from muster.runtime.executor import Executor, RecordFiles, UnknownEffect
from muster.storage.files import DiskFiles
from muster.testing import WALL_EPOCH_S
from muster_protocol.effects import Effect, Emit, Notify, Persist
from muster_protocol.errors import StorageCorrupt, UsageError
from muster_protocol.limits import SIGNAL_BYTES_MAX
from muster_protocol.types import Priority, Scope
from testkit.runtime_node import NodeUnderTest

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Launch(Effect):
    code: int


async def test_an_unknown_effect_is_an_error(node: NodeUnderTest) -> None:
    with pytest.raises(UnknownEffect, match="Launch"):
        Executor(node.services, agent="a").perform(Launch(1))


async def test_an_agents_own_effects_are_done_by_its_own_handlers(node: NodeUnderTest) -> None:
    done: list[Effect] = []
    executor = Executor(node.services, agent="a", own={Launch: done.append})
    executor.perform(Caused(Launch(1), Cause("s", "t")))
    executor.perform(Launch(2))
    assert done == [Launch(1), Launch(2)]


@pytest.mark.parametrize("kind", [Emit, Notify, Persist])
async def test_an_agent_cannot_replace_what_the_runtime_does(
    node: NodeUnderTest, kind: type[Effect]
) -> None:
    with pytest.raises(UsageError, match=kind.__name__):
        Executor(node.services, agent="a", own={kind: lambda effect: None})


async def test_an_emitted_signal_says_who_when_and_why(
    node: NodeUnderTest, autojump_clock: MockClock
) -> None:
    emit = Emit(
        "test.value.changed",
        {"v": 1},
        subject="s",
        priority=Priority.HIGH,
        scope=Scope.CLUSTER,
        metadata={"m": True},
    )
    await node.clock.sleep(2.5)
    Executor(node.services, agent="a").perform(Caused(emit, Cause("cause", "trace")))
    (signal,) = node.signals
    assert signal.source == "n1/a"
    assert signal.time == pytest.approx(WALL_EPOCH_S + 2.5)
    assert (signal.causation, signal.trace) == ("cause", "trace")
    assert (signal.type, signal.subject, signal.data) == ("test.value.changed", "s", {"v": 1})
    assert (signal.scope, signal.priority) == (Scope.CLUSTER, Priority.HIGH)
    assert signal.metadata == {"m": True}
    assert uuid.UUID(signal.id).version == 7


async def test_a_signal_without_a_cause_begins_a_trace_of_its_own(node: NodeUnderTest) -> None:
    executor = Executor(node.services, agent="a")
    for cause in (None, Cause("s", "")):
        executor.perform(Caused(Emit("test.value.changed", {}), cause))
    first, second = node.signals
    assert len(first.trace) == len(second.trace) == 32
    assert first.trace != second.trace
    assert first.id != second.id


async def test_a_signal_that_is_no_fact_is_its_emitters_error(node: NodeUnderTest) -> None:
    executor = Executor(node.services, agent="a")
    with pytest.raises(UsageError):
        executor.perform(Emit("test.value.change", {}))
    huge = Emit("test.value.changed", {"x": "x" * SIGNAL_BYTES_MAX}, scope=Scope.CLUSTER)
    with pytest.raises(UsageError):
        executor.perform(huge)
    assert node.signals == []


async def test_a_notice_goes_to_the_log_under_the_agents_name(node: NodeUnderTest) -> None:
    Executor(node.services, agent="a").perform(Notify("x.y"))
    assert node.notices == [("a", Notify("x.y"))]


async def test_a_record_goes_to_storage_under_the_agents_name(node: NodeUnderTest) -> None:
    await Executor(node.services, agent="a").persist(Persist("term", b"7"))
    assert node.records == {("a", "term"): b"7"}


async def test_an_observer_sees_effects_before_they_are_done(node: NodeUnderTest) -> None:
    seen: list[tuple[str, Effect]] = []

    def observe(agent: str, effect: Effect) -> None:
        seen.append((agent, effect))

    services = dataclasses.replace(node.services, observe=observe)
    executor = Executor(services, agent="a")
    executor.perform(Caused(Notify("x.y"), None))
    await executor.persist(Persist("r", b""))
    with pytest.raises(UnknownEffect):
        executor.perform(Launch(1))
    assert [effect for _, effect in seen] == [Notify("x.y"), Persist("r", b""), Launch(1)]


class AtOnce:
    async def run(self, work: Callable[[], T], *, kind: str) -> T:
        assert kind == "fsync"
        return work()


@pytest.fixture
def files(tmp_path: Path) -> DiskFiles:
    return DiskFiles(tmp_path / "state")


async def test_a_record_can_be_read_back_and_replaced(files: DiskFiles) -> None:
    records = RecordFiles(files=files, offload=AtOnce())
    assert records.load("a", "term") is None
    await records.persist("a", Persist("term", b"1"))
    await records.persist("b", Persist("term", b"other"))
    await records.persist("a", Persist("term", b"2"))
    assert records.load("a", "term") == b"2"
    assert records.load("b", "term") == b"other"


async def test_a_damaged_record_is_refused_not_guessed(files: DiskFiles) -> None:
    records = RecordFiles(files=files, offload=AtOnce())
    await records.persist("a", Persist("term", b"12345"))
    name = "a.term.rec"
    whole = files.read(name)
    assert whole is not None
    for damaged in (whole[:-1], whole[:-3] + b"xyz", whole + whole, b""):
        files.remove(name)
        handle = files.append(name)
        handle.write(damaged)
        handle.close()
        with pytest.raises(StorageCorrupt):
            records.load("a", "term")


@pytest.mark.parametrize("name", ["", "../x", "a.b", "a/b", "x" * 65, "-x"])
async def test_a_name_that_is_no_part_of_a_file_name_is_refused(
    files: DiskFiles, name: str
) -> None:
    records = RecordFiles(files=files, offload=AtOnce())
    with pytest.raises(UsageError):
        await records.persist(name, Persist("r", b""))
    with pytest.raises(UsageError):
        await records.persist("a", Persist(name, b""))
