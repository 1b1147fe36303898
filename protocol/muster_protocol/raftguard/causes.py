"""Why a node campaigned, and why it leads no more: counted, for whoever asks after a bad night.

An election has the cause that made its pre-vote begin, however many rounds that took. Leadership
ends in three ways: it was given away, another term was heard of, or no majority answered.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping

from muster_protocol.raftguard.events import Role


class ElectionCause(enum.StrEnum):
    """What a node missed."""

    STARTED = "started"
    """It has heard no leader since its start."""
    LEADER_SILENT = "leader-silent"
    """An election time-out has passed since the leader spoke."""
    LEADER_STREAM_LOST = "leader-stream-lost"
    """The leader's stream closed: its process ended, or its host said so."""
    LEADERSHIP_LOST = "leadership-lost"
    """It led, did so no more, and heard no other leader for an election time-out."""
    VOTE_IN_VAIN = "vote-in-vain"
    """It voted for another one, who did not say to have won."""
    HANDED_OVER = "handed-over"
    """The leader told it to."""


class LossCause(enum.StrEnum):
    """Why a leader is one no more."""

    HANDED_OVER = "handed-over"
    HIGHER_TERM = "higher-term"
    """Another node had campaigned."""
    NO_MAJORITY = "no-majority"
    """It stepped down: no majority answered within the engine's fallback time."""


class Causes:
    """The counts of one voter."""

    def __init__(self) -> None:
        self._campaigns: dict[str, int] = {cause.value: 0 for cause in ElectionCause}
        self._losses: dict[str, int] = {cause.value: 0 for cause in LossCause}
        self._led_term = 0

    @property
    def campaigns(self) -> Mapping[str, int]:
        """By cause; each is there."""
        return dict(self._campaigns)

    @property
    def losses(self) -> Mapping[str, int]:
        """By cause; each is there."""
        return dict(self._losses)

    def campaigned(self, cause: ElectionCause) -> None:
        self._campaigns[cause.value] += 1

    def role_changed(self, was: Role, role: Role, *, term: int, handed_over: bool) -> None:
        """`handed_over`: leadership was being given away."""
        if role is Role.LEADER:
            self._led_term = term
        elif was is Role.LEADER:
            cause = LossCause.NO_MAJORITY
            if handed_over:
                cause = LossCause.HANDED_OVER
            elif term > self._led_term:
                cause = LossCause.HIGHER_TERM
            self._losses[cause.value] += 1
