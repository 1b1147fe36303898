"""The tour of `make demo`: what the cluster is for, step by step, on three real daemons.

Each step has a time within which it must happen; one that does not ends the tour with its name. To
show that the steps can fail, `sabotage` breaks one of them on purpose: not the check, but what is
checked (the wrong secret, a process that is not killed, a value that was changed behind our back).
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from muster.cli.local_cluster import LocalCluster, LocalNode, ask, wait_for
from muster.client.errors import NotQuorate, RequestError
from muster_protocol.errors import LocalError, MusterError
from muster_protocol.session.methods import KvChangeParams, KvGetParams, KvPutParams

if TYPE_CHECKING:
    from muster_protocol.session.methods import KvResult, MembersResult

KEY: Final = "greeting"
VALUE: Final = b"hello from n1"


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that is shown. `act` raises LocalError when it does not happen."""

    name: str
    title: str
    act: Callable[[Tour], str]


class StepFailed(LocalError):
    """A step did not happen; the message names it."""


class Tour:
    """One tour of one cluster."""

    def __init__(
        self, cluster: LocalCluster, *, say: Callable[[str], None], sabotage: str = ""
    ) -> None:
        """`say` prints a line. `sabotage`: the name of the step to break, "" for none."""
        names = [step.name for step in STEPS]
        if sabotage and sabotage not in names:
            raise LocalError(f"no step is called {sabotage!r}; there are: {', '.join(names)}")
        self.cluster = cluster
        self._say = say
        self._sabotage = sabotage
        self.killed: LocalNode | None = None
        self.killed_at = 0.0

    def run(self) -> None:
        """All steps. Errors: StepFailed."""
        for number, step in enumerate(STEPS, start=1):
            self._say(f"{number:2}. {step.title}")
            try:
                told = step.act(self)
            except MusterError as error:
                raise StepFailed(f"step {number} ({step.name}) did not happen: {error}") from error
            for line in told.splitlines():
                self._say(f"      {line}")

    def breaks(self, name: str) -> bool:
        return self._sabotage == name

    # --- steps ------------------------------------------------------------------------------

    def find(self) -> str:
        if self.breaks("find"):
            third = self.cluster.nodes[2]
            wrong = self.cluster.make_secret("another-secret")
            text = third.config_path.read_text(encoding="utf-8")
            third.config_path.write_text(
                text.replace(str(third.secret_file), str(wrong)), encoding="utf-8"
            )
        started = time.monotonic()
        self.cluster.start()
        self._all_see_all()
        leader = self.cluster.wait_for_leader(15.0)
        took = time.monotonic() - started
        return f"all three see each other and follow {leader.name}, {took:.1f} s after their start"

    def status(self) -> str:
        node = self.cluster.nodes[1]
        if self.breaks("status"):
            node.signal(signal.SIGSTOP)
        status = wait_for(lambda: ask(node, "status"), 5.0, "no status")
        if status.verdict != "HEALTHY":
            raise LocalError(f"the verdict is {status.verdict}: {status.reason}")
        return (
            f"{status.verdict}: {status.reason}\n"
            f"leader {status.leader_name}, term {status.term}, cluster {status.cluster[:8]}"
        )

    def write_read(self) -> str:
        first, second = self.cluster.nodes[0], self.cluster.nodes[1]
        put(first, KEY, VALUE)
        if self.breaks("write-read"):
            put(self.cluster.nodes[2], KEY, b"something else")
        entry = read(second)
        return f"written through n1, read through n2: {KEY} = {entry.decode()}"

    def kill_leader(self) -> str:
        leader = self.cluster.wait_for_leader(5.0)
        others = [node for node in self.cluster.nodes if node is not leader]
        if self.breaks("failover"):
            others[0].signal(signal.SIGSTOP)
        self.killed, self.killed_at = leader, time.monotonic()
        leader.kill()
        if self.breaks("failover"):
            others = others[1:]
        new = wait_for(lambda: self.cluster.leader(others), 10.0, "no new leader")
        took = time.monotonic() - self.killed_at
        put(others[-1], "after-failover", b"1")
        wrote = time.monotonic() - self.killed_at
        return (
            f"{leader.name} was killed with SIGKILL; {new.name} leads after {took:.2f} s, "
            f"the first write is acknowledged after {wrote:.2f} s"
        )

    def detection(self) -> str:
        assert self.killed is not None
        name = self.killed.name
        others = [node for node in self.cluster.nodes if node is not self.killed]
        if self.breaks("detection"):
            self.killed.start()
        wait_for(
            lambda: all(state_of(node, name) == "failed" for node in others),
            15.0,
            f"{name} is not shown as failed on both others",
        )
        took = time.monotonic() - self.killed_at
        return f"{name} is shown as failed on both others after {took:.2f} s"

    def still_there(self) -> str:
        others = [node for node in self.cluster.nodes if node is not self.killed]
        if self.breaks("value-survives"):
            with others[0].client() as client:
                client.call("kv.delete", KvChangeParams(key=KEY))
        entry = read(others[0])
        return f"{KEY} = {entry.decode()}"

    def comes_back(self) -> str:
        assert self.killed is not None
        node = self.killed
        started = time.monotonic()
        if not self.breaks("catch-up"):
            node.start()
        other = next(n for n in self.cluster.nodes if n is not node)

        def is_level() -> bool:
            here, there = ask(node, "raft"), ask(other, "raft")
            if here is None or there is None:
                return False
            return bool(here.state_fingerprint == there.state_fingerprint and here.leader)

        wait_for(is_level, 15.0, f"{node.name} does not catch up")
        took = time.monotonic() - started
        return f"{node.name} is back after {took:.1f} s, with the same state as {other.name}"

    def stopped(self) -> str:
        node = self._follower()
        if self.breaks("stopped"):
            node.kill()
        else:
            node.stop()
        other = self.cluster.running()[0]
        wait_for(
            lambda: state_of(other, node.name) == "stopped",
            5.0,
            f"{node.name} is not shown as stopped, but as {state_of(other, node.name)}",
        )
        self.killed = node
        return f"{node.name} was stopped with SIGTERM: {other.name} shows it as stopped, not failed"

    def started_again(self) -> str:
        assert self.killed is not None
        if not self.breaks("started-again"):
            self.killed.start()
        self._all_see_all()
        self.cluster.wait_for_leader(10.0)
        return f"{self.killed.name} is alive again on all three"

    def minority(self) -> str:
        wait_for(self._all_voters_linked, 10.0, "not all voters reach each other")
        last = self._follower()
        gone = [node for node in self.cluster.nodes if node is not last]
        if self.breaks("minority"):
            gone = gone[:1]
        for node in gone:
            node.kill()

        def refused() -> str:
            try:
                put(last, "must-not-be", b"1", timeout_s=3.0)
            except NotQuorate as error:
                return str(error)
            except MusterError:
                return ""
            raise LocalError("a write was acknowledged without a quorum")

        reason = wait_for(refused, 10.0, "the write is not refused")
        status = wait_for(lambda: ask(last, "status"), 5.0, "no status")
        return f"{last.name}, alone: {status.verdict}; a write is refused: {reason}"

    def _all_see_all(self) -> None:
        nodes = self.cluster.nodes
        wait_for(
            lambda: all(sees(node, "alive") == len(nodes) for node in nodes),
            15.0,
            "not all nodes see each other alive",
        )

    def _all_voters_linked(self) -> bool:
        said = [ask(node, "status") for node in self.cluster.nodes]
        return all(status is not None and status.voters_reachable == 3 for status in said)

    def _follower(self) -> LocalNode:
        leader = self.cluster.wait_for_leader(10.0)
        return next(node for node in self.cluster.running() if node is not leader)


