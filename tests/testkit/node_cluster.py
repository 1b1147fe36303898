"""Whole nodes in one trio run on virtual time: the simulator's cluster, with a client built in."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio

from muster.sim.cluster import SimCluster, SimNode
from muster_protocol.consistency.commands import Command, Get, Operation, Put, Result
from muster_protocol.consistency.registry import Registry

__all__ = ["NodeCluster", "SimNode", "node_cluster", "registry_of"]


def registry_of(sim: SimNode) -> Registry:
    """A voter's replica."""
    registry: Registry = sim.agents.consistency.voter.replica.registry
    return registry


class NodeCluster(SimCluster):
    """A simulated cluster that can be asked."""

    _requests = 0

    async def do(self, sim: SimNode, operation: Operation, within_s: float = 10.0) -> Result:
        self._requests += 1
        consistency = sim.agents.consistency
        since = consistency.revision()
        command = Command(f"{self._requests:032x}", 1, since, 0.0, operation)
        deadline = trio.current_time() + within_s
        result: Result = await consistency.submit(command, is_first=True, deadline=deadline)
        return result

    async def put(self, sim: SimNode, key: str, value: bytes) -> Result:
        return await self.do(sim, Put(key, value))

    async def get(self, sim: SimNode, key: str) -> bytes:
        result: Any = await self.do(sim, Get(key))
        value: bytes = result.entry.value
        return value


@asynccontextmanager
async def node_cluster(
    size: int,
    *,
    founders: int | None = None,
    has_witness: bool = False,
    seed: str = "1",
    **settings: object,
) -> AsyncIterator[NodeCluster]:
    """A cluster whose nodes end with the block. `settings`: keys with `__` for the dot."""
    async with trio.open_nursery() as nursery:
        keys = {key.replace("__", "."): value for key, value in settings.items()}
        yield NodeCluster(
            nursery, size, founders=founders, has_witness=has_witness, seed=seed, settings=keys
        )
        nursery.cancel_scope.cancel()
