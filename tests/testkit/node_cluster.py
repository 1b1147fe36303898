"""Whole nodes in one trio run on virtual time: the simulator's world, the production `Node`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import trio
import trio.lowlevel

from muster.config.load import Host, load_config
from muster.entropy import SeededEntropy
from muster.node import Node
from muster.sim.network import SimFabric
from muster.sim.world import SimHost
from muster_protocol.consistency.commands import Command, Get, Operation, Put, Result
from muster_protocol.consistency.registry import Registry
from muster_protocol.crypto.keyring import Keyring
from muster_protocol.effects import Notify
from muster_protocol.membership.member import MemberView
from muster_protocol.types import NodeId

HERE = Host({}, 0, "simulated")
KEYS = Keyring([b"k" * 32], label="muster")


@dataclass
class SimNode:
    """One simulated machine and the node on it, if it runs."""

    number: int
    host: SimHost
    node: Node | None = None
    scope: trio.CancelScope | None = None
    notes: list[tuple[str, Notify]] = field(default_factory=list)

    @property
    def running(self) -> Node:
        assert self.node is not None
        assert self.node.parts is not None
        return self.node

    @property
    def me(self) -> NodeId:
        assert self.running.parts is not None
        return self.running.parts.me

    @property
    def agents(self) -> Any:
        assert self.running.parts is not None
        return self.running.parts.agents

    @property
    def registry(self) -> Registry:
        """This voter's replica."""
        registry: Registry = self.agents.consistency.voter.replica.registry
        return registry

    def said(self, event: str) -> list[Notify]:
        return [note for _, note in self.notes if note.event == event]

    def member(self, other: SimNode) -> MemberView:
        return next(m for m in self.running.members() if m.id == other.me)


class NodeCluster:
    """`size` nodes; `founders` of them found the cluster."""

    def __init__(
        self,
        nursery: trio.Nursery,
        size: int,
        *,
        founders: int | None = None,
        seed: str = "1",
        **settings: object,
    ) -> None:
        """`settings`: configuration keys with `__` for the dot."""
        self._nursery = nursery
        self._settings = {key.replace("__", "."): value for key, value in settings.items()}
        self.founders = size if founders is None else founders
        self.fabric = SimFabric(SeededEntropy(seed).stream("network"))
        self.nodes = [
            SimNode(n, SimHost(self.fabric, f"127.0.0.{n}", seed=seed)) for n in range(1, size + 1)
        ]
        self._requests = 0

    async def start(self, *nodes: SimNode) -> None:
        for sim in nodes or self.nodes:
            await self._nursery.start(self._live, sim)

    async def _live(self, sim: SimNode, *, task_status: trio.TaskStatus[None]) -> None:
        loaded = load_config(
            flags={
                "node.name": f"n{sim.number}",
                "node.bind": sim.host.ip,
                "node.state_dir": "/state",
                "cluster.bootstrap_expect": self.founders,
                "cluster.join": [other.host.ip for other in self.nodes],
                **self._settings,
            },
            host=HERE,
        )
        with trio.CancelScope() as scope:
            sim.scope = scope
            sim.node = Node(
                loaded=loaded,
                world=sim.host.start(),
                keyring=KEYS,
                machine_id="simulated",
                log=lambda part, note: sim.notes.append((part, note)),
                streams_are_plain=True,
            )
            await sim.node.run(task_status=task_status)

    async def kill(self, sim: SimNode) -> None:
        """SIGKILL."""
        assert sim.scope is not None
        sim.scope.cancel()
        sim.host.kill()
        await trio.lowlevel.checkpoint()

    async def until(self, condition: Callable[[], Any], within_s: float = 30.0) -> float:
        """Wait for a condition; how long that took."""
        started = trio.current_time()
        while not condition():
            assert trio.current_time() - started < within_s, "it does not happen"
            await trio.sleep(0.05)
        return trio.current_time() - started

    def leader(self, *among: SimNode) -> SimNode | None:
        nodes = among or tuple(self.nodes)
        leaders = [n for n in nodes if n.agents.consistency.leads()]
        if len(leaders) != 1:
            return None
        followed = all(n.agents.consistency.leader() == leaders[0].me for n in nodes)
        return leaders[0] if followed else None

    async def founded(self) -> SimNode:
        """Wait for a leader whom all follow."""
        await self.until(self.leader)
        leader = self.leader()
        assert leader is not None
        return leader

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
    size: int, *, founders: int | None = None, seed: str = "1", **settings: object
) -> AsyncIterator[NodeCluster]:
    """A cluster whose nodes end with the block."""
    async with trio.open_nursery() as nursery:
        yield NodeCluster(nursery, size, founders=founders, seed=seed, **settings)
        nursery.cancel_scope.cancel()
