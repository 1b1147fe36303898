"""Linearizable reads that wait for their confirmation."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio

from muster.agents.consistency.reads import Reads
from muster.clock import TrioClock
from muster_protocol.errors import Refused


class Guard:
    """Notes what is wanted."""

    def __init__(self, *, takes: bool = True) -> None:
        self.tickets: list[int] = []
        self.takes = takes

    def want(self, ticket: int) -> bool:
        self.tickets.append(ticket)
        return self.takes


def asking(reads: Reads, answers: list[int | str]) -> Callable[[], Awaitable[None]]:
    async def ask() -> None:
        try:
            answers.append(await reads.confirm(deadline=trio.current_time() + 1.0))
        except Refused as refused:
            answers.append(refused.reason)

    return ask


async def test_all_up_to_a_ticket_are_answered(
    nursery: trio.Nursery, autojump_clock: object
) -> None:
    guard, answers = Guard(), list[int | str]()
    reads = Reads(clock=TrioClock(), want=guard.want)
    for _ in range(3):
        nursery.start_soon(asking(reads, answers))
        await trio.testing.wait_all_tasks_blocked()
    assert guard.tickets == [1, 2, 3]
    reads.settle(2, 7)
    await trio.testing.wait_all_tasks_blocked()
    assert (answers, reads.waiting) == ([7, 7], 1)
    reads.settle(3, None)
    await trio.testing.wait_all_tasks_blocked()
    assert (answers, reads.waiting) == ([7, 7, "not-leader"], 0)
    assert (reads.confirmed, reads.refused) == (2, 1)


async def test_time_runs_out(autojump_clock: object) -> None:
    reads = Reads(clock=TrioClock(), want=Guard().want)
    with pytest.raises(Refused, match="not known to lead"):
        await reads.confirm(deadline=trio.current_time() + 1.0)


async def test_a_voter_that_has_ended_answers_nothing(autojump_clock: object) -> None:
    closed, gone = (Reads(clock=TrioClock(), want=Guard(takes=False).want) for _ in range(2))
    closed.close()
    for reads in (closed, gone):
        began = trio.current_time()
        with pytest.raises(Refused):
            await reads.confirm(deadline=began + 1.0)
        assert (trio.current_time(), reads.waiting) == (began, 0)


async def test_too_many_are_refused(
    autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("muster.agents.consistency.reads.WAITING_COMMANDS_MAX", 2)
    reads = Reads(clock=TrioClock(), want=Guard().want)
    for _ in range(2):
        with pytest.raises(Refused, match="not known to lead"):
            await reads.confirm(deadline=trio.current_time() + 1.0)
    with pytest.raises(Refused, match="too many reads"):
        await reads.confirm(deadline=trio.current_time() + 1.0)
    reads.settle(2, None)
    with pytest.raises(Refused, match="not known to lead"):
        await reads.confirm(deadline=trio.current_time() + 1.0)
