"""Five hosts: a namespace, a small disk and a clock of its own for each daemon."""

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
FAKETIME: Final = "/nonexistent/x"


class Hosts:
    """The cluster and what can be done to its hosts, by node."""

    def __init__(self, cluster: LocalCluster, network: Lan) -> None:
        self.cluster = cluster
        self.network = network
        self.can_set_clocks = bool(self._faketime())

    @property
    def nodes(self) -> list[LocalNode]:
        return self.cluster.nodes

    def number(self, node: LocalNode) -> int:
        return self.nodes.index(node) + 1

    def start(self, node: LocalNode) -> None:
        """Start the daemon, if it does not run."""
        if not node.is_running:
            node.start(self._environ(node))

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

    # --- clocks ---------------------------------------------------------------------------------

    def step_clock(self, node: LocalNode, by_s: int) -> None:
        """Its wall clock is wrong by so much from now on; other clocks are not touched."""
        self._offset(node).write_text(f"{by_s:+d}\n")

    def _offset(self, node: LocalNode) -> Path:
        return node.directory / "clock"

    def _environ(self, node: LocalNode) -> dict[str, str]:
        if not self.can_set_clocks:
            return {}
        if not self._offset(node).exists():
            self.step_clock(node, 0)
        return {
            "LD_PRELOAD": self._faketime(),
            "FAKETIME_TIMESTAMP_FILE": str(self._offset(node)),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
        }

    def _faketime(self) -> str:
        """The library, or "" where it is not installed."""
        found = sorted(Path("/").glob(FAKETIME[1:]))
        return str(found[0]) if found else ""


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
