"""What every clock, entropy, offload and vitals do: the real ones and the simulator's."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from muster.clock import Clock, TrioClock
from muster.entropy import Entropy, SeededEntropy, SystemEntropy
from muster.offload import Offload, ThreadOffload
from muster.sim.clock import SimClock
from muster.sim.offload import SimOffload
from muster.sim.vitals import SimVitals
from muster.vitals import HostVitals, Vitals

# --- clock ---------------------------------------------------------------------------------


@pytest.fixture(params=[TrioClock, SimClock])
def clock(request: pytest.FixtureRequest) -> Clock:
    made: Clock = request.param()
    return made


async def test_sleep_takes_as_long_as_it_says(clock: Clock, autojump_clock: MockClock) -> None:
    start = clock.now()
    await clock.sleep(1.5)
    assert clock.now() == pytest.approx(start + 1.5)
    await clock.sleep_until(start + 4.0)
    assert clock.now() == pytest.approx(start + 4.0)


async def test_sleep_into_the_past_is_a_checkpoint(clock: Clock, autojump_clock: MockClock) -> None:
    start = clock.now()
    await clock.sleep(-1.0)
    await clock.sleep_until(start - 1.0)
    with trio.move_on_after(0) as scope:
        await clock.sleep(-1.0)
    assert scope.cancelled_caught
    assert clock.now() == start


async def test_move_on_cancels_when_the_time_has_come(
    clock: Clock, autojump_clock: MockClock
) -> None:
    start = clock.now()
    with clock.move_on_after(2.0) as after:
        await clock.sleep(10.0)
    with clock.move_on_at(start + 5.0) as at:
        await clock.sleep(10.0)
    assert after.cancelled_caught
    assert at.cancelled_caught
    assert clock.now() == pytest.approx(start + 5.0)


async def test_move_on_lets_what_is_in_time_pass(clock: Clock, autojump_clock: MockClock) -> None:
    with clock.move_on_after(2.0) as scope:
        await clock.sleep(1.0)
    await clock.sleep(5.0)
    assert not scope.cancelled_caught


async def test_wall_and_boot_are_times_of_their_own(
    clock: Clock, autojump_clock: MockClock
) -> None:
    assert clock.wall() > 1_600_000_000
    assert clock.boot() >= 0.0


# --- entropy -------------------------------------------------------------------------------


@pytest.fixture(params=["real", "simulated"])
def entropy(request: pytest.FixtureRequest) -> Entropy:
    return SystemEntropy() if request.param == "real" else SeededEntropy("contract")


def test_tokens_have_the_length_asked_for_and_differ(entropy: Entropy) -> None:
    assert [len(entropy.token_bytes(count)) for count in (0, 8, 32)] == [0, 8, 32]
    assert entropy.token_bytes(16) != entropy.token_bytes(16)


def test_streams_of_two_names_differ(entropy: Entropy) -> None:
    assert entropy.stream("a").random() != entropy.stream("b").random()
    assert 0.0 <= entropy.stream("a").random() < 1.0


def test_seeded_entropy_is_the_same_in_every_process() -> None:
    one, two = SeededEntropy("seed"), SeededEntropy("seed")
    assert one.token_bytes(8) == two.token_bytes(8)
    assert one.stream("probe").random() == two.stream("probe").random()
    assert SeededEntropy("seed").stream("probe").randrange(10**9) == 59975644


# --- offload -------------------------------------------------------------------------------


@pytest.fixture(params=["real", "simulated"])
def offload(request: pytest.FixtureRequest) -> Offload:
    return ThreadOffload() if request.param == "real" else SimOffload(TrioClock())


@pytest.mark.parametrize("kind", ["hash", "fsync"])
async def test_offload_returns_what_the_work_returns(offload: Offload, kind: str) -> None:
    assert await offload.run(lambda: 6 * 7, kind=kind) == 42


@pytest.mark.parametrize("kind", ["hash", "fsync"])
async def test_offload_raises_what_the_work_raises(offload: Offload, kind: str) -> None:
    def work() -> None:
        raise ValueError("from the work")

    with pytest.raises(ValueError, match="from the work"):
        await offload.run(work, kind=kind)
    assert await offload.run(lambda: 1, kind=kind) == 1, "it goes on after that"


async def test_offload_lets_others_run_meanwhile(offload: Offload) -> None:
    has_run = threading.Event()

    async def other() -> None:
        has_run.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(other)
        assert await offload.run(lambda: has_run.wait(10.0), kind="fsync")


async def test_cancelled_offload_is_not_abandoned(offload: Offload) -> None:
    """The work ends before the caller goes on, and its result is not thrown away."""
    done = threading.Event()
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(offload_then_cancel, offload, done, scope)
    assert done.is_set()


async def offload_then_cancel(
    offload: Offload, done: threading.Event, scope: trio.CancelScope
) -> None:
    async with trio.open_nursery() as nursery:

        async def run() -> None:
            await offload.run(done.set, kind="fsync")

        nursery.start_soon(run)
        await trio.lowlevel.checkpoint()
        await trio.lowlevel.checkpoint()
        scope.cancel()


async def test_offload_that_is_cancelled_already_does_not_begin(offload: Offload) -> None:
    begun: list[Any] = []
    with trio.CancelScope() as scope:
        scope.cancel()
        await offload.run(lambda: begun.append(1), kind="fsync")
    assert begun == []


# --- vitals --------------------------------------------------------------------------------


@pytest.fixture(params=["real", "simulated"])
def vitals(request: pytest.FixtureRequest) -> Vitals:
    return HostVitals() if request.param == "real" else SimVitals(TrioClock())


async def test_vitals_are_in_their_ranges(vitals: Vitals) -> None:
    for _ in range(2):
        reading = vitals.read()
        assert 0.0 <= reading.cpu_fraction <= 1.0
        assert 0.0 < reading.memory_fraction < 1.0
        assert reading.load_1m >= 0.0
        assert reading.process_memory_bytes > 1_000_000
        assert reading.process_cpu_s > 0.0
        assert reading.open_files > 2
