"""Streams between voters."""

from __future__ import annotations

import collections
import random
from typing import Any

import trio

from muster.agents.consistency.links import SILENCE_S, VoterLinks, _Link
from muster.clock import TrioClock
from muster_protocol.types import NodeId
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
        _Link(connection, scope, collections.deque(), 0, trio.Event(), trio.Event(), heard_at)
    )
    assert scope.cancel_called
