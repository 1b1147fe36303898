"""Whole production nodes in one trio run: N times `node.py`, each in a world of its own.

The cluster starts nodes and takes them away, as an operator, a power cut or a crash does. What is
injected beyond that is done by `injector`; what must hold is looked after by `checkers`.

A node that ends by itself with an error of ours (a full disk, a damaged journal) is down, as under
systemd with no restart, and its reason is kept. Any other exception is a bug of the daemon: outside
of agents it ends the run, and an agent that fails is noticed by `watch`.
"""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import trio

from muster.config.load import Host, load_config
from muster.entropy import SeededEntropy
from muster.node import Node
from muster.sim.network import Link, SimFabric
from muster.sim.world import SimHost
from muster_protocol.crypto.keyring import Keyring
from muster_protocol.effects import Notify
from muster_protocol.errors import MusterError, OutcomeUnknown, Refused, UsageError, first_of
from muster_protocol.limits import VOTERS_MAX
from muster_protocol.membership.member import MemberView
from muster_protocol.types import Address, NodeId, Severity

T = TypeVar("T")

HERE: Final = Host({}, 0, "simulated")
SECRET: Final = b"k" * 32
POLL_S: Final = 0.05
SIZE_MAX: Final = 200
"""Nodes of one run: their addresses are 127.0.0.1 onwards."""


class ProcessGone(Exception):
    """A process ended before it answered."""


class Life(enum.StrEnum):
    """Of a simulated node's process."""

    DOWN = "down"
    RUNNING = "running"
    PAUSED = "paused"
    STOPPING = "stopping"
    ENDED = "ended"
    """By itself: see `SimNode.ended_why`."""


@dataclass(eq=False)
class SimNode:
    """One simulated machine and the node on it, if it runs."""

    number: int
    host: SimHost
    life: Life = Life.DOWN
    node: Node | None = None
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    ended: trio.Event = field(default_factory=trio.Event)
    """Of its present or last life."""
    notes: list[tuple[str, Notify]] = field(default_factory=list)
    ended_why: str = ""
    process: trio.Nursery | None = None
    """Of its present life: what runs in it ends with it."""

    @property
    def name(self) -> str:
        return f"n{self.number}"

    @property
    def is_up(self) -> bool:
        """Does its process run, paused or not?"""
        return self.life in (Life.RUNNING, Life.PAUSED, Life.STOPPING)

    @property
    def has_started(self) -> bool:
        """Is there a node, in its present life or the last, with all its parts?"""
        return self.node is not None and self.node.parts is not None

    @property
    def running(self) -> Node:
        """The node. Only while it is up and has started."""
        assert self.node is not None
        assert self.node.parts is not None
        return self.node

    @property
    def me(self) -> NodeId:
        assert self.running.parts is not None
        return self.running.parts.me

    @property
    def agents(self) -> Any:
        """The agents of its present life."""
        assert self.running.parts is not None
        return self.running.parts.agents

    def said(self, event: str) -> list[Notify]:
        """What it logged under that name, in all its lives."""
        return [note for _, note in self.notes if note.event == event]

    def member(self, other: SimNode) -> MemberView:
        """How this node sees another one."""
        return next(m for m in self.running.members() if m.id == other.me)


