"""Hosts: a namespace, a small disk and a wall clock of its own for each daemon."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from muster.cli.local_cluster import LocalCluster, LocalNode
from muster_protocol.raftguard.steward import REPLACE_S
from testkit.namespaces import Lan, lan
from testkit.wall_clock import WallClock, clean_up

DISK_BYTES: Final = 96 * 1024 * 1024
"""Two flight records, some segments and snapshots, and not much more."""

BALLAST: Final = "ballast"


@dataclass(frozen=True, slots=True)
class Shape:
    """How many hosts there are, how many of them vote, and when a silent one is replaced."""

    size: int
    voters: int
    replace_after_s: float
    has_witness: bool = False
    """The last node is one, and votes."""

    @property
    def has_spares(self) -> bool:
        return self.size > self.voters

    def __str__(self) -> str:
        witness = ", one as a witness" if self.has_witness else ""
        return (f"{self.size} nodes, {self.voters} of them vote{witness}, "
                f"who is silent for {self.replace_after_s:.0f} s is replaced")  # fmt: skip


SHAPES: Final = (
    Shape(5, 5, REPLACE_S),
    Shape(5, 3, 10.0),
    Shape(6, 5, 10.0),
    Shape(5, 5, REPLACE_S, has_witness=True),
    Shape(3, 3, REPLACE_S, has_witness=True),
)
"""One without anybody to take a seat, one in which a voter is soon missed, one in between, and two
with a witness. Ten seconds are the least that a voter may be given."""


class Hosts:
    """The cluster and what can be done to its hosts, by node."""

    def __init__(self, cluster: LocalCluster, network: Lan, shape: Shape) -> None:
        self.cluster = cluster
        self.network = network
        self.shape = shape
        self.clocks = {node.name: WallClock(node.directory / "clock") for node in cluster.nodes}
        self._pids: list[int] = []

    @property
    def nodes(self) -> list[LocalNode]:
        return self.cluster.nodes

    def number(self, node: LocalNode) -> int:
        return self.nodes.index(node) + 1

    def start(self, node: LocalNode) -> None:
        """Start the daemon, if it does not run."""
        if not node.is_running:
            node.start()
            self._pids.append(node.pid)

    def forget_clocks(self) -> None:
        """When no daemon runs any more."""
        for pid in self._pids:
            clean_up(pid)

    # --- disks ----------------------------------------------------------------------------------

    def fill(self, node: LocalNode) -> None:
        """Leave no byte on its disk."""
        with (self._disk(node) / BALLAST).open("wb", buffering=0) as ballast:
            with contextlib.suppress(OSError):
                while True:
                    ballast.write(b"\0" * 65_536)
            with contextlib.suppress(OSError):
                while True:
                    ballast.write(b"\0")

    def make_room(self, node: LocalNode) -> None:
        (self._disk(node) / BALLAST).unlink(missing_ok=True)

    def mount(self, node: LocalNode) -> None:
        """A file system in memory: what is synced to it survives a process, not a host."""
        disk = self._disk(node)
        disk.mkdir()
        size = f"size={DISK_BYTES}"
        subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(disk)], check=True)

    def unmount(self, node: LocalNode) -> None:
        subprocess.run(["umount", "--lazy", str(self._disk(node))], check=True)

    def _disk(self, node: LocalNode) -> Path:
        return node.directory / "state"


@contextlib.contextmanager
def hosts(directory: Path, shape: Shape) -> Iterator[Hosts]:
    """All of it, and nothing of it afterwards."""
    settings = {
        "cluster": {"voters": shape.voters, "replace_voter_after_s": shape.replace_after_s},
        "log": {"format": "json"},
    }
    with lan(f"nemesis-{os.getpid()}", shape.size) as network:
        cluster = LocalCluster(
            directory,
            shape.size,
            founders=shape.voters - shape.has_witness,
            has_witness=shape.has_witness,
            network=network.network,
            settings=settings,
        )
        made = Hosts(cluster, network, shape)
        with contextlib.ExitStack() as stack:
            stack.callback(made.forget_clocks)
            for node in cluster.nodes:
                node.prefix = network.prefix(made.number(node)) + made.clocks[node.name].prefix()
                made.mount(node)
                stack.callback(made.unmount, node)
            stack.enter_context(cluster)
            yield made
