"""What a large store costs: a restart, a follower that needs a snapshot, and the loops meanwhile.

Run by `make bench-snapshot` (KEYS=100000 BYTES=64 ROUNDS=3; some two minutes). Three daemons get so
many keys, then in each round, under steady puts but for the first:

* a follower is restarted, and is ready when `/readyz` says so and it holds all keys;
* the leader takes some snapshots, and its turns of the loop are looked at;
* a follower is stopped until the leader's log begins behind what it has, and started: it is level
  when it has applied what the leader had committed a moment before.

A stall is a turn of the loop (`muster_loop_turn_seconds`) or a look that came late
(`muster_loop_lag_seconds`); a bound is one of the histogram's.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import statistics
import sys
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from bench_lag import looks, within
from bench_quiet import Samples, scraped
from put_stream import PutStream, open_stream
from settled import settled_cluster

from muster.cli.local_cluster import HTTP_PORT, LocalCluster, LocalNode
from muster_protocol.errors import LocalError, MusterError

LOADERS: Final = 128
"""Puts outstanding while the store is filled; a connection may have 256."""

CLIENTS: Final = 8
"""Of the steady load, each with one put outstanding: some two thousand a second."""

READY_AIM_S, LEVEL_AIM_S, STALL_AIM_S = 3.0, 10.0, 0.05
POLL_S: Final = 0.02
WITHIN_S: Final = 90.0
SNAPSHOTS_A_ROUND: Final = 2
APPLIED, COMMITTED = "muster_raft_applied_index", "muster_raft_commit_index"
TAKEN, INSTALLED = "muster_raft_snapshots_taken_total", "muster_raft_snapshots_installed_total"
STORED = "muster_store_keys"
MEASURES: Final = ("muster_loop_lag_seconds", "muster_loop_turn_seconds")


@dataclass
class Stalls:
    """Of one node, over all its rounds: how many looks and turns were how long."""

    counts: dict[str, dict[float, int]] = field(default_factory=dict)
    max_s: float = 0.0
    """Of the whole life of the node, before the round too."""

    def add(self, before: Samples, after: Samples) -> None:
        for name in MEASURES:
            total = self.counts.setdefault(name, {})
            for bound, count in looks([before], [after], name).items():
                total[bound] = total.get(bound, 0) + count
        self.max_s = max(self.max_s, after["muster_loop_lag_max_seconds"])

    def add_all(self, after: Samples) -> None:
        """Since the node's start."""
        self.add(dict.fromkeys(after, 0.0), after)

    def beyond(self, name: str, bound: float) -> int:
        counts = self.counts[name]
        return max(counts.values()) - counts[bound]


@dataclass
class Figures:
    ready_s: list[float] = field(default_factory=list)
    level_s: list[float] = field(default_factory=list)
    installed: int = 0
    taken: int = 0
    restarting: Stalls = field(default_factory=Stalls)
    taking: Stalls = field(default_factory=Stalls)
    sending: Stalls = field(default_factory=Stalls)
    installing: Stalls = field(default_factory=Stalls)


async def until(condition: Callable[[], bool], what: str) -> None:
    """Errors: LocalError when it takes too long."""
    ends = time.monotonic() + WITHIN_S
    while not await asyncio.to_thread(condition):
        if time.monotonic() > ends:
            raise LocalError(f"{what} not within {WITHIN_S:.0f} s")
        await asyncio.sleep(POLL_S)


def is_ready(node: LocalNode) -> bool:
    try:
        with urllib.request.urlopen(f"http://{node.host}:{HTTP_PORT}/readyz", timeout=5.0):
            return True
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False  # refused, or 503


def sample(node: LocalNode, name: str) -> float:
    """0 where the node does not say it yet."""
    try:
        return scraped(node).get(name, 0.0)
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return 0.0


@asynccontextmanager
async def steady(node: LocalNode, value_bytes: int, keys: int) -> AsyncIterator[None]:
    """Puts of keys that are there, all the while."""
    again = (key(number % keys) for number in itertools.count())
    stream = PutStream(again, value_bytes=value_bytes, outstanding=CLIENTS)
    await open_stream(str(node.socket), stream)
    yield
    stream.stop()
    await stream.wait()


def key(number: int) -> str:
    return f"bench/{number:06d}"


async def restart(node: LocalNode, keys: int) -> float:
    """Seconds to ready."""
    await asyncio.to_thread(node.stop)
    started = time.monotonic()
    node.start()
    await until(lambda: is_ready(node) and sample(node, STORED) == keys, "a node was ready")
    return time.monotonic() - started


