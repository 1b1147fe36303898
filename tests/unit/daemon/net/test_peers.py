"""Peer streams without TLS, on the simulated network and virtual time."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest
import trio
from trio.testing import MockClock

from muster.clock import TrioClock
from muster.entropy import SeededEntropy
from muster.net.frames import FrameStream
from muster.net.peers import DIAL_S, HELLO_S, PeerConnection, PeerLimits
from muster.sim.clock import SimClock
from muster.sim.network import SimFabric, SimNetwork
from muster_protocol.crypto.keyring import Keyring
from muster_protocol.errors import LocalError, RemoteError
from muster_protocol.limits import HELLO_FRAME_BYTES_MAX
from muster_protocol.types import Address, ClusterId
from muster_protocol.wire.codec import encode
from muster_protocol.wire.hello import Hello, HelloRefused, Purpose, decode_hello, encode_hello
from testkit.peer_nodes import PeerNode, make_node


class Lan:
    """Nodes a, b, … and strangers on one fabric."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.nursery = nursery
        self.fabric = SimFabric(SeededEntropy("peers").stream("net"))

    def host(self, name: str) -> SimNetwork:
        return self.fabric.host(f"10.0.0.{ord(name)}", SimClock())

    async def node(self, name: str, limits: PeerLimits | None = None) -> PeerNode:
        network = self.host(name)
        node = await make_node(name, network, host=network.ip, limits=limits)
        await self.nursery.start(node.serve)
        return node

    async def stranger(self, to: PeerNode) -> FrameStream:
        """A stream that has not said hello."""
        self._stranger = getattr(self, "_stranger", None) or self.host("x")
        return FrameStream(await self._stranger.dial(to.address), bytes_max=100_000)


@pytest.fixture
def lan(nursery: trio.Nursery) -> Lan:
    return Lan(nursery)


async def settle() -> None:
    await TrioClock().sleep(0.1)


async def cause_of(dialler: PeerNode, acceptor: PeerNode, purpose: Purpose = Purpose.SYNC) -> str:
    with pytest.raises(RemoteError) as caught:
        await dialler.streams.dial(acceptor.id, acceptor.address, purpose)
    await settle()
    return caught.value.cause


async def test_peers_introduce_themselves_before_anything_else(
    lan: Lan, autojump_clock: MockClock
) -> None:
    a, b = await lan.node("a"), await lan.node("b")
    connection = await a.streams.dial(b.id, b.address, Purpose.PROPOSE)
    assert connection.peer.name == "node-b"
    assert connection.remote == b.address
    await connection.send(b"x" * 100_000)
    assert await connection.receive() == b"x" * 100_000
    (served,) = b.served
    assert (served.peer.name, served.peer.purpose) == ("node-a", Purpose.PROPOSE)
    await connection.aclose()
    await settle()
    statistics = [node.streams.statistics() for node in (a, b)]
    assert [(one.open, one.pending, one.dialled, one.accepted) for one in statistics] == [
        (0, 0, 1, 0),
        (0, 0, 0, 1),
    ]


async def test_address_may_be_dialled_without_knowing_who_is_there(
    lan: Lan, autojump_clock: MockClock
) -> None:
    a, b = await lan.node("a"), await lan.node("b")
    connection = await a.streams.dial(None, b.address, Purpose.SYNC)
    assert connection.peer.node_id == b.id
    await connection.aclose()


async def test_epochs_are_unique_in_a_process(lan: Lan, autojump_clock: MockClock) -> None:
    a, b = await lan.node("a"), await lan.node("b")
    connections = [await one.streams.dial(None, two.address, Purpose.SYNC)
                   for one, two in ((a, b), (b, a), (a, b), (b, a))]  # fmt: skip
    await settle()
    of_a = [one.epoch for one in (connections[0], connections[2], *a.served)]
    assert len(set(of_a)) == 4
    for connection in connections:
        await connection.aclose()


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"cluster_id": "1" * 32}, "foreign-cluster"),
        ({"label": "other"}, "foreign-label"),
        ({"minor_min": 5, "minor_max": 6}, "version"),
        ({"major": 2}, "version"),
        ({"node_id": "b" * 32}, "duplicate-id"),
        ({"node_id": "b" * 32, "boot": "b" * 24}, "self"),
    ],
)
async def test_refusal_is_told_to_the_dialler_and_counted_by_both(
    lan: Lan, autojump_clock: MockClock, changes: dict[str, object], cause: str
) -> None:
    a, b = await lan.node("a"), await lan.node("b")
    b.hello = msgspec.structs.replace(b.hello, cluster_id="2" * 32)
    a.hello = msgspec.structs.replace(a.hello, **changes)
    assert await cause_of(a, b) == cause
    assert a.refused == b.refused == {cause: 1}
    assert b.served == []
    assert b.streams.statistics().pending == 0


