"""What a leader does so that enough members vote: from any beginning it comes to rest, and well."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muster_protocol.errors import Refused, UsageError
from muster_protocol.raftguard.electorate import (
    at_index,
    promoted,
    why_not_next,
    with_learner,
    with_witness,
    without,
)
from muster_protocol.raftguard.seats import Seats
from muster_protocol.raftguard.steward import (
    LEARNER_GONE_S,
    SIZES,
    Candidate,
    Change,
    Enlist,
    HandOver,
    Steward,
    View,
    Wait,
    can_commit,
)
from muster_protocol.types import NodeId
from muster_protocol.wire.raft import Configuration, Voter
from muster_protocol.wire.seats import SeatRequest

ME = NodeId("1" * 32)
REPLACE_S = 100.0


def node(number: int) -> NodeId:
    return NodeId(f"{number:x}" * 32)


def seat(number: int) -> Voter:
    return Voter(node(number), "a" * 16)


def electorate(*voters: int, learners: tuple[int, ...] = (), size: int = 3) -> Configuration:
    return Configuration(
        tuple(seat(v) for v in voters), 5, tuple(seat(each) for each in learners), size
    )


def view(*alive: int, left: tuple[int, ...] = (), now: float = 1000.0) -> View:
    """Those that are alive are level; the others are silent since this node leads, at 0."""
    members = {node(n): Candidate(n in alive, 0.0, n in left) for n in (*alive, *left)}
    answers: dict[NodeId, tuple[int, float | None]] = {node(n): (100, now - 0.1) for n in alive}
    return View(members, answers, 100, now)


def steward(size: int = 0) -> Steward:
    return Steward(me=ME, size=size, replace_after_s=REPLACE_S, now=0.0)


@pytest.mark.parametrize(("configured", "founders", "size"), [(0, 1, 3), (0, 5, 5), (1, 3, 1)])
def test_the_first_leader_says_how_many_shall_vote(
    configured: int, founders: int, size: int
) -> None:
    held = electorate(*range(1, founders + 1), size=0)
    step = steward(configured).decide(held, view(*range(1, founders + 1)))
    assert isinstance(step, Change)
    assert step.wanted.size == size
    assert step.wanted.voters == held.voters


def test_the_member_that_was_alive_for_longest_learns_first() -> None:
    shown = view(1, 2, 3)
    members = {**shown.members, node(2): Candidate(True, since=50.0)}
    step = steward().decide(electorate(1), dataclasses.replace(shown, members=members))
    assert step == Enlist(node(3))


def test_one_voter_takes_no_second_without_a_third() -> None:
    one = electorate(1, learners=(2,))
    assert steward().decide(one, view(1, 2)) is None
    two = electorate(1, learners=(2, 3))
    assert steward().decide(two, view(1, 2, 3)) == Change(promoted(two, node(2)))


def test_a_learner_that_lacks_much_of_the_log_does_not_vote() -> None:
    held = electorate(1, 2, learners=(3,))
    shown = view(1, 2, 3)
    behind = {**shown.answers, node(3): (10, shown.now)}
    assert steward().decide(held, dataclasses.replace(shown, answers=behind)) is None
    assert steward().decide(held, shown) == Change(promoted(held, node(3)))


def test_a_silent_voter_loses_its_seat_only_to_a_learner_that_has_the_log() -> None:
    held = electorate(1, 2, 3)
    assert steward().decide(held, view(1, 2)) is None
    assert steward().decide(held, view(1, 2, 4)) == Enlist(node(4))
    learning = electorate(1, 2, 3, learners=(4,))
    step = steward().decide(learning, view(1, 2, 4))
    assert isinstance(step, Change)
    assert [v.node for v in step.wanted.voters] == [node(1), node(2)]
    assert steward().decide(learning, view(1, 2, 4, now=REPLACE_S - 1)) is not None
    assert steward().decide(electorate(1, 2, 3), view(1, 2, 4, now=REPLACE_S - 1)) is None


def test_nobody_is_removed_where_too_few_would_stay() -> None:
    held = electorate(1, 2, 3, 4, 5, learners=(6,), size=5)
    assert steward().decide(held, view(1, 2, 6)) is None


def test_who_has_left_goes_and_a_leader_that_has_to_hands_over() -> None:
    held = electorate(1, 2, 3)
    step = steward().decide(held, view(1, 2, left=(3,)))
    assert isinstance(step, Change)
    assert not step.wanted.is_voter(node(3))
    barred = Configuration(held.voters, 5, (), 3, (ME,))
    assert steward().decide(barred, view(1, 2, 3)) == HandOver(avoid=(ME,))


def test_a_learner_that_is_gone_or_not_needed_any_more_goes() -> None:
    unneeded = electorate(1, 2, 3, learners=(4,))
    step = steward().decide(unneeded, view(1, 2, 3, 4))
    assert isinstance(step, Change)
    assert step.wanted.learners == ()
    gone = electorate(1, learners=(2,))
    assert steward().decide(gone, view(1, now=LEARNER_GONE_S - 1)) is None
    assert steward().decide(gone, view(1, now=LEARNER_GONE_S + 1)) is not None


def test_who_could_not_be_enlisted_is_left_alone_for_a_while() -> None:
    mine = steward()
    mine.could_not_enlist(node(2), 1000.0)
    assert mine.decide(electorate(1), view(1, 2)) is None
    assert mine.decide(electorate(1), view(1, 2, now=1010.0)) == Enlist(node(2))


def apply(step: object, held: Configuration) -> Configuration:
    if isinstance(step, Enlist):
        make = with_witness if step.as_witness else with_learner
        wanted = make(held, Voter(step.node, "b" * 16))
    else:
        assert isinstance(step, Change), step
        wanted = step.wanted
    assert why_not_next(held, wanted) == ""
    return at_index(wanted, held.index + 1)


@settings(max_examples=300, deadline=None)
@given(
    voters=st.integers(1, 7),
    alive=st.sets(st.integers(2, 9)),
    left=st.sets(st.integers(2, 9)),
    size=st.sampled_from(SIZES),
    witnesses=st.sets(st.sampled_from((10, 11))),
    had_witness=st.booleans(),
)
def test_it_comes_to_rest_and_never_takes_the_quorum_away(
    voters: int,
    alive: set[int],
    left: set[int],
    size: int,
    witnesses: set[int],
    had_witness: bool,
) -> None:
    """Whoever is alive answers and is level at once. Each step can be committed by those alive.
    10 and 11 can be nothing but witnesses."""
    replicas = {1, *alive} - left
    alive = replicas | witnesses
    held = electorate(*range(1, voters + 1), size=size)
    if had_witness:
        held = with_witness(held, seat(10))
    if len([v for v in held.voters if int(v.node[0], 16) in alive]) < held.majority:
        return  # there is no leader then
    mine, now = steward(), 1000.0
    for _ in range(100):
        now += 10.0
        shown = view(*sorted(alive), left=tuple(sorted(left)), now=now)
        step = mine.decide(held, with_witnesses(shown, 10, 11))
        if step is None:
            break
        held = apply(step, held)
        there = [v for v in held.voters if int(v.node[0], 16) in alive]
        assert len(there) >= held.majority
    else:
        raise AssertionError("it never comes to rest")
    live = [v for v in held.data_voters if int(v.node[0], 16) in alive]
    assert len(held.voters) <= size
    if len(replicas) >= size:
        assert len(live) == size
    if held.witness:
        assert len(held.data_voters) % 2 == 0
    if witnesses and len(live) == len(held.data_voters):
        assert len(live) == min(len(replicas), size)
        assert (not held.witness) == bool(len(live) % 2 or len(live) == size)
    assert all(int(v.node[0], 16) not in left for v in held.voters)


# --- the witness ----------------------------------------------------------------------------------


def with_witnesses(shown: View, *numbers: int) -> View:
    """These members can be nothing but a witness."""
    members = {
        each: dataclasses.replace(member, is_witness=each in map(node, numbers))
        for each, member in shown.members.items()
    }
    return dataclasses.replace(shown, members=members)


def site(*voters: int, size: int = 3, learners: tuple[int, ...] = ()) -> Configuration:
    """With the witness 9."""
    return with_witness(electorate(*voters, size=size, learners=learners), seat(9))


def test_two_voters_get_a_witness_and_not_a_learner_of_it() -> None:
    shown = with_witnesses(view(1, 2, 9), 9)
    assert steward().decide(electorate(1, 2), shown) == Enlist(node(9), as_witness=True)
    assert steward().decide(site(1, 2), shown) is None
    assert steward().decide(electorate(1, 2), view(1, 2, 9)) == Enlist(node(9))


@pytest.mark.parametrize("voters", [(1,), (1, 2, 3)])
def test_an_odd_number_of_voters_gets_no_witness(voters: tuple[int, ...]) -> None:
    shown = with_witnesses(view(*voters, 9), 9)
    assert steward().decide(electorate(*voters), shown) is None
    assert steward().decide(site(*voters), shown) == Change(electorate(*voters))


def test_a_witness_does_not_keep_a_third_node_from_its_seat() -> None:
    shown = with_witnesses(view(1, 2, 3, 9), 9)
    assert steward().decide(site(1, 2), shown) == Enlist(node(3))
    learning = site(1, 2, learners=(3,))
    assert steward().decide(learning, shown) == Change(promoted(learning, node(3)))
    assert steward().decide(electorate(1, 2, learners=(3,)), shown) != Enlist(node(9), True)


def test_where_a_witness_makes_four_odd_the_fourth_votes() -> None:
    held = electorate(1, 2, 3, learners=(4,), size=5)
    assert steward().decide(held, view(1, 2, 3, 4)) is None
    shown = with_witnesses(view(1, 2, 3, 4, 9), 9)
    assert steward().decide(held, shown) == Change(promoted(held, node(4)))
    four = electorate(1, 2, 3, 4, size=5)
    assert steward().decide(four, shown) == Enlist(node(9), as_witness=True)


def test_a_witness_makes_room_for_the_seventh_node() -> None:
    held = site(1, 2, 3, 4, 5, 6, size=7, learners=(7,))
    shown = with_witnesses(view(1, 2, 3, 4, 5, 6, 7, 9), 9)
    assert steward().decide(held, shown) == Change(without(held, node(9)))
    full = electorate(1, 2, 3, 4, 5, 6, 8, size=7, learners=(7,))
    shown = view(1, 2, 7, left=(8,))
    assert steward().decide(full, shown) is None, "too few answer for 8 to go"


def test_a_witness_that_is_gone_gives_way_to_another_one_only() -> None:
    held = site(1, 2)
    assert steward().decide(held, view(1, 2)) is None
    shown = with_witnesses(view(1, 2, 8), 8)
    assert steward().decide(held, shown) == Change(electorate(1, 2))


def test_a_witness_is_nobody_to_hand_over_to() -> None:
    leaving, shown = steward(), with_witnesses(view(1, 9), 9)
    leaving.leaves(ME, shown.now)
    assert not leaving.has_successor(site(1, 2), shown)
    assert not leaving.others(ME, shown)


def test_a_seat_for_a_witness_is_refused_with_the_reason() -> None:
    shown = with_witnesses(view(1, 2, 3, 8, 9), 8, 9)
    for held, why in (
        (electorate(1, 2, 3), "with 3 voters that have the data"),
        (site(1, 2), "there is a witness already"),
        (electorate(1, 2, size=1), "no more than 1 are to vote"),
    ):
        with pytest.raises(Refused, match=why):
            seats().next_step(SeatRequest("add", node(8)), held, shown)
    step = seats().next_step(SeatRequest("add", node(8)), electorate(1, 2), shown)
    assert step == Enlist(node(8), as_witness=True)


def test_the_last_voter_that_has_the_data_stays_though_a_witness_votes() -> None:
    with pytest.raises(Refused, match="the last voter has to stay"):
        seats().next_step(SeatRequest("remove", ME), site(1), view(1, 9))


# --- requests -------------------------------------------------------------------------------------


def seats() -> Seats:
    return Seats(me=ME, steward=steward())


def test_a_request_is_done_when_the_electorate_says_so() -> None:
    held = electorate(1, 2, 3)
    assert seats().next_step(SeatRequest("size", size=3), held, view(1, 2, 3)) is None
    assert seats().next_step(SeatRequest("add", node(2)), held, view(1, 2, 3)) is None
    assert seats().next_step(SeatRequest("leave", node(9)), held, view(1, 2, 3)) is None


def test_what_cannot_be_done_is_refused_with_the_reason() -> None:
    held, shown = electorate(1, 2, 3), view(1, 2, 3, 4)
    with pytest.raises(UsageError, match="1, 3, 5 or 7"):
        seats().next_step(SeatRequest("size", size=2), held, shown)
    with pytest.raises(Refused, match="but all 3 are taken"):
        seats().next_step(SeatRequest("add", node(4)), held, shown)
    with pytest.raises(Refused, match="a member that is alive"):
        seats().next_step(SeatRequest("add", node(9)), electorate(1), shown)
    with pytest.raises(Refused, match="the last voter has to stay"):
        seats().next_step(SeatRequest("remove", ME), electorate(1), shown)
    with pytest.raises(Refused, match="too few voters would answer"):
        seats().next_step(SeatRequest("leave", node(2)), held, view(1, 2))
    with pytest.raises(Refused, match="no member"):
        seats().next_step(SeatRequest("remove", node(9)), held, shown)


def test_a_member_that_was_removed_gets_no_seat_before_it_is_added() -> None:
    held, shown = electorate(1, 2, 3), view(1, 2, 3)
    step = seats().next_step(SeatRequest("remove", node(3)), held, shown)
    assert isinstance(step, Change)
    assert step.wanted.barred == (node(3),)
    assert steward().decide(step.wanted, shown) is None
    again = seats().next_step(SeatRequest("add", node(3)), step.wanted, shown)
    assert isinstance(again, Change)
    assert again.wanted.barred == ()
    assert seats().next_step(SeatRequest("add", node(3)), again.wanted, shown) == Enlist(node(3))


def test_a_leader_that_leaves_hands_over_and_the_last_member_just_goes() -> None:
    leave = SeatRequest("leave", ME)
    step = seats().next_step(leave, electorate(1, 2, 3), view(1, 2, 3))
    assert isinstance(step, HandOver)
    assert ME in step.avoid
    assert seats().next_step(leave, electorate(1), view(1)) is None


def test_the_only_voter_that_leaves_waits_for_a_member_to_learn_and_to_vote() -> None:
    mine = steward()
    asked, leave = Seats(me=ME, steward=mine), SeatRequest("leave", ME)
    alone = electorate(1, size=1)
    assert asked.next_step(leave, alone, view(1, 2)) == Wait()
    assert mine.decide(alone, view(1, 2)) == Enlist(node(2))
    learning = electorate(1, learners=(2,), size=1)
    assert mine.decide(learning, view(1, 2)) == Change(promoted(learning, node(2)))
    both = electorate(1, 2, size=1)
    assert mine.decide(both, view(1, 2)) == HandOver(avoid=(ME,))


def test_a_leave_that_was_refused_is_not_carried_out_later() -> None:
    mine = steward()
    asked, held = Seats(me=ME, steward=mine), electorate(1, 2, 3)
    with pytest.raises(Refused):
        asked.next_step(SeatRequest("leave", node(2)), held, view(1, 2))
    assert mine.decide(held, view(1, 2, 3)) is None
    leave = SeatRequest("leave", node(2))
    assert asked.next_step(leave, held, view(1, 2, 3)) is not None
    asked.withdrawn(leave)
    assert mine.decide(held, view(1, 2, 3)) is None


def test_leadership_goes_to_nobody_who_leaves_too() -> None:
    mine = steward()
    asked, held, shown = Seats(me=ME, steward=mine), electorate(1, 2, 3), view(1, 2, 3)
    for number in (2, 3):
        asked.next_step(SeatRequest("leave", node(number)), held, shown)
    assert asked.next_step(SeatRequest("leave", ME), held, shown) == Wait()


def test_who_has_not_answered_since_the_decision_does_not_count_for_it() -> None:
    held, shown = electorate(1, 2, 3), view(1, 2, 3)
    assert can_commit(held, ME, shown, since=shown.now - 1.0)
    assert not can_commit(held, ME, shown, since=shown.now)
    assert can_commit(electorate(1), ME, shown, since=shown.now)


def test_a_bar_stays_until_its_node_has_left() -> None:
    held = Configuration((seat(1), seat(2), seat(3)), 5, (), 3, (node(4),))
    assert steward().decide(held, view(1, 2, 3)) is None
    step = steward().decide(held, view(1, 2, 3, left=(4,)))
    assert isinstance(step, Change)
    assert step.wanted.barred == ()


def test_who_left_and_is_back_may_have_a_seat() -> None:
    mine = steward()
    mine.leaves(node(2), 900.0)
    held = electorate(1, 2, 3)
    assert mine.decide(held, view(1, 2, 3, now=901.0)) is not None
    back = view(1, 2, 3, now=930.0)
    members = {**back.members, node(2): Candidate(True, since=925.0)}
    assert mine.decide(held, dataclasses.replace(back, members=members)) is None
