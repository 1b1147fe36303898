"""What is done to real hosts, and how it is undone."""

from __future__ import annotations

import contextlib
import random
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from muster.cli.local_cluster import LocalNode
from muster_protocol.errors import LocalError, MusterError
from muster_protocol.session.methods import Params, SeatParams, VotersParams
from nemesis.hosts import Hosts

Undo = Callable[[], None]

LASTS_S: Final = (2.0, 9.0)
"""From more than an election takes to six times a leader's lease."""

SILENT_S: Final = (1.5, 2.2)
"""Times the delay after which a silent voter is replaced: it takes looks, a journal, and syncs."""

STEPS_S: Final = (60, 3_600, 400 * 86_400)
"""The largest step of a wall clock: what NTP corrects, a wrong zone, a battery that was changed."""

SILENT: Final = "silent: "
"""For longer than a voter may be, where there is somebody to take its seat."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """One fault: what, for how long, and how to do it."""

    kind: str
    lasts_s: float
    whom: str
    begin: Callable[[], Undo]


class Nemesis:
    """Draws faults from a seed. Who leads is not in the seed: "leader" is whoever does then."""

    def __init__(self, hosts: Hosts, rng: random.Random, only: str = "") -> None:
        """`only` those in whose name this is. Errors: LocalError if there is none."""
        self._hosts = hosts
        self._rng = rng
        self._table: dict[str, Callable[[LocalNode], Undo]] = {
            "kill": self._kill,
            "kill all": self._kill_all,
            "restart": self._restart,
            "pause": self._pause,
            "isolate": self._isolate,
            "deaf": self._deaf,
            "unheard": self._unheard,
            "partial cut": self._partial,
            "split": self._split,
            "full disk": self._full_disk,
            "no seat": self._no_seat,
            "fewer voters": self._fewer_voters,
            "clock": self._clock,
            "all clocks": self._all_clocks,
            "clocks apart": self._clocks_apart,
        }
        if hosts.shape.has_spares:
            silences = {"killed": self._kill, "stopped": self._pause, "cut": self._isolate}
            self._table |= {f"{SILENT}{how}": do for how, do in silences.items()}

        self.kinds = [kind for kind in self._table if only in kind]
        if not self.kinds:
            raise LocalError(
                f"no fault of this cluster has {only!r} in its name: {list(self._table)}"
            )

    def draw(self) -> Drawn:
        """The next one. A leader is hit as often as all others together."""
        kind = self._rng.choice(self.kinds)
        node = self._rng.choice(self._hosts.nodes)
        lasts_s = self._rng.uniform(*LASTS_S)
        if kind.startswith(SILENT):
            lasts_s = self._hosts.shape.replace_after_s * self._rng.uniform(*SILENT_S)
        if self._rng.random() < 0.5:
            node = self._hosts.cluster.leader() or node
        return Drawn(kind, lasts_s, node.name, lambda: self._table[kind](node))

    def heal(self) -> None:
        """Every host is whole, and every daemon runs."""
        for node in self._hosts.nodes:
            self._hosts.make_room(node)
            node.signal(signal.SIGCONT)
            self._heal_network(node)
            self._set_clock(node, 0)
            self._hosts.start(node)
        self._ask(self._hosts.nodes[0], "raft.voters", VotersParams(size=self._hosts.shape.voters))

    # --- processes ------------------------------------------------------------------------------

    def _kill(self, node: LocalNode) -> Undo:
        if node.is_running:
            node.kill()
        return lambda: self._hosts.start(node)

    def _kill_all(self, _: LocalNode) -> Undo:
        for node in self._hosts.nodes:
            node.signal(signal.SIGKILL)
        for node in self._hosts.nodes:
            if node.process is not None:
                node.wait()

        def undo() -> None:
            for node in self._hosts.nodes:
                self._hosts.start(node)

        return undo

    def _restart(self, node: LocalNode) -> Undo:
        node.signal(signal.SIGCONT)
        if node.is_running:
            node.stop()
        return lambda: self._hosts.start(node)

    def _pause(self, node: LocalNode) -> Undo:
        node.signal(signal.SIGSTOP)
        return lambda: node.signal(signal.SIGCONT)

    # --- the network ----------------------------------------------------------------------------

    def _isolate(self, node: LocalNode) -> Undo:
        self._hosts.network.cut(self._hosts.number(node))
        return lambda: self._heal_network(node)

    def _deaf(self, node: LocalNode) -> Undo:
        return self._deafen([(node, other) for other in self._others(node)])

    def _unheard(self, node: LocalNode) -> Undo:
        return self._deafen([(other, node) for other in self._others(node)])

    def _partial(self, node: LocalNode) -> Undo:
        """These two cannot reach each other; everybody else reaches both."""
        other = self._rng.choice(self._others(node))
        return self._deafen([(node, other), (other, node)])

    def _split(self, node: LocalNode) -> Undo:
        """It and another one against the rest."""
        inside = [node, self._rng.choice(self._others(node))]
        outside = [each for each in self._hosts.nodes if each not in inside]
        ways = [(a, b) for a in inside for b in outside]
        return self._deafen([*ways, *((b, a) for a, b in ways)])

    def _deafen(self, ways: list[tuple[LocalNode, LocalNode]]) -> Undo:
        for deaf, towards in ways:
            self._hosts.network.deafen(self._hosts.number(deaf), self._hosts.number(towards))

        def undo() -> None:
            for deaf, _ in ways:
                self._hosts.network.hear(self._hosts.number(deaf))

        return undo

    def _heal_network(self, node: LocalNode) -> None:
        number = self._hosts.number(node)
        self._hosts.network.heal(number)
        self._hosts.network.hear(number)

    def _others(self, node: LocalNode) -> list[LocalNode]:
        return [other for other in self._hosts.nodes if other is not node]

    # --- the electorate -------------------------------------------------------------------------

    def _no_seat(self, node: LocalNode) -> Undo:
        """It loses its seat, and gets another one."""
        asked = self._rng.choice(self._hosts.nodes)
        self._ask(asked, "raft.remove", SeatParams(node=node.name))
        return lambda: self._ask(asked, "raft.add", SeatParams(node=node.name))

    def _fewer_voters(self, node: LocalNode) -> Undo:
        voters = self._hosts.shape.voters
        self._ask(node, "raft.voters", VotersParams(size=voters - 2))
        return lambda: self._ask(node, "raft.voters", VotersParams(size=voters))

    def _ask(self, node: LocalNode, method: str, params: Params) -> None:
        """In the background: it may take as long as there is no leader, and be refused."""

        def ask() -> None:
            with contextlib.suppress(MusterError, OSError), node.client() as client:
                client.call(method, params)

        threading.Thread(target=ask, daemon=True).start()

    # --- wall clocks ----------------------------------------------------------------------------

    def _clock(self, node: LocalNode) -> Undo:
        return self._step({node: self._drawn_step()})

    def _all_clocks(self, _: LocalNode) -> Undo:
        by_s = self._drawn_step()
        return self._step(dict.fromkeys(self._hosts.nodes, by_s))

    def _clocks_apart(self, _: LocalNode) -> Undo:
        return self._step({node: self._drawn_step() for node in self._hosts.nodes})

    def _step(self, steps: dict[LocalNode, int]) -> Undo:
        """Forward or back, and back again."""
        told = ", ".join(f"{node.name} {by_s:+,d} s" for node, by_s in steps.items())
        print(f"{'':12} wall clocks: {told}", flush=True)
        for node, by_s in steps.items():
            self._set_clock(node, by_s)

        def undo() -> None:
            for node in steps:
                self._set_clock(node, 0)

        return undo

    def _drawn_step(self) -> int:
        return round(self._rng.choice((-1, 1)) * self._rng.choice(STEPS_S) * self._rng.random())

    def _set_clock(self, node: LocalNode, ahead_s: int) -> None:
        self._hosts.clocks[node.name].set(ahead_s)

    # --- disks ----------------------------------------------------------------------------------

    def _full_disk(self, node: LocalNode) -> Undo:
        self._hosts.fill(node)

        def undo() -> None:
            self._hosts.make_room(node)
            self._hosts.start(node)

        return undo
