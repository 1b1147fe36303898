"""Which answers of a follower wait for its disk."""

from __future__ import annotations

from muster_protocol.raftguard.answers import WAIT_S, Answers
from muster_protocol.raftguard.events import SendFrame
from muster_protocol.types import NodeId
from muster_protocol.wire.raft import Ack
from testkit.raft_log import log_of

A, B = NodeId("a" * 32), NodeId("b" * 32)
TERM = 5
NOW = 100.0


class Follower:
    """It has six entries; of what is on its disk it has told A at NOW."""

    def __init__(self, durable: int = 3) -> None:
        self.log = log_of(*[TERM] * 6)
        self.log.durable_index = durable
        self.answers = Answers(self.log)
        assert self.tells(A, 6, NOW) == durable

    def tells(self, leader: NodeId, index: int, heard_at: float | None) -> int | None:
        """What it acknowledges (0: that it is there), or None if it says nothing."""
        return _acknowledged(self.answers.acknowledge(leader, index, TERM, heard_at=heard_at))

    def synced(self, durable: int, heard_at: float) -> int | None:
        self.log.durable_index = durable
        return _acknowledged(self.answers.after_sync(heard_at=heard_at))


def _acknowledged(effects: tuple[object, ...]) -> int | None:
    frames = [effect.frame for effect in effects if isinstance(effect, SendFrame)]
    assert all(isinstance(frame, Ack) for frame in frames)
    return (frames[0].next_index - 1 if frames[0].success else 0) if frames else None


def test_an_answer_that_says_nothing_new_waits_for_the_sync() -> None:
    follower = Follower()
    assert follower.tells(A, 6, NOW + 0.001) is None
    assert follower.synced(6, NOW + 0.001) == 6


def test_what_the_disk_has_taken_is_told_at_once() -> None:
    follower = Follower()
    follower.log.durable_index = 4
    assert follower.tells(A, 6, NOW + 0.001) == 4
    assert follower.tells(A, 4, NOW + 0.002) == 4, "there will be no other answer"
    assert follower.synced(6, NOW + 0.003) is None, "nothing more was owed"


def test_a_leader_is_answered_though_the_disk_hangs() -> None:
    """It would take us for dead."""
    follower, times = Follower(), [NOW + 0.01 * number for number in range(1, 101)]
    told = [at for at in times if follower.tells(A, 6, at) is not None]
    pauses = [after - before for before, after in zip([NOW, *told], told, strict=False)]
    assert len(told) >= 9
    assert max(pauses) < WAIT_S + 0.02


def test_another_leader_or_term_is_answered_at_once() -> None:
    assert Follower().tells(B, 6, NOW) == 3
    follower = Follower()
    follower.log.current_term = TERM + 1
    assert follower.answers.acknowledge(A, 6, TERM + 1, heard_at=NOW)


def test_who_does_not_know_when_the_leader_spoke_answers() -> None:
    assert Follower().tells(A, 6, None) == 3


def test_what_is_owed_to_a_leader_that_is_forgotten_is_not_told() -> None:
    follower = Follower()
    follower.answers.leader_forgotten()
    assert follower.synced(6, NOW + 0.1) is None


def test_what_is_owed_in_a_term_that_is_over_is_not_told() -> None:
    follower = Follower()
    follower.log.current_term = TERM + 1
    assert follower.synced(6, NOW + 0.1) is None
