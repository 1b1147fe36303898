"""The checkers of Raft's safety, told truths and lies."""

from __future__ import annotations

import pytest

from muster.sim.checkers.raft import CommittedOnMajority, CommittedPrefixes, ElectionSafety
from muster.sim.checkers.violated import Violated


def test_one_leader_may_be_seen_often_and_another_in_another_term() -> None:
    elections = ElectionSafety()
    for _ in range(2):
        elections.leads("n1", 1)
    elections.leads("n2", 2)
    assert elections.terms == 2


def test_two_leaders_in_one_term_are_seen() -> None:
    elections = ElectionSafety()
    elections.leads("n1", 7)
    with pytest.raises(Violated, match="election safety: n1 and n2 both lead in term 7"):
        elections.leads("n2", 7)


def test_the_same_entry_may_be_committed_everywhere_and_again_after_a_restart() -> None:
    prefixes = CommittedPrefixes()
    for node in ("n1", "n2", "n1"):
        prefixes.committed(node, 5, 2, b"command")
    assert prefixes.entries == 1


@pytest.mark.parametrize(("term", "command"), [(3, b"command"), (2, b"other")])
def test_another_entry_at_a_committed_index_is_seen(term: int, command: bytes) -> None:
    prefixes = CommittedPrefixes()
    prefixes.committed("n1", 5, 2, b"command")
    with pytest.raises(Violated, match="at index 5, n1 committed an entry of term 2 and n2"):
        prefixes.committed("n2", 5, term, command)


def test_a_commit_index_goes_back_in_a_new_life_only() -> None:
    prefixes = CommittedPrefixes()
    prefixes.commit_index("n1", "life 1", 9)
    assert prefixes.next_index("life 1") == 10
    prefixes.commit_index("n1", "life 2", 4)
    with pytest.raises(Violated, match="n1 went back from commit index 9 to 8"):
        prefixes.commit_index("n1", "life 1", 8)


def test_an_entry_on_the_disks_of_a_majority_may_be_committed() -> None:
    CommittedOnMajority().committed("n1", 5, ["n1", "n3"], [["n1", "n2", "n3"]])


def test_a_commit_without_a_majority_is_seen() -> None:
    majorities = CommittedOnMajority()
    with pytest.raises(Violated, match="n1 commits entry 5, which is on the disks of n1, n6 only"):
        majorities.committed("n1", 5, ["n1", "n6"], [["n1", "n2", "n3"], ["n1", "n2", "n3", "n4"]])


def test_a_majority_of_an_electorate_since_the_entry_was_made_is_enough() -> None:
    CommittedOnMajority().committed("n1", 5, ["n1"], [["n1", "n2", "n3"], ["n1"]])


def test_what_was_committed_before_may_have_been_compacted() -> None:
    majorities = CommittedOnMajority()
    majorities.committed("n1", 5, ["n1", "n2"], [["n1", "n2", "n3"]])
    majorities.committed("n2", 4, [], [["n1", "n2", "n3"]])
