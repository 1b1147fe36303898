"""Who votes: changes of the electorate, and nodes that are not who they were (D20-D23, D30)."""

from __future__ import annotations

import random
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
import trio
import trio.testing

from deviations.ours import Voters, command
from deviations.stock import DENIED, NodeName, Outcome, StockCluster
from deviations.table import deviation
from muster.agents.consistency.links import VoterLinks
from muster.agents.consistency.raft.core import Propose, ProposeElectorate
from muster.clock import TrioClock
from muster.sim.machines.voter import SimVoter
from muster.sim.machines.ways import Way
from muster_protocol.errors import RemoteError
from muster_protocol.raftguard.electorate import promoted, with_learner, without
from muster_protocol.raftguard.events import FrameReceived, ProposalRefused, TransferLeadership
from muster_protocol.types import NodeId
from muster_protocol.wire.codec import encode
from muster_protocol.wire.hello import MAJOR_VERSION, Hello, Purpose, check_hello
from muster_protocol.wire.raft import Ack, Append, Configuration, Entry, Vote, Voter

Stock = Callable[..., StockCluster]
STRANGER = NodeId("f" * 32)


def add(cluster: StockCluster, at: str, name: str) -> Outcome:
    outcome = Outcome()
    cluster[at].addNodeToCluster(NodeName(name), callback=outcome.callback)
    return outcome


def remove(cluster: StockCluster, at: str, name: str) -> Outcome:
    outcome = Outcome()
    cluster[at].removeNodeFromCluster(NodeName(name), callback=outcome.callback)
    return outcome


def join(cluster: StockCluster, name: str) -> None:
    """A new process, which is told who the others are."""
    cluster.names.append(name)
    cluster.start(name)


def electorate(voter: SimVoter) -> list[NodeId]:
    return [NodeId(each.node) for each in voter.core.guard.configuration.voters]


def ready(voters: Voters) -> SimVoter:
    """A leader that has committed something: only then it may change the electorate."""
    leader = voters.steady()
    voters.write("first")
    return leader


def change(voters: Voters, leader: SimVoter, wanted: Configuration) -> str:
    """Ask this leader for another electorate; "" or why it refuses."""
    refusal = leader.core.guard.why_not_change(wanted)
    voters.step(leader, ProposeElectorate(wanted))
    return refusal


def _both(a: NodeId, b: NodeId) -> tuple[Way, Way]:
    return (a, b), (b, a)


def committed(voters: Voters, leader: SimVoter) -> None:
    def is_done() -> bool:
        return leader.journal.configuration.index <= leader.journal.commit_index

    assert voters.run_until(voters.now + 5.0, is_done)


def learner(voters: Voters, leader: SimVoter, node: NodeId) -> SimVoter:
    """`node` gets the log, and has it."""
    seat = voters.enlist(node, leader.journal.configuration)
    assert seat is not None
    assert change(voters, leader, with_learner(leader.journal.configuration, seat)) == ""
    committed(voters, leader)
    learning = voters.nodes[node]
    assert voters.run_until(
        voters.now + 5.0, lambda: learning.journal.last_index == leader.journal.last_index
    )
    voters.run_until(voters.now + 0.5)
    return learning


def sent_a_change(voters: Voters, change: list[str]) -> SimVoter:
    """A follower that was just sent one of the library's membership commands as a log entry."""
    leader = voters.steady()
    follower = voters.followers()[0]
    last = follower.journal.last_index
    term = follower.journal.term_at(last)
    assert term is not None
    entry = Entry(b"\x02" + encode(change), last + 1, leader.core.term)
    voters.hears(follower, leader.id, Append(leader.core.term, last + 1, last, term, (entry,)))
    assert follower.journal.last_index == last
    return follower


