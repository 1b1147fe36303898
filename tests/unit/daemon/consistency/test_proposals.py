"""Commands that wait: what counts against the limit, and until when."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from muster.agents.consistency.proposals import (
    BATCH_COMMANDS_ENOUGH,
    IN_FLIGHT_MAX,
    Change,
    Proposals,
    Told,
)
from muster.clock import TrioClock
from muster_protocol.consistency.commands import Batch, Command, Done, Put, Result, decode_batch
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
async def proposing(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Proposals, Engine]]:
    """Nothing waits for the outcome of what was proposed before."""
    monkeypatch.setattr("muster.agents.consistency.proposals.IN_FLIGHT_MAX", 1_000)
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
    async with proposing(monkeypatch) as (proposals, engine):
        for number in range(3):
            await gives_up(proposals, number)
        with pytest.raises(Refused, match="too many requests"):
            await gives_up(proposals, 3)
        batch = decode_batch(engine.batches[0])
        assert proposals.applied(batch.origin, batch.number, [Done(1)])
        assert proposals.pending == 2
        await gives_up(proposals, 4)
        proposals.leadership_lost()
        assert (proposals.pending, proposals.pending_bytes) == (0, 0)


async def test_large_commands_are_refused_long_before_they_are_many(
    autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with proposing(monkeypatch) as (proposals, _):
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


class Waiting:
    """Changes that have begun, and what was told of them, by the number of their session."""

    def __init__(self) -> None:
        self.engine = Engine()
        self.proposals = Proposals(clock=TrioClock(), origin="o", propose=self.engine.propose)
        self.told: dict[int, Told | None] = {}

    def begin(self, *numbers: int, within_s: float = 10.0) -> None:
        for number in numbers:
            command = Command(f"{number:032x}", 1, 0, 0.0, Put("k", b"v"))
            change = Change(command, trio.current_time() + within_s, self._settle)
            self.proposals.begin(change, self._told)
        self.proposals.propose()

    def _told(self, change: Change, outcome: Told | None) -> None:
        number = int(change.command.session, 16)
        assert number not in self.told
        self.told[number] = outcome

    def _settle(self, change: Change, outcome: object) -> None:
        raise AssertionError("the attempt is told first")

    def sessions(self, batch: bytes) -> list[int]:
        return [int(command.session, 16) for command in decode_batch(batch).commands]

    def commit(self, batch: bytes) -> None:
        decoded: Batch = decode_batch(batch)
        assert self.proposals.commands(decoded.origin, decoded.number) == list(decoded.commands)
        results: list[Result] = [Done(1) for _ in decoded.commands]
        self.proposals.applied(decoded.origin, decoded.number, results)


async def test_changes_gather_while_earlier_ones_are_under_way(autojump_clock: object) -> None:
    waiting = Waiting()
    for number in range(IN_FLIGHT_MAX + 3):
        waiting.begin(number)
    batches = waiting.engine.batches
    assert [waiting.sessions(batch) for batch in batches] == [[n] for n in range(IN_FLIGHT_MAX)]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(waiting.proposals.run)
        waiting.commit(batches[0])
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert waiting.sessions(batches[-1]) == [IN_FLIGHT_MAX, IN_FLIGHT_MAX + 1, IN_FLIGHT_MAX + 2]
    assert waiting.told == {0: Done(1)}


async def test_many_changes_do_not_wait_for_earlier_ones(autojump_clock: object) -> None:
    waiting = Waiting()
    for number in range(IN_FLIGHT_MAX):
        waiting.begin(number)
    waiting.begin(*range(100, 100 + BATCH_COMMANDS_ENOUGH))
    assert len(waiting.engine.batches) == IN_FLIGHT_MAX + 1


async def test_each_change_is_told_at_its_own_deadline(autojump_clock: object) -> None:
    """Proposed: unknown. Not proposed yet: refused, it will never be."""
    waiting = Waiting()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(waiting.proposals.run)
        waiting.begin(0, within_s=3.0)
        for number in range(1, IN_FLIGHT_MAX):
            waiting.begin(number, within_s=9.0)
        waiting.begin(50, within_s=2.0)
        await trio.sleep(2.5)
        assert isinstance(waiting.told[50], Refused)
        assert list(waiting.told) == [50]
        await trio.sleep(1.0)
        assert isinstance(waiting.told[0], OutcomeUnknown)
        assert list(waiting.told) == [50, 0]
        waiting.commit(waiting.engine.batches[0])
        nursery.cancel_scope.cancel()
    assert waiting.proposals.pending == IN_FLIGHT_MAX - 1


async def test_the_end_tells_everybody_once(autojump_clock: object) -> None:
    waiting = Waiting()
    for number in range(IN_FLIGHT_MAX + 1):
        waiting.begin(number)
    waiting.proposals.close()
    assert isinstance(waiting.told.pop(IN_FLIGHT_MAX), Refused)
    assert all(isinstance(outcome, OutcomeUnknown) for outcome in waiting.told.values())
    assert len(waiting.told) == IN_FLIGHT_MAX
    assert (waiting.proposals.pending, waiting.proposals.pending_bytes) == (0, 0)
