"""Five hosts: a namespace and a small disk of its own for each daemon."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from muster.cli.local_cluster import LocalCluster, LocalNode
from testkit.namespaces import Lan, lan

SIZE: Final = 5
DISK_BYTES: Final = 96 * 1024 * 1024
"""Two flight records, some segments and snapshots, and not much more."""

BALLAST: Final = "ballast"


class Hosts:
    """The cluster and what can be done to its hosts, by node."""

    def __init__(self, cluster: LocalCluster, network: Lan) -> None:
        self.cluster = cluster
        self.network = network

    @property
    def nodes(self) -> list[LocalNode]:
        return self.cluster.nodes

    def number(self, node: LocalNode) -> int:
        return self.nodes.index(node) + 1

    def start(self, node: LocalNode) -> None:
        """Start the daemon, if it does not run."""
        if not node.is_running:
            node.start()

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
def hosts(directory: Path) -> Iterator[Hosts]:
    """All of it, and nothing of it afterwards."""
    with lan(f"nemesis-{os.getpid()}", SIZE) as network:
        cluster = LocalCluster(directory, SIZE, network=network.network)
        made = Hosts(cluster, network)
        with contextlib.ExitStack() as stack:
            for node in cluster.nodes:
                node.prefix = network.prefix(made.number(node))
                made.mount(node)
                stack.callback(made.unmount, node)
            stack.enter_context(cluster)
            yield made
