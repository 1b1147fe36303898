"""The follower's side: what of an append reaches the engine."""

from __future__ import annotations

import pytest

from muster_protocol.errors import RemoteError
from muster_protocol.raftguard.appends import CommittedEntryConflict, FollowerLog
from muster_protocol.wire.raft import Append, Entry
from testkit.raft_log import log_of


def append(previous: tuple[int, int], *terms: int, commit: int = 1, term: int = 5) -> Append:
    entries = tuple(
        Entry(b"\x01", previous[0] + 1 + i, entry_term) for i, entry_term in enumerate(terms)
    )
    return Append(term, commit, previous[0], previous[1], entries)


def test_new_entries_reach_the_engine_as_they_are() -> None:
    reduced = FollowerLog(log_of(0, 1)).reduce(append((2, 1), 5, 5))
    assert reduced.acknowledge is None
    assert reduced.message["prevLogIdx"] == 2
    assert [entry[1] for entry in reduced.message["entries"]] == [3, 4]


def test_entries_already_held_are_cut_off() -> None:
    reduced = FollowerLog(log_of(0, 1, 5)).reduce(append((1, 0), 1, 5, 5))
    assert (reduced.message["prevLogIdx"], reduced.message["prevLogTerm"]) == (3, 5)
    assert [entry[1] for entry in reduced.message["entries"]] == [4]


def test_d02_a_repeated_older_append_does_not_truncate_what_follows_it() -> None:
    """Stock: re-delivery of entries 2..3 removes the acknowledged 4 and 5."""
    reduced = FollowerLog(log_of(0, 1, 1, 5, 5)).reduce(append((1, 0), 1, 1))
    assert "prevLogIdx" not in reduced.message
    assert reduced.acknowledge == 3


def test_d02_a_heartbeat_behind_our_end_does_not_truncate() -> None:
    reduced = FollowerLog(log_of(0, 1, 5, 5)).reduce(append((2, 1)))
    assert "prevLogIdx" not in reduced.message
    assert reduced.acknowledge == 2


def test_d01_commit_index_is_clamped_to_what_is_verified() -> None:
    """The leader committed up to 9 and we verified 2: our own 3 and 4 stay as they are."""
    reduced = FollowerLog(log_of(0, 1, 3, 3)).reduce(append((2, 1), commit=9))
    assert reduced.message["commit_index"] == 2


def test_a_conflict_is_left_to_the_engine_from_the_first_differing_entry() -> None:
    reduced = FollowerLog(log_of(0, 1, 3, 3)).reduce(append((1, 0), 1, 5))
    assert reduced.message["prevLogIdx"] == 2
    assert [(entry[1], entry[2]) for entry in reduced.message["entries"]] == [(3, 5)]


def test_a_gap_asks_the_leader_to_start_from_our_end() -> None:
    reduced = FollowerLog(log_of(0, 1)).reduce(append((7, 5), 5))
    assert reduced.start_again_from == 3
    assert "prevLogIdx" not in reduced.message


def test_d28_a_conflict_before_the_append_goes_back_a_whole_term() -> None:
    reduced = FollowerLog(log_of(0, 1, 3, 3, 3, 3)).reduce(append((6, 5), 5))
    assert reduced.start_again_from == 3


def test_going_back_stops_at_what_is_committed() -> None:
    reduced = FollowerLog(log_of(0, 3, 3, 3, 3, commit=3)).reduce(append((5, 5), 5))
    assert reduced.start_again_from == 4


def test_going_back_stops_at_what_the_leaders_snapshot_has_too() -> None:
    """The leader may have trimmed what is before it, and would offer the snapshot for ever."""
    follower = FollowerLog(log_of(0, 3, 3, 3, 3))
    assert follower.reduce(append((5, 5), 5)).start_again_from == 2
    follower.verify(5, 3)
    assert follower.reduce(append((5, 5), 5)).start_again_from == 4


def test_entries_below_a_compacted_log_count_as_held() -> None:
    log = log_of(3, 3, 3, first=10, commit=12)
    reduced = FollowerLog(log).reduce(append((4, 1), 1, 1, 3, 3, 3, 3, 3, 3, 5))
    assert [entry[1] for entry in reduced.message["entries"]] == [13]


def test_an_append_against_a_committed_entry_is_a_safety_violation() -> None:
    with pytest.raises(CommittedEntryConflict):
        FollowerLog(log_of(0, 1, 1, commit=3)).reduce(append((1, 0), 1, 5))


def test_what_is_verified_in_one_term_is_not_in_the_next() -> None:
    log = log_of(0, 1, 5, 5)
    follower = FollowerLog(log)
    follower.reduce(append((3, 5)))
    assert follower.verified_in(5) == 3
    assert follower.verified_in(6) == 1


@pytest.mark.parametrize(
    "entries",
    [
        (Entry(b"\x01", 5, 5),),
        (Entry(b"\x01", 3, 5), Entry(b"\x01", 5, 5)),
        (Entry(b"\x01", 3, 6),),
        (Entry(b"\x03\x05", 3, 5),),
        (Entry(b"\x00\xc1", 3, 5),),
        (Entry(b"\x00\x92\x01\x91\xc4\x00", 3, 5),),
    ],
)
def test_an_append_that_no_leader_sends_is_refused(entries: tuple[Entry, ...]) -> None:
    with pytest.raises(RemoteError):
        FollowerLog(log_of(0, 1)).reduce(Append(5, 1, 2, 1, entries))
