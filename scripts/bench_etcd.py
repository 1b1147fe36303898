"""Durable puts of muster and of etcd by turns: the tables and ratios of docs/benchmarks.md.

Run by `make bench-etcd` (some ten minutes; ROUNDS=1 SECONDS=1 CELLS=256/3 for a look). Each round
founds a new cluster of three on both sides, on the same disk and with TLS between the nodes, and
goes through the cells; in each cell one side after the other is put under load while the other is
idle. Which side begins changes from cell to cell. The figures are medians over the rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from etcd_cluster import EtcdCluster, missing, version
from settled import SETTLE_S, is_whole

from muster.cli.local_cluster import LocalCluster, wait_for
from muster_protocol.errors import LocalError, MusterError

SIDES: Final = ("muster", "etcd")
PAUSE_S: Final = 0.3
"""Between two cells: what the last one left in the page cache goes to the disk."""

LOAD: Final = Path(__file__).with_name("put_load.py")
CLIENTS: Final = (1, 8, 64, 256)
COMPARED: Final = {
    "puts_per_s": "puts/s",
    "p50_ms": "p50",
    "p99_ms": "p99",
    "cpu_us": "CPU a put",
    "rss_mib": "RSS",
}
SYNCS: Final = 200
SYNC_BYTES: Final = 4_096


@dataclass(frozen=True, order=True)
class Cell:
    """One kind of load. `connections`: 0 is one for each client."""

    value_bytes: int
    connections: int
    clients: int

    @classmethod
    def read(cls, text: str, value_bytes: int) -> Cell:
        """From CLIENTS/CONNECTIONS, "256/3" or "256/each"."""
        clients, _, connections = text.partition("/")
        return cls(value_bytes, 0 if connections == "each" else int(connections), int(clients))

    def __str__(self) -> str:
        return f"{self.clients}/{self.connections or 'each'}"


Figures = dict[str, float]
Runs = dict[tuple[Cell, str], list[Figures]]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="for each cell and side")
    parser.add_argument("--values", type=int, nargs="+", default=[64, 1024], help="bytes")
    default = [f"{clients}/3" for clients in CLIENTS] + [f"{n}/each" for n in CLIENTS if n > 3]
    parser.add_argument("--cells", nargs="+", default=default, metavar="CLIENTS/CONNECTIONS")
    parser.add_argument("--at", choices=("leader", "all"), default="leader", help="who is asked")
    arguments = parser.parse_args()
    if lacking := missing():
        print(f"bench-etcd: {lacking}", file=sys.stderr)
        return 1
    if strange := [text for text in arguments.cells if not re.fullmatch(r"\d+/(\d+|each)", text)]:
        parser.error(f"--cells {strange[0]}: CLIENTS/CONNECTIONS, such as 256/3 or 256/each")
    cells = [Cell.read(text, size) for size in arguments.values for text in arguments.cells]
    runs: Runs = {(cell, side): [] for cell in cells for side in SIDES}
    syncs: list[float] = []
    loads: list[float] = []
    try:
        for number in range(arguments.rounds):
            with tempfile.TemporaryDirectory(prefix="muster-bench-") as directory:
                loads.append(os.getloadavg()[0])
                syncs += sync_times(Path(directory))
                one_round(Path(directory), cells, arguments, number, runs)
    except MusterError as error:
        print(f"bench-etcd: {error}", file=sys.stderr)
        return 1
    report(runs, cells, syncs, loads, arguments)
    return 0


def sync_times(directory: Path) -> list[float]:
    """Seconds of appending a page and fdatasync, on the disk of both clusters."""
    times = []
    page = os.urandom(SYNC_BYTES)
    with (directory / "syncs").open("wb", buffering=0) as file:
        for _ in range(SYNCS):
            started = time.perf_counter()
            file.write(page)
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - started)
    return times


def one_round(
    directory: Path, cells: list[Cell], arguments: argparse.Namespace, number: int, runs: Runs
) -> None:
    with (
        LocalCluster(directory / "muster", 3, network="127.0.78") as ours,
        EtcdCluster(directory / "etcd", network="127.0.79") as theirs,
    ):
        ours.start()
        theirs.start()
        ours.wait_for_leader()
        theirs.wait_for_leader()
        wait_for(lambda: is_whole(ours), 30.0, "muster is not whole")
        time.sleep(SETTLE_S)
        clusters: dict[str, Any] = {"muster": ours, "etcd": theirs}
        for position, cell in enumerate(cells):
            for side in SIDES if (position + number) % 2 == 0 else SIDES[::-1]:
                figures = measure(side, clusters[side], cell, arguments)
                runs[cell, side].append(figures)
                print(
                    f"round {number + 1}: {cell.value_bytes} B, {cell}, {side}: "
                    f"{figures['puts_per_s']:.0f} puts/s",
                    file=sys.stderr,
                )


def measure(side: str, cluster: Any, cell: Cell, arguments: argparse.Namespace) -> Figures:
    """One load on one side, in a process of its own. Errors: LocalError with what it said."""
    time.sleep(PAUSE_S)
    leader = cluster.wait_for_leader()
    asked = [leader] if arguments.at == "leader" else cluster.nodes
    command = [
        sys.executable, str(LOAD), "--side", side,
        "--sockets", *(str(node.socket) for node in asked),
        "--pids", *(str(node.pid) for node in cluster.nodes),
        "--clients", str(cell.clients),
        "--connections", str(cell.connections),
        "--bytes", str(cell.value_bytes),
        "--seconds", str(arguments.seconds),
    ]  # fmt: skip
    ran = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=arguments.seconds + 60
    )
    if ran.returncode:
        raise LocalError(f"the load on {side}, {cell}: {ran.stderr.strip()}")
    figures: dict[str, Any] = json.loads(ran.stdout)
    if errors := figures.pop("errors"):
        print(f"{side}, {cell}: errors: {errors}", file=sys.stderr)
    return figures


def report(
    runs: Runs,
    cells: list[Cell],
    syncs: list[float],
    loads: list[float],
    arguments: argparse.Namespace,
) -> None:
    syncs.sort()
    print(
        f"three nodes each on loopback, {os.cpu_count()} cores, TLS between the nodes; "
        f"clients at {'the leader' if arguments.at == 'leader' else 'all nodes in turn'}; "
        f"etcd {version()}; medians of {arguments.rounds}, {arguments.seconds:g} s each; "
        f"{statistics.median(loads):.1f} processes wanted a core before a round began"
    )
    print(
        f"the disk: {SYNC_BYTES} B and fdatasync take {statistics.median(syncs) * 1000:.2f} ms "
        f"(p99 {syncs[int(len(syncs) * 0.99)] * 1000:.2f} ms)"
    )
    print()
    columns = ["value", "clients/connections", "side", "puts/s", "p50 ms", "p99 ms",
               "daemons' CPU us a put", "load's", "largest RSS MiB"]  # fmt: skip
    print(f"| {' | '.join(columns)} |")
    print("|" + "---|" * len(columns))
    for cell in cells:
        for side in SIDES:
            got = {name: statistics.median(each[name] for each in runs[cell, side])
                   for name in runs[cell, side][0]}  # fmt: skip
            print(
                f"| {cell.value_bytes} B | {cell} | {side} | {got['puts_per_s']:.0f} "
                f"| {got['p50_ms']:.2f} | {got['p99_ms']:.1f} | {got['cpu_us']:.0f} "
                f"| {got['own_cpu_us']:.0f} | {got['rss_mib']:.0f} |"
            )
    print()
    for cell in cells:
        shares = [f"{name} {ratio(runs, cell, what)}" for what, name in COMPARED.items()]
        print(f"{cell.value_bytes} B, {cell}, muster/etcd: {', '.join(shares)}")
    for connections, named in ((3, "3"), (0, "256")):
        found = [cell for cell in cells if (cell.clients, cell.connections) == (256, connections)]
        if found:
            ratios = ", ".join(
                f"{ratio(runs, cell, 'puts_per_s')} ({cell.value_bytes} B)" for cell in found
            )
            print(
                f"ratio: durable puts/s at 256 clients over {named} connections, "
                f"muster/etcd {version()} = {ratios}"
            )


def ratio(runs: Runs, cell: Cell, what: str) -> str:
    """The median of the rounds' ratios."""
    both = zip(runs[cell, "muster"], runs[cell, "etcd"], strict=True)
    return f"{statistics.median(ours[what] / theirs[what] for ours, theirs in both):.2f}"


if __name__ == "__main__":
    sys.exit(main())
