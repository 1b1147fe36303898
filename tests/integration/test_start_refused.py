"""A daemon that cannot start says why in one line, with its documented exit code."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from muster.cli.local_cluster import LocalCluster, LocalNode, ask, wait_for
from muster.storage.records import record_opening
from muster.storage.segments import MARK, MARK_BYTES
from muster_protocol.session.methods import KvGetParams, KvPutParams

pytestmark = pytest.mark.integration


def refusal(node: LocalNode, *options: str) -> tuple[int, str]:
    """Start a daemon that must end by itself: its exit code and what it says last."""
    done = subprocess.run(
        [sys.executable, "-m", "muster", "--config", str(node.config_path), *options],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stderr.strip().splitlines()[-1]


def journal_of(node: LocalNode) -> Path:
    return node.directory / "state" / "journal-00000001.seg"


def ends_in_a_mark(journal: Path) -> bool:
    return journal.read_bytes()[-MARK_BYTES:].startswith(record_opening(MARK))


def test_a_port_in_use(cluster: LocalCluster) -> None:
    node = cluster.nodes[0]
    node.stop()
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        sock.bind((node.host, 7411))
        sock.listen()
        code, said = refusal(node)
    assert code == 75
    assert "7411" in said
    assert "in use" in said


def test_a_state_directory_that_another_daemon_uses(cluster: LocalCluster) -> None:
    code, said = refusal(cluster.nodes[0], "--bind", f"{cluster.network}.99")
    assert code == 75
    assert "in use by another musterd" in said


def test_an_unusable_state_directory(cluster: LocalCluster, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    code, said = refusal(cluster.nodes[0], "--state-dir", str(tmp_path / "file" / "state"))
    assert code == 74
    assert str(tmp_path / "file" / "state") in said


def test_an_unknown_key_in_the_configuration(cluster: LocalCluster) -> None:
    node = cluster.nodes[0]
    node.config_path.write_text(node.config_path.read_text() + "\n[node2]\nnmae = 'x'\n")
    code, said = refusal(node)
    assert code == 2
    assert "muster.toml:" in said


def test_a_secret_that_others_can_read(cluster: LocalCluster) -> None:
    cluster.secret_file.chmod(0o644)
    code, said = refusal(cluster.nodes[0])
    assert code == 78
    assert "chmod 600" in said or "0600" in said or "mode" in said


def test_a_torn_journal_tail_is_cut_and_logged(cluster: LocalCluster) -> None:
    node = cluster.nodes[0]
    with node.client() as client:
        client.call("kv.put", KvPutParams(key="k", value=b"v" * 100))
    node.kill()
    with journal_of(node).open("r+b") as file:
        file.truncate(journal_of(node).stat().st_size - 7)
    node.start()
    wait_for(lambda: (s := ask(node, "status")) and s.verdict == "HEALTHY", 20.0, "not healthy")
    assert "journal.torn.tail.cut" in node.log()
    with node.client() as client:
        assert client.call("kv.get", KvGetParams(key="k")).entry.value == b"v" * 100


@pytest.mark.parametrize("where", ["first", "middle", "last"])
def test_a_complete_record_that_is_wrong_refuses_to_start(
    cluster: LocalCluster, where: str
) -> None:
    """The last one included, when the mark behind it is there: it was acknowledged."""
    node = cluster.nodes[0]
    with node.client() as client:
        for number in range(5):
            client.call("kv.put", KvPutParams(key=f"k{number}", value=b"v" * 100))
    wait_for(lambda: ends_in_a_mark(journal_of(node)), 10.0, "the last batch is not closed")
    node.kill()
    data = bytearray(journal_of(node).read_bytes())
    last = len(data) - MARK_BYTES - 3
    position = {"first": 20, "middle": len(data) // 2, "last": last}[where]
    data[position] ^= 1
    journal_of(node).write_bytes(data)
    code, said = refusal(node)
    assert code == 78
    assert "journal-00000001.seg" in said
    assert "move it away" in said
    assert journal_of(node).read_bytes() == bytes(data), "evidence was changed"


def test_a_superblock_without_its_journal_refuses_to_start(cluster: LocalCluster) -> None:
    node = cluster.nodes[0]
    node.kill()
    journal_of(node).unlink()
    code, said = refusal(node)
    assert code == 78
    assert "no journal" in said


def test_a_copied_state_directory_does_not_vote_and_says_so(cluster: LocalCluster) -> None:
    """The second process with an identity stops voting; the first one and the cluster go on."""
    original = cluster.nodes[0]
    original.stop()
    copy_dir = original.directory / "copy"
    shutil.copytree(original.directory / "state", copy_dir)
    original.start()
    cluster.wait_for_leader()
    twin = LocalNode(cluster, 7, secret_file=cluster.secret_file)
    text = twin.config_path.read_text()
    twin.config_path.write_text(text.replace(str(twin.directory / "state"), str(copy_dir)))
    twin.start()
    cluster.nodes.append(twin)

    def has_stopped_voting() -> bool:
        raft = ask(twin, "raft")
        return raft is not None and bool(raft.voting_suspended)

    wait_for(has_stopped_voting, 20.0, "the copy still votes")
    status = ask(twin, "status")
    assert any("alive elsewhere" in problem.what for problem in status.problems)
    assert "membership.identity.duplicate" in twin.log()
    raft = ask(original, "raft")
    assert not raft.voting_suspended
    with cluster.nodes[1].client() as client:
        client.call("kv.put", KvPutParams(key="goes", value=b"on"))


def test_a_duplicate_name_is_told_and_both_stay_members(
    make_cluster: object,
) -> None:
    cluster: LocalCluster = make_cluster(3)  # type: ignore[operator]
    third = cluster.nodes[2]
    text = third.config_path.read_text()
    third.config_path.write_text(text.replace('name = "n3"', 'name = "n1"'))
    cluster.start()
    cluster.wait_for_leader()
    status = ask(cluster.nodes[0], "status")
    assert status.verdict == "DEGRADED"
    assert any("2 members are called n1" in problem.what for problem in status.problems)
    wait_for(lambda: "membership.name.duplicate" in cluster.nodes[1].log(), 5.0, "it is not logged")


def test_a_bind_beyond_loopback_without_a_secret_is_refused(cluster: LocalCluster) -> None:
    node = cluster.nodes[0]
    text = node.config_path.read_text()
    secret = next(line for line in text.splitlines() if line.startswith("secret_file"))
    node.config_path.write_text(text.replace(secret, ""))
    code, said = refusal(node, "--bind", "192.0.2.1")
    assert code == 2
    assert "secret" in said
