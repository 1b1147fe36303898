"""When a leader may change the electorate, and to what."""

from __future__ import annotations

from collections.abc import Callable

from muster_protocol.raftguard.electorate import why_not_next
from muster_protocol.raftguard.events import LogView
from muster_protocol.types import NodeId
from muster_protocol.wire.raft import Configuration


def why_not_change(
    wanted: Configuration, *, me: NodeId, log: LogView, matched: Callable[[NodeId], int]
) -> str:
    """Why the leader `me` cannot propose `wanted` as the next electorate now, in a few words; "" if
    it can. `matched`: up to which index a follower is known to have the log."""
    now = log.configuration
    if log.term_at(log.commit_index) != log.current_term:
        return "this leader has committed nothing yet"
    if now.index > log.commit_index:
        return "the change before is not committed yet"
    if not wanted.is_voter(me):
        return "a leader hands over before it is removed"
    return why_not_next(now, wanted) or _why_not_promote(now, wanted, matched)


def _why_not_promote(
    now: Configuration, wanted: Configuration, matched: Callable[[NodeId], int]
) -> str:
    """A learner that has not stored its own seat yet might not know that it has one, and go."""
    for voter in wanted.voters:
        is_new = voter not in now.voters and voter.node != wanted.witness
        if is_new and matched(NodeId(voter.node)) < now.index:
            return "a learner has to catch up before it votes"
    return ""
