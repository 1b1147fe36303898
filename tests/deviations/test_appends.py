"""Appends and their answers: what they may commit, remove and count (D1-D3, D28)."""

from __future__ import annotations

from collections.abc import Callable

from deviations.ours import Voters, append_from, command
from deviations.stock import Sent, StockCluster, way
from deviations.table import deviation
from muster.agents.consistency.compaction import SnapshotPolicy
from muster.sim.machines.snapshots import SnapshotPlan
from muster_protocol.raftguard.events import Role
from muster_protocol.wire.raft import Ack, TimeoutNow

Stock = Callable[..., StockCluster]
COMPACTING = SnapshotPlan(SnapshotPolicy(every_entries=20, keep_entries=5), segment_bytes_max=300)


def is_piece(sent: Sent) -> bool:
    """Of a snapshot."""
    return bool(sent.message.get("serialized"))


@deviation(
    1,
    stock="5 writes that nobody else has are acknowledged, then erased",
    ours="none of them is acknowledged or applied",
)
def test_d01_a_returning_leader_commits_its_own_unverified_entries(stock: Stock) -> None:
    """A leader is cut off with writes of its own, and comes back when the others have compacted
    their logs: the first piece of their snapshot carries their commit index."""
    cluster = stock("abc", logCompactionBatchSize=64)
    old = cluster.lead("a")
    cluster.isolate("a")
    lost = old.write_all(*(f"lost {number}" for number in range(5)))
    cluster.tick("a")
    new = cluster.elect("b")
    new.write_all(*range(50))
    cluster.run(1.0, only="bc")
    cluster.compact("b")
    cluster.heal()
    cluster.is_held = lambda sent: is_piece(sent) and not sent.message["serialized"][1]
    cluster.run(0.5)
    cluster.heal()
    cluster.run(0.5)
    assert all(outcome.is_acknowledged for outcome in lost)
    assert old.values == new.values == list(range(50))

    voters = Voters(3, snapshots=COMPACTING)
    ours = voters.steady()
    voters.write("before")
    voters.isolate(ours.id)
    for number in range(5):
        voters.propose(ours, command(f"lost {number}"))
    assert voters.run_until(voters.now + 3.0, lambda: ours.core.role is Role.FOLLOWER)
    voters.write(*(str(number) for number in range(60)))
    voters.settle()
    assert voters.snapshots.installed == 1
    assert not any(voters.is_acknowledged(f"lost {number}") for number in range(5))
    assert not any(b"lost" in data for _, data in ours.applied)


@deviation(
    1,
    stock="a bare heartbeat commits them too",
    ours="the commit index stops at what was compared",
)
def test_d01_a_heartbeat_commits_entries_that_were_never_compared(stock: Stock) -> None:
    """The same leader comes back while the new one is busy with its dump, or far ahead of it."""
    cluster = stock("abc")
    old = cluster.lead("a")
    cluster.isolate("a")
    lost = old.write("lost")
    cluster.tick("a")
    cluster.elect("b")
    cluster.run(1.0, only="bc")
    heartbeat = cluster.newest(way("b", "a")).message
    busy = {name: heartbeat[name] for name in ("type", "term", "commit_index")}
    cluster.arrives(Sent("b", "a", {**busy, "serialized": None}))
    cluster.tick("a")
    assert lost.is_acknowledged
    assert "lost" not in cluster["b"].values

    voters = Voters(3)
    ours = voters.steady()
    voters.write("before")
    voters.isolate(ours.id)
    for number in range(5):
        voters.propose(ours, command(f"lost {number}"))
    voters.run_until(voters.now + 3.0)
    voters.write(*(str(number) for number in range(20)))
    voters.hand_over()
    voters.write("more")
    voters.settle()
    assert not any(b"lost" in data for _, data in ours.applied)