STEPS: Final = (
    Step("find", "three daemons find each other and found a cluster", Tour.find),
    Step("status", "status, in one look", Tour.status),
    Step("write-read", "a value is written through one, read through another", Tour.write_read),
    Step("failover", "the leader is killed", Tour.kill_leader),
    Step("detection", "its failure is detected", Tour.detection),
    Step("value-survives", "the value is still there", Tour.still_there),
    Step("catch-up", "the killed node comes back and catches up", Tour.comes_back),
    Step("stopped", "a node is stopped in order", Tour.stopped),
    Step("started-again", "and started again", Tour.started_again),
    Step("minority", "with two nodes down, the third refuses to write", Tour.minority),
)  # fmt: skip


def put(node: LocalNode, key: str, value: bytes, timeout_s: float = 10.0) -> None:
    """A strong write through `node`."""
    with node.client(timeout_s) as client:
        client.call("kv.put", KvPutParams(key=key, value=value))


def read(node: LocalNode) -> bytes:
    """The demo's value through `node`. Errors: LocalError if it is another one."""
    with node.client() as client:
        result: KvResult = client.call("kv.get", KvGetParams(key=KEY))
    found = result.entry.value if result.entry is not None else b""
    if found != VALUE:
        raise LocalError(f"read {found!r}, expected {VALUE!r}")
    return found


def sees(node: LocalNode, state: str) -> int:
    """How many members `node` shows in that state."""
    members: MembersResult | None = ask(node, "members")
    return 0 if members is None else sum(m.state == state for m in members.members)


def state_of(node: LocalNode, name: str) -> str:
    """How `node` shows the member of that name."""
    members: MembersResult | None = ask(node, "members")
    rows = [] if members is None else [m for m in members.members if m.name == name]
    return rows[0].state if rows else ""


__all__ = ["STEPS", "RequestError", "StepFailed", "Tour"]
