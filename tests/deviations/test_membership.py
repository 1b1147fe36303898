"""Who votes: changes of the electorate, and nodes that are not who they were (D20-D23, D30).

On our side the electorate cannot be changed yet. So for D20 to D22 the second half of a test says
what is true today: the library's commands are off, are never proposed, and are dropped where one
arrives; whatever the next step does has to hold in the first half's scenario.
"""

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
from muster.agents.consistency.raft.core import Propose
from muster.clock import TrioClock
from muster.sim.machines.voter import SimVoter
from muster_protocol.errors import RemoteError
from muster_protocol.raftguard.events import FrameReceived, PeerUp, ProposalRefused
from muster_protocol.types import NodeId
from muster_protocol.wire.codec import encode
from muster_protocol.wire.hello import MAJOR_VERSION, Hello, Purpose, check_hello
from muster_protocol.wire.raft import Append, Configuration, Entry, Vote, Voter

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
    ours="no change is taken up; the majority stays 2 of 3",
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

    voters = Voters(3)
    follower = sent_a_change(voters, ["add", STRANGER])
    assert sum(follower.core.guard.statistics().dropped.values()) == 1
    voters.settle()
    assert all(electorate(node) == voters.ids for node in voters.live())


@deviation(
    21,
    stock="after a restart 2 of 4 elect a leader",
    ours="the electorate is that of the founding, before and after",
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

    voters = Voters(3)
    voters.steady()
    for node in voters.ids:
        voters.crash(node)
    voters.settle()
    assert all(node.journal.configuration == voters.configuration for node in voters.live())
    sent_a_change(voters, ["rem", voters.ids[0]])
    voters.settle()
    assert all(electorate(node) == voters.ids for node in voters.live())


@deviation(
    22,
    stock="an empty new node counts at once: the cluster stands still",
    ours="only founders have a seat; who has none is not heard",
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

    voters = Voters(3)
    ours = voters.steady()
    voters.crash(voters.followers()[0].id)
    voters.step(ours, PeerUp(STRANGER, 99))
    voters.step(ours, FrameReceived(STRANGER, 99, Vote(ours.core.term + 1)))
    assert ours.core.guard.statistics().dropped == {"not-a-voter": 2}
    voters.write("after")


@deviation(22, stock="who is removed does not know, and campaigns on; a leader cannot be removed")
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


@deviation(
    30,
    stock="a late answer of a removed node raises in the leader",
    ours="frames of strangers and impossible answers are dropped and counted",
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
    ours = voters.steady()
    voters.step(ours, FrameReceived(STRANGER, 1, Vote(ours.core.term)))
    assert ours.core.guard.statistics().dropped == {"not-a-voter": 1}
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
    ours="refused: another journal generation, another cluster, or a second process",
)
async def test_d23_a_wiped_node_votes_as_if_it_were_the_old_one(stock: Stock) -> None:
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

    low, me = "a" * 32, "b" * 32
    seats = Configuration((Voter(low, "1" * 16), Voter(me, "1" * 16)))
    absent: Any = None
    links = VoterLinks(
        me=NodeId(me),
        configuration=seats,
        streams=absent,
        clock=TrioClock(),
        rng=random.Random(1),
        address_of=lambda _: None,
        take=lambda _: None,
    )

    async def accept(peer: Hello) -> None:
        connection: Any = SimpleNamespace(peer=peer, epoch=1, receive=trio.sleep_forever)
        await links.accept(connection)

    with pytest.raises(RemoteError, match="its journal is another one"):
        await accept(hello(low, generation="2" * 16))
    with pytest.raises(RemoteError, match="has no seat"):
        await accept(hello("9" * 32))
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
    ours = voters.steady()
    voters.propose(ours, b"\x02" + encode(["rem", voters.ids[0]]))
    voters.write("after")
    assert ours.journal.entry_at(ours.journal.last_index - 1).command[:1] == b"\x00"
    assert electorate(ours) == voters.ids
    follower = voters.followers()[0]
    refused = follower.core.handle(Propose(command("x")), now=voters.now)
    assert refused == (ProposalRefused(command("x")),)
