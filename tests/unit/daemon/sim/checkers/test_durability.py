"""The checker of what voters claim, told truths and lies."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from muster.sim.checkers.durability import Claims
from muster.sim.checkers.violated import Violated
from muster_protocol.raftguard.events import Claim, ClaimKind, LogView
from muster_protocol.wire.raft import Manifest


@dataclass
class Log(LogView):
    """A log that says what it is told to say."""

    current_term: int = 3
    first_index: int = 1
    last_index: int = 9
    commit_index: int = 1
    durable_index: int = 9
    term_is_durable: bool = True
    lsn: int = 9
    durable_lsn: int = 9
    manifest: Manifest | None = None

    def term_at(self, index: int) -> int | None:
        return 3 if index <= self.last_index else None


ACK = Claim(ClaimKind.ACK, 3, 9)


def test_an_ack_may_speak_of_what_is_durable() -> None:
    Claims().claims("n1", Log(), ACK)


@pytest.mark.parametrize("log", [Log(durable_index=8), Log(term_is_durable=False)])
def test_an_ack_of_what_is_not_durable_is_seen(log: Log) -> None:
    with pytest.raises(Violated, match="durability: n1 claims ack 9, not durable"):
        Claims().claims("n1", log, ACK)


def test_a_vote_of_an_older_term_was_durable_long_ago() -> None:
    Claims().claims("n1", Log(term_is_durable=False), Claim(ClaimKind.VOTE, 2, 0))


def test_who_forgets_in_the_same_term_what_it_acknowledged_is_seen() -> None:
    claims = Claims()
    claims.claims("n1", Log(), ACK)
    claims.holds("n1", Log())
    with pytest.raises(Violated, match="acknowledged entry 9 in term 3, and its log ends at 8"):
        claims.holds("n1", Log(last_index=8))


def test_the_leader_of_another_term_may_replace_what_was_acknowledged() -> None:
    claims = Claims()
    claims.claims("n1", Log(), ACK)
    claims.holds("n1", Log(current_term=4, last_index=5))
