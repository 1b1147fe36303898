"""When a leader may change who votes, and to what."""

from __future__ import annotations

import pytest

from muster_protocol.limits import VOTERS_MAX
from muster_protocol.raftguard.changes import why_not_change
from muster_protocol.raftguard.electorate import (
    Electorates,
    promoted,
    why_not_next,
    with_learner,
    with_witness,
    without,
)
from muster_protocol.types import NodeId
from muster_protocol.wire.raft import Configuration, Voter
from testkit.raft_log import Log

ME = NodeId("1" * 32)
SEATS = tuple(Voter(f"{n}" * 32, "a" * 16) for n in range(1, 10))
THREE = Configuration(SEATS[:3], 2)
LEARNING = with_learner(THREE, SEATS[3])


def refusal(
    wanted: Configuration, *, held: Configuration = THREE, committed: int = 4, matched: int = 4
) -> str:
    """Of a leader of term 5, whose log has an entry of its own term at index 4."""
    log = Log({1: 1, 2: 3, 3: 3, 4: 5, 5: 5}, commit_index=committed, configuration=held)
    return why_not_change(wanted, me=ME, log=log, matched=lambda _: matched)


def test_a_leader_changes_nothing_before_it_has_committed_an_entry_of_its_own_term() -> None:
    assert refusal(LEARNING, committed=3) == "this leader has committed nothing yet"
    assert refusal(LEARNING) == ""


def test_a_change_waits_for_the_one_before() -> None:
    held = Configuration(SEATS[:3], 5)
    assert refusal(with_learner(held, SEATS[3]), held=held) == (
        "the change before is not committed yet"
    )


def test_a_leader_does_not_remove_itself() -> None:
    assert refusal(without(THREE, ME)) == "a leader hands over before it is removed"


def test_a_learner_votes_only_when_it_knows_its_seat() -> None:
    held = Configuration(SEATS[:3], 4, SEATS[3:4])
    wanted = promoted(held, SEATS[3].node)
    assert refusal(wanted, held=held, matched=3) == "a learner has to catch up before it votes"
    assert refusal(wanted, held=held, matched=4) == ""


@pytest.mark.parametrize(
    ("wanted", "why"),
    [
        (Configuration(()), "nobody would be left to vote"),
        (without(without(THREE, SEATS[1].node), SEATS[2].node), "more than one voter"),
        (Configuration(SEATS[:4], 2), "has to be a learner first"),
        (Configuration(SEATS[:3], 2, SEATS[:1]), "two seats"),
        (Configuration(SEATS[2::-1], 2), "not in order"),
    ],
    ids=["nobody", "two at once", "not a learner", "two seats", "unordered"],
)
def test_only_a_neighbour_can_be_the_next_electorate(wanted: Configuration, why: str) -> None:
    assert why in why_not_next(THREE, wanted)


def test_more_than_may_vote_never_do() -> None:
    full = Configuration(SEATS[:VOTERS_MAX], 2, SEATS[VOTERS_MAX : VOTERS_MAX + 1])
    assert "would vote" in why_not_next(full, promoted(full, SEATS[VOTERS_MAX].node))


def test_a_snapshot_gets_the_electorate_at_its_own_index() -> None:
    later = Configuration(SEATS[:2], 9)
    electorates = Electorates(THREE, [later])
    assert electorates.at(8) == THREE
    assert electorates.at(9) == electorates.latest == later
    electorates.truncated(9)
    assert electorates.latest == THREE


# --- the witness ----------------------------------------------------------------------------------

TWO = Configuration(SEATS[:2], 2)
SITE = with_witness(TWO, SEATS[2])


def test_a_witness_gets_a_seat_without_having_learnt_and_loses_it() -> None:
    assert why_not_next(TWO, SITE) == ""
    assert refusal(SITE, held=TWO, matched=0) == ""
    assert (SITE.majority, SITE.data_voters, SITE.replicas) == (2, TWO.voters, TWO.voters)
    assert without(SITE, SEATS[2].node) == TWO
    assert why_not_next(SITE, TWO) == ""


@pytest.mark.parametrize(
    ("held", "wanted", "why"),
    [
        (SITE, Configuration(SITE.voters, 2), "cannot become another voter"),
        (TWO, Configuration(TWO.voters, 2, witness=SEATS[1].node), "is a new voter"),
        (SITE, with_witness(SITE, SEATS[3]), "the only one"),
        (SITE, without(without(SITE, SEATS[0].node), SEATS[1].node), "nobody would be left"),
        (TWO, promoted(with_learner(SITE, SEATS[3]), SEATS[3].node), "more than one voter"),
    ],
    ids=["becomes a voter", "was a voter", "a second one", "alone", "with another one"],
)
def test_what_a_witness_is_it_stays(held: Configuration, wanted: Configuration, why: str) -> None:
    assert why in why_not_next(held, wanted)
