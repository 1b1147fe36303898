"""When a leader asks its witness for its word, and how far."""

from __future__ import annotations

from muster_protocol.raftguard.witnessing import STALLED_S, Witnessing
from muster_protocol.types import NodeId
from muster_protocol.wire.raft import Configuration, Mark, Voter
from testkit.raft_log import log_of

ME, OTHER, WITNESS = (NodeId(letter * 32) for letter in "01f")
SITE = Configuration(tuple(Voter(n, "0" * 16) for n in (ME, OTHER, WITNESS)), witness=WITNESS)
BOTH, ALONE = (OTHER, WITNESS), (WITNESS,)
NOW = 100.0


class Leader:
    """Of term 5, with six entries of which three are committed, all on its disk."""

    def __init__(self) -> None:
        self.log = log_of(0, 1, 5, 5, 5, 5, commit=3)
        self.log.durable_index = 6
        self.matched = {OTHER: 3, WITNESS: 0}
        self.witnessing = Witnessing(SITE, me=ME, log=self.log, matched=self.matched.__getitem__)

    def asks(self, *connected: NodeId, now: float = NOW, is_heartbeat: bool = False) -> Mark | None:
        """What it says to its witness."""
        frames = self.witnessing.ask(connected, now, is_heartbeat=is_heartbeat)
        assert all(frame.peer == WITNESS for frame in frames)
        assert len(frames) <= 1
        frame = frames[0].frame if frames else None
        assert frame is None or isinstance(frame, Mark)
        return frame


def test_while_the_other_node_answers_the_witness_is_asked_for_nothing() -> None:
    leader = Leader()
    assert leader.asks(*BOTH) is None
    assert leader.asks(*BOTH, is_heartbeat=True) == Mark(5)
    assert not leader.witnessing.is_called


def test_without_the_other_node_it_is_asked_at_once() -> None:
    assert Leader().asks(*ALONE) == Mark(5, 6, 5)


def test_a_node_that_acknowledges_nothing_is_not_waited_for_long() -> None:
    leader = Leader()
    assert leader.asks(*BOTH) is None
    assert leader.asks(*BOTH, now=NOW + STALLED_S - 0.1) is None
    leader.log.commit_index = 4
    assert leader.asks(*BOTH, now=NOW + STALLED_S) is None, "something was committed meanwhile"
    assert leader.asks(*BOTH, now=NOW + 2 * STALLED_S) == Mark(5, 6, 5)


def test_an_idle_leader_is_not_stalled() -> None:
    leader = Leader()
    leader.log.commit_index = 6
    assert leader.asks(*BOTH) is None
    assert leader.asks(*BOTH, now=NOW + 100.0) is None
    assert leader.asks(*ALONE, now=NOW + 100.0) is None


def test_nothing_is_asked_that_the_leader_itself_may_lose() -> None:
    leader = Leader()
    leader.log.durable_index = 4
    assert leader.asks(*ALONE) == Mark(5, 4, 5)


def test_one_question_is_on_its_way_and_the_next_asks_for_all_that_came_meanwhile() -> None:
    leader = Leader()
    leader.log.durable_index = 4
    assert leader.asks(*ALONE) == Mark(5, 4, 5)
    leader.log.durable_index = 6
    assert leader.asks(*ALONE) is None
    leader.matched[WITNESS] = 4
    assert leader.asks(*ALONE) == Mark(5, 6, 5)
    assert leader.asks(*ALONE, is_heartbeat=True) == Mark(5, 6, 5), "the first may be lost"


def test_it_is_asked_until_the_other_node_is_back() -> None:
    leader = Leader()
    leader.asks(*ALONE)
    leader.matched[WITNESS] = leader.log.commit_index = 6
    leader.matched[OTHER] = 5
    assert leader.asks(*BOTH, is_heartbeat=True) == Mark(5, 6, 5)
    leader.matched[OTHER] = 6
    assert leader.asks(*BOTH, is_heartbeat=True) == Mark(5)
    assert not leader.witnessing.is_called


def test_under_load_it_is_asked_no_more_though_the_other_node_lacks_the_very_last() -> None:
    leader = Leader()
    leader.asks(*ALONE)
    leader.matched[WITNESS] = leader.log.commit_index = 6
    assert leader.asks(*BOTH, is_heartbeat=True) == Mark(5, 6, 5)
    leader.log.terms |= {7: 5, 8: 5}
    leader.log.durable_index = 8
    assert leader.asks(*BOTH) == Mark(5, 8, 5)
    leader.matched |= {WITNESS: 8, OTHER: 7}
    leader.log.commit_index = 8
    leader.log.terms |= {9: 5}
    leader.log.durable_index = 9
    assert leader.asks(*BOTH) is None, "it has what was committed a heartbeat ago"
    assert leader.witnessing.is_called, "but not yet what the witness was asked for"
    leader.matched[OTHER] = 8
    assert not leader.witnessing.is_called


def test_a_node_that_hangs_again_is_not_waited_for_again() -> None:
    leader = Leader()
    leader.asks(*BOTH)
    assert leader.asks(*BOTH, now=NOW + STALLED_S) == Mark(5, 6, 5)
    leader.matched |= {WITNESS: 6, OTHER: 6}
    leader.log.commit_index = 6
    assert leader.asks(*BOTH, now=NOW + 2, is_heartbeat=True) == Mark(5)
    leader.log.terms |= {7: 5}
    leader.log.durable_index = 7
    assert leader.asks(*BOTH, now=NOW + 2) is None
    assert leader.asks(*BOTH, now=NOW + 2 + STALLED_S) == Mark(5, 7, 5)


def test_a_new_term_begins_anew() -> None:
    leader = Leader()
    leader.asks(*ALONE)
    leader.witnessing.leadership_began()
    assert not leader.witnessing.is_called
    assert leader.asks(*BOTH) is None
    assert leader.asks(*ALONE) == Mark(5, 6, 5)


def test_who_is_no_witness_any_more_or_away_is_not_asked() -> None:
    leader = Leader()
    assert leader.asks(OTHER, is_heartbeat=True) is None
    leader.witnessing.reconfigured(Configuration(SITE.voters[:2]))
    assert leader.asks(*BOTH, is_heartbeat=True) is None


def test_without_a_witness_nothing_is_asked_of_it_any_more() -> None:
    leader = Leader()
    leader.asks(*ALONE)
    assert leader.witnessing.is_called
    leader.witnessing.reconfigured(Configuration(SITE.voters[:1]))
    assert not leader.witnessing.is_called


def test_the_other_node_is_back_though_the_witness_is_gone() -> None:
    leader = Leader()
    leader.asks(*ALONE)
    leader.matched[WITNESS] = leader.matched[OTHER] = leader.log.commit_index = 6
    assert leader.asks(OTHER, is_heartbeat=True) is None
    assert leader.asks(OTHER, is_heartbeat=True) is None
    assert not leader.witnessing.is_called