class SimCluster:
    """`size` nodes on one network, of which `founders` found the cluster."""

    def __init__(
        self,
        nursery: trio.Nursery,
        size: int,
        *,
        founders: int | None = None,
        has_witness: bool = False,
        seed: str = "1",
        settings: Mapping[str, Any] | None = None,
        config_file: str | None = None,
        link: Link | None = None,
        clock_ppm: float = 0.0,
        log: Callable[[SimNode, str, Notify], None] | None = None,
        on_delivery: Callable[[str, Address, Address, bytes], None] | None = None,
    ) -> None:
        """`founders`: the first so many; as many as there may be voters, unless it says otherwise.
        `has_witness`: the last node is one, and no founder. `clock_ppm`: how much monotonic clocks
        run fast or slow at most, each differently;
        `settings`: configuration keys; `config_file`: a muster.toml below them; `log` takes a
        node, the name of its part, and what it says, beside what each node keeps; `on_delivery`:
        see `SimFabric`."""
        assert 0 < size <= SIZE_MAX
        self._nursery = nursery
        self._settings = dict(settings or {})
        self._config_file = config_file
        self._log = log
        self._keys = Keyring([SECRET], label=str(self._settings.get("cluster.label", "muster")))
        self._has_witness = has_witness
        self.founders = min(size - has_witness, VOTERS_MAX) if founders is None else founders
        self.fabric = SimFabric(
            SeededEntropy(seed).stream("network"), link=link, on_delivery=on_delivery
        )
        chance = SeededEntropy(seed).stream("clock rates")
        rates = [chance.uniform(-clock_ppm, clock_ppm) for _ in range(size)]
        hosts = [
            SimHost(self.fabric, f"127.0.0.{n}", seed=seed, rate_ppm=rate)
            for n, rate in enumerate(rates, start=1)
        ]
        self.nodes = [SimNode(number, host) for number, host in enumerate(hosts, start=1)]

    # --- lives --------------------------------------------------------------------------------

    async def start(self, *nodes: SimNode) -> None:
        """Start these nodes, or all, one after the other. Each is up when this returns, or has
        ended by itself."""
        for sim in nodes or self.nodes:
            node, started = self._new_life(sim), trio.Event()
            self._nursery.start_soon(self._live, sim, node, started)
            await started.wait()

    async def crash(self, sim: SimNode) -> None:
        """SIGKILL."""
        self._take_down(sim)
        sim.host.crash()
        await trio.lowlevel.checkpoint()

    async def power_off(self, *nodes: SimNode, tear: bool = False) -> None:
        """Pull the plug of these nodes, or of all, at one instant."""
        for sim in nodes or self.nodes:
            self._take_down(sim)
            sim.host.power_off(tear=tear)
        await trio.lowlevel.checkpoint()

    async def stop(self, sim: SimNode) -> None:
        """SIGTERM, and wait for its end."""
        if sim.life is Life.RUNNING:
            sim.life = Life.STOPPING
            sim.running.request_stop()
            await sim.ended.wait()

    async def ask(self, sim: SimNode, work: Callable[[], Awaitable[T]]) -> T:
        """Do `work` in the node's process, as a request on its control socket: it ends with the
        process, and with whoever asked.

        Errors: ProcessGone; Refused, OutcomeUnknown and UsageError of the work.
        """
        if sim.process is None:
            raise ProcessGone(sim.name)
        scope, ended = trio.CancelScope(), trio.Event()
        answers: list[T] = []
        errors: list[MusterError] = []

        async def task() -> None:
            try:
                with scope:
                    answers.append(await work())
            except (Refused, OutcomeUnknown, UsageError) as error:
                errors.append(error)
            finally:
                ended.set()

        sim.process.start_soon(task)
        try:
            await ended.wait()
        finally:
            scope.cancel()
        if errors:
            raise errors[0]
        if not answers:
            raise ProcessGone(sim.name)
        return answers[0]

    def pause(self, sim: SimNode) -> None:
        """SIGSTOP."""
        if sim.life is Life.RUNNING:
            sim.life = Life.PAUSED
            sim.host.clock.pause()

    def resume(self, sim: SimNode) -> None:
        """SIGCONT."""
        if sim.life is Life.PAUSED:
            sim.life = Life.RUNNING
            sim.host.clock.resume()

    def let_go(self) -> None:
        """Before a run ends, whatever is the matter: what waits for a disk that hangs or a process
        that is stopped does so shielded from its end, and the run would wait with it for ever."""
        for sim in self.nodes:
            sim.host.disk.unhang()
            self.resume(sim)

    def _take_down(self, sim: SimNode) -> None:
        sim.scope.cancel()
        sim.life = Life.DOWN

    def _new_life(self, sim: SimNode) -> Node:
        sim.ended_why = ""
        sim.scope, sim.ended = trio.CancelScope(), trio.Event()
        sim.node = Node(
            loaded=self._configuration(sim),
            world=sim.host.start(),
            keyring=self._keys,
            machine_id="simulated",
            log=lambda part, note: self._take_note(sim, part, note),
            streams_are_plain=True,
        )
        sim.life = Life.RUNNING
        return sim.node

    async def _live(self, sim: SimNode, node: Node, started: trio.Event) -> None:
        """One life, from its first moment to its end, whoever ends it."""
        scope, ended, ended_why = sim.scope, sim.ended, ""
        try:
            with scope:
                async with trio.open_nursery() as process:
                    sim.process = process
                    await process.start(self._run, sim, node)
                    started.set()
        except* MusterError as group:
            ended_why = str(first_of(group))
        finally:
            started.set()
        if sim.scope is scope and sim.is_up:  # nobody took it down: it ended by itself
            sim.ended_why = ended_why
            sim.life = Life.ENDED if ended_why else Life.DOWN
            sim.host.crash()
            if ended_why:
                told = Notify("process.ended", Severity.ERROR, {"why": ended_why})
                self._take_note(sim, "process", told)
        ended.set()

    async def _run(self, sim: SimNode, node: Node, *, task_status: trio.TaskStatus[None]) -> None:
        """The daemon, and the end of all that was asked of it with it."""
        process = sim.process
        assert process is not None
        try:
            await node.run(task_status=task_status)
        finally:
            if sim.process is process:
                sim.process = None  # before it is closed to new tasks
            process.cancel_scope.cancel()

    def _configuration(self, sim: SimNode) -> Any:
        return _configuration(
            self._config_file,
            {
                "node.name": sim.name,
                "node.bind": sim.host.ip,
                "cluster.bootstrap_expect": self.founders if sim.number <= self.founders else 0,
                "cluster.witness": self._has_witness and sim.number == len(self.nodes),
                "cluster.join": [other.host.ip for other in self.nodes],
                **self._settings,
            },
        )

    def _take_note(self, sim: SimNode, part: str, note: Notify) -> None:
        sim.notes.append((part, note))
        if self._log is not None:
            self._log(sim, part, note)

    # --- views --------------------------------------------------------------------------------

    @property
    def up(self) -> list[SimNode]:
        """The nodes whose process runs."""
        return [sim for sim in self.nodes if sim.is_up]

    def leader(self, *among: SimNode) -> SimNode | None:
        """The leader whom all of these (or of all) follow; None if there is no such one."""
        nodes = among or tuple(self.nodes)
        leaders = [n for n in nodes if n.agents.consistency.leads()]
        if len(leaders) != 1:
            return None
        followed = all(n.agents.consistency.leader() == leaders[0].me for n in nodes)
        return leaders[0] if followed else None

    async def until(self, condition: Callable[[], Any], within_s: float = 30.0) -> float:
        """Wait for a condition; how long that took. Errors: AssertionError."""
        started = trio.current_time()
        while not condition():
            assert trio.current_time() - started < within_s, "it does not happen"
            await trio.sleep(POLL_S)
        return trio.current_time() - started

    async def founded(self) -> SimNode:
        """Wait for a leader whom all follow."""
        await self.until(self.leader)
        leader = self.leader()
        assert leader is not None
        return leader


def check_configuration(config_file: str | None) -> None:
    """Can nodes run with this file? Errors: ConfigError."""
    _configuration(config_file, {"node.name": "n1", "node.bind": "127.0.0.1"})


def _configuration(config_file: str | None, flags: dict[str, Any]) -> Any:
    return load_config(config_file, flags={"node.state_dir": "/state", **flags}, host=HERE)