async def test_who_dials_from_a_cluster_that_was_recovered_learns_that_it_is_superseded(
    lan: Lan, autojump_clock: MockClock
) -> None:
    a, b = await lan.node("a"), await lan.node("b")
    a.hello = msgspec.structs.replace(a.hello, cluster_id="1" * 32)
    b.hello = msgspec.structs.replace(b.hello, cluster_id="2" * 32)
    b.streams.ancestors = (ClusterId("1" * 32),)
    assert await cause_of(b, a) == "foreign-cluster"
    assert not a.streams.superseded
    assert await cause_of(a, b) == "recovered"
    assert "--rejoin " + "2" * 32 in a.streams.superseded
    assert not b.streams.superseded


async def test_purpose_without_a_handler_is_refused(lan: Lan, autojump_clock: MockClock) -> None:
    a, b = await lan.node("a"), await lan.node("b")
    assert await cause_of(a, b, Purpose.BOOTSTRAP) == "purpose"


async def test_nobody_there_is_an_os_error(lan: Lan, autojump_clock: MockClock) -> None:
    a, b = await lan.node("a"), await lan.node("b")
    with pytest.raises(ConnectionRefusedError):
        await a.streams.dial(None, Address(b.address.host, 1), Purpose.SYNC)
    lan.fabric.cut(a.address.host, b.address.host)
    start = trio.current_time()
    with pytest.raises(TimeoutError):
        await a.streams.dial(b.id, b.address, Purpose.SYNC)
    assert trio.current_time() - start <= DIAL_S + 0.001
    assert a.refused == {}


async def test_acceptor_that_stays_silent_is_given_up(lan: Lan, autojump_clock: MockClock) -> None:
    a = await lan.node("a")
    host = lan.host("m")
    mute = await host.listen(Address(host.ip, 0))
    with pytest.raises(RemoteError, match="no hello within") as caught:
        await a.streams.dial(None, mute.address, Purpose.SYNC)
    assert caught.value.cause == "timeout"


async def test_acceptor_that_hangs_up_is_named(lan: Lan, autojump_clock: MockClock) -> None:
    a = await lan.node("a")
    host = lan.host("m")
    listener = await host.listen(Address(host.ip, 0))

    async def hang_up() -> None:
        await (await listener.accept()).aclose()

    lan.nursery.start_soon(hang_up)
    with pytest.raises(RemoteError) as caught:
        await a.streams.dial(None, listener.address, Purpose.SYNC)
    assert caught.value.cause == "broken"


async def test_dialler_that_stays_silent_is_told_and_dropped(
    lan: Lan, autojump_clock: MockClock
) -> None:
    b = await lan.node("b")
    start = trio.current_time()
    stranger = await lan.stranger(b)
    refused = decode_hello(await stranger.receive())
    assert isinstance(refused, HelloRefused)
    assert refused.reason == "timeout"
    assert trio.current_time() - start == pytest.approx(HELLO_S, abs=0.01)
    await stranger.aclose()
    await settle()
    assert b.refused == {"timeout": 1}
    assert b.streams.statistics().pending == 0


@pytest.mark.parametrize(
    ("first_frame", "cause"),
    [
        (lambda hello: b"\xc1", "garbage"),
        (lambda hello: encode([1, 2, "of the future"]), "version"),
        (lambda hello: encode_hello(HelloRefused(1, "no", "no")), "garbage"),
        (lambda hello: encode_hello(msgspec.structs.replace(hello, purpose="weather")), "purpose"),
        (lambda hello: b"x" * (HELLO_FRAME_BYTES_MAX + 1), "oversized"),
    ],
)
async def test_stranger_is_told_why_and_dropped(
    lan: Lan, autojump_clock: MockClock, first_frame: Callable[[Hello], bytes], cause: str
) -> None:
    b = await lan.node("b")
    stranger = await lan.stranger(b)
    await stranger.send(first_frame(msgspec.structs.replace(b.hello, node_id="c" * 32)))
    refused = decode_hello(await stranger.receive())
    assert isinstance(refused, HelloRefused)
    assert refused.reason == cause
    await stranger.aclose()
    await settle()
    assert b.refused == {cause: 1}