async def take_snapshots(leader: LocalNode, count: int) -> int:
    """Until it has taken so many more."""
    before = sample(leader, TAKEN)
    await until(lambda: sample(leader, TAKEN) >= before + count, "snapshots were taken")
    await asyncio.sleep(0.5)  # what is removed behind the last one is a part of it
    return int(sample(leader, TAKEN) - before)


async def catch_up(leader: LocalNode, follower: LocalNode, figures: Figures) -> None:
    """A follower that needs a snapshot: stopped, started, level."""
    await asyncio.to_thread(follower.stop)
    await take_snapshots(leader, 2)  # it had all but the newest entries: the second is behind it
    before = scraped(leader)
    started = time.monotonic()
    follower.start()

    def is_level() -> bool:
        committed = sample(leader, COMMITTED)
        return sample(follower, APPLIED) >= committed

    await until(is_level, "a follower was level")
    figures.level_s.append(time.monotonic() - started)
    await asyncio.sleep(0.5)
    after = scraped(follower)
    figures.installed += int(after[INSTALLED])
    figures.sending.add(before, scraped(leader))
    figures.installing.add_all(after)


async def measure(cluster: LocalCluster, keys: int, value_bytes: int, rounds: int) -> Figures:
    figures = Figures()
    leader = await asyncio.to_thread(cluster.wait_for_leader)
    began = time.monotonic()
    names = (key(number) for number in range(keys))
    stream = PutStream(names, value_bytes=value_bytes, outstanding=LOADERS)
    await (await open_stream(str(leader.socket), stream)).wait()
    print(f"{keys} keys in {time.monotonic() - began:.1f} s", file=sys.stderr)
    followers = itertools.cycle([node for node in cluster.nodes if node is not leader])
    for number in range(rounds):
        follower = next(followers)
        figures.ready_s.append(await restart(follower, keys))
        figures.restarting.add_all(scraped(follower))
        async with steady(leader, value_bytes, keys):
            before = scraped(leader)
            figures.taken += await take_snapshots(leader, SNAPSHOTS_A_ROUND)
            figures.taking.add(before, scraped(leader))
            await catch_up(leader, follower, figures)
        if await asyncio.to_thread(cluster.wait_for_leader) is not leader:
            raise LocalError("another node leads by now")
        print(
            f"round {number + 1}: ready {figures.ready_s[-1]:.2f} s, "
            f"level {figures.level_s[-1]:.2f} s", file=sys.stderr,
        )  # fmt: skip
    return figures


def report(figures: Figures, keys: int, value_bytes: int) -> int:
    rounds = len(figures.ready_s)
    print(f"{keys} keys of {value_bytes} B, {rounds} rounds, {figures.taken} snapshots taken, "
          f"{figures.installed} installed")  # fmt: skip
    print("| what | median | worst | aim |")
    print("|---|---|---|---|")
    for what, times, aim in (
        ("restart to ready, s", figures.ready_s, READY_AIM_S),
        ("a follower behind the log level, s", figures.level_s, LEVEL_AIM_S),
    ):
        print(f"| {what} | {statistics.median(times):.2f} | {max(times):.2f} | {aim:g} |")
    print()
    print("| loop of | turns | over 50 ms | all at most ms | looks | over 50 ms | all at most ms "
          "| longest since its start ms |")  # fmt: skip
    print("|---|---|---|---|---|---|---|---|")
    missed = 0
    for who, stalls in (
        ("the follower, restarted", figures.restarting),
        ("the leader, taking", figures.taking),
        ("the leader, sending", figures.sending),
        ("the follower, started and installing", figures.installing),
    ):
        cells = []
        for name in reversed(MEASURES):
            counts, beyond = stalls.counts[name], stalls.beyond(name, STALL_AIM_S)
            cells += [f"{max(counts.values())}", f"{beyond}", f"{1000 * within(counts, 1.0):g}"]
            missed += beyond
        print(f"| {who} | {' | '.join(cells)} | {1000 * stalls.max_s:.0f} |")
    print(f"stalls over {1000 * STALL_AIM_S:.0f} ms: {missed} (aim: none)")
    late = max(figures.ready_s) > READY_AIM_S or max(figures.level_s) > LEVEL_AIM_S
    return 1 if missed or late else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keys", type=int, default=100_000)
    parser.add_argument("--bytes", type=int, default=64, help="of a value")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    keys, value_bytes = arguments.keys, arguments.bytes
    try:
        with settled_cluster(3, network="127.0.77") as cluster:
            figures = asyncio.run(measure(cluster, keys, value_bytes, arguments.rounds))
    except MusterError as error:
        print(f"bench-snapshot: {error}", file=sys.stderr)
        return 1
    return report(figures, keys, value_bytes)


if __name__ == "__main__":
    sys.exit(main())
