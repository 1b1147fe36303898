"""Three hosts on a bridge: kill, stop and cut-off over real interfaces."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from muster.cli.local_cluster import LocalCluster, LocalNode, ask, wait_for
from muster.cli.tour import state_of
from muster.client.errors import NotQuorate
from muster_protocol.errors import MusterError
from muster_protocol.session.methods import KvGetParams, KvPutParams
from testkit.namespaces import Lan, can_make_namespaces, lan

pytestmark = [
    pytest.mark.integration,
    pytest.mark.root,
    pytest.mark.xdist_group("namespaces"),
    pytest.mark.skipif(not can_make_namespaces(), reason="needs root and network namespaces"),
]


@pytest.fixture
def network() -> Iterator[Lan]:
    with lan(f"muster-{os.getpid()}", 3) as made:
        yield made


@pytest.fixture
def hosts(network: Lan, tmp_path: Path) -> Iterator[LocalCluster]:
    with LocalCluster(tmp_path, 3, network=network.network) as cluster:
        for number, node in enumerate(cluster.nodes, start=1):
            node.prefix = network.prefix(number)
        cluster.start()
        cluster.wait_for_leader()
        yield cluster


def put(node: LocalNode, key: str, value: bytes) -> None:
    with node.client(15.0) as client:
        client.call("kv.put", KvPutParams(key=key, value=value))


def get(node: LocalNode, key: str) -> bytes:
    with node.client(15.0) as client:
        entry = client.call("kv.get", KvGetParams(key=key)).entry
    assert entry is not None
    return entry.value


def others_of(cluster: LocalCluster, node: LocalNode) -> list[LocalNode]:
    return [other for other in cluster.nodes if other is not node]


def test_a_killed_leader_is_replaced_detected_and_comes_back(hosts: LocalCluster) -> None:
    leader = hosts.wait_for_leader()
    others = others_of(hosts, leader)
    put(leader, "k", b"1")
    leader.kill()
    wait_for(lambda: hosts.leader(others), 10.0, "no new leader")
    assert get(others[0], "k") == b"1"
    put(others[1], "k", b"2")
    wait_for(
        lambda: all(state_of(node, leader.name) == "failed" for node in others),
        15.0,
        "not shown as failed",
    )
    leader.start()
    wait_for(lambda: hosts.leader(), 15.0, "it does not come back")
    assert get(leader, "k") == b"2"


def test_a_stopped_node_is_shown_as_stopped_and_comes_back(hosts: LocalCluster) -> None:
    node = others_of(hosts, hosts.wait_for_leader())[0]
    others = others_of(hosts, node)
    assert node.stop() == 0
    wait_for(
        lambda: all(state_of(other, node.name) == "stopped" for other in others),
        5.0,
        "not shown as stopped",
    )
    node.start()
    wait_for(
        lambda: all(state_of(other, node.name) == "alive" for other in others),
        10.0,
        "not shown as alive again",
    )


def test_a_leader_that_is_cut_off_is_fenced_and_the_others_go_on(
    hosts: LocalCluster, network: Lan
) -> None:
    leader = hosts.wait_for_leader()
    others = others_of(hosts, leader)
    put(leader, "k", b"old")
    network.cut(hosts.nodes.index(leader) + 1)
    wait_for(lambda: hosts.leader(others), 10.0, "the majority elects nobody")
    put(others[0], "k", b"new")
    wait_for(lambda: ask(leader, "partition").standing == "minority", 10.0, "not fenced")
    started = time.monotonic()
    with pytest.raises(NotQuorate):
        put(leader, "k", b"must not be")
    assert time.monotonic() - started < 1.0, "a minority refuses at once"
    assert ask(leader, "status").verdict == "NOT QUORATE"
    with pytest.raises(NotQuorate):
        get(leader, "k")
    network.heal(hosts.nodes.index(leader) + 1)

    def reads_again() -> bytes:
        try:
            return get(leader, "k")
        except MusterError:
            return b""

    assert wait_for(reads_again, 20.0, "it does not come back") == b"new"
    wait_for(
        lambda: all(state_of(node, leader.name) == "alive" for node in others),
        20.0,
        "the views do not converge",
    )