async def test_refusal_is_not_lost_when_more_was_said_than_was_read(
    lan: Lan, autojump_clock: MockClock
) -> None:
    """Closing with unread input resets a connection, and takes what is under way with it."""
    b = await lan.node("b")
    stranger = await lan.stranger(b)
    await stranger.send(b"\xc1")
    await stranger.send(b"and on it goes")
    assert isinstance(decode_hello(await stranger.receive()), HelloRefused)
    await stranger.aclose()


@pytest.mark.parametrize("trusted", [True, False])
async def test_alert_is_not_lost_when_the_hello_is_on_its_way(
    lan: Lan, autojump_clock: MockClock, trusted: bool
) -> None:
    """The dialler has sent its hello before the acceptor refuses its certificate."""
    mine, theirs = Keyring([b"s" * 32], label="lab"), Keyring([b"t" * 32], label="lab")
    ring_a = mine.install(b"t" * 32) if trusted else mine
    nodes = []
    for name, ring in (("a", ring_a), ("b", theirs)):
        network = lan.host(name)
        nodes.append(await make_node(name, network, host=network.ip, keyring=ring))
        await lan.nursery.start(nodes[-1].serve)
    assert await cause_of(nodes[0], nodes[1]) == "wrong-secret"
    assert [node.refused for node in nodes] == [{"wrong-secret": 1}] * 2


async def test_stranger_that_never_closes_is_closed(lan: Lan, autojump_clock: MockClock) -> None:
    b = await lan.node("b")
    stranger = await lan.stranger(b)
    await stranger.send(b"\xc1")
    await stranger.receive()
    assert await stranger.receive() == b""
    await stranger.aclose()


async def test_pending_streams_of_one_host_cannot_keep_others_out(
    lan: Lan, autojump_clock: MockClock
) -> None:
    a = await lan.node("a")
    b = await lan.node("b", PeerLimits(total=8, pending=4, per_host=6, pending_per_host=2))
    strangers = [await lan.stranger(b) for _ in range(5)]
    await settle()
    statistics = b.streams.statistics()
    assert (statistics.pending, statistics.turned_away) == (2, 3)
    connection = await a.streams.dial(b.id, b.address, Purpose.SYNC)
    await connection.send(b"hello")
    assert await connection.receive() == b"hello"
    await connection.aclose()
    for stranger in strangers:
        await stranger.aclose()
    await settle()
    assert b.streams.statistics().pending == 0


async def test_established_streams_are_capped_per_host_and_in_all(
    lan: Lan, autojump_clock: MockClock
) -> None:
    a, c = await lan.node("a"), await lan.node("c")
    b = await lan.node("b", PeerLimits(total=4, pending=4, per_host=3, pending_per_host=3))
    open_ones = [await a.streams.dial(None, b.address, Purpose.SYNC) for _ in range(3)]
    assert await cause_of(a, b) == "broken"
    open_ones.append(await c.streams.dial(None, b.address, Purpose.SYNC))
    assert await cause_of(c, b) == "broken"
    await open_ones.pop(0).aclose()
    await settle()
    open_ones.append(await c.streams.dial(None, b.address, Purpose.SYNC))
    for connection in open_ones:
        await connection.aclose()


async def test_handler_that_refuses_drops_its_connection_only(
    lan: Lan, autojump_clock: MockClock
) -> None:
    a, b = await lan.node("a"), await lan.node("b")

    async def refuse(connection: PeerConnection) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep, 5.0)
            raise RemoteError("nonsense", f"{connection.peer.name} said something odd")

    b.streams.handlers[Purpose.SIGNALS] = refuse
    bystander = await a.streams.dial(b.id, b.address, Purpose.SYNC)
    dropped = await a.streams.dial(b.id, b.address, Purpose.SIGNALS)
    assert await dropped.receive() == b""
    assert b.refused == {"nonsense": 1}
    assert [line.fields["cause"] for line in b.told] == ["nonsense"]
    await bystander.send(b"unmoved")
    assert await bystander.receive() == b"unmoved"
    for connection in (bystander, dropped):
        await connection.aclose()


