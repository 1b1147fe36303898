"""What tests ask of real daemons, and do to their directories."""

from __future__ import annotations

import subprocess
import sys

from muster.cli.local_cluster import LocalNode, ask
from muster_protocol.session.methods import KvGetParams, KvPutParams

ANSWER_S = 20.0
"""Longer than an election and a catch-up beside other tests."""


def put(node: LocalNode, key: str) -> int:
    """The key as its own value; the revision."""
    with node.client(ANSWER_S) as client:
        revision: int = client.call("kv.put", KvPutParams(key=key, value=key.encode())).revision
        return revision


def get(node: LocalNode, key: str) -> bytes:
    with node.client(ANSWER_S) as client:
        value: bytes = client.call("kv.get", KvGetParams(key=key)).entry.value
        return value


def verdict(node: LocalNode) -> str:
    """Of `muster status`; "" if it does not answer."""
    status = ask(node, "status")
    return str(status.verdict) if status is not None else ""


def recover(node: LocalNode, *arguments: str) -> tuple[int, str, str]:
    """`muster raft recover` on a node's directory: exit code, stdout, stderr."""
    done = subprocess.run(
        [sys.executable, "-m", "muster.cli.main", "raft", "recover",
         "--config", str(node.config_path), *arguments],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout, done.stderr
