"""Does a cluster that has nothing to do keep its leader on a host whose cores others want?

Run by `make bench-quiet` (FOR=10m). Five daemons idle, and two busy loops for each core compete
with them. What counts is told by the daemons' own metrics: campaigns and lost leaderships, by
cause, and how late each loop was. There should be no election at all; exit code 1 if there was.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
import urllib.request
from typing import Final

from settled import settled_cluster

from muster.cli.local_cluster import HTTP_PORT, LocalCluster, LocalNode
from muster_protocol.errors import MusterError

NODES: Final = 5
LOOPS_PER_CORE: Final = 2
SETTLE_S: Final = 5.0
PROGRESS_S: Final = 60.0

CAMPAIGNS: Final = "muster_raft_campaigns_total"
LOSSES: Final = "muster_raft_leaderships_lost_total"
WON: Final = "muster_raft_elections_won_total"
SCRAPE_S: Final = 30.0
"""An answer may take that long where five daemons wait for cores behind busy loops."""

Samples = dict[str, float]


def scraped(node: LocalNode) -> Samples:
    """Every sample of a node, by name and labels."""
    with urllib.request.urlopen(
        f"http://{node.host}:{HTTP_PORT}/metrics", timeout=SCRAPE_S
    ) as answer:
        text = answer.read().decode()
    found = re.findall(r"^(\w+(?:\{.*\})?) (\S+)$", text, flags=re.MULTILINE)
    return {name: float(value) for name, value in found}


def counted(before: list[Samples], after: list[Samples], family: str) -> dict[str, int]:
    """How much the counters of a family grew on all nodes, by their labels; none that did not."""
    grown: dict[str, int] = {}
    for was, now in zip(before, after, strict=True):
        for name, value in now.items():
            if name.partition("{")[0] == family and value != was.get(name, 0.0):
                label = name.partition('"')[2].rstrip('"}')
                grown[label] = grown.get(label, 0) + int(value - was.get(name, 0.0))
    return grown


def seconds(text: str) -> float:
    """Of "90s", "10m" or "1h"."""
    units = {"s": 1, "m": 60, "h": 3600}
    if not re.fullmatch(r"\d+[smh]", text):
        raise argparse.ArgumentTypeError(f"{text}: a number and s, m or h")
    return float(text[:-1]) * units[text[-1]]


def watch(cluster: LocalCluster, for_s: float, loops: list[subprocess.Popen[bytes]]) -> int:
    cores = os.cpu_count() or 1
    before = [scraped(node) for node in cluster.nodes]
    while len(loops) < LOOPS_PER_CORE * cores:
        loops.append(subprocess.Popen([sys.executable, "-c", "while True: pass"]))
    ends = time.monotonic() + for_s
    while (left := ends - time.monotonic()) > 0:
        time.sleep(min(left, PROGRESS_S))
        won = counted(before, [scraped(node) for node in cluster.nodes], WON)
        print(f"{for_s - left:4.0f} s: {sum(won.values())} elections won", file=sys.stderr)
    after = [scraped(node) for node in cluster.nodes]
    worst = max(sample["muster_loop_lag_max_seconds"] for sample in after)
    campaigns, losses = counted(before, after, CAMPAIGNS), counted(before, after, LOSSES)
    won = sum(counted(before, after, WON).values())
    print(f"{NODES} idle daemons, {len(loops)} busy loops on {cores} cores, {for_s:.0f} s")
    print(f"elections: {sum(campaigns.values())} {campaigns or ''}, won: {won}")
    print(f"leaderships lost: {sum(losses.values())} {losses or ''}")
    print(f"worst lag of a loop: {1000 * worst:.0f} ms")
    return 1 if campaigns or losses else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--for", dest="for_s", type=seconds, default=600.0, help="90s, 10m, 1h")
    for_s = parser.parse_args().for_s
    loops: list[subprocess.Popen[bytes]] = []
    try:
        with settled_cluster(NODES, network="127.0.76", settle_s=SETTLE_S) as cluster:
            return watch(cluster, for_s, loops)
    except MusterError as error:
        print(f"bench-quiet: {error}", file=sys.stderr)
        return 1
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


if __name__ == "__main__":
    sys.exit(main())
