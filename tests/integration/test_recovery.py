"""Two of three daemons die for good: the third is recovered, the dead are refused, and rejoin."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from muster.cli.local_cluster import LocalCluster, ask, wait_for
from muster.client.errors import NotQuorate
from testkit.daemons import get, put, recover, verdict

pytestmark = pytest.mark.integration

KEYS = 40


def test_a_lost_quorum_is_recovered_the_dead_are_fenced_and_rejoin(cluster: LocalCluster) -> None:
    survivor, *dead = cluster.nodes
    assert recover(survivor, "--inspect")[0] == 1, "its daemon runs"
    written = max(put(survivor, f"key{number}") for number in range(KEYS))
    wait_for(
        lambda: all(ask(n, "status").applied_index >= ask(survivor, "status").commit_index
                    for n in cluster.nodes), 10.0, "not level",
    )  # fmt: skip
    for node in dead:
        node.kill()
    wait_for(lambda: ask(survivor, "status").verdict == "NOT QUORATE", 15.0, "not fenced")
    old = ask(survivor, "status").cluster
    survivor.stop()

    code, out, _ = recover(survivor, "--inspect", "--json")
    assert code == 0
    survey = json.loads(out)
    assert (survey["cluster"], survey["keys"], len(survey["voters"])) == (old, KEYS, 3)
    as_of = f"{survey['last_term']}/{survey['last_index']}"
    code, out, said = recover(survivor, "--yes", "--as-of", as_of, "--json")
    assert code == 0, said
    new = json.loads(out)["cluster"]

    survivor.start()
    wait_for(lambda: verdict(survivor) == "HEALTHY", 20.0, "not recovered")
    status = ask(survivor, "status")
    assert (status.cluster, status.voters_total, status.keys) == (new, 1, KEYS)
    assert all(get(survivor, f"key{number}") == f"key{number}".encode() for number in range(KEYS))
    assert put(survivor, "afterwards") > written + 10**11

    for node in dead:  # they are a majority of what was
        node.start()
    for node in dead:
        wait_for(lambda n=node: f"--rejoin {new}" in n.log(), 30.0, "it is not told")
        wait_for(
            lambda n=node: (raft := ask(n, "raft")) and raft.voting_suspended, 15.0, "it votes"
        )
        status = ask(node, "status")
        assert (status.verdict, f"--rejoin {new}" in status.reason) == ("NOT QUORATE", True)
        with pytest.raises(NotQuorate, match=f"--rejoin {new}"):  # at once, not after 10 s
            get(node, "key7")
    assert get(survivor, "afterwards") == b"afterwards"

    for node in dead:
        node.stop()
        code, _, said = recover(node, "--rejoin", new, "--yes")
        assert code == 0, said
        node.start()
    for node in dead:
        wait_for(lambda n=node: verdict(n) == "HEALTHY", 20.0, "it does not rejoin")
        assert ask(node, "status").cluster == new
        assert get(node, "key7") == b"key7"
    assert put(dead[0], "through a member") > written
    survivor.stop()
    survivor.start()
    wait_for(lambda: verdict(survivor) == "HEALTHY", 20.0, "it does not come back")
    assert get(survivor, "through a member") == b"through a member"
    survivor.stop()
    replayed = subprocess.run(
        [sys.executable, "-m", "muster.cli.main", "replay", str(survivor.directory / "state")],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (replayed.returncode, replayed.stderr) == (0, ""), "over both lives"
