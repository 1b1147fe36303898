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
from muster.sim.world import SimHost, power_off
from muster.world import World
from muster_protocol.errors import StorageError
from muster_protocol.types import Address


async def test_wall_clock_is_off_drifts_and_steps(autojump_clock: MockClock) -> None:
    right, wrong = SimClock(), SimClock(wall_offset_s=5.0, drift_ppm=100.0)
    await right.sleep(10_000.0)
    assert wrong.wall() - right.wall() == pytest.approx(6.0)
    wrong.step_wall(-6.0)
    assert wrong.wall() == pytest.approx(right.wall())
    assert wrong.now() == right.now()


async def test_wall_clock_does_not_jump_when_its_drift_changes(autojump_clock: MockClock) -> None:
    right, wrong = SimClock(), SimClock(drift_ppm=100.0)
    await right.sleep(10_000.0)
    wrong.drift_wall(-200.0)
    assert wrong.wall() - right.wall() == pytest.approx(1.0)
    await right.sleep(10_000.0)
    assert wrong.wall() - right.wall() == pytest.approx(-1.0)


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
    host.crash()
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


async def sync_in(world: World, data: bytes, ended: list[float]) -> None:
    handle = world.files.append("log")
    handle.write(data)
    await world.offload.run(handle.sync, kind="fsync")
    ended.append(trio.current_time())


async def test_slow_disk_stays_slow_in_the_next_life(
    host: SimHost, autojump_clock: MockClock
) -> None:
    host.start().offload.durations_s["fsync"] = 0.5
    host.crash()
    ended: list[float] = []
    start = trio.current_time()
    await sync_in(host.start(), b"x", ended)
    assert ended == [pytest.approx(start + 0.5)]


async def test_hung_disk_ends_nothing_until_it_goes_on(
    host: SimHost, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    world, ended = host.start(), list[float]()
    host.disk.hang()
    nursery.start_soon(sync_in, world, b"x", ended)
    await TrioClock().sleep(100.0)
    assert ended == []
    assert host.disk.files["log"].durable_bytes == 0
    host.disk.unhang()
    host.disk.hang()
    await TrioClock().sleep(100.0)
    assert ended == []
    start = trio.current_time()
    host.disk.unhang()
    await TrioClock().sleep(1.0)
    assert ended == [start]


async def test_power_failure_frees_who_waits_for_a_hung_disk_and_nothing_was_synced(
    host: SimHost, autojump_clock: MockClock
) -> None:
    world, ended = host.start(), list[float]()
    world.files.append("log")
    world.files.sync_directory()
    host.disk.hang()
    with trio.fail_after(10.0):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sync_in, world, b"x", ended)
            await TrioClock().sleep(1.0)
            host.power_off()
            nursery.cancel_scope.cancel()
    assert ended == []
    again = host.start()
    assert again.files.read("log") == b""
    await sync_in(again, b"the disk answers again", ended)
    assert len(ended) == 1


async def test_crash_resets_streams_and_lost_power_does_not(autojump_clock: MockClock) -> None:
    fabric = SimFabric(SeededEntropy("w").stream("net"))
    hosts = [SimHost(fabric, f"10.0.0.{number}", seed="w") for number in (1, 2, 3)]
    worlds = [host.start() for host in hosts]
    streams = []
    for world in worlds[1:]:
        await world.network.listen(Address(world.network.ip, 1))
        streams.append(await worlds[0].network.dial(Address(world.network.ip, 1)))
    hosts[1].crash()
    with pytest.raises(trio.BrokenResourceError):
        await streams[0].receive_some(1)
    hosts[2].power_off()
    with trio.move_on_after(100.0) as scope:
        await streams[1].receive_some(1)
    assert scope.cancelled_caught


async def test_power_goes_from_all_hosts_at_once(autojump_clock: MockClock) -> None:
    fabric = SimFabric(SeededEntropy("w").stream("net"))
    hosts = [SimHost(fabric, f"10.0.0.{number}", seed="w") for number in (1, 2)]
    for host in hosts:
        host.start().files.append("log").write(b"unsynced")
    power_off(hosts)
    assert [host.world for host in hosts] == [None, None]
    assert [host.start().files.names() for host in hosts] == [[], []]


async def test_paused_host_resumes_where_it_was(
    host: SimHost, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    host.start()
    host.pause()
    woken: list[float] = []

    async def sleep() -> None:
        await host.clock.sleep(1.0)
        woken.append(trio.current_time())

    nursery.start_soon(sleep)
    await TrioClock().sleep(5.0)
    assert woken == []
    host.resume()
    now = trio.current_time()
    await TrioClock().sleep(1.0)
    assert woken == [now]


@pytest.mark.parametrize("rate_ppm", [-1_000.0, -37.0, 41.0, 1_000.0])
async def test_a_fast_clock_wakes_when_it_shows_the_instant(
    autojump_clock: MockClock, rate_ppm: float
) -> None:
    """Never so early that the instant has not come yet: who waits for it again would spin."""
    clock, started = SimClock(rate_ppm=rate_ppm), trio.current_time()
    shown = clock.now()
    for number in range(1, 500):
        instant = clock.now() + number / 7.0
        await clock.sleep_until(instant)
        assert 0.0 <= clock.now() - instant < 1e-6
        with clock.move_on_at(instant + 0.1):
            await trio.sleep_forever()
        assert clock.now() >= instant + 0.1
    rate = (clock.now() - shown) / (trio.current_time() - started)
    assert rate == pytest.approx(1.0 + rate_ppm * 1e-6, abs=1e-9)
