"""Nothing is claimed before it is on the disk, seen from outside by strace.

`make test-durability`. Killing processes proves nothing here: the page cache survives them.
"""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from muster.cli.local_cluster import LocalCluster, LocalNode, ask, wait_for
from muster.storage.journal import is_image, is_segment
from muster.storage.snapshots import is_snapshot
from muster_protocol.errors import MusterError
from muster_protocol.session.methods import KvPutParams
from testkit.strace_calls import STRACE, Call, calls_of
from testkit.strace_claims import Checker, Report
from testkit.strace_replay import replay


def ptrace_is_allowed() -> bool:
    if shutil.which("strace") is None:
        return False
    done = subprocess.run(["strace", "-o", "/dev/null", "true"], capture_output=True, check=False)
    return done.returncode == 0


Start = Callable[[LocalNode], None]
Planted = Callable[[list[Call]], list[Call]]
"""Another order of what was done."""

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


def exercise(cluster: LocalCluster, start: Start) -> None:
    """Writes through all nodes, an election under load, and more writes."""
    for node in cluster.nodes:
        start(node)
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


def recorded(
    cluster: LocalCluster, work: Callable[[LocalCluster, Start], None], **environ: str
) -> dict[str, list[Call]]:
    """What each daemon did in its state directory while `work` was done, which starts it."""
    traces = dict[LocalNode, Path]()

    def start(node: LocalNode) -> None:
        traces[node] = start_traced(node, **environ)

    work(cluster, start)
    pids = {node: node.pid for node in cluster.nodes}
    cluster.close()
    made = {}
    for node, trace in traces.items():
        has_finished = functools.partial(finished, trace, pids[node])
        wait_for(has_finished, 20.0, "strace did not end")
        made[node.name] = calls_of(trace, node.directory / "state")
    return made


def checked(calls: Iterable[Call]) -> Report:
    return Checker().check(calls)


QUIET = {"recorder": {"enabled": False}}


def test_every_claim_comes_after_the_sync_that_covers_it(
    make_cluster: Callable[..., LocalCluster],
) -> None:
    made = recorded(make_cluster(settings=QUIET), exercise)
    reports = {name: checked(calls) for name, calls in made.items()}
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
    cluster = make_cluster(settings=QUIET)
    try:
        made = recorded(cluster, exercise, MUSTER_STUB="no_fsync")
    except MusterError as error:
        pytest.fail(f"the stubbed cluster did not even work: {error}")
    assert all(checked(calls).uncovered for calls in made.values())


# --- segments, images and snapshots -------------------------------------------------------------

PUTS = 350
"""Of each client. One comes to a snapshot by that."""


def fill(cluster: LocalCluster, start: Start) -> None:
    """Enough for segments, images and snapshots. Who votes later begins with the leader's."""
    first, *others = cluster.nodes
    start(first)
    cluster.wait_for_leader(60.0)
    put_many([first])
    for node in others:
        start(node)
    wait_for(lambda: voters(first) == 3, 60.0, "the others do not vote")
    put_many(cluster.nodes)
    for node in others:
        wait_for(functools.partial(is_level, node, first), 60.0, f"{node.name} lags")


def is_level(node: LocalNode, with_node: LocalNode) -> bool:
    return applied(node) >= applied(with_node)


def voters(node: LocalNode) -> int:
    answer = ask(node, "raft")
    return sum(row.role != "learner" for row in answer.voters) if answer else 0


def applied(node: LocalNode) -> int:
    answer = ask(node, "raft")
    return answer.applied_index if answer else 0


def put_many(nodes: list[LocalNode]) -> None:
    errors: list[str] = []

    def run(node: LocalNode) -> None:
        try:
            with node.client(60.0) as client:
                for number in range(PUTS):
                    value = b"%d" % number * 20
                    client.call(
                        "kv.put", KvPutParams(key=f"{node.name}/{number % 40}", value=value)
                    )
        except MusterError as error:
            errors.append(f"{node.name}: {error}")

    threads = [threading.Thread(target=run, args=(node,)) for node in nodes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors


def without_syncs_of_the_directory_behind(kind: str, matches: Callable[[str], bool]) -> Planted:
    """The first one after each such operation is left out."""

    def plant(calls: list[Call]) -> list[Call]:
        kept, left_out, is_next = list[Call](), dict[int, None](), False
        for call in calls:
            if call.kind == kind and matches(call.other or call.name):
                is_next = True
            if call.kind == "sync" and not call.name and is_next:
                is_next, left_out[call.number] = False, None
            if not (call.kind in ("sync", "synced") and call.number in left_out):
                kept.append(call)
        return kept

    return plant


def without_syncs(matches: Callable[[str], bool]) -> Planted:
    return lambda calls: [
        call for call in calls if not (call.kind in ("sync", "synced") and matches(call.name))
    ]


def removed_a_moment_earlier(calls: list[Call]) -> list[Call]:
    """Segments go before the file that stands for them has its name."""
    made = list(calls)
    first = next(
        at for at, call in enumerate(made) if call.kind == "remove" and is_segment(call.name)
    )
    shown = max(
        at for at in range(first) if made[at].kind == "rename" and made[at].other != "superblock"
    )
    made.insert(shown, made.pop(first))
    return made


PLANTED: dict[str, tuple[str, Planted]] = {
    "a segment's name is not synced": (
        "uncovered", without_syncs_of_the_directory_behind("create", is_segment)),
    "a batch is not synced": ("uncovered", without_syncs(is_segment)),
    "a snapshot is not synced": ("hasty", without_syncs(lambda name: name.startswith("snapshot"))),
    "an image is not synced": ("hasty", without_syncs(lambda name: ".img" in name)),
    "a snapshot's name is not synced": (
        "hasty", without_syncs_of_the_directory_behind("rename", is_snapshot)),
    "an image's name is not synced": (
        "hasty", without_syncs_of_the_directory_behind("rename", is_image)),
    "segments go too early": ("hasty", removed_a_moment_earlier),
}  # fmt: skip


def test_segments_images_and_snapshots_come_and_go_in_an_order_that_loses_nothing(
    make_cluster: Callable[..., LocalCluster],
) -> None:
    """Their order is looked at, and what a loss of power would have left at the moments of it
    recovers. Both find orders that are wrong."""
    cluster = make_cluster(settings=QUIET, founders=1)
    made = recorded(cluster, fill, MUSTER_STUB="small_limits")
    for name, calls in made.items():
        report, tally = checked(calls), replay(calls)
        print(f"\n{name}: {report}\n{tally}")
        assert report.uncovered == []
        assert report.hasty == []
        assert tally.wrong is None
        assert report.installed == (name != "n1")
        assert min(report.segments, report.images, report.snapshots, report.removed) > 1
    for what, (finds, planted) in PLANTED.items():
        calls = planted(made["n1"])
        assert getattr(checked(calls), finds), what
        assert replay(calls).wrong is not None, what
