"""A seeded trio run: the same seed gives the same order, and nothing is left behind."""

from __future__ import annotations

import pytest
import trio
import trio.lowlevel
from trio._core import _run

from muster.sim.deterministic import run_seeded


async def order_of_tasks() -> list[int]:
    """Who came when, of tasks that are all ready in every turn."""
    order: list[int] = []

    async def task(number: int) -> None:
        for _ in range(5):
            order.append(number)
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        for number in range(8):
            nursery.start_soon(task, number)
    return order


def test_the_same_seed_gives_the_same_order_of_tasks() -> None:
    first = run_seeded(order_of_tasks, seed="1")
    assert all(run_seeded(order_of_tasks, seed="1") == first for _ in range(5))


def test_another_seed_gives_another_order() -> None:
    orders = [run_seeded(order_of_tasks, seed=str(seed)) for seed in range(8)]
    assert any(order != orders[0] for order in orders)


def test_time_jumps_to_the_next_deadline() -> None:
    async def sleep() -> float:
        await trio.sleep(80_000)
        return trio.current_time()

    assert run_seeded(sleep, seed="1") == 80_000


def test_trio_is_as_before_afterwards_also_after_an_error() -> None:
    before = dict(vars(_run))

    async def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_seeded(fail, seed="1")
    assert vars(_run)["_r"] is before["_r"]
    allowed = "_ALLOW_DETERMINISTIC_SCHEDULING"
    assert vars(_run)[allowed] is before[allowed]
