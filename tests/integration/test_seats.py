"""Who votes, with real daemons: one grows to three and goes back, and a silent one is replaced."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable

from muster.cli.local_cluster import LocalCluster, LocalNode, wait_for

WITHIN_S = 40.0


def muster(node: LocalNode, *words: str) -> str:
    command = [sys.executable, "-m", "muster.cli.main", "--socket", str(node.socket), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def voters(node: LocalNode) -> list[str]:
    shown = muster(node, "raft", "--json")
    rows = json.loads(shown)["voters"] if shown else []  # nothing yet: it is just starting
    return sorted(row["name"] for row in rows if row["role"] != "learner")


def test_one_daemon_grows_to_three_and_goes_back_to_one(
    make_cluster: Callable[..., LocalCluster],
) -> None:
    cluster = make_cluster(3, founders=1)
    n1, n2, n3 = cluster.nodes
    n1.start()
    wait_for(lambda: voters(n1) == ["n1"], WITHIN_S, "it is not founded")
    n2.start()
    n3.start()
    wait_for(lambda: voters(n1) == ["n1", "n2", "n3"], WITHIN_S, "it does not grow")
    muster(n2, "kv", "put", "k", "v")
    assert "n3 has no seat" in muster(n2, "raft", "remove", "n3")
    wait_for(lambda: muster(n3, "raft").split()[1] == "no", WITHIN_S, "it keeps its journal")
    assert "n3 has a seat;" in muster(n3, "raft", "add", "n3")
    wait_for(lambda: len(voters(n1)) == 3, WITHIN_S, "it does not vote again")
    assert "voters wanted: 1" in muster(n3, "raft", "voters", "1")
    wait_for(lambda: len(voters(n1)) == 1, WITHIN_S, "it does not shrink")
    # It may refuse for some seconds, until it has found out who votes now.
    wait_for(lambda: muster(n3, "kv", "get", "k").strip() == "v", 15.0, "it does not answer")


def test_a_voter_that_is_stopped_for_long_is_replaced_and_comes_back_without_a_seat(
    make_cluster: Callable[..., LocalCluster],
) -> None:
    settings = {"cluster": {"voters": 3, "replace_voter_after_s": 10.0}}
    cluster = make_cluster(4, founders=3, settings=settings)
    cluster.start()
    leader = cluster.wait_for_leader()
    silent = next(node for node in cluster.nodes[:3] if node is not leader)
    stay = sorted(node.name for node in cluster.nodes if node is not silent)
    muster(leader, "kv", "put", "k", "before")
    silent.signal(signal.SIGSTOP)
    wait_for(lambda: voters(leader) == stay, WITHIN_S, "it is not replaced")
    muster(leader, "kv", "put", "k", "meanwhile")
    silent.signal(signal.SIGCONT)
    wait_for(lambda: muster(silent, "raft").split()[1:2] == ["no"], WITHIN_S, "it keeps its seat")
    wait_for(
        lambda: muster(silent, "kv", "get", "k").strip() == "meanwhile", 15.0, "it does not answer"
    )
    assert voters(leader) == stay