@deviation(
    20,
    stock="two changes at once: two leaders whose majorities do not meet acknowledge writes",
    ours="the second change waits until the first is committed; the one leader needs 3 of 4",
)
def test_d20_two_changes_at_once_make_two_majorities(stock: Stock) -> None:
    """A leader is cut off from both followers, and adds two nodes that it reaches."""
    cluster = stock("abc", dynamicMembershipChange=True)
    cluster.lead("a")
    cluster.isolate("a")
    add(cluster, "a", "d")
    add(cluster, "a", "e")
    cluster.tick("a")
    assert cluster["a"].electorate == list("abcde")
    for name in "de":
        join(cluster, name)
    cluster.isolate("b", "c")
    cluster.cut -= {("b", "c"), ("c", "b")}
    lost = cluster["a"].write("lost")
    assert cluster.run(3.0, lambda: lost.is_acknowledged, only="a")
    cluster.elect("b")
    other = cluster["b"].write("other")
    assert cluster.run(2.0, lambda: other.is_acknowledged, only="bc")
    assert cluster.leaders() == ["a", "b"]
    assert "lost" not in cluster["b"].values

    voters = Voters(3, spares=2)
    alone = ready(voters)
    one, two = (learner(voters, alone, node) for node in voters.ids[3:])
    followers = [node for node in voters.followers() if node not in (one, two)]
    for each in followers:
        voters.silence(*((a, b) for x in (alone, one, two) for a, b in _both(x.id, each.id)))
    assert change(voters, alone, promoted(alone.journal.configuration, one.id)) == ""
    refusal = change(voters, alone, promoted(alone.journal.configuration, two.id))
    assert refusal == "the change before is not committed yet"
    voters.propose(alone, command("not acknowledged"))
    other = voters.steady_among(alone)
    voters.write("other")
    assert other in followers
    assert not voters.is_acknowledged("not acknowledged")
    voters.settle()
    assert {tuple(electorate(node)) for node in voters.live()} == {tuple(voters.ids[:3])}


@deviation(20, ours="what the library calls a change of members is dropped where it arrives")
def test_d20_the_librarys_own_change_is_not_taken_up() -> None:
    """A leader's append holds one."""
    voters = Voters(3)
    follower = sent_a_change(voters, ["add", STRANGER])
    assert sum(follower.core.guard.statistics().dropped.values()) == 1
    voters.settle()
    assert all(electorate(node) == voters.ids for node in voters.live())


@deviation(
    21,
    stock="after a restart 2 of 4 elect a leader",
    ours="the log says who votes, before and after: 3 of 4 are needed",
)
def test_d21_a_restart_forgets_the_new_electorate(stock: Stock) -> None:
    """A leader that is cut off has added a fourth node, which is in its log and not committed; it
    is restarted, and hears one follower again."""
    cluster = stock("abc", journal=True, dump=True, dynamicMembershipChange=True)
    cluster.lead("a")
    cluster.isolate("a")
    add(cluster, "a", "d")
    cluster.tick("a")
    assert cluster["a"].electorate == list("abcd")
    cluster.restart("a")
    assert cluster["a"].electorate == list("abc")
    cluster.heal()
    cluster.isolate("c")
    cluster.elect("a")
    assert cluster.leaders() == ["a"]

    voters = Voters(3, spares=1)
    alone = ready(voters)
    fourth = learner(voters, alone, voters.ids[3])
    heard, other = (node for node in voters.followers() if node is not fourth)
    for node in (fourth, other):
        voters.crash(node.id)
    voters.isolate(alone.id)
    assert change(voters, alone, promoted(alone.journal.configuration, fourth.id)) == ""
    voters.run_until(voters.now + 0.1)
    voters.crash(alone.id)
    voters.restart(alone.id)
    assert electorate(voters.nodes[alone.id]) == voters.ids
    voters.heal()
    voters.run_until(voters.now + 10.0)
    assert heard.up
    assert voters.leaders() == []
    voters.settle()
    assert len({tuple(electorate(node)) for node in voters.live()}) == 1


