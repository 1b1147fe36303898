"""How streams live through cuts, clogs, resets and lost power, and how they end."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import trio
from trio.testing import MockClock

from muster.clock import TrioClock
from muster.entropy import SeededEntropy
from muster.sim.clock import SimClock
from muster.sim.connection import RTO_MAX_S, STREAM_TIMEOUT_S
from muster.sim.links import RTO_S, Link
from muster.sim.network import SimFabric, SimListener, SimNetwork, SimStream
from muster.sim.streams import WINDOW_BYTES
from muster_protocol.types import Address

A, B, C = "10.0.0.1", "10.0.0.2", "10.0.0.3"
LISTENS = Address(B, 1)


@dataclass
class Line:
    """A has dialled B."""

    fabric: SimFabric
    a: SimNetwork
    b: SimNetwork
    listener: SimListener
    dialler: SimStream
    acceptor: SimStream


async def line_of(seed: str = "line", link: Link | None = None) -> Line:
    fabric = SimFabric(SeededEntropy(seed).stream("net"), link=link)
    a, b = fabric.host(A, SimClock()), fabric.host(B, SimClock())
    listener = await b.listen(LISTENS)
    dialler = await a.dial(LISTENS)
    return Line(fabric, a, b, listener, dialler, await listener.accept())


@pytest.fixture
async def line() -> Line:
    return await line_of()


async def wait(seconds: float) -> None:
    await TrioClock().sleep(seconds)


async def nothing_comes(stream: SimStream, within_s: float) -> bool:
    with trio.move_on_after(within_s) as scope:
        await stream.receive_some(1)
    return scope.cancelled_caught


async def breaks(stream: SimStream) -> float:
    """Read until the stream is broken; how long that took."""
    start = trio.current_time()
    with pytest.raises(trio.BrokenResourceError):
        await stream.receive_some(100)
    return trio.current_time() - start


async def test_cut_is_silent_and_what_was_sent_comes_in_order_after_the_heal(
    line: Line, autojump_clock: MockClock
) -> None:
    await line.dialler.send_all(b"under way ")
    line.fabric.cut(A, B)
    await line.dialler.send_all(b"one ")
    await wait(10.0)
    await line.dialler.send_all(b"two")
    assert await line.acceptor.receive_some(100) == b"under way "
    assert await nothing_comes(line.acceptor, 5.0)
    line.fabric.heal(A, B)
    start = trio.current_time()
    got = b""
    while got != b"one two":
        got += await line.acceptor.receive_some(100)
    assert 0.0 < trio.current_time() - start < 2 * 2 * 15.0  # the pause doubles with the cut
    await line.acceptor.send_all(b"ok")
    assert await line.dialler.receive_some(100) == b"ok"


async def test_retransmissions_are_at_most_two_minutes_apart(
    line: Line, autojump_clock: MockClock
) -> None:
    line.fabric.cut(A, B)
    await line.dialler.send_all(b"x")
    await wait(700.0)
    line.fabric.heal_all()
    start = trio.current_time()
    assert await line.acceptor.receive_some(1) == b"x"
    assert trio.current_time() - start <= RTO_MAX_S


async def test_flapping_way_delivers_only_while_it_is_whole(
    line: Line, autojump_clock: MockClock
) -> None:
    """A retransmission that falls into the next cut is lost as well."""
    line.fabric.cut(A, B)
    await line.dialler.send_all(b"x")
    await wait(1.9)
    for _ in range(20):
        line.fabric.heal(A, B)
        await wait(0.000_001)
        line.fabric.cut(A, B)
        await wait(1.0)
    assert await nothing_comes(line.acceptor, 1.0)
    line.fabric.heal(A, B)
    assert await line.acceptor.receive_some(1) == b"x"


async def test_sender_gives_up_after_a_quarter_of_an_hour_and_the_other_end_is_not_told(
    line: Line, autojump_clock: MockClock
) -> None:
    line.fabric.cut(A, B)
    await line.dialler.send_all(b"x")
    assert await breaks(line.dialler) == pytest.approx(STREAM_TIMEOUT_S)
    with pytest.raises(trio.BrokenResourceError):
        await line.dialler.send_all(b"y")
    line.fabric.heal(A, B)
    assert await nothing_comes(line.acceptor, 5_000.0)
    await line.acceptor.send_all(b"anybody?")
    assert await breaks(line.acceptor) < 0.01


async def test_sender_that_waits_for_room_gives_up_too(
    line: Line, autojump_clock: MockClock
) -> None:
    line.fabric.cut(A, B)
    start = trio.current_time()
    with pytest.raises(trio.BrokenResourceError):
        await line.dialler.send_all(bytes(2 * WINDOW_BYTES))
    assert trio.current_time() - start == pytest.approx(STREAM_TIMEOUT_S)


async def test_silent_stream_never_learns_of_a_cut(line: Line, autojump_clock: MockClock) -> None:
    line.fabric.cut(A, B)
    assert await nothing_comes(line.dialler, 100_000.0)
    line.fabric.heal(A, B)
    await line.dialler.send_all(b"as if nothing had been")
    assert await line.acceptor.receive_some(100) == b"as if nothing had been"


async def test_cut_of_the_way_back_stops_the_sender_at_its_first_retransmission(
    line: Line, autojump_clock: MockClock
) -> None:
    line.fabric.cut(B, A, one_way=True)
    for _ in range(20):
        await line.dialler.send_all(b"x")
        await wait(0.1)
    got = 0
    while not await nothing_comes(line.acceptor, 10.0):
        got += 1
    assert 2 <= got <= 4
    line.fabric.heal(A, B)
    while got < 20:
        got += len(await line.acceptor.receive_some(1))


async def test_close_into_a_cut_is_seen_after_the_heal(
    line: Line, autojump_clock: MockClock
) -> None:
    line.fabric.cut(A, B)
    await line.dialler.send_all(b"bye")
    await line.dialler.aclose()
    assert await nothing_comes(line.acceptor, 60.0)
    line.fabric.heal(A, B)
    assert await line.acceptor.receive_some(10) == b"bye"
    assert await line.acceptor.receive_some(10) == b""
    await line.acceptor.aclose()
    line.fabric.cut(A, C)
    assert line.fabric._streams == {}
    assert line.fabric._stalled == {}


async def test_old_connection_still_delivers_after_a_reconnect(
    line: Line, autojump_clock: MockClock
) -> None:
    line.fabric.cut(A, B)
    await line.dialler.send_all(b"old")
    await wait(3.0)
    line.fabric.heal(A, B)
    again = await line.a.dial(LISTENS)
    accepted = await line.listener.accept()
    await again.send_all(b"new")
    assert await accepted.receive_some(10) == b"new"
    since = trio.current_time()
    assert await line.acceptor.receive_some(10) == b"old"
    assert trio.current_time() - since > 0.1
    await again.aclose()


async def test_clogged_way_holds_a_stream_until_its_end(
    line: Line, autojump_clock: MockClock
) -> None:
    line.fabric.clog(A, B, 5.0)
    start = trio.current_time()
    await line.dialler.send_all(b"held")
    await line.acceptor.send_all(b"the way back is free")
    assert await line.dialler.receive_some(100) == b"the way back is free"
    assert await line.acceptor.receive_some(100) == b"held"
    assert trio.current_time() - start == pytest.approx(5.0, abs=0.01)


async def test_reset_ends_both_sides_at_once_and_a_new_stream_is_possible(
    line: Line, autojump_clock: MockClock
) -> None:
    await line.dialler.send_all(b"arrived")
    await wait(1.0)
    other = await line.fabric.host(C, SimClock()).dial(LISTENS)
    await line.dialler.send_all(b" and not")
    line.fabric.reset_streams(B, A)
    assert await line.acceptor.receive_some(100) == b"arrived"
    assert await breaks(line.acceptor) == await breaks(line.dialler) == 0.0
    await other.send_all(b"another way is not touched")
    await (await line.a.dial(LISTENS)).aclose()


async def test_reset_loses_what_is_under_way(line: Line, autojump_clock: MockClock) -> None:
    await line.dialler.send_all(b"x")
    line.fabric.reset_streams(A, B)
    with pytest.raises(trio.BrokenResourceError):
        await line.acceptor.receive_some(1)


async def test_held_stream_delivers_behind_one_that_was_dialled_later(
    line: Line, autojump_clock: MockClock
) -> None:
    start = trio.current_time()
    (old,) = line.fabric.hold_streams(B, A, 5.0)
    assert old is line.dialler
    await line.dialler.send_all(b"old")
    line.dialler.break_off()
    assert await breaks(line.dialler) == 0.0
    new = await line.a.dial(LISTENS)
    accepted = await line.listener.accept()
    await new.send_all(b"new")
    assert await accepted.receive_some(100) == b"new"
    assert trio.current_time() - start < 0.1
    assert await line.acceptor.receive_some(100) == b"old"
    assert trio.current_time() - start == pytest.approx(5.0, abs=0.01)
    assert line.fabric.hold_streams(A, C, 1.0) == ()


async def test_answer_over_a_held_stream_meets_a_reset_after_the_hold(
    line: Line, autojump_clock: MockClock
) -> None:
    line.fabric.hold_streams(A, B, 5.0)
    await line.dialler.send_all(b"old")
    line.dialler.break_off()
    await line.acceptor.send_all(b"are you there?")
    assert await line.acceptor.receive_some(100) == b"old"
    assert await breaks(line.acceptor) < 0.1


async def test_lost_power_leaves_the_peer_half_open_until_the_host_is_back(
    line: Line, autojump_clock: MockClock
) -> None:
    line.fabric.power_off(B)
    assert await nothing_comes(line.dialler, 1_000.0)
    await line.dialler.send_all(b"into the void")
    assert await nothing_comes(line.dialler, 60.0)
    line.fabric.host(B, SimClock())
    assert await breaks(line.dialler) <= 2 * 60.0


async def test_request_that_was_under_way_when_the_power_went_is_reset_by_the_next_process(
    line: Line, autojump_clock: MockClock
) -> None:
    await line.dialler.send_all(b"request")
    line.fabric.power_off(B)
    assert await nothing_comes(line.dialler, 10.0)
    line.fabric.host(B, SimClock())
    assert await breaks(line.dialler) < 20.0


async def test_host_that_does_not_come_back_is_given_up(
    line: Line, autojump_clock: MockClock
) -> None:
    line.fabric.power_off(B)
    await line.dialler.send_all(b"x")
    assert await breaks(line.dialler) == pytest.approx(STREAM_TIMEOUT_S)


async def test_process_that_is_killed_resets_its_streams_after_what_it_sent(
    line: Line, autojump_clock: MockClock
) -> None:
    await line.acceptor.send_all(b"last words")
    await wait(0.001)
    line.b.kill()
    assert await line.dialler.receive_some(100) == b"last words"
    assert await breaks(line.dialler) < 0.001
    with pytest.raises(trio.ClosedResourceError):
        await line.acceptor.receive_some(1)


async def test_reset_of_a_killed_process_is_lost_in_a_cut_and_repeated_when_asked(
    line: Line, autojump_clock: MockClock
) -> None:
    line.fabric.cut(A, B)
    line.b.kill()
    line.fabric.heal(A, B)
    assert await nothing_comes(line.dialler, 1_000.0)
    await line.dialler.send_all(b"x")
    assert await breaks(line.dialler) < 0.001


async def test_what_an_ended_process_left_unsent_does_not_come_from_its_successor(
    line: Line, autojump_clock: MockClock
) -> None:
    line.fabric.cut(A, B)
    await line.dialler.send_all(b"unsent")
    line.fabric.power_off(A)
    line.fabric.host(A, SimClock())
    line.fabric.heal_all()
    assert await nothing_comes(line.acceptor, 1_000.0)
    await line.acceptor.send_all(b"x")
    await breaks(line.acceptor)


async def test_bad_line_delays_a_stream_and_loses_nothing(autojump_clock: MockClock) -> None:
    line = await line_of(link=Link(loss=0.3, tail_s=0.01))
    start = trio.current_time()
    for value in range(200):
        await line.dialler.send_all(bytes([value]))
    assert [await line.acceptor.receive_some(7) for _ in range(200)] == [
        bytes([value]) for value in range(200)
    ]
    assert trio.current_time() - start > RTO_S


async def test_seed_repeats_a_run_with_cuts(autojump_clock: MockClock) -> None:
    async def arrivals(seed: str) -> list[float]:
        line, start = await line_of(seed, Link(tail_s=0.01)), trio.current_time()
        told: list[float] = []

        async def read() -> None:
            while len(told) < 6:
                await line.acceptor.receive_some(1)
                told.append(trio.current_time() - start)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            for number in range(6):
                (line.fabric.heal if number % 2 else line.fabric.cut)(A, B)
                await line.dialler.send_all(bytes([number]))
                await wait(0.5)
            line.fabric.heal_all()
        return told

    first = await arrivals("one")
    assert first == pytest.approx(await arrivals("one"))
    assert first != pytest.approx(await arrivals("two"))
