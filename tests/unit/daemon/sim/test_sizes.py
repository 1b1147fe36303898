"""What a node keeps is told with its limit, and that of a node at work is under it."""

from __future__ import annotations

import trio

from muster.sim.checkers.bounds import within_bounds
from muster.sim.cluster import SimCluster
from muster.sim.deterministic import run_seeded
from muster.sim.sizes import sizes_of_node, sizes_of_voter
from muster.sim.watch import voter_of


def test_a_node_at_work_says_what_it_keeps_and_keeps_less_than_it_may() -> None:
    told: list[str] = []

    async def run() -> None:
        async with trio.open_nursery() as nursery:
            cluster = SimCluster(nursery, 3)
            await cluster.start()
            leader = await cluster.founded()
            sizes = [*sizes_of_node(leader.running), *sizes_of_voter(voter_of(leader))]
            within_bounds(leader.name, sizes)
            assert {size.what: size.size for size in sizes}["members"] == 2
            told.extend(size.what for size in sizes)
            nursery.cancel_scope.cancel()

    run_seeded(run, seed="1")
    for what in ("failure: mailbox", "graves", "accepted streams", "sessions", "store bytes"):
        assert what in told
    assert sum(what.startswith("frames for ") for what in told) == 2
