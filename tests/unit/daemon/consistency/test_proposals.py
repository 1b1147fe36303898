"""Commands that wait: what counts against the limit, and until when."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from muster.agents.consistency.proposals import Proposals
from muster.clock import TrioClock
from muster_protocol.consistency.commands import Command, Done, Put, decode_batch
from muster_protocol.errors import OutcomeUnknown, Refused
from muster_protocol.limits import VALUE_BYTES_MAX, WAITING_BYTES_MAX


class Engine:
    """Takes every batch, and commits none by itself."""

    def __init__(self) -> None:
        self.batches: list[bytes] = []

    def propose(self, batch: bytes) -> bool:
        self.batches.append(batch)
        return True


@asynccontextmanager
async def proposing() -> AsyncIterator[tuple[Proposals, Engine]]:
    engine = Engine()
    proposals = Proposals(clock=TrioClock(), origin="o", propose=engine.propose)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(proposals.run)
        yield proposals, engine
        nursery.cancel_scope.cancel()


async def gives_up(proposals: Proposals, number: int, value: bytes = b"v") -> None:
    """A client whose time is up before anything is committed."""
    command = Command(f"{number:032x}", 1, 0, 0.0, Put("k", value))
    with pytest.raises(OutcomeUnknown):
        await proposals.submit(command, deadline=trio.current_time() + 1.0)


async def test_what_was_proposed_counts_until_its_outcome_is_known(
    autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a majority's disks hang, clients come and give up, and the log keeps all of it."""
    monkeypatch.setattr("muster.agents.consistency.proposals.WAITING_COMMANDS_MAX", 3)
    async with proposing() as (proposals, engine):
        for number in range(3):
            await gives_up(proposals, number)
        with pytest.raises(Refused, match="too many requests"):
            await gives_up(proposals, 3)
        batch = decode_batch(engine.batches[0])
        assert not proposals.applied(batch, (Done(1),)) or proposals.pending == 2
        await gives_up(proposals, 4)
        proposals.leadership_lost()
        assert (proposals.pending, proposals.pending_bytes) == (0, 0)


async def test_large_commands_are_refused_long_before_they_are_many(autojump_clock: object) -> None:
    async with proposing() as (proposals, _):
        fitting = WAITING_BYTES_MAX // VALUE_BYTES_MAX - 1  # what stands around a value takes some
        async with trio.open_nursery() as nursery:
            for number in range(fitting):
                nursery.start_soon(gives_up, proposals, number, bytes(VALUE_BYTES_MAX))
        assert proposals.pending == fitting
        with pytest.raises(Refused, match="too many requests"):
            await gives_up(proposals, fitting, bytes(VALUE_BYTES_MAX))
        assert proposals.pending_bytes <= WAITING_BYTES_MAX


async def test_what_was_withdrawn_or_refused_counts_no_more(autojump_clock: object) -> None:
    proposals = Proposals(clock=TrioClock(), origin="o", propose=lambda _: False)
    command = Command("1" * 32, 1, 0, 0.0, Put("k", b"v"))
    with pytest.raises(Refused):  # nobody runs it: it is withdrawn when its time is up
        await proposals.submit(command, deadline=trio.current_time() + 1.0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(proposals.run)
        with pytest.raises(Refused):
            await proposals.submit(command, deadline=trio.current_time() + 1.0)
        nursery.cancel_scope.cancel()
    assert (proposals.pending, proposals.pending_bytes) == (0, 0)
