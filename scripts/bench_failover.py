"""How long nothing can be written when a leader dies: muster and etcd by turns, real processes.

Run by `make bench-failover` (RUNS=30; some five minutes). A leader gets SIGKILL, and a client tries
a new put at each of the two others every 10 ms, over connections that it had before, until one is
done. A put that is not answered is given up for a newer one after 160 ms. Then the killed node is
started again, and when its cluster is whole the other side has its turn.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from etcd_cluster import EtcdCluster, missing, version
from put_wires import WIRES, Wire
from settled import SETTLE_S, is_whole

from muster.cli.local_cluster import LocalCluster, wait_for
from muster_protocol.errors import LocalError, MusterError

POLL_S: Final = 0.010
OUTSTANDING_MAX: Final = 16
WITHIN_S: Final = 30.0
REST_S: Final = 1.0
"""Between a cluster's being whole and its next loss."""


class Trying(asyncio.Protocol):
    """Puts at one node."""

    def __init__(self, wire: Wire, done: asyncio.Event) -> None:
        self._wire = wire
        self._done = done
        self._number = 0
        self._outstanding: list[int] = []
        self._transport: asyncio.Transport | None = None
        self.refused = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(self._wire.opening())

    def put(self) -> None:
        assert self._transport is not None
        if len(self._outstanding) == OUTSTANDING_MAX:
            self._transport.write(self._wire.cancel(self._outstanding.pop(0)))
        self._number += 1
        self._outstanding.append(self._number)
        self._transport.write(self._wire.put(self._number, 1, b"failover", b"1"))

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        answers, reply = self._wire.receive(data)
        if reply:
            self._transport.write(reply)
        for number, refused in answers:
            if number in self._outstanding:
                self._outstanding.remove(number)
                self.refused += bool(refused)
                if not refused:
                    self._done.set()

    def forget(self) -> None:
        """What is answered from here on was asked from here on."""
        self._outstanding.clear()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


async def loss(side: str, leader: Any, others: list[Any]) -> float:
    """Seconds from the leader's SIGKILL to the next put that was done."""
    loop, done = asyncio.get_running_loop(), asyncio.Event()
    tries = []
    for node in others:
        trying = Trying(WIRES[side](), done)
        await loop.create_unix_connection(lambda made=trying: made, str(node.socket))
        trying.put()
        await asyncio.wait_for(done.wait(), WITHIN_S)
        done.clear()
        tries.append(trying)
    for trying in tries:
        trying.forget()
    started = time.monotonic()
    leader.kill()
    while not done.is_set():
        if time.monotonic() > started + WITHIN_S:
            raise LocalError(f"{side}: no put was done within {WITHIN_S:.0f} s")
        for trying in tries:
            trying.put()
        try:
            await asyncio.wait_for(done.wait(), POLL_S)
        except TimeoutError:
            continue
    took = time.monotonic() - started
    for trying in tries:
        trying.close()
    return took


def one_loss(side: str, cluster: Any) -> float:
    """A loss of the leader of a cluster that is whole, before and after."""
    leader = cluster.wait_for_leader()
    took = asyncio.run(loss(side, leader, [node for node in cluster.nodes if node is not leader]))
    leader.start()
    wait_for(lambda: cluster.leader() is not None, WITHIN_S, f"{side} has no leader")
    assert all(node.is_running for node in cluster.nodes), f"{side}: a node has ended"
    if isinstance(cluster, LocalCluster):
        wait_for(lambda: is_whole(cluster), WITHIN_S, "muster is not whole")
    time.sleep(REST_S)
    return took


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=30)
    runs = parser.parse_args().runs
    if lacking := missing():
        print(f"bench-failover: {lacking}", file=sys.stderr)
        return 1
    times: dict[str, list[float]] = {"muster": [], "etcd": []}
    try:
        with (
            tempfile.TemporaryDirectory(prefix="muster-bench-") as directory,
            LocalCluster(Path(directory) / "muster", 3, network="127.0.78") as ours,
            EtcdCluster(Path(directory) / "etcd", network="127.0.79") as theirs,
        ):
            ours.start()
            theirs.start()
            ours.wait_for_leader()
            theirs.wait_for_leader()
            wait_for(lambda: is_whole(ours), WITHIN_S, "muster is not whole")
            time.sleep(SETTLE_S)
            for number in range(runs):
                for side, cluster in (("muster", ours), ("etcd", theirs)):
                    times[side].append(one_loss(side, cluster))
                    print(f"run {number + 1}: {side}: {times[side][-1]:.3f} s", file=sys.stderr)
    except MusterError as error:
        print(f"bench-failover: {error}", file=sys.stderr)
        return 1
    report(times, runs)
    return 0


def report(times: dict[str, list[float]], runs: int) -> None:
    print("| SIGKILL of the leader to the next acknowledged put | p50 s | p90 s | worst s |")
    print("|---|---|---|---|")
    for side, took in times.items():
        ordered = sorted(took)
        named = f"etcd {version()}" if side == "etcd" else side
        print(
            f"| {named}, {runs} runs | {statistics.median(ordered):.2f} "
            f"| {ordered[int(0.9 * (runs - 1))]:.2f} | {ordered[-1]:.2f} |"
        )
    share = statistics.median(times["muster"]) / statistics.median(times["etcd"])
    print(f"ratio: failover p50, muster/etcd {version()} = {share:.2f}")


if __name__ == "__main__":
    sys.exit(main())
