"""Real daemons whose wall clocks jump. `make nemesis` does it under other faults too."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from muster.cli.local_cluster import LocalCluster, LocalNode, ask, wait_for
from muster.client.blocking import Client
from muster_protocol.errors import MusterError
from testkit.wall_clock import PACKAGE, WallClock, clean_up, library

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(library() is None, reason=f"Debian's {PACKAGE} is not installed"),
]

HOUR, DAY = 3_600, 86_400
WITHIN_S = 40.0
PUTS = 25
"""Behind each step, and acknowledged."""

LOOK = """
import json, sys, time
for _ in sys.stdin:
    print(json.dumps([time.time(), time.monotonic()]), flush=True)
"""


def test_the_wall_clock_of_a_process_jumps_and_its_monotonic_clock_does_not(tmp_path: Path) -> None:
    """The control of all that is tested with such a clock."""
    clock = WallClock(tmp_path / "clock")
    command = [*clock.prefix(), sys.executable, "-c", LOOK]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for ahead_s in (0, HOUR, -HOUR, 400 * DAY, -400 * DAY, 7, 0):
            clock.set(ahead_s)
            before = time.time(), time.monotonic()
            process.stdin.write("\n")
            process.stdin.flush()
            wall, monotonic = json.loads(process.stdout.readline())
            after = time.time(), time.monotonic()
            assert before[0] <= wall - ahead_s + 1e-4
            assert wall - ahead_s <= after[0] + 1e-4
            assert before[1] <= monotonic <= after[1]
        process.stdin.close()
    clean_up(process.pid)


class Writer:
    """Puts one key after the other, by turns at each node. What is not committed is an error."""

    def __init__(self, nodes: list[LocalNode]) -> None:
        self._nodes = nodes
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.committed = 0
        self.errors: list[str] = []

    def __enter__(self) -> Writer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        self._thread.join()

    def has_done(self, enough: int) -> bool:
        """So many puts in all, or it has failed."""
        return self.committed >= enough or bool(self.errors)

    def _run(self) -> None:
        clients = [Client(str(node.socket)) for node in self._nodes]
        while not self._ends.is_set():
            number = self.committed
            client = clients[number % len(clients)]
            try:
                client.call("kv.put", key=f"k{number}", value=b"%d" % number)
                read = clients[(number + 1) % len(clients)].call("kv.get", key=f"k{number}")
                assert read.entry.value == b"%d" % number
            except (MusterError, AssertionError) as error:
                self.errors.append(f"{number}: {error!r}")
                return
            self.committed += 1
        for client in clients:
            client.close()


@pytest.fixture
def clocks(make_cluster: Callable[..., LocalCluster]) -> Iterator[dict[LocalNode, WallClock]]:
    """Of three nodes that lead, follow and answer."""
    cluster = make_cluster(settings={"log": {"format": "json"}})
    made = {node: WallClock(node.directory / "clock") for node in cluster.nodes}
    for node, clock in made.items():
        node.prefix = clock.prefix()
    cluster.start()
    cluster.wait_for_leader()
    pids = [node.pid for node in cluster.nodes]
    yield made
    cluster.close()
    for pid in (*pids, *(node.pid for node in cluster.nodes)):
        clean_up(pid)


def campaigns(nodes: list[LocalNode]) -> list[tuple[int, int]]:
    answers = [ask(node, "raft") for node in nodes]
    return [(answer.term, answer.campaigns) for answer in answers]


def stamps(node: LocalNode) -> list[str]:
    """The years in which it has logged something."""
    return [json.loads(line)["time"][:4] for line in node.log().splitlines() if line[:1] == "{"]


def test_wall_clocks_that_jump_elect_nobody_refuse_nothing_and_lose_nothing(
    clocks: dict[LocalNode, WallClock],
) -> None:
    """One, all by the same, and each by another: seconds, an hour, and 400 days, and back."""
    nodes = list(clocks)
    one, all_of_it = (1, 0, 0), (1, 1, 1)
    steps = [
        [number * by for number in which]
        for by in (5, -5, HOUR, -HOUR, 400 * DAY, -400 * DAY)
        for which in (one, all_of_it, (0, 1, -1))
    ]
    before = campaigns(nodes)
    with Writer(nodes) as writer:
        for step in [*steps, [0, 0, 0]]:
            for clock, ahead_s in zip(clocks.values(), step, strict=True):
                clock.set(ahead_s)
            enough = writer.committed + PUTS
            wait_for(functools.partial(writer.has_done, enough), WITHIN_S, f"{step}")
            assert not writer.errors, f"{step}: {writer.errors}"
    assert campaigns(nodes) == before
    with nodes[0].client() as client:
        for number in range(writer.committed):
            assert client.call("kv.get", key=f"k{number}").entry.value == b"%d" % number


def test_a_node_starts_and_is_heard_whose_wall_clock_is_years_from_that_of_the_others(
    clocks: dict[LocalNode, WallClock],
) -> None:
    """Its streams are new, so certificates are verified; and what it has on its disk is newer, or
    far older, than it believes to be possible."""
    nodes = list(clocks)
    clocks[nodes[0]].set(400 * DAY)
    for node, ahead_s in (
        (nodes[2], -400 * DAY),
        (nodes[1], 4_000 * DAY),
        (nodes[2], -20_000 * DAY),
    ):
        node.kill()
        clean_up(node.pid)
        clocks[node].set(ahead_s)
        node.start()
        wait_for(lambda: nodes[0].cluster.leader(), WITHIN_S, f"{node.name} at {ahead_s} s")
        with node.client() as client:
            client.call("kv.put", key=node.name, value=str(ahead_s).encode())
        with nodes[0].client() as client:
            assert client.call("kv.get", key=node.name).entry.value == str(ahead_s).encode()
    assert "1971" <= min(stamps(nodes[2])) < "1974", "it did not see its own clock"
    assert max(stamps(nodes[1])) > "2035"
