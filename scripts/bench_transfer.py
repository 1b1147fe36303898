"""How long nothing can be written when leadership is handed over: real processes under load.

Run by `make bench-transfer` (RUNS=30; about a minute). Clients at all three nodes make puts in a
steady load, and the leader is told to hand over (`muster raft transfer`). What is measured is the
time from that request to the first acknowledgement of a put that was asked after the leader had
taken it up: from then on it proposes nothing, so its successor has. Also the longest pause between
two acknowledgements anywhere, and the slowest put, within a second of it. A put that fails counts;
there must be none.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import itertools
import statistics
import sys
import time
from dataclasses import dataclass
from typing import Final

from put_wires import MusterWire
from settled import settled_cluster

from muster.cli.local_cluster import LocalCluster, LocalNode
from muster_protocol.errors import LocalError, MusterError

CLIENTS: Final = 8
"""At each node."""

PAUSE_S: Final = 0.02
"""Of a client, between an answer and its next put: 1,000 puts/s of all together."""

WITHIN_S: Final = 10.0
WINDOW_S: Final = 1.0
"""After a request, in which pauses and slow puts are its."""

REST_S: Final = 0.5


@dataclass(frozen=True)
class Put:
    """One that was answered."""

    asked: float
    answered: float
    refused: str


class Load:
    """What all clients saw."""

    def __init__(self) -> None:
        self.puts: list[Put] = []
        self.lost = 0
        """Puts whose connection ended before the answer."""

    def since(self, instant: float) -> list[Put]:
        return [put for put in self.puts if put.answered >= instant]


class Clients(asyncio.Protocol):
    """Those of one node, on one connection."""

    def __init__(self, load: Load) -> None:
        self._wire = MusterWire()
        self._load = load
        self._number = 0
        self._asked: dict[int, float] = {}
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(self._wire.opening())
        loop = asyncio.get_running_loop()
        for client in range(CLIENTS):
            loop.call_later(PAUSE_S * client / CLIENTS, self._put)

    def _put(self) -> None:
        if self._transport is None:
            return
        self._number += 1
        self._asked[self._number] = time.monotonic()
        key = b"transfer/%03d" % (self._number % 100)
        self._transport.write(self._wire.put(self._number, self._number, key, b"v" * 64))

    def data_received(self, data: bytes) -> None:
        now, loop = time.monotonic(), asyncio.get_running_loop()
        for number, refused in self._wire.receive(data)[0]:
            self._load.puts.append(Put(self._asked.pop(number), now, refused))
            loop.call_later(PAUSE_S, self._put)

    def connection_lost(self, error: Exception | None) -> None:
        del error
        self._transport = None
        self._load.lost += len(self._asked)

    def close(self) -> None:
        self._asked.clear()
        if self._transport is not None:
            self._transport.close()


@dataclass(frozen=True)
class Transfer:
    """One handover, in seconds; `failed` puts."""

    took: float
    pause: float
    slowest: float
    failed: int


async def transfers(cluster: LocalCluster, runs: int) -> list[Transfer]:
    """One after the other, under load all the time."""
    loop, load, done = asyncio.get_running_loop(), Load(), []
    clients = [Clients(load) for _ in cluster.nodes]
    for each, node in zip(clients, cluster.nodes, strict=True):
        await loop.create_unix_connection(functools.partial(_same, each), str(node.socket))
    await asyncio.sleep(WINDOW_S)
    for number in range(runs):
        leader = await asyncio.to_thread(cluster.wait_for_leader)
        done.append(await one(cluster, leader, load))
        print(f"run {number + 1}: {done[-1]}", file=sys.stderr)
        await asyncio.sleep(REST_S)
    for each in clients:
        each.close()
    if load.lost:
        raise LocalError(f"{load.lost} puts were lost with their connection")
    return done


def _same(clients: Clients) -> Clients:
    return clients


async def one(cluster: LocalCluster, leader: LocalNode, load: Load) -> Transfer:
    load.puts.clear()
    asked = time.monotonic()
    await asyncio.to_thread(transfer, leader)
    taken_up = time.monotonic()
    while not any(put.asked >= taken_up and not put.refused for put in load.puts):
        if time.monotonic() > asked + WITHIN_S:
            raise LocalError(f"no put was done within {WITHIN_S:.0f} s")
        await asyncio.sleep(0.001)
    took = next(p.answered for p in load.puts if p.asked >= taken_up and not p.refused) - asked
    await asyncio.sleep(WINDOW_S)
    if await asyncio.to_thread(cluster.wait_for_leader) is leader:
        raise LocalError(f"{leader.name} leads as before")
    seen = sorted(put.answered for put in load.since(asked) if put.answered <= asked + WINDOW_S)
    return Transfer(
        took=took,
        pause=max(after - before for before, after in itertools.pairwise([asked, *seen])),
        slowest=max(put.answered - put.asked for put in load.puts),
        failed=sum(bool(put.refused) for put in load.puts),
    )


def transfer(leader: LocalNode) -> None:
    with leader.client() as client:
        client.call("raft.transfer")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=30)
    runs = parser.parse_args().runs
    try:
        with settled_cluster(3, network="127.0.78") as cluster:
            done = asyncio.run(transfers(cluster, runs))
    except MusterError as error:
        print(f"bench-transfer: {error}", file=sys.stderr)
        return 1
    return report(done)


def report(done: list[Transfer]) -> int:
    print(f"| `muster raft transfer`, {len(done)} runs | p50 ms | p90 ms | worst ms |")
    print("|---|---|---|---|")
    rows = {
        "to the next acknowledged put": [each.took for each in done],
        "longest pause between acknowledgements": [each.pause for each in done],
        "slowest put": [each.slowest for each in done],
    }
    for what, times in rows.items():
        ordered = sorted(1000 * took for took in times)
        p90 = ordered[int(0.9 * (len(ordered) - 1))]
        print(f"| {what} | {statistics.median(ordered):.0f} | {p90:.0f} | {ordered[-1]:.0f} |")
    failed = sum(each.failed for each in done)
    print(f"failed puts: {failed}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
