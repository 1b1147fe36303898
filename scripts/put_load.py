"""Closed-loop clients that put values, in a process of their own: one line of JSON at the end.

Each client has one put outstanding, over its share of the connections; it makes the next one when
the answer has come. Nothing is counted before the warm-up is over, nor after the last second. How
much CPU the daemons and this process used for a put is part of the answer: where others use the
machine too, it says more than the rate does.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from typing import Final

import psutil
from put_wires import WIRES, Wire

KEYS: Final = 10_000
"""Keys that are put in turn."""

PATIENCE_S: Final = 10.0
"""For answers that are still out when time is up."""


class Load:
    """All clients together."""

    def __init__(self, clients: int, value: bytes, seconds: float) -> None:
        self.clients = clients
        self.value = value
        self.seconds = seconds
        self.latencies: list[float] = []
        self.errors: dict[str, int] = {}
        self.started_at = float("inf")
        self.is_over = False
        self.running = 0
        self.puts = 0
        self.done = asyncio.Event()

    def key(self) -> bytes:
        self.puts += 1
        return b"bench/%05d" % (self.puts % KEYS)

    def answered(self, asked_at: float, refused: str) -> None:
        now = time.perf_counter()
        if refused:
            self.errors[refused] = self.errors.get(refused, 0) + 1
            if len(self.errors) > 10:
                raise SystemExit(f"too many errors: {self.errors}")
        elif self.started_at <= now < self.started_at + self.seconds:
            self.latencies.append(now - asked_at)

    def client_ended(self) -> None:
        self.running -= 1
        if self.running == 0:
            self.done.set()


class Connection(asyncio.Protocol):
    """Some clients on one connection."""

    def __init__(self, wire: Wire, load: Load, clients: range) -> None:
        self._wire = wire
        self._load = load
        self._clients = clients
        self._number = 0
        self._asked: dict[int, tuple[int, float]] = {}
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(self._wire.opening())

    def begin(self) -> None:
        assert self._transport is not None
        self._load.running += len(self._clients)
        self._transport.write(b"".join([self._put(client) for client in self._clients]))

    def _put(self, client: int) -> bytes:
        self._number += 1
        self._asked[self._number] = client, time.perf_counter()
        return self._wire.put(self._number, client, self._load.key(), self._load.value)

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        answers, reply = self._wire.receive(data)
        sending = [reply]
        for number, refused in answers:
            client, asked_at = self._asked.pop(number)
            self._load.answered(asked_at, refused)
            if self._load.is_over:
                self._load.client_ended()
            else:
                sending.append(self._put(client))
        if data := b"".join(sending):
            self._transport.write(data)

    def connection_lost(self, error: Exception | None) -> None:
        if self._asked:
            sys.exit(f"a connection was lost: {error or 'closed by the daemon'}")


def cpu_seconds(processes: list[psutil.Process]) -> float:
    times = [process.cpu_times() for process in processes]
    return sum(each.user + each.system for each in times)


async def run(arguments: argparse.Namespace) -> dict[str, object]:
    load = Load(arguments.clients, os.urandom(arguments.bytes), arguments.seconds)
    count = min(arguments.connections or arguments.clients, arguments.clients)
    loop = asyncio.get_running_loop()
    connections = []
    for number in range(count):
        clients = range(number, arguments.clients, count)
        path = arguments.sockets[number % len(arguments.sockets)]
        connection = Connection(WIRES[arguments.side](), load, clients)
        await loop.create_unix_connection(lambda made=connection: made, path)
        connections.append(connection)
    daemons = [psutil.Process(pid) for pid in arguments.pids]
    for connection in connections:
        connection.begin()
    await asyncio.sleep(arguments.warm_up)
    cpu, own_cpu = cpu_seconds(daemons), time.process_time()
    load.started_at = time.perf_counter()
    await asyncio.sleep(arguments.seconds)
    cpu, own_cpu = cpu_seconds(daemons) - cpu, time.process_time() - own_cpu
    memory = max(daemon.memory_info().rss for daemon in daemons)
    load.is_over = True
    await asyncio.wait_for(load.done.wait(), PATIENCE_S)
    latencies = sorted(load.latencies)
    if not latencies:
        raise SystemExit(f"nothing was done: {load.errors}")
    return {
        "puts_per_s": len(latencies) / arguments.seconds,
        "p50_ms": quantile(latencies, 0.5) * 1000,
        "p99_ms": quantile(latencies, 0.99) * 1000,
        "cpu_us": 1e6 * cpu / len(latencies),
        "own_cpu_us": 1e6 * own_cpu / len(latencies),
        "rss_mib": memory / 2**20,
        "errors": load.errors,
    }


def quantile(values: list[float], share: float) -> float:
    return values[min(len(values) - 1, int(share * len(values)))]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", choices=sorted(WIRES), required=True)
    parser.add_argument("--sockets", nargs="+", required=True, help="connections go round these")
    parser.add_argument("--pids", nargs="+", type=int, required=True, help="of the daemons")
    parser.add_argument("--clients", type=int, required=True)
    parser.add_argument("--connections", type=int, default=0, help="0: one for each client")
    parser.add_argument("--bytes", type=int, default=64, help="of a value")
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--warm-up", type=float, default=0.5, help="seconds")
    print(json.dumps(asyncio.run(run(parser.parse_args()))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
