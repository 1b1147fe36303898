"""A cluster of real daemons on loopback that is whole, and has done what a start still does."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from muster.cli.local_cluster import LocalCluster, ask, wait_for

WHOLE_WITHIN_S: Final = 30.0
SETTLE_S: Final = 2.0
"""After the founding, for what a start still does: probes of all members, certificates, caches."""


def is_whole(cluster: LocalCluster) -> bool:
    """Every node sees all alive, and nothing wrong."""
    said = [ask(node, "status") for node in cluster.nodes]
    return all(
        each is not None and each.verdict == "HEALTHY" and each.members_alive == cluster.size
        for each in said
    )


@contextlib.contextmanager
def settled_cluster(
    size: int, *, network: str, settle_s: float = SETTLE_S
) -> Iterator[LocalCluster]:
    """In a directory of its own. Errors: LocalError if it does not become whole."""
    with (
        tempfile.TemporaryDirectory(prefix="muster-bench-") as directory,
        LocalCluster(Path(directory), size, network=network) as cluster,
    ):
        cluster.start()
        cluster.wait_for_leader()
        wait_for(lambda: is_whole(cluster), WHOLE_WITHIN_S, "muster is not whole")
        time.sleep(settle_s)  # what a start still does cannot be asked for
        yield cluster
