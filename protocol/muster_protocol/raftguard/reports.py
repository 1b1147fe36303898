"""What a guard tells of itself: counts for metrics, and notes of what has changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from muster_protocol.effects import Notify
from muster_protocol.raftguard.events import Role
from muster_protocol.types import Severity
from muster_protocol.wire.raft import Configuration


@dataclass(frozen=True, slots=True)
class GuardStatistics:
    """For status and metrics."""

    dropped: Mapping[str, int]
    campaigns: int
    elections_won: int
    campaigns_by_cause: Mapping[str, int]
    leaderships_lost: Mapping[str, int]
    """By cause."""
    pre_vote_rounds: int
    held_frames: int
    unsynced_bytes: int


def role_changed(was: Role, role: Role, term: int) -> Notify:
    fields = {"role": role.name.lower(), "was": was.name.lower(), "term": term}
    return Notify("raft.role.changed", Severity.INFO, fields)


def electorate_changed(configuration: Configuration) -> Notify:
    fields = {
        "index": configuration.index,
        "voters": [voter.node for voter in configuration.voters],
        "learners": [learner.node for learner in configuration.learners],
    }
    return Notify("raft.electorate.changed", Severity.INFO, fields)
