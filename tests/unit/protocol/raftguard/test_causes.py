"""Why a node campaigns, and why it leads no more."""

from __future__ import annotations

import random

import pytest

from muster_protocol.raftguard.causes import Causes, ElectionCause, LossCause
from muster_protocol.raftguard.elections import Elections
from muster_protocol.raftguard.events import Role
from testkit.raft_log import log_of

NOW = 100.0


def elections() -> Elections:
    return Elections(log=log_of(0, 1, 5), rng=random.Random(3), now=NOW)


def test_the_cause_of_an_election_is_what_was_missed_last() -> None:
    timers = elections()
    seen = [timers.cause]
    timers.leader_heard(NOW)
    seen.append(timers.cause)
    timers.leader_lost(NOW)
    seen.append(timers.cause)
    timers.vote_granted(NOW)
    seen.append(timers.cause)
    timers.leadership_lost(NOW)
    seen.append(timers.cause)
    assert seen == [
        ElectionCause.STARTED,
        ElectionCause.LEADER_SILENT,
        ElectionCause.LEADER_STREAM_LOST,
        ElectionCause.VOTE_IN_VAIN,
        ElectionCause.LEADERSHIP_LOST,
    ]


def test_rounds_and_campaigns_that_came_to_nothing_do_not_change_the_cause() -> None:
    timers = elections()
    timers.leader_heard(NOW)
    timers.leader_lost(NOW)
    timers.start_round(NOW)
    timers.campaign_started(NOW)
    assert timers.cause is ElectionCause.LEADER_STREAM_LOST


@pytest.mark.parametrize(
    ("term", "handed_over", "cause"),
    [
        (8, True, LossCause.HANDED_OVER),
        (8, False, LossCause.HIGHER_TERM),
        (7, False, LossCause.NO_MAJORITY),
    ],
)
def test_how_leadership_ended_is_counted(term: int, handed_over: bool, cause: LossCause) -> None:
    causes = Causes()
    causes.role_changed(Role.FOLLOWER, Role.CANDIDATE, term=7, handed_over=False)
    causes.role_changed(Role.CANDIDATE, Role.LEADER, term=7, handed_over=False)
    assert sum(causes.losses.values()) == 0
    causes.role_changed(Role.LEADER, Role.FOLLOWER, term=term, handed_over=handed_over)
    assert {name for name, count in causes.losses.items() if count} == {cause.value}


def test_every_cause_is_told_from_the_beginning() -> None:
    """A counter that appears with its first count has no rate then."""
    causes = Causes()
    assert list(causes.campaigns) == [cause.value for cause in ElectionCause]
    causes.campaigned(ElectionCause.HANDED_OVER)
    assert causes.campaigns["handed-over"] == 1
