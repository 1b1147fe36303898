"""Reads: what is read is not older than what was acknowledged (D26)."""

from __future__ import annotations

from collections.abc import Callable

from deviations.ours import Voters, command
from deviations.stock import StockCluster
from deviations.table import deviation
from muster_protocol.raftguard.events import Role

Stock = Callable[..., StockCluster]


@deviation(
    26,
    stock="an old leader calls itself leader and ready, and reads what was overwritten",
    ours="its read is not answered; the new leader's sees the write",
)
def test_d26_an_old_leader_reads_what_was_overwritten(stock: Stock) -> None:
    """A leader is cut off, the others elect another one and write; then both are read."""
    cluster = stock("abc")
    old = cluster.lead("a")
    old.write("old")
    cluster.run(1.0)
    cluster.isolate("a")
    new = cluster.elect("b").write("new")
    assert cluster.run(2.0, lambda: new.is_acknowledged)
    assert old.isReady()
    assert cluster.leaders() == ["a", "b"]
    assert old.values[-1] == "old"

    voters = Voters(3)
    ours = voters.steady()
    voters.write("old")
    voters.isolate(ours.id)
    leader = voters.steady_among(ours)
    assert ours.core.role is Role.LEADER
    voters.write("new")
    voters.read(ours)
    voters.read(leader)
    voters.run_until(voters.now + 5.0)
    assert voters.answered == [(leader.name, leader.core.applied_index)]
    assert leader.applied[-1][1] == command("new")
