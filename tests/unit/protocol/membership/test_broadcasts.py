"""What rides on which packet."""

from __future__ import annotations

from muster_protocol.membership.broadcasts import Broadcasts
from muster_protocol.types import NodeId
from muster_protocol.wire.codec import encode
from muster_protocol.wire.membership import Failed, Left, Stopped, Suspect, Update

A, B, C, D = (NodeId(letter * 32) for letter in "abcd")


def pick(broadcasts: Broadcasts, *, bytes_max: int = 1_000, sendings: int = 3) -> list[Update]:
    return broadcasts.pick(bytes_max=bytes_max, count_max=64, sendings_max=sendings)


def test_broadcasts_send_each_update_so_many_times_and_no_more() -> None:
    broadcasts = Broadcasts()
    broadcasts.put(Stopped(A, 1))
    assert [pick(broadcasts) for _ in range(4)] == [[Stopped(A, 1)]] * 3 + [[]]
    assert len(broadcasts) == 0
    assert A not in broadcasts


def test_broadcasts_prefer_what_was_sent_least_and_then_the_youngest() -> None:
    broadcasts = Broadcasts()
    broadcasts.put(Stopped(A, 1))
    broadcasts.put(Stopped(B, 1))
    assert pick(broadcasts) == [Stopped(B, 1), Stopped(A, 1)]
    broadcasts.put(Stopped(C, 1))
    assert pick(broadcasts) == [Stopped(C, 1), Stopped(B, 1), Stopped(A, 1)]


def test_broadcasts_replace_what_a_newer_update_outdates() -> None:
    broadcasts = Broadcasts()
    broadcasts.put(Suspect(A, 1, B))
    broadcasts.put(Suspect(A, 1, C))
    broadcasts.put(Failed(A, 1, B))
    assert pick(broadcasts) == [Failed(A, 1, B)]


def test_broadcasts_keep_the_accusations_of_one_suspicion_together() -> None:
    broadcasts = Broadcasts()
    broadcasts.put(Suspect(A, 1, B))
    broadcasts.put(Suspect(A, 1, C))
    assert len(pick(broadcasts)) == 2
    broadcasts.put(Suspect(A, 2, D))
    assert pick(broadcasts) == [Suspect(A, 2, D)]


def test_broadcasts_fill_a_packet_and_never_pass_its_size() -> None:
    broadcasts = Broadcasts()
    for number in range(100):
        broadcasts.put(Left(NodeId(f"{number:032x}"), number, A))
    picked = pick(broadcasts, bytes_max=500)
    size = sum(len(encode(update)) for update in picked)
    assert 500 - 2 * size / len(picked) < size <= 500


def test_broadcasts_tell_of_all_before_they_repeat() -> None:
    broadcasts = Broadcasts()
    for number in range(20):
        broadcasts.put(Stopped(NodeId(f"{number:032x}"), 1))
    told = [update.node for _ in range(4) for update in pick(broadcasts, bytes_max=190)]
    assert len(told) == len({*told}) == 20


def test_broadcasts_drop_a_forgotten_member() -> None:
    broadcasts = Broadcasts()
    broadcasts.put(Suspect(A, 1, B))
    broadcasts.put(Suspect(A, 1, C))
    broadcasts.drop(A)
    assert pick(broadcasts) == []
