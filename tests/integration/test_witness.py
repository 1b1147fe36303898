"""Two real daemons and a real witness: either node dies, and the other one goes on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from muster.cli.local_cluster import LocalCluster, LocalNode, ask, wait_for
from testkit.daemons import get, put, recover, verdict

pytestmark = pytest.mark.integration

WITHIN_S = 30.0


@pytest.fixture
def site(make_cluster: Callable[..., LocalCluster]) -> LocalCluster:
    """n1 and n2 have the data, n3 is their witness."""
    cluster = make_cluster(3, has_witness=True)
    cluster.start()
    for node in cluster.nodes:  # who has no data asks who votes, every few seconds
        wait_for(lambda n=node: roles(n).get("n3") == "witness", WITHIN_S, "no witness")
    return cluster


def change(node: LocalNode, old: str, new: str) -> None:
    text = node.config_path.read_text()
    assert old in text
    node.config_path.write_text(text.replace(old, new))


def roles(node: LocalNode) -> dict[str, str]:
    result = ask(node, "raft")
    return {row.name: row.role for row in result.voters} if result is not None else {}


def leader_and_other(site: LocalCluster) -> tuple[LocalNode, LocalNode]:
    leader = site.wait_for_leader()
    return leader, next(node for node in site.nodes[:2] if node is not leader)


def problems(node: LocalNode) -> str:
    status = ask(node, "status")
    return " ".join(problem.what for problem in status.problems) if status is not None else ""


def size_on_disk(node: LocalNode, beginning: str) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in state(node).glob(beginning + "*")}


def state(node: LocalNode) -> Path:
    return node.directory / "state"


def test_either_node_dies_and_the_other_goes_on_with_the_witness(site: LocalCluster) -> None:
    witness = site.nodes[2]
    for number in range(2):
        dead, alive = leader_and_other(site)
        dead.kill()
        put(witness, f"leader died {number}")
        assert "fewer disks" in problems(alive)
        dead.start()
        wait_for(lambda a=alive: "fewer disks" not in problems(a), WITHIN_S, "still called")
    leader, other = leader_and_other(site)
    other.kill()
    put(leader, "follower died")
    other.start()
    site.wait_for_leader()
    witness.kill()
    put(other, "witness died")
    witness.start()
    wait_for(lambda: ask(witness, "raft") is not None, WITHIN_S, "it does not start")
    for key in ("leader died 0", "leader died 1", "follower died", "witness died"):
        assert get(witness, key) == key.encode()
    assert not size_on_disk(witness, "journal") | size_on_disk(witness, "snapshot")
    (kept,) = size_on_disk(witness, "consistency.witness").values()
    assert kept < 200


def test_what_is_lost_with_a_node_is_said_and_the_other_one_recovered(
    site: LocalCluster, tmp_path: Path
) -> None:
    leader, other = leader_and_other(site)
    witness = site.nodes[2]
    put(leader, "on both")
    other.kill()
    put(leader, "on one")
    leader.kill()  # for good
    other.start()
    wait_for(lambda: verdict(other) == "NOT QUORATE", WITHIN_S, "it does not start")
    other.stop()
    witness.stop()
    code, out, _ = recover(witness, "--inspect", "--json")
    assert code == 0
    asked = tmp_path / "witness.json"
    asked.write_text(out)
    code, out, _ = recover(other, "--inspect", "--json")
    mine = json.loads(out)
    assert json.loads(asked.read_text())["last_index"] > mine["last_index"]
    assert recover(witness, "--yes", "--as-of", "1/1")[0] == 5
    as_of = f"{mine['last_term']}/{mine['last_index']}"
    code, out, said = recover(other, "--yes", "--as-of", as_of, "--json", str(asked))
    assert code == 0, said
    done = json.loads(out)
    assert done["may_lose_acknowledged"]
    assert recover(witness, "--rejoin", done["cluster"], "--yes")[0] == 0
    other.start()
    witness.start()
    wait_for(lambda: verdict(other) == "HEALTHY", WITHIN_S, "not recovered")
    assert get(witness, "on both") == b"on both"


def test_a_node_cannot_become_a_witness_nor_a_witness_a_node(site: LocalCluster) -> None:
    one, witness = site.nodes[0], site.nodes[2]
    one.stop()
    change(one, "bootstrap_expect = 2", "bootstrap_expect = 0")
    change(one, "witness = false", "witness = true")
    one.start()
    assert one.wait() != 0
    assert "this node has the data of a voter" in one.log()
    witness.stop()
    change(witness, "witness = true", "witness = false")
    witness.start()
    assert witness.wait() != 0
    assert "has promised something as a witness" in witness.log()
