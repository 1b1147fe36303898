"""Faults of the simulated network, and that a seed repeats them."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from muster.clock import TrioClock
from muster.entropy import SeededEntropy
from muster.net.endpoints import PacketEndpoint
from muster.sim.clock import SimClock
from muster.sim.network import BUFFER_PACKETS, UNREACHABLE_S, Link, SimFabric, SimNetwork
from muster_protocol.types import Address

A, B, C = "10.0.0.1", "10.0.0.2", "10.0.0.3"


def fabric_of(seed: str = "net", link: Link | None = None) -> tuple[SimFabric, list[SimNetwork]]:
    fabric = SimFabric(SeededEntropy(seed).stream("net"), link=link)
    return fabric, [fabric.host(ip, SimClock()) for ip in (A, B, C)]


async def drain(endpoint: PacketEndpoint) -> list[bytes]:
    await TrioClock().sleep(1.0)
    got = []
    while (packet := endpoint.receive_nowait()) is not None:
        got.append(packet[0])
    return got


async def traffic(seed: str, link: Link) -> list[bytes]:
    _, (a, b, _) = fabric_of(seed, link)
    sender = await a.open_packets(Address(A, 0))
    receiver = await b.open_packets(Address(B, 1))
    for number in range(200):
        sender.send_nowait(bytes([number]), receiver.address)
    return await drain(receiver)


async def test_loss_repetition_and_reordering_follow_from_the_seed(
    autojump_clock: MockClock,
) -> None:
    link = Link(delay_s=0.001, jitter_s=0.05, loss=0.2, duplicate=0.1)
    got = await traffic("one", link)
    assert got == await traffic("one", link)
    assert got != await traffic("two", link)
    assert got != sorted(got)
    assert 130 < len(set(got)) < 190
    assert len(got) > len(set(got))


async def test_packet_takes_its_time(autojump_clock: MockClock) -> None:
    _, (a, b, _) = fabric_of(link=Link(delay_s=0.25, jitter_s=0.0))
    sender, receiver = await a.open_packets(Address(A, 0)), await b.open_packets(Address(B, 1))
    start = trio.current_time()
    sender.send_nowait(b"x", receiver.address)
    assert receiver.receive_nowait() is None
    await receiver.receive()
    assert trio.current_time() - start == pytest.approx(0.25)


async def test_way_of_its_own_differs_from_the_others(autojump_clock: MockClock) -> None:
    fabric, (a, b, c) = fabric_of()
    fabric.set_link(A, B, Link(loss=1.0))
    ends = [await host.open_packets(Address(host.ip, 1)) for host in (a, b, c)]
    for source in ends:
        for target in ends:
            source.send_nowait(source.address.host.encode(), target.address)
    got = [sorted(await drain(end)) for end in ends]
    assert got == [[A.encode(), B.encode(), C.encode()], [B.encode(), C.encode()],
                   [A.encode(), B.encode(), C.encode()]]  # fmt: skip
    assert fabric.statistics().lost == 1


async def test_cut_is_one_way_or_both_and_heals(autojump_clock: MockClock) -> None:
    fabric, (a, b, _) = fabric_of()
    one, two = await a.open_packets(Address(A, 1)), await b.open_packets(Address(B, 1))

    async def passes() -> tuple[bool, bool]:
        one.send_nowait(b"x", two.address)
        two.send_nowait(b"x", one.address)
        return bool(await drain(two)), bool(await drain(one))

    fabric.cut(A, B, one_way=True)
    assert await passes() == (False, True)
    fabric.cut(A, B)
    assert await passes() == (False, False)
    fabric.heal(A, B)
    assert await passes() == (True, True)
    fabric.cut(A, B)
    fabric.heal_all()
    assert await passes() == (True, True)
    assert fabric.statistics().cut == 3


async def test_full_buffer_drops_what_comes_last(autojump_clock: MockClock) -> None:
    _, (a, b, _) = fabric_of()
    sender, receiver = await a.open_packets(Address(A, 0)), await b.open_packets(Address(B, 1))
    for _ in range(BUFFER_PACKETS + 5):
        sender.send_nowait(b"x", receiver.address)
    assert len(await drain(receiver)) == BUFFER_PACKETS
    assert receiver.overflowed == 5


async def test_packet_above_the_mtu_is_refused(autojump_clock: MockClock) -> None:
    _, (a, b, _) = fabric_of()
    sender, receiver = await a.open_packets(Address(A, 0)), await b.open_packets(Address(B, 1))
    assert not sender.send_nowait(bytes(1_473), receiver.address)
    assert sender.send_nowait(bytes(1_472), receiver.address)


async def test_stream_keeps_its_order_whatever_the_jitter(autojump_clock: MockClock) -> None:
    _, (a, b, _) = fabric_of(link=Link(delay_s=0.001, jitter_s=0.1))
    listener = await b.listen(Address(B, 1))
    dialler = await a.dial(listener.address)
    acceptor = await listener.accept()
    sent = b"".join(bytes([number]) * 10 for number in range(50))
    for start in range(0, len(sent), 10):
        await dialler.send_all(sent[start : start + 10])
    await dialler.aclose()
    got = b""
    while piece := await acceptor.receive_some(7):
        got += piece
    assert got == sent
    await acceptor.aclose()


async def test_dial_into_a_cut_or_to_no_host_times_out(autojump_clock: MockClock) -> None:
    fabric, (a, b, _) = fabric_of()
    listener = await b.listen(Address(B, 1))
    fabric.cut(B, A, one_way=True)
    for target in (listener.address, Address("10.0.0.99", 1)):
        start = trio.current_time()
        with pytest.raises(TimeoutError):
            await a.dial(target)
        assert trio.current_time() - start == pytest.approx(UNREACHABLE_S, abs=0.01)


async def test_killed_process_resets_its_streams_and_frees_its_ports(
    autojump_clock: MockClock,
) -> None:
    fabric, (a, b, _) = fabric_of()
    listener, packets = await b.listen(Address(B, 1)), await b.open_packets(Address(B, 1))
    stream = await a.dial(listener.address)
    successor = fabric.host(B, SimClock())
    with pytest.raises(trio.BrokenResourceError):
        await stream.receive_some(1)
    with pytest.raises(trio.ClosedResourceError):
        await packets.receive()
    with pytest.raises(trio.ClosedResourceError):
        await listener.accept()
    with pytest.raises(ConnectionRefusedError):
        await a.dial(listener.address)
    await successor.listen(Address(B, 1))
    await (await a.dial(Address(B, 1))).aclose()


async def test_cancelled_dial_leaves_no_stream(autojump_clock: MockClock) -> None:
    _, (a, b, _) = fabric_of(link=Link(delay_s=1.0, jitter_s=0.0))
    listener = await b.listen(Address(B, 1))
    with trio.move_on_after(1.5):
        await a.dial(listener.address)
    with pytest.raises(trio.BrokenResourceError):
        await (await listener.accept()).receive_some(1)


async def test_paused_host_reads_nothing_until_it_goes_on(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    _, (a, b, _) = fabric_of()
    sender, receiver = await a.open_packets(Address(A, 0)), await b.open_packets(Address(B, 1))
    got: list[float] = []

    async def take() -> None:
        while True:
            await receiver.receive()
            got.append(trio.current_time())

    nursery.start_soon(take)
    await trio.testing.wait_all_tasks_blocked()
    b.clock.pause()
    start = trio.current_time()
    sender.send_nowait(b"x", receiver.address)
    sender.send_nowait(b"y", receiver.address)
    await TrioClock().sleep(10.0)
    assert got == []
    b.clock.resume()
    await TrioClock().sleep(1.0)
    assert got == pytest.approx([start + 10.0] * 2)


async def test_slow_reader_reads_late_while_its_timers_are_on_time(
    autojump_clock: MockClock,
) -> None:
    fabric, (a, b, _) = fabric_of()
    sender, receiver = await a.open_packets(Address(A, 0)), await b.open_packets(Address(B, 1))
    fabric.reads_late(B, 0.5, 2.5)
    start, late = trio.current_time(), []
    for _ in range(50):
        sender.send_nowait(b"x", receiver.address)
    for _ in range(50):
        await receiver.receive()
        late.append(trio.current_time() - start)
    assert 0.5 < min(late) < 0.8
    assert 2.2 < max(late) < 2.51
    start = trio.current_time()
    await b.clock.sleep(1.0)
    assert trio.current_time() - start == pytest.approx(1.0)
    fabric.reads_late(B, 0.0, 0.0)
    sender.send_nowait(b"x", receiver.address)
    await receiver.receive()
    assert trio.current_time() - start < 1.1


async def test_clog_holds_packets_and_delivers_them_to_whoever_has_the_port_then(
    autojump_clock: MockClock,
) -> None:
    fabric, (a, b, _) = fabric_of()
    sender, receiver = await a.open_packets(Address(A, 0)), await b.open_packets(Address(B, 1))
    fabric.clog(A, B, 10.0)
    sender.send_nowait(b"held", receiver.address)
    receiver.send_nowait(b"the way back is free", sender.address)
    assert await drain(sender) == [b"the way back is free"]
    assert await drain(receiver) == []
    successor = await fabric.host(B, SimClock()).open_packets(Address(B, 1))
    start = trio.current_time()
    assert (await successor.receive())[0] == b"held"
    assert trio.current_time() - start == pytest.approx(8.0, abs=0.01)


async def test_packet_that_comes_to_a_free_port_is_not_kept_for_who_binds_it_later(
    autojump_clock: MockClock,
) -> None:
    _, (a, b, _) = fabric_of()
    sender = await a.open_packets(Address(A, 0))
    sender.send_nowait(b"too early", Address(B, 1))
    await TrioClock().sleep(1.0)
    assert await drain(await b.open_packets(Address(B, 1))) == []


async def test_host_without_power_answers_nothing_and_one_without_a_process_refuses(
    autojump_clock: MockClock,
) -> None:
    fabric, (a, b, _) = fabric_of()
    b.kill()
    with pytest.raises(ConnectionRefusedError):
        await a.dial(Address(B, 1))
    fabric.power_off(B)
    with pytest.raises(TimeoutError):
        await a.dial(Address(B, 1))
    await fabric.host(B, SimClock()).listen(Address(B, 1))
    await (await a.dial(Address(B, 1))).aclose()


async def test_what_is_read_is_told_at_the_moment_of_reading(autojump_clock: MockClock) -> None:
    told: list[tuple[str, str, str, bytes, float]] = []

    def tell(kind: str, source: Address, target: Address, data: bytes) -> None:
        told.append((kind, source.host, target.host, data, trio.current_time()))

    fabric = SimFabric(SeededEntropy("told").stream("net"), on_delivery=tell)
    a, b = fabric.host(A, SimClock()), fabric.host(B, SimClock())
    sender, receiver = await a.open_packets(Address(A, 0)), await b.open_packets(Address(B, 1))
    listener = await b.listen(Address(B, 1))
    dialler = await a.dial(listener.address)
    acceptor = await listener.accept()
    sender.send_nowait(b"p", receiver.address)
    await dialler.send_all(b"stream")
    await dialler.aclose()
    await TrioClock().sleep(5.0)
    assert told == []
    now = trio.current_time()
    await receiver.receive()
    assert await acceptor.receive_some(4) == b"stre"
    assert await acceptor.receive_some(4) == b"am"
    assert await acceptor.receive_some(4) == b""
    assert told == [
        ("packet", A, B, b"p", now),
        ("stream", A, B, b"stre", now),
        ("stream", A, B, b"am", now),
    ]