async def test_stream_whose_agent_ended_meanwhile_is_dropped_and_counted(
    lan: Lan, autojump_clock: MockClock
) -> None:
    """The handler goes between the two hellos; seen when a voter refused to start."""
    a, b = await lan.node("a"), await lan.node("b")
    hello = b.streams._hello

    def ending(purpose: Purpose) -> Hello:
        del b.streams.handlers[purpose]
        return hello(purpose)

    b.streams._hello = ending
    connection = await a.streams.dial(b.id, b.address, Purpose.RAFT)
    assert await connection.receive() == b""
    await connection.aclose()
    assert b.refused == {"purpose": 1}


async def test_handler_that_crashes_is_not_hidden(lan: Lan, autojump_clock: MockClock) -> None:
    a = await lan.node("a")
    network = lan.host("b")
    b = await make_node("b", network, host=network.ip)

    async def crash(connection: PeerConnection) -> None:
        raise LocalError("our own bug")

    b.streams.handlers[Purpose.SYNC] = crash

    async def serve() -> None:
        with pytest.raises(ExceptionGroup) as caught:
            await b.serve()
        assert caught.group_contains(LocalError, match="our own bug")
        done.set()

    done = trio.Event()
    lan.nursery.start_soon(serve)
    await trio.testing.wait_all_tasks_blocked()
    connection = await a.streams.dial(b.id, b.address, Purpose.SYNC)
    await done.wait()
    await connection.aclose()


async def test_reset_breaks_both_ends_and_nothing_is_counted(
    lan: Lan, autojump_clock: MockClock
) -> None:
    a, b = await lan.node("a"), await lan.node("b")
    connection = await a.streams.dial(b.id, b.address, Purpose.RAFT)
    await settle()
    lan.fabric.reset_streams(a.address.host, b.address.host)
    with pytest.raises(trio.BrokenResourceError):
        await connection.receive()
    await connection.aclose()
    await settle()
    assert b.streams.statistics().open == 0
    assert b.refused == {}


async def test_frame_cut_short_by_cancellation_ends_the_stream(
    lan: Lan, autojump_clock: MockClock
) -> None:
    """Half a frame followed by another one would be read as garbage."""
    a, b = await lan.node("a"), await lan.node("b")
    b.streams.handlers[Purpose.SNAPSHOT] = lambda connection: TrioClock().sleep(60.0)
    connection = await a.streams.dial(b.id, b.address, Purpose.SNAPSHOT)
    with trio.move_on_after(1.0) as scope:
        await connection.send(bytes(1_000_000))
    assert scope.cancelled_caught
    with trio.fail_after(1.0), pytest.raises(trio.BrokenResourceError):
        await connection.send(b"next")
    await connection.aclose()


async def test_stream_that_ends_inside_a_frame_is_truncated(
    lan: Lan, autojump_clock: MockClock
) -> None:
    a, b = await lan.node("a"), await lan.node("b")
    connection = await a.streams.dial(b.id, b.address, Purpose.SYNC)
    await connection._frames._stream.send_all(b"\0\0\0\x09only")
    await connection.aclose()
    await settle()
    assert b.refused == {"truncated": 1}


async def test_many_senders_do_not_mix_their_frames(lan: Lan, autojump_clock: MockClock) -> None:
    a, b = await lan.node("a"), await lan.node("b")
    connection = await a.streams.dial(b.id, b.address, Purpose.SYNC)
    async with trio.open_nursery() as nursery:
        for number in range(5):
            nursery.start_soon(connection.send, bytes([number]) * 200_000)
        got = [await connection.receive() for _ in range(5)]
    assert got == [bytes([number[0]]) * 200_000 for number in got]
    assert sorted(frame[0] for frame in got) == [0, 1, 2, 3, 4]
    await connection.aclose()


async def test_cancelled_dial_leaves_nothing_open(lan: Lan, autojump_clock: MockClock) -> None:
    a = await lan.node("a")
    host = lan.host("m")
    mute = await host.listen(Address(host.ip, 0))
    with trio.move_on_after(1.0):
        await a.streams.dial(None, mute.address, Purpose.SYNC)
    accepted = await mute.accept()
    while await accepted.receive_some(1_000):
        pass
    assert a.streams.statistics().open == 0
    await accepted.aclose()