@deviation(
    2,
    stock="removes 10 acknowledged entries; with the leader's death they are lost",
    ours="nothing is removed, nothing lost",
)
def test_d02_a_repeated_append_removes_acknowledged_entries(stock: Stock) -> None:
    """Ten writes are on two of three nodes. An older append arrives once more at the follower, and
    then the leader dies."""
    cluster = stock("abc")
    leader = cluster.lead("a")
    cluster.isolate("c")
    outcomes = leader.write_all(*range(10))
    older = cluster.newest(way("a", "b"))
    assert cluster.run(1.0, lambda: all(outcome.is_acknowledged for outcome in outcomes))
    cluster.arrives(older)
    cluster.crash("a")
    cluster.heal()
    cluster.run(5.0)
    (leads,) = cluster.leaders()
    new = cluster[leads].write("new")
    assert cluster.run(2.0, lambda: new.is_acknowledged)
    assert cluster["c"].values == ["new"]

    voters = Voters(3)
    ours = voters.steady()
    holder, away = voters.followers()
    before = ours.journal.last_index
    voters.isolate(away.id)
    voters.write(*(str(number) for number in range(10)))
    voters.run_until(voters.now + 1.0)
    voters.hears(holder, ours.id, append_from(ours, after=before - 1, up_to=before))
    assert holder.journal.last_index == ours.journal.last_index
    voters.crash(ours.id)
    voters.heal()
    voters.steady()
    voters.settle()
    assert voters.is_acknowledged("9")


@deviation(
    3,
    stock="an answer of two terms ago is counted; a write on 2 of 5 is acknowledged and lost",
    ours="the answer is dropped; the write is not acknowledged",
)
def test_d03_an_answer_of_an_older_term_commits_an_entry(stock: Stock) -> None:
    """What one of five followers answers hangs on its way for two elections. When it arrives, its
    receiver leads again, and reaches one other follower only."""
    cluster = stock("abcde")
    leader = cluster.lead("a")
    cluster.isolate("a", "b")
    cluster.is_held = way("b", "a")
    leader.write_all(*(f"never {number}" for number in range(9)))
    cluster.run(0.5, only="a")
    cluster.elect("c")
    cluster.cut.clear()
    cluster.run(1.0, only="c")
    cluster.lead("a")
    cluster.isolate("a", "d")
    outcome = leader.write("lost")
    assert not cluster.run(1.0, lambda: outcome.is_acknowledged, only="ad")
    cluster.is_held = lambda _: False
    assert cluster.run(1.0, lambda: outcome.is_acknowledged, only="ad")
    cluster.crash("a", "d")
    cluster.elect("b")
    new = cluster["b"].write("new")
    assert cluster.run(2.0, lambda: new.is_acknowledged, only="bce")
    assert "lost" not in cluster["b"].values

    voters = Voters(5)
    ours = voters.steady()
    liar, friend, *_ = voters.followers()
    term = ours.core.term
    others = [node for node in voters.followers() if node is not friend]
    voters.hears(friend, ours.id, TimeoutNow(term))
    voters.run_until(voters.now + 1.0)
    voters.hears(ours, friend.id, TimeoutNow(friend.core.term))
    assert voters.steady() is ours
    assert ours.core.term > term
    for other in others:
        voters.silence((ours.id, other.id), (other.id, ours.id))
    voters.propose(ours, command("lost"))
    late = Ack(term, ours.journal.last_index + 1, success=True, reset=False)
    voters.hears(ours, liar.id, late)
    voters.run_until(voters.now + 1.0)
    assert friend.journal.last_index == ours.journal.last_index
    assert not voters.is_acknowledged("lost")


@deviation(
    28,
    stock="300 entries that differ take more than 28 s",
    ours="they take less than a second",
)
def test_d28_a_follower_that_differs_is_brought_back_one_entry_at_a_time(stock: Stock) -> None:
    """A leader comes back with 300 entries that nobody else has; the others have 300 of theirs."""
    cluster = stock("abc")
    old = cluster.lead("a")
    cluster.isolate("a")
    old.write_all(*range(300))
    cluster.tick("a")
    new = cluster.elect("b")
    new.write_all(*range(300, 600))
    cluster.run(1.0, only="bc")
    cluster.heal()
    cluster.run(28.0)
    assert old.values == []
    assert cluster.run(30.0, lambda: old.values == new.values)

    voters = Voters(3)
    ours = voters.steady()
    voters.isolate(ours.id)
    for number in range(300):
        voters.propose(ours, command(f"lost {number}"))
    assert voters.run_until(voters.now + 3.0, lambda: ours.core.role is Role.FOLLOWER)
    leader = voters.steady_among(ours)
    for number in range(300):
        voters.propose(leader, command(str(number)))
    voters.run_until(voters.now + 1.0)
    leader = voters.hand_over()
    voters.heal()
    assert voters.run_until(voters.now + 0.3, lambda: ours.applied == leader.applied)