@deviation(
    22,
    stock="an empty new node counts at once: the cluster stands still",
    ours="a new node only learns until it has the log, and counts after that",
)
def test_d22_a_new_node_that_is_empty_counts_at_once(stock: Stock) -> None:
    """One of three nodes is down, and a fourth is added that does not run yet."""
    cluster = stock("abc", dynamicMembershipChange=True)
    leader = cluster.lead("a")
    cluster.crash("c")
    before = leader.write("before")
    assert cluster.run(1.0, lambda: before.is_acknowledged)
    added = add(cluster, "a", "d")
    after = leader.write("after")
    cluster.run(20.0)
    assert added.told == after.told == []

    voters = Voters(3, spares=1)
    ours = ready(voters)
    seat = voters.enlist(voters.ids[3], ours.journal.configuration)
    assert seat is not None
    voters.crash(voters.ids[3])
    voters.crash(next(node.id for node in voters.followers()))
    assert change(voters, ours, with_learner(ours.journal.configuration, seat)) == ""
    voters.write("after")
    refusal = change(voters, ours, promoted(ours.journal.configuration, voters.ids[3]))
    assert refusal == "a learner has to catch up before it votes"
    voters.restart(voters.ids[3])
    assert voters.run_until(
        voters.now + 5.0,
        lambda: (
            not ours.core.guard.why_not_change(promoted(ours.journal.configuration, voters.ids[3]))
        ),
    )
    assert change(voters, ours, promoted(ours.journal.configuration, voters.ids[3])) == ""
    voters.write("with three of four")


@deviation(
    22,
    stock="who is removed does not know, and campaigns on; a leader cannot be removed",
    ours="nobody supports who is removed; a leader hands over, and goes then",
)
def test_d22_a_removed_node_campaigns_on(stock: Stock) -> None:
    """A follower is removed, and the leader is asked to remove itself."""
    cluster = stock("abc", dynamicMembershipChange=True)
    leader = cluster.lead("a")
    denied = remove(cluster, "a", "a")
    cluster.run(1.0)
    assert denied.told == [DENIED]
    cluster.isolate("c")
    removed = remove(cluster, "a", "c")
    assert cluster.run(1.0, lambda: removed.is_acknowledged)
    assert cluster["c"].electorate == list("abc")
    term = leader.raftCurrentTerm
    cluster.heal()
    assert cluster.run(10.0, lambda: cluster["a"].raftCurrentTerm > term)

    voters = Voters(3)
    ours = ready(voters)
    gone, stays = voters.followers()
    voters.isolate(gone.id)
    now = ours.journal.configuration
    assert change(voters, ours, without(now, ours.id)) == "a leader hands over before it is removed"
    assert change(voters, ours, without(now, gone.id)) == ""
    committed(voters, ours)
    before = ours.core.term
    voters.heal()
    voters.run_until(voters.now + 10.0)
    assert electorate(gone) == voters.ids, "it does not know"
    assert ours.core.term == before
    voters.step(ours, TransferLeadership())
    assert voters.run_until(voters.now + 5.0, lambda: voters.leaders() == [stays])
    voters.write("by another leader")
    assert change(voters, stays, without(stays.journal.configuration, ours.id)) == ""
    voters.write("alone")


@deviation(
    30,
    stock="a late answer of a removed node raises in the leader",
    ours="what does not count any more is dropped, and counted as such",
)
def test_d30_a_late_answer_of_a_removed_node_raises(stock: Stock) -> None:
    """A node is removed while an answer of it is on its way."""
    cluster = stock("abc", dynamicMembershipChange=True)
    leader = cluster.lead("a")
    late = cluster.newest(lambda sent: sent.sender == "c")
    remove(cluster, "a", "c")
    cluster.run(0.5)
    assert cluster["a"].electorate == ["a", "b"]
    before = len(leader.errors)
    cluster.arrives(late)
    assert [type(error) for error in leader.errors[before:]] == [KeyError]

    voters = Voters(3)
    ours = ready(voters)
    gone = voters.followers()[0]
    voters.write("before")
    answer = voters.sent_by(gone, Ack)[-1]
    assert change(voters, ours, without(ours.journal.configuration, gone.id)) == ""
    voters.hears(ours, gone.id, answer)
    assert ours.core.guard.statistics().dropped["not-a-voter"] >= 1
    voters.step(ours, FrameReceived(STRANGER, 1, Vote(ours.core.term)))
    assert ours.core.guard.statistics().dropped["old-connection"] == 1
    voters.write("after")


