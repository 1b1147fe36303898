"""Which survivor has most, and what may be lost with the dead."""

from __future__ import annotations

import msgspec
import pytest

from muster_protocol.errors import UsageError
from muster_protocol.raftguard.survivors import Survey, rank, sole_voter
from muster_protocol.wire.raft import Configuration, Voter

CLUSTER = "c" * 32


def seat(number: int) -> Voter:
    return Voter(f"{number:032x}", f"{number:016x}")


def voters(count: int) -> tuple[Voter, ...]:
    return tuple(seat(number) for number in range(1, count + 1))


def survey(
    number: int, term: int, index: int, *, of: int = 3, committed: int = 1, cluster: str = CLUSTER
) -> Survey:
    return Survey(
        name=f"web{number}",
        node=seat(number).node,
        cluster=cluster,
        generation=seat(number).generation,
        term=term,
        last_term=term,
        last_index=index,
        committed_index=committed,
        revision=index,
        keys=1,
        voters=voters(of),
        electorate_index=1,
    )


def test_a_later_term_counts_more_than_a_longer_log() -> None:
    ranking = rank([survey(1, 3, 90, of=5), survey(2, 4, 12, of=5)])
    assert [each.name for each in ranking.surveys] == ["web2", "web1"]


def test_within_a_term_the_longer_log_has_more() -> None:
    assert rank([survey(1, 3, 12), survey(2, 3, 13)]).best.name == "web2"


@pytest.mark.parametrize(
    ("of", "here", "has_quorum", "may_lose"),
    [
        (1, 1, True, False),
        (2, 1, False, False),
        (3, 1, False, True),
        (3, 2, True, False),
        (4, 1, False, True),
        (4, 2, False, False),
        (5, 2, False, True),
        (5, 3, True, False),
        (6, 3, False, False),
    ],
)
def test_the_dead_can_have_acknowledged_only_if_they_were_a_majority(
    of: int, here: int, has_quorum: bool, may_lose: bool
) -> None:
    ranking = rank([survey(number, 3, 12, of=of) for number in range(1, here + 1)])
    assert (ranking.surviving, len(ranking.missing)) == (here, of - here)
    assert (ranking.has_quorum, ranking.may_lose_acknowledged) == (has_quorum, may_lose)


def test_what_any_survivor_knew_to_be_committed_is_certain() -> None:
    ranking = rank([survey(1, 3, 12, of=5, committed=4), survey(2, 2, 90, of=5, committed=9)])
    assert ranking.certain_index == 9


def test_a_node_with_another_journal_than_its_seat_is_no_survivor() -> None:
    wiped = msgspec.structs.replace(survey(2, 3, 12), generation="9" * 16)
    ranking = rank([survey(1, 3, 12), wiped])
    assert ranking.missing == (seat(2), seat(3))


def test_a_learner_may_have_most_and_is_no_voter() -> None:
    ranking = rank([survey(1, 3, 12), survey(7, 3, 15)])
    assert ranking.best.name == "web7"
    assert ranking.surviving == 1


def test_nodes_of_two_clusters_are_not_compared() -> None:
    with pytest.raises(UsageError, match="2 clusters"):
        rank([survey(1, 3, 12), survey(2, 3, 12, cluster="d" * 32)])


def test_one_node_is_not_counted_twice() -> None:
    with pytest.raises(UsageError, match="twice"):
        rank([survey(1, 3, 12), survey(1, 3, 13)])


def test_the_recovered_electorate_is_to_become_as_large_as_it_was() -> None:
    me = Voter(seat(1).node, "5" * 16)
    old = Configuration(voters(3), 7, (seat(9),), barred=(seat(1).node, seat(4).node))
    assert sole_voter(old, me, 20) == Configuration((me,), 20, (), 3, (seat(4).node,))
    assert sole_voter(msgspec.structs.replace(old, size=5), me, 20).size == 5


def test_a_survey_comes_back_from_json_and_strangers_are_refused() -> None:
    one = survey(1, 3, 12)
    data = msgspec.json.encode(one)
    assert msgspec.json.decode(data, type=Survey) == one
    for bad in (b"{}", data.replace(b"raft-survey/1", b"raft-survey/2"), data[:-1] + b',"x":1}'):
        with pytest.raises(msgspec.ValidationError):
            msgspec.json.decode(bad, type=Survey)


# --- with a witness -------------------------------------------------------------------------------


def of_site(number: int, index: int) -> Survey:
    """Of node 1 or 2 of a site of two, whose witness is 3."""
    return msgspec.structs.replace(survey(number, 7, index), witness=seat(3).node)


def witness(term: int, index: int) -> Survey:
    mine = survey(3, term, index)
    return msgspec.structs.replace(mine, is_witness=True, voters=(), keys=0, revision=0)


def test_a_witness_makes_a_majority_with_a_node_that_has_what_it_was_asked_for() -> None:
    ranking = rank([witness(7, 12), of_site(1, 12)])
    assert (ranking.has_quorum, ranking.may_lose_acknowledged) == (True, False)
    assert [each.name for each in ranking.surveys] == ["web1"], "a witness can not be recovered"


def test_what_the_witness_was_asked_for_beyond_the_best_log_is_lost() -> None:
    ranking = rank([witness(7, 13), of_site(1, 12)])
    assert (ranking.has_quorum, ranking.may_lose_acknowledged) == (False, True)
    assert ranking.lacks_marked
    both = rank([witness(7, 13), of_site(1, 12), of_site(2, 13)])
    assert both.has_quorum
    assert both.best.name == "web2"


def test_without_its_witness_a_survivor_may_have_lost_something() -> None:
    ranking = rank([of_site(1, 12)])
    assert (ranking.has_quorum, ranking.may_lose_acknowledged) == (False, True)


def test_a_witness_alone_is_no_survivor() -> None:
    with pytest.raises(UsageError, match="a witness has no data"):
        rank([witness(7, 12)])


def test_a_witness_of_another_seat_says_nothing() -> None:
    other = msgspec.structs.replace(witness(9, 99), generation="f" * 16)
    assert rank([other, of_site(1, 12)]).witness is None
