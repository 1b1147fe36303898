"""What one node acknowledged, every node reads: after kills, a full restart, a paused leader."""

from __future__ import annotations

import contextlib
import os
import signal
import time

import pytest

from muster.cli.local_cluster import LocalCluster, LocalNode, wait_for
from muster.client.errors import RequestError
from muster_protocol.errors import MusterError
from muster_protocol.session.methods import KvGetParams, KvPutParams

pytestmark = pytest.mark.integration


def put(node: LocalNode, key: str, value: bytes) -> None:
    with node.client(15.0) as client:
        client.call("kv.put", KvPutParams(key=key, value=value))


def get(node: LocalNode, key: str, timeout_s: float = 15.0) -> bytes:
    with node.client(timeout_s) as client:
        entry = client.call("kv.get", KvGetParams(key=key)).entry
    assert entry is not None
    return entry.value


def test_any_nodes_acknowledged_write_is_read_by_every_node(cluster: LocalCluster) -> None:
    for node in cluster.nodes:
        put(node, f"from-{node.name}", node.name.encode())
    for reader in cluster.nodes:
        for writer in cluster.nodes:
            assert get(reader, f"from-{writer.name}") == writer.name.encode()


def test_acknowledged_writes_survive_the_leaders_sigkill(cluster: LocalCluster) -> None:
    leader = cluster.wait_for_leader()
    for number in range(30):
        put(cluster.nodes[number % 3], f"k{number}", b"%d" % number)
    leader.kill()
    survivors = cluster.running()
    for number in range(30):
        assert get(survivors[number % 2], f"k{number}") == b"%d" % number
    leader.start()
    cluster.wait_for_leader()
    for number in range(30):
        assert get(leader, f"k{number}") == b"%d" % number


def test_acknowledged_writes_survive_the_sigkill_of_all_and_a_restart(
    cluster: LocalCluster,
) -> None:
    for number in range(30):
        put(cluster.nodes[number % 3], f"k{number}", b"%d" % number)
    for node in cluster.nodes:
        node.signal(signal.SIGKILL)
    for node in cluster.nodes:
        node.wait()
        node.start()
    cluster.wait_for_leader()
    for node in cluster.nodes:
        for number in range(0, 30, 7):
            assert get(node, f"k{number}") == b"%d" % number


def test_a_leader_that_was_paused_never_answers_with_an_old_value(cluster: LocalCluster) -> None:
    """SIGSTOP for 10 s; after SIGCONT it says the new value, or nothing at first."""
    leader = cluster.wait_for_leader()
    put(leader, "k", b"old")
    os.kill(leader.pid, signal.SIGSTOP)
    paused_at = time.monotonic()
    others = [node for node in cluster.nodes if node is not leader]
    wait_for(lambda: cluster.leader(others), 10.0, "no new leader")
    put(others[0], "k", b"new")
    wait_for(lambda: time.monotonic() - paused_at >= 10.0, 12.0, "ten seconds")
    os.kill(leader.pid, signal.SIGCONT)
    answers: list[bytes] = []

    def answered() -> bool:
        with contextlib.suppress(RequestError):  # not quorate yet: no answer is no old answer
            answers.append(get(leader, "k", timeout_s=5.0))
        return len(answers) >= 5

    wait_for(answered, 20.0, "the resumed node does not answer")
    assert set(answers) == {b"new"}


def test_a_fourth_node_joins_without_a_seat_and_forwards(make_cluster: object) -> None:
    cluster: LocalCluster = make_cluster(4, founders=3)  # type: ignore[operator]
    for node in cluster.nodes[:3]:
        node.start()
    cluster.wait_for_leader()
    fourth = cluster.nodes[3]
    fourth.start()

    def works() -> bool:
        try:
            put(fourth, "k", b"v")
        except MusterError:
            return False
        return True

    wait_for(works, 15.0, "the fourth node does not forward")
    assert get(fourth, "k") == b"v"
    assert get(cluster.nodes[0], "k") == b"v"
    with fourth.client() as client:
        assert not client.call("status").is_voter
        assert client.call("raft").voters[0].name
