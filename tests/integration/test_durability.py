"""Nothing is claimed before it is on the disk, seen from outside by strace.

`make test-durability`. Killing processes proves nothing here: the page cache survives them.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from muster.cli.local_cluster import LocalCluster, LocalNode, wait_for
from muster_protocol.errors import MusterError
from muster_protocol.session.methods import KvPutParams
from testkit.strace_claims import STRACE, Report, check_file


def ptrace_is_allowed() -> bool:
    if shutil.which("strace") is None:
        return False
    done = subprocess.run(["strace", "-o", "/dev/null", "true"], capture_output=True, check=False)
    return done.returncode == 0


pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(180),
    pytest.mark.skipif(not ptrace_is_allowed(), reason="strace is missing or ptrace not allowed"),
]


def start_traced(node: LocalNode, **environ: str) -> Path:
    """Start a node under strace; the file that the trace goes to."""
    trace = node.directory / "strace"
    claims = node.directory / "muster.claims"
    node.prefix = (*STRACE, str(trace))
    node.start({"MUSTER_DURABILITY_TRACE": str(claims), **environ})
    return trace


def finished(trace: Path, pid: int) -> bool:
    # strace pads the pid to five columns.
    text = trace.read_text(encoding="ascii", errors="replace")
    return re.search(rf"^{pid} +\+\+\+ ", text, re.MULTILINE) is not None


def exercise(cluster: LocalCluster) -> None:
    """Writes through all nodes, an election under load, and more writes."""
    leader = cluster.wait_for_leader(60.0)
    for number in range(30):
        put(cluster.nodes[number % 3], f"k{number}")
    leader.kill()
    survivors = cluster.running()
    wait_for(lambda: cluster.leader(survivors), 30.0, "no new leader")
    for number in range(30, 50):
        put(survivors[number % 2], f"k{number}")


def put(node: LocalNode, key: str) -> None:
    with node.client(30.0) as client:
        client.call("kv.put", KvPutParams(key=key, value=key.encode() * 20))


def run(cluster: LocalCluster, **environ: str) -> dict[str, Report]:
    traces = {node: start_traced(node, **environ) for node in cluster.nodes}
    exercise(cluster)
    pids = {node: node.pid for node in cluster.nodes}
    cluster.close()
    reports = {}
    for node, trace in traces.items():
        wait_for(lambda t=trace, n=node: finished(t, pids[n]), 20.0, "strace did not end")  # type: ignore[misc]
        reports[node.name] = check_file(trace)
    return reports


def test_every_claim_comes_after_the_sync_that_covers_it(
    make_cluster: Callable[..., LocalCluster],
) -> None:
    reports = run(make_cluster(settings={"recorder": {"enabled": False}}))
    seen: dict[str, int] = {}
    for name, report in reports.items():
        assert report.uncovered == [], f"{name}: {report.uncovered[:3]}"
        assert report.syncs > 5
        for kind, count in report.claims.items():
            seen[kind] = seen.get(kind, 0) + count
    print(f"\nclaims: {seen}; syncs: {[report.syncs for report in reports.values()]}")
    assert seen["ack"] >= 50
    assert seen["reply"] >= 50
    assert seen["vote"] >= 2
    assert seen["vote-request"] >= 2


def test_the_same_check_fails_when_syncs_are_stubbed_out(
    make_cluster: Callable[..., LocalCluster],
) -> None:
    """The control: without it, the check above might be one that cannot fail."""
    stub = Path(__file__).parent / "no_fsync"
    cluster = make_cluster(settings={"recorder": {"enabled": False}})
    try:
        reports = run(cluster, PYTHONPATH=str(stub))
    except MusterError as error:
        pytest.fail(f"the stubbed cluster did not even work: {error}")
    assert all(report.uncovered for report in reports.values())
