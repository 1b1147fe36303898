"""How late the daemons' loops are while they are put under load, by their own metric.

Run by `make bench-lag` (SECONDS=10; about a minute). A cluster of three takes puts of 256 clients,
as `make bench-etcd` does. Each loop looks ten times a second by how much it missed a moment; what
counts are the looks made during a cell, of all three nodes.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from typing import Final

from bench_etcd import LOAD
from bench_quiet import Samples, scraped
from settled import settled_cluster

from muster.cli.local_cluster import LocalCluster
from muster_protocol.errors import MusterError

CELLS: Final = ((64, 3), (64, 0), (1024, 3), (1024, 0))
"""Bytes of a value, and connections (0: one for each client)."""

CLIENTS: Final = 256
QUANTILE: Final = 0.99
LAG: Final = "muster_loop_lag_seconds"


def looks(before: list[Samples], after: list[Samples], family: str = LAG) -> dict[float, int]:
    """How many were late by at most so much, of all nodes together."""
    counts: dict[float, int] = {}
    for was, now in zip(before, after, strict=True):
        for name, value in now.items():
            if bound := re.fullmatch(family + r'_bucket\{le="(.*)"\}', name):
                at = float(bound.group(1))
                counts[at] = counts.get(at, 0) + int(value - was[name])
    return dict(sorted(counts.items()))


def within(counts: dict[float, int], share: float) -> float:
    """The bound below which that share of the looks was."""
    total = max(counts.values())
    return next(bound for bound, count in counts.items() if count >= share * total)


def cell(cluster: LocalCluster, value: int, connections: int, seconds: float) -> None:
    leader = cluster.wait_for_leader()
    before = [scraped(node) for node in cluster.nodes]
    command = [
        sys.executable, str(LOAD), "--side", "muster", "--sockets", str(leader.socket),
        "--pids", *(str(node.pid) for node in cluster.nodes), "--bytes", str(value),
        "--clients", str(CLIENTS), "--connections", str(connections), "--seconds", str(seconds),
    ]  # fmt: skip
    subprocess.run(command, check=True, timeout=seconds + 60, stdout=subprocess.DEVNULL)
    after = [scraped(node) for node in cluster.nodes]
    counts = looks(before, after)
    maxima = [1000 * sample[f"{LAG.removesuffix('_seconds')}_max_seconds"] for sample in after]
    print(
        f"| {value} B | {CLIENTS}/{connections or 'each'} | {max(counts.values())} "
        f"| {1000 * within(counts, QUANTILE):g} | {1000 * within(counts, 1.0):g} "
        f"| {max(maxima):.0f} |",
        flush=True,
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0, help="for each cell")
    seconds = parser.parse_args().seconds
    try:
        with settled_cluster(3, network="127.0.78") as cluster:
            print("| value | clients/connections | looks | 99 % at most ms | all at most ms "
                  "| latest since the start ms |")  # fmt: skip
            print("|---|---|---|---|---|---|")
            for value, connections in CELLS:
                cell(cluster, value, connections, seconds)
    except MusterError as error:
        print(f"bench-lag: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