def hello(node: str, **changes: str) -> Hello:
    said = Hello(
        major=MAJOR_VERSION,
        minor_min=0,
        minor_max=0,
        node_id=node,
        name=f"node-{node[0]}",
        cluster_id="c" * 32,
        label="lab",
        boot=node[:24],
        purpose=Purpose.RAFT,
        generation="1" * 16,
    )
    return msgspec.structs.replace(said, **changes)


@deviation(
    23,
    stock="a wiped node votes under its old name; an acknowledged write is lost",
    ours="a vote counts with the journal to which the seat belongs; the wiped node has none",
)
def test_d23_a_wiped_node_votes_as_if_it_were_the_old_one(stock: Stock) -> None:
    """A write is on two of three nodes. One of them loses its disk and comes back empty."""
    cluster = stock("abc", journal=True, dump=True)
    cluster.lead("a")
    cluster.isolate("b")
    written = cluster["a"].write("written")
    assert cluster.run(1.0, lambda: written.is_acknowledged, only="ac")
    cluster.crash("c")
    for file in cluster.directory.glob("c.*"):
        file.unlink()
    cluster.start("c")
    cluster.heal()
    cluster.isolate("a")
    new = cluster.elect("b").write("new")
    assert cluster.run(2.0, lambda: new.is_acknowledged, only="bc")
    assert cluster["b"].values == ["new"]
    assert "written" not in cluster["c"].values

    voters = Voters(3)
    ours = ready(voters)
    away, wiped = voters.followers()
    voters.isolate(away.id)
    voters.write("written")
    voters.retire(wiped.id)
    voters.enlist(wiped.id, voters.configuration)
    voters.heal()
    voters.isolate(ours.id)
    voters.run_until(voters.now + 10.0)
    assert voters.nodes[wiped.id].journal.generation != wiped.journal.generation
    assert [node for node in voters.leaders() if node is not ours] == []
    voters.heal()
    voters.steady_among()
    voters.write("new")
    both = {command("written"), command("new")}
    assert voters.run_until(voters.now + 5.0, lambda: both <= {data for _, data in away.applied})


@deviation(23, ours="no second process under a connected id; no other cluster")
async def test_d23_a_second_process_is_refused() -> None:
    """Two processes dial with one identity; one dials from another cluster."""
    low, me = "a" * 32, "b" * 32
    absent: Any = None
    links = VoterLinks(
        me=NodeId(me),
        configuration=Configuration((Voter(low, "1" * 16), Voter(me, "1" * 16))),
        streams=absent,
        clock=TrioClock(),
        rng=random.Random(1),
        address_of=lambda _: None,
        take=lambda _: None,
    )

    async def accept(peer: Hello) -> None:
        connection: Any = SimpleNamespace(
            peer=peer, epoch=1, receive=trio.sleep_forever, has_unsent=False
        )
        await links.accept(connection)

    with pytest.raises(RemoteError, match="has no journal"):
        await accept(hello(low, generation=""))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(accept, hello(low))
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(RemoteError, match="another process"):
            await accept(hello(low, boot="9" * 24))
        nursery.cancel_scope.cancel()
    with pytest.raises(RemoteError, match="cluster"):
        check_hello(hello(me), hello(low, cluster_id="d" * 32))


@deviation(20, ours="nothing but a batch is ever proposed")
def test_d20_a_proposal_can_only_be_a_batch() -> None:
    """Bytes that look like the library's membership command are proposed."""
    voters = Voters(3)
    ours = ready(voters)
    voters.propose(ours, b"\x02" + encode(["rem", voters.ids[0]]))
    voters.write("after")
    assert ours.journal.entry_at(ours.journal.last_index - 1).command[:1] == b"\x00"
    assert electorate(ours) == voters.ids
    follower = voters.followers()[0]
    refused = follower.core.handle(Propose(command("x")), now=voters.now)
    assert refused == (ProposalRefused(command("x")),)
