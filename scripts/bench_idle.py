"""What an idle cluster of three costs, and how fast it notices: the figures of docs/benchmarks.md.

Run by `make bench-idle`. Bounded: about a minute idle, then twenty kills of the leader.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
from settled import is_whole

from muster.cli.local_cluster import LocalCluster, LocalNode, ask, wait_for
from muster.cli.tour import state_of
from muster_protocol.session.methods import KvPutParams

SETTLE_S = 10.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--idle", type=float, default=60.0, help="seconds of idling")
    parser.add_argument("--kills", type=int, default=20, help="kills of the leader")
    arguments = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="muster-bench-") as directory,
        LocalCluster(Path(directory), 3, network="127.0.77") as cluster,
    ):
        cluster.start()
        cluster.wait_for_leader()
        time.sleep(SETTLE_S)
        idle(cluster, arguments.idle)
        status_time(cluster)
        kills(cluster, arguments.kills)
    return 0


def idle(cluster: LocalCluster, seconds: float) -> None:
    """CPU, memory, packets per node while nothing is asked."""
    processes = [psutil.Process(node.pid) for node in cluster.nodes]
    before = [(p.cpu_times(), counters(n)) for p, n in zip(processes, cluster.nodes, strict=True)]
    started = time.monotonic()
    time.sleep(seconds)
    took = time.monotonic() - started
    print(f"idle for {took:.0f} s, three nodes on loopback, {os.cpu_count()} cores")
    print("node  role      CPU %   RSS MiB  packets/s  packet B/s")
    for node, process, (cpu, counted) in zip(cluster.nodes, processes, before, strict=True):
        now, counts = process.cpu_times(), counters(node)
        used = (now.user + now.system - cpu.user - cpu.system) / took * 100
        memory = process.memory_info().rss / 2**20
        packets = (counts["packets_sent"] - counted["packets_sent"]) / took
        sent = (counts["bytes_sent"] - counted["bytes_sent"]) / took
        role = ask(node, "status").role
        print(f"{node.name:5} {role:8} {used:6.2f} {memory:9.1f} {packets:10.2f} {sent:11.0f}")


def counters(node: LocalNode) -> dict[str, int]:
    counted: dict[str, int] = ask(node, "info").statistics["packets"]
    return counted


def status_time(cluster: LocalCluster) -> None:
    """`muster status` against `python -c pass`, by turns."""
    muster = Path(sys.executable).with_name("muster")
    ours = [str(muster), "--socket", str(cluster.nodes[0].socket), "status"]
    bare = [sys.executable, "-c", "pass"]
    ratios, times = [], []
    for _ in range(15):
        took_ours, took_bare = timed(ours), timed(bare)
        ratios.append(took_ours / took_bare)
        times.append((took_ours * 1000, took_bare * 1000))
    ours_ms, bare_ms = (statistics.median(column) for column in zip(*times, strict=True))
    print(
        f"muster status: {ours_ms:.0f} ms, python -c pass: {bare_ms:.0f} ms (medians of 15), "
        f"ratio median {statistics.median(ratios):.1f}, worst {max(ratios):.1f}"
    )


def timed(command: list[str]) -> float:
    started = time.monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - started


def kills(cluster: LocalCluster, count: int) -> None:
    """SIGKILL of the leader: until the next write, and until both others show it as failed."""
    writes: list[float] = []
    failures: list[float] = []
    for number in range(count):
        leader = cluster.wait_for_leader(30.0)
        wait_for(lambda: is_whole(cluster), 30.0, "not whole")
        others = [node for node in cluster.nodes if node is not leader]
        with others[0].client(20.0) as client:
            client.call("kv.put", KvPutParams(key="warm", value=b"1"))
            started = time.monotonic()
            leader.kill()
            client.call("kv.put", KvPutParams(key=f"kill{number}", value=b"1"))
            writes.append(time.monotonic() - started)
        name = leader.name
        wait_for(
            lambda name=name, others=others: all(state_of(n, name) == "failed" for n in others),
            30.0,
            "not failed",
        )
        failures.append(time.monotonic() - started)
        leader.start()
    for what, values in (("next acknowledged write", writes), ("failed on all others", failures)):
        print(
            f"SIGKILL of the leader to {what}: median {statistics.median(values):.2f} s, "
            f"worst {max(values):.2f} s ({count} runs)"
        )


if __name__ == "__main__":
    sys.exit(main())
