"""Streams between voters."""

from __future__ import annotations

import collections
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import trio

from muster.agents.consistency.links import SILENCE_S, VoterLinks, _Link
from muster.clock import TrioClock
from muster_protocol.types import Address, NodeId
from muster_protocol.wire.hello import Purpose
from muster_protocol.wire.raft import Configuration, Voter

ME = NodeId("0" * 32)


class Standing(TrioClock):
    """A clock that stands at one instant; sleeping until then returns at once."""

    def __init__(self, instant: float) -> None:
        self.instant = instant
        self.slept = 0

    def now(self) -> float:
        return self.instant

    async def sleep_until(self, instant: float) -> None:
        assert instant <= self.instant, "nobody comes to wake us"
        self.slept += 1
        assert self.slept < 3, "it sleeps for ever until now"
        await trio.lowlevel.checkpoint()


async def test_a_watch_waits_for_one_instant_and_ends() -> None:
    """Where `heard_at + SILENCE_S` is rounded down, the difference to it is still too small."""
    rng = random.Random(1)
    instants = (rng.uniform(0.0, 100.0) for _ in range(100_000))
    heard_at = next(at for at in instants if (at + SILENCE_S) - at < SILENCE_S)
    links = VoterLinks(
        me=ME,
        configuration=lambda: Configuration((Voter(ME, "0" * 16),)),
        streams=None,  # type: ignore[arg-type]  # nobody is dialled
        clock=Standing(heard_at + SILENCE_S),
        rng=rng,
        address_of=lambda _: None,
        take=lambda _: None,
    )
    connection: Any = None
    scope = trio.CancelScope()
    await links._watch(
        _Link(connection, scope, collections.deque(), 0, trio.Event(), trio.Event(), heard_at, 0.0)
    )
    assert scope.cancel_called


# --- whom it dials --------------------------------------------------------------------------------

LOWER, HIGHER = NodeId("1" * 32), NodeId("f" * 32)
MIDDLE = NodeId("5" * 32)


class Connection:
    """A stream to a peer, until the test closes it."""

    epoch = 1
    has_unsent = False

    def __init__(self, peer: NodeId) -> None:
        self.peer = SimpleNamespace(node_id=peer, generation="0" * 16, boot="b", name="peer")
        self.closed = trio.Event()

    async def receive(self) -> bytes:
        await self.closed.wait()
        return b""

    def send_nowait(self, data: bytes) -> bool:
        return bool(data)

    async def send(self, data: bytes) -> None:
        del data

    async def aclose(self) -> None:
        self.closed.set()


class Dialler:
    """Links of MIDDLE, whose electorate is what the test says; all that it dials answers."""

    def __init__(self, *others: NodeId, witness: str = "") -> None:
        self.says(*others, witness=witness)
        self.dialled: list[NodeId] = []
        self.connections: list[Connection] = []
        self.events: list[Any] = []
        self.links = VoterLinks(
            me=MIDDLE,
            configuration=lambda: self.configuration,
            streams=self,  # type: ignore[arg-type]  # it dials, which is all that is used of streams
            clock=TrioClock(),
            rng=random.Random(1),
            address_of=lambda _: Address("127.0.0.1", 1),
            take=self.events.append,
        )

    def says(self, *others: NodeId, witness: str = "") -> None:
        voters = tuple(Voter(node, "0" * 16) for node in sorted((MIDDLE, *others)))
        self.configuration = Configuration(voters, witness=witness)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.links.run)
            await trio.sleep(0.1)
            yield
            nursery.cancel_scope.cancel()

    async def dial(self, peer: NodeId, address: Address, purpose: Purpose) -> Connection:
        del address, purpose
        self.dialled.append(peer)
        self.connections.append(Connection(peer))
        await trio.lowlevel.checkpoint()
        return self.connections[-1]


async def test_a_link_to_who_lost_its_seat_stays_until_it_ends_and_is_not_dialled_again(
    autojump_clock: object,
) -> None:
    dialler = Dialler(HIGHER)
    async with dialler.running():
        dialler.says()
        dialler.links.reconfigured()
        await trio.sleep(0.1)
        assert dialler.dialled == [HIGHER]
        assert not dialler.connections[0].closed.is_set()
        dialler.connections[0].closed.set()
        await trio.sleep(30.0)
        assert dialler.dialled == [HIGHER]
        dialler.says(HIGHER)
        dialler.links.reconfigured()
        await trio.sleep(0.1)
        assert dialler.dialled == [HIGHER, HIGHER]


async def test_who_lost_its_seat_while_it_could_not_be_reached_is_dialled_no_more(
    autojump_clock: object,
) -> None:
    dialler = Dialler(LOWER)
    async with dialler.running():
        dialler.says()
        dialler.links.reconfigured()
        await trio.sleep(30.0)
        assert dialler.dialled == []


async def test_a_witness_is_dialled_at_once_whatever_its_id(autojump_clock: object) -> None:
    dialler = Dialler(LOWER, witness=LOWER)
    async with dialler.running():
        assert dialler.dialled == [LOWER]
