"""Elections: votes are counted once, remembered, and asked for by those who may win (D4-D7, D24,
D25)."""

from __future__ import annotations

from collections.abc import Callable

from deviations.ours import Voters
from deviations.stock import StockCluster, way
from deviations.table import deviation
from muster_protocol.raftguard.events import Role
from muster_protocol.wire.raft import Vote, VoteRequest

Stock = Callable[..., StockCluster]


@deviation(
    4,
    stock="2 of 5 make a leader, and a second one in the same term",
    ours="2 of 5 make no leader",
)
def test_d04_a_repeated_vote_elects_a_leader(stock: Stock) -> None:
    """Of five voters a candidate reaches one, whose vote arrives twice."""
    cluster = stock("abcde")
    cluster.isolate("a", "b")
    cluster.run(2.0, lambda: any(sent.kind == "response_vote" for sent in cluster.sent), only="a")
    assert cluster.leaders() == []
    cluster.arrives(next(sent for sent in cluster.sent if sent.kind == "response_vote"))
    assert cluster.leaders() == ["a"]
    cluster.elect("c")
    assert cluster.leaders() == ["a", "c"]
    assert cluster["a"].raftCurrentTerm == cluster["c"].raftCurrentTerm

    voters = Voters(5)
    assert voters.run_until(5.0, lambda: any(n.core.role is Role.CANDIDATE for n in voters.live()))
    candidate = next(node for node in voters.live() if node.core.role is Role.CANDIDATE)
    voters.silence_all(candidate)
    friend = next(node for node in voters.live() if node is not candidate)
    term = candidate.core.term
    for _ in range(2):
        voters.hears(candidate, friend.id, Vote(term))
    assert (candidate.core.role, candidate.core.term) == (Role.CANDIDATE, term)


@deviation(
    5,
    stock="votes for two candidates of one term: both lead",
    ours="the vote is as it was",
)
def test_d05_a_restarted_node_votes_twice_in_one_term(stock: Stock) -> None:
    """A node votes, is restarted with the default settings, and is asked by another candidate."""
    cluster = stock("abc")
    cluster.isolate("c")
    cluster.elect("a")
    cluster.cut = {("a", "b"), ("b", "a"), ("a", "c"), ("c", "a")}
    cluster.restart("b")
    cluster.elect("c")
    assert cluster.leaders() == ["a", "c"]
    assert cluster["a"].raftCurrentTerm == cluster["c"].raftCurrentTerm

    voters = Voters(3)
    leader = voters.steady()
    voter = next(n for n in voters.followers() if n.journal.getVotedForNodeId() == leader.id)
    other = next(n for n in voters.followers() if n is not voter)
    term = leader.core.term
    voters.crash(voter.id)
    voters.restart(voter.id)
    again = voters.nodes[voter.id]
    voters.hears(again, other.id, VoteRequest(term, last_index=999, last_term=term))
    voters.run_until(voters.now + 0.5)
    assert again.journal.getVotedForNodeId() == leader.id
    assert voters.sent_by(again, Vote).count(Vote(term)) == 1


@deviation(
    24,
    stock="comes back with a higher term and deposes the leader",
    ours="leader and term stay",
)
def test_d24_a_node_that_was_cut_off_deposes_the_leader(stock: Stock) -> None:
    """A follower hears nothing for twenty seconds, though its connections stay; then it does."""
    cluster = stock("abc")
    leader = cluster.lead("a")
    term = leader.raftCurrentTerm
    cluster.isolate("c")
    cluster.run(20.0)
    assert leader.is_leader
    cluster.heal()
    assert cluster.run(5.0, lambda: not leader.is_leader)
    assert leader.raftCurrentTerm > term + 10

    voters = Voters(3)
    ours = voters.steady()
    term = ours.core.term
    voters.silence_all(voters.followers()[0])
    voters.run_until(voters.now + 20.0)
    voters.heal()
    voters.run_until(voters.now + 5.0)
    assert voters.steady() is ours
    assert ours.core.term == term


@deviation(
    24,
    stock="a stall of two seconds is enough",
    ours="a stall of three seconds is not",
)
def test_d24_a_node_that_stalled_deposes_the_leader(stock: Stock) -> None:
    """A node's loop stalls. What the leader said meanwhile waits to be read; the timer is due."""
    cluster = stock("abc")
    leader = cluster.lead("a")
    term = leader.raftCurrentTerm
    cluster.is_held = way("a", "b")
    cluster.run(2.0, only="ac")
    cluster.tick("b")
    cluster.heal()
    cluster.run(1.0)
    assert leader.raftCurrentTerm > term

    voters = Voters(3, is_fifo=True)
    ours = voters.steady()
    term = ours.core.term
    voters.hold([(ours.id, voters.followers()[0].id)], for_s=3.0)
    voters.run_until(voters.now + 5.0)
    assert voters.steady() is ours
    assert ours.core.term == term


@deviation(
    25,
    stock="two leaders for 25 s; nobody tells the old one",
    ours="the old one is gone before 2 s",
)
def test_d25_an_old_leader_leads_on_for_half_a_minute(stock: Stock) -> None:
    """A leader is cut off, the others elect another one, and then one of them is reached again."""
    cluster = stock("abc")
    old = cluster.lead("a")
    cluster.isolate("a")
    cluster.elect("b")
    cluster.cut -= {("a", "c"), ("c", "a")}
    cluster.run(25.0)
    assert cluster.leaders() == ["a", "b"]
    assert old.raftCurrentTerm < cluster["b"].raftCurrentTerm

    voters = Voters(3)
    ours = voters.steady()
    voters.silence_all(ours)
    cut_at = voters.now
    assert voters.run_until(cut_at + 2.0, lambda: ours.core.role is Role.FOLLOWER)
    voters.ways.cut.clear()
    assert voters.steady() is not ours


@deviation(25, ours="told the higher term, it steps down at once")
def test_d25_an_old_leader_that_speaks_is_told(stock: Stock) -> None:
    """The first word of an old leader to somebody of a higher term."""
    cluster = stock("abc")
    old = cluster.lead("a")
    cluster.isolate("a")
    cluster.elect("b")
    cluster.cut -= {("a", "c"), ("c", "a")}
    before = len(cluster.sent)
    cluster.run(1.0, only="a")
    assert any((sent.sender, sent.receiver) == ("a", "c") for sent in cluster.sent[before:])
    assert not any(sent.sender == "c" for sent in cluster.sent[before:])
    assert old.is_leader

    voters = Voters(3)
    ours = voters.steady()
    voters.isolate(ours.id)
    assert voters.run_until(voters.now + 1.0, lambda: len(voters.leaders()) == 2)
    new = next(node for node in voters.leaders() if node is not ours)
    voters.heal()
    voters.silence((new.id, ours.id))
    healed_at = voters.now
    assert voters.run_until(healed_at + 0.5, lambda: ours.core.role is Role.FOLLOWER)
    assert ours.core.term == new.core.term
