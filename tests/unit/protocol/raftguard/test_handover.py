"""When leadership is given away, and when the wish for it ends."""

from __future__ import annotations

from muster_protocol.raftguard.handover import HANDOVER_S, STUCK_S, Handover
from muster_protocol.types import NodeId
from testkit.raft_log import Log, log_of

NOW = 100.0
A, B, C = NodeId("a" * 32), NodeId("b" * 32), NodeId("c" * 32)


def a_handover(log: Log) -> Handover:
    """Of a leader since `NOW`."""
    handover = Handover(log=log)
    handover.role_changed(NOW)
    return handover


def told(handover: Handover) -> list[NodeId]:
    """Who is told to campaign, of three of whom C has not all of the log."""
    return [effect.peer for effect in handover.tell((A, C, B), lambda node: node != C)]


def test_a_wish_is_told_once_and_ends_in_time() -> None:
    handover = a_handover(log_of(0, 1))
    assert not handover.is_wanted
    assert told(handover) == []
    handover.begin(NOW, avoid=(A,))
    assert told(handover) == [B], "A is to be avoided, and C lacks something"
    assert told(handover) == []
    assert handover.is_wanted
    handover.expire(NOW + HANDOVER_S - 0.01)
    assert handover.is_wanted
    handover.expire(NOW + HANDOVER_S)
    assert not handover.is_wanted


def test_a_new_role_ends_the_wish() -> None:
    handover = a_handover(log_of(0, 1))
    handover.begin(NOW)
    handover.role_changed(NOW)
    assert not handover.is_wanted


def test_a_disk_is_stuck_that_takes_nothing_while_something_waits() -> None:
    log = log_of(0, 1)
    handover = a_handover(log)
    assert not handover.looks_at_disk(NOW + 10.0), "nothing waits"
    log.lsn += 1
    assert not handover.looks_at_disk(NOW + 10.0 + STUCK_S / 2)
    assert not handover.is_wanted
    assert handover.looks_at_disk(NOW + 10.0 + STUCK_S)
    assert handover.is_wanted


def test_what_is_stuck_is_said_once_and_the_wish_renewed() -> None:
    log = log_of(0, 1)
    handover = a_handover(log)
    log.lsn += 1
    assert handover.looks_at_disk(NOW + STUCK_S)
    assert told(handover) == [A]
    later = NOW + STUCK_S + HANDOVER_S
    handover.expire(later)
    assert not handover.looks_at_disk(later)
    assert told(handover) == [A]
    log.durable_lsn = log.lsn
    handover.expire(later + HANDOVER_S)
    assert not handover.looks_at_disk(later + HANDOVER_S)
    assert not handover.is_wanted


def test_a_disk_that_is_slow_is_not_stuck() -> None:
    log = log_of(0, 1)
    handover = a_handover(log)
    for second in range(10):
        log.lsn += 2
        log.durable_lsn += 1
        assert not handover.looks_at_disk(NOW + second * STUCK_S)
