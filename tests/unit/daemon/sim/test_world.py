"""Clock, offload and the bundle of a simulated host."""

from __future__ import annotations

import gc

import pytest
import trio
from trio.testing import MockClock

from muster.clock import TrioClock
from muster.entropy import SeededEntropy
from muster.sim.clock import SimClock
from muster.sim.network import SimFabric
from muster.sim.offload import SimOffload
from muster.sim.world import SimHost
from muster_protocol.errors import StorageError
from muster_protocol.types import Address


async def test_wall_clock_is_off_drifts_and_steps(autojump_clock: MockClock) -> None:
    right, wrong = SimClock(), SimClock(wall_offset_s=5.0, drift_ppm=100.0)
    await right.sleep(10_000.0)
    assert wrong.wall() - right.wall() == pytest.approx(6.0)
    wrong.step_wall(-6.0)
    assert wrong.wall() == pytest.approx(right.wall())
    assert wrong.now() == right.now()


async def test_suspend_shows_in_boot_time_only(autojump_clock: MockClock) -> None:
    clock = SimClock()
    before = clock.boot() - clock.now()
    clock.suspend(60.0)
    assert clock.boot() - clock.now() == pytest.approx(before + 60.0)


async def test_pause_holds_sleeps_and_time_outs_until_resumed(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    clock, start = SimClock(), trio.current_time()
    woken: dict[str, float] = {}

    async def sleeper() -> None:
        await clock.sleep(1.0)
        woken["sleep"] = clock.now() - start

    async def waiter(seconds: float) -> None:
        with clock.move_on_after(seconds):
            await trio.sleep_forever()
        woken[f"timeout {seconds}"] = clock.now() - start

    nursery.start_soon(sleeper)
    nursery.start_soon(waiter, 2.0)
    nursery.start_soon(waiter, 20.0)
    await trio.testing.wait_all_tasks_blocked()
    clock.pause()
    clock.pause()
    await TrioClock().sleep(10.0)
    assert woken == {}
    clock.resume()
    await TrioClock().sleep(20.0)
    assert woken == pytest.approx({"sleep": 10.0, "timeout 2.0": 10.0, "timeout 20.0": 20.0})


async def test_scopes_that_have_ended_are_forgotten(autojump_clock: MockClock) -> None:
    clock = SimClock()
    for _ in range(100):
        with clock.move_on_after(1.0):
            await clock.sleep(0.1)
    await clock.sleep(2.0)  # trio keeps an ended scope until its deadline has passed
    gc.collect()
    assert len(clock._scopes) <= 1


async def test_offload_takes_the_time_of_its_kind(autojump_clock: MockClock) -> None:
    clock = SimClock()
    offload = SimOffload(clock, durations_s={"fsync": 0.5})
    start = clock.now()
    assert await offload.run(lambda: "done", kind="fsync") == "done"
    assert clock.now() - start == pytest.approx(0.5)


@pytest.fixture
def host() -> SimHost:
    return SimHost(SimFabric(SeededEntropy("w").stream("net")), "10.0.0.1", seed="w")


async def test_work_that_the_power_failure_interrupts_has_not_happened(
    host: SimHost, autojump_clock: MockClock
) -> None:
    world = host.start()
    handle = world.files.append("log")
    world.files.sync_directory()
    handle.write(b"acknowledged?")
    ended: list[str] = []

    async def process() -> None:
        await world.offload.run(handle.sync, kind="fsync")
        ended.append("sync")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(process)
        await TrioClock().sleep(0.000_5)
        host.power_off()
        nursery.cancel_scope.cancel()
    assert ended == []
    assert host.start().files.read("log") == b""


async def test_killed_process_keeps_the_page_cache_and_loses_its_hands(
    host: SimHost, autojump_clock: MockClock
) -> None:
    old = host.start()
    old.files.append("log").write(b"written")
    packets = await old.network.open_packets(Address("10.0.0.1", 1))
    host.clock.pause()
    host.kill()
    new = host.start()
    assert not host.clock.is_paused
    assert new.files.read("log") == b"written"
    with pytest.raises(StorageError):
        old.files.read("log")
    with pytest.raises(trio.ClosedResourceError):
        await packets.receive()


async def test_lives_of_a_host_draw_differently_and_runs_of_a_seed_alike(
    autojump_clock: MockClock,
) -> None:
    def tokens() -> list[bytes]:
        fabric = SimFabric(SeededEntropy("w").stream("net"))
        hosts = [SimHost(fabric, f"10.0.0.{number}", seed="w") for number in (1, 2)]
        return [host.start().entropy.token_bytes(8) for host in hosts for _ in range(2)]

    assert tokens() == tokens()
    assert len(set(tokens())) == 4
