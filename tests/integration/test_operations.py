"""What an operator does with running daemons: ask, rotate the secret, reload, leave."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from muster.cli.local_cluster import LocalCluster, LocalNode, ask, wait_for
from muster.cli.tour import state_of
from muster_protocol.crypto.keyring import format_secrets, parse_secrets
from muster_protocol.session.methods import KvPutParams, LeaveParams

pytestmark = pytest.mark.integration


def muster(node: LocalNode, *arguments: str, stdin: bytes = b"") -> tuple[int, str, str]:
    """Run the CLI against a node: exit code, stdout, stderr."""
    done = subprocess.run(
        [sys.executable, "-m", "muster.cli.main", "--socket", str(node.socket), *arguments],
        input=stdin,
        capture_output=True,
        timeout=30,
        check=False,
    )
    said = done.stderr.decode()
    assert "Traceback" not in said, said
    return done.returncode, done.stdout.decode(), said


def fetch(url: str, host: str | None = None) -> tuple[int, str]:
    request = urllib.request.Request(url, headers={"Host": host} if host else {})
    try:
        with urllib.request.urlopen(request, timeout=5) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_the_command_line_writes_reads_compares_and_lists(cluster: LocalCluster) -> None:
    one, two = cluster.nodes[0], cluster.nodes[1]
    assert muster(one, "kv", "put", "app/colour", "blue")[0] == 0
    assert muster(two, "kv", "get", "app/colour")[:2] == (0, "blue")
    code, out, _ = muster(two, "kv", "get", "app/colour", "--json")
    assert code == 0
    entry = json.loads(out)["entry"]
    assert (entry["value"], entry["revision"]) == ("blue", 1)
    assert muster(one, "kv", "cas", "app/colour", "7", "red")[0] == 8
    assert muster(one, "kv", "cas", "app/colour", "1", "red")[0] == 0
    assert muster(one, "kv", "put", "app/raw", "-", stdin=bytes(range(256)))[0] == 0
    code, out, _ = muster(two, "kv", "ls", "app/", "--json")
    assert [row["key"] for row in json.loads(out)["entries"]] == ["app/colour", "app/raw"]
    assert muster(two, "kv", "del", "app/colour")[0] == 0
    assert muster(one, "kv", "get", "app/colour")[0] == 5
    for verb in ("status", "members", "info", "raft", "partition", "agents", "version"):
        code, out, _ = muster(one, verb, "--json")
        assert code == 0
        assert "schema" in json.loads(out)


def test_a_minority_is_told_by_exit_code_and_reason(cluster: LocalCluster) -> None:
    last = cluster.nodes[2]
    for node in cluster.nodes[:2]:
        node.kill()
    wait_for(lambda: ask(last, "status").verdict == "NOT QUORATE", 10.0, "not fenced")
    code, _, said = muster(last, "kv", "put", "k", "v")
    assert code == 4
    assert "1 of 3 voters in reach" in said
    assert muster(last, "status")[0] == 4
    assert muster(last, "kv", "ls", "--stale")[0] == 0


def test_metrics_and_health_are_on_loopback_for_this_host_only(cluster: LocalCluster) -> None:
    base = f"http://{cluster.nodes[0].host}:7412"
    code, text = fetch(f"{base}/metrics")
    assert code == 200
    assert 'muster_members{state="alive"} 3.0' in text
    assert fetch(f"{base}/healthz")[0] == 200
    assert fetch(f"{base}/readyz")[0] == 200
    assert fetch(f"{base}/nothing")[0] == 404
    assert fetch(f"{base}/metrics", host="rebound.example")[0] == 421
    for node in cluster.nodes[1:]:
        node.kill()
    wait_for(lambda: fetch(f"{base}/readyz")[0] == 503, 10.0, "still ready without a quorum")
    assert fetch(f"{base}/healthz")[0] == 200


def write_secrets(path: Path, secrets: tuple[bytes, ...]) -> None:
    path.write_text(format_secrets(secrets))
    path.chmod(0o600)


def reload_all(cluster: LocalCluster, count: int) -> None:
    for node in cluster.nodes:
        os.kill(node.pid, signal.SIGHUP)
    wait_for(
        lambda: all(node.log().count("keys.replaced") == count for node in cluster.nodes),
        5.0,
        "the secrets are not read again",
    )


def test_the_secret_is_rotated_with_overlap_and_nobody_is_lost(cluster: LocalCluster) -> None:
    """Install everywhere, use everywhere, remove everywhere; each step by SIGHUP."""
    old = parse_secrets(cluster.secret_file.read_text())[0]
    new = bytes(range(32))
    for step, ring in enumerate(((old, new), (new, old), (new,)), start=1):
        write_secrets(cluster.secret_file, ring)
        reload_all(cluster, step)
        with cluster.nodes[step % 3].client() as client:
            client.call("kv.put", KvPutParams(key=f"step{step}", value=b"1"))
    node = cluster.nodes[0]
    node.kill()
    node.start()
    wait_for(
        lambda: (s := ask(node, "status")) and s.verdict == "HEALTHY", 20.0, "it is not let in"
    )
    assert all("member" not in n.log() or "failed" not in n.log() for n in cluster.nodes[1:])


def test_a_reload_says_what_needs_a_restart_and_refuses_what_is_wrong(
    cluster: LocalCluster,
) -> None:
    node = cluster.nodes[0]
    text = node.config_path.read_text()
    node.config_path.write_text(text.replace('name = "n1"', 'name = "renamed"'))
    os.kill(node.pid, signal.SIGHUP)
    wait_for(lambda: "config.needs.restart" in node.log(), 5.0, "it is not told")
    assert "node.name" in node.log()
    node.config_path.write_text("[node]\nnonsense = 1\n")
    os.kill(node.pid, signal.SIGHUP)
    wait_for(lambda: "daemon.reload.refused" in node.log(), 5.0, "it is not refused")
    assert node.is_running


def test_a_node_that_leaves_is_shown_as_left_and_gives_its_seat_back(
    cluster: LocalCluster,
) -> None:
    node = cluster.nodes[2]
    with node.client() as client:
        client.call("leave", LeaveParams())
    assert node.wait() == 0
    others = cluster.nodes[:2]
    wait_for(
        lambda: all(state_of(other, node.name) == "left" for other in others),
        5.0,
        "not shown as left",
    )
    assert ask(others[0], "status").voters_total == 2


def test_a_signal_reaches_the_tail_of_another_node(cluster: LocalCluster) -> None:
    """The death of one node is on the bus of the others, each with its own view."""
    watcher, victim = cluster.nodes[0], cluster.nodes[2]
    tail = subprocess.Popen(
        [sys.executable, "-m", "muster.cli.main", "--socket", str(watcher.socket),
         "signals", "tail", "cluster.node.*", "--json"],
        stdout=subprocess.PIPE,
    )  # fmt: skip
    try:
        wait_for(lambda: ask(watcher, "status"), 5.0, "no status")
        victim.kill()
        assert tail.stdout is not None
        types = []
        for line in tail.stdout:
            types.append(json.loads(line)["type"])
            if types[-1] == "cluster.node.failed":
                break
        assert "cluster.node.suspected" in types
    finally:
        tail.terminate()
        tail.wait()
        if tail.stdout is not None:
            tail.stdout.close()


def test_what_real_daemons_decided_is_decided_again_from_their_flight_records(
    cluster: LocalCluster,
) -> None:
    """Founding, writes, a kill, an election, a restart on the old log, and the stop of all."""
    leader = cluster.wait_for_leader()
    follower = next(node for node in cluster.nodes if node is not leader)
    for number in range(20):
        assert muster(follower, "kv", "put", "app/count", str(number))[0] == 0
    leader.kill()
    wait_for(lambda: muster(follower, "kv", "put", "app/count", "20")[0] == 0, 15.0, "no write")
    leader.start()
    wait_for(
        lambda: muster(leader, "kv", "get", "app/count")[1] == "20", 15.0, "it does not return"
    )
    # A request may be answered before every machine of a node that starts has decided anything.
    wait_for(lambda: muster(leader, "status")[0] == 0, 15.0, "it is not well again")
    for node in cluster.nodes:
        node.stop()
    for node in cluster.nodes:
        code, out, said = muster(node, "replay", str(node.directory / "state"))
        verdicts = dict(line.split(": ", 1) for line in out.splitlines() if line[:1].isalpha())
        assert (code, said) == (0, ""), verdicts
        for machine in ("failure", "raft", "partition", "discovery"):
            assert verdicts[machine].endswith("all decisions as then"), verdicts
        assert "differ" not in verdicts["signals"], "there may be none of its decisions"
