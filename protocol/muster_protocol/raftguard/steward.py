"""Who should have a seat: what a leader does, step by step, so that enough members vote.

`Steward.decide` looks once a second and names one step at most; the next is named when that one is
committed. What it strives for, in this order:

1. Who has left, or was removed, has no seat. A leader that must go hands over first.
2. No more voters than wanted.
3. A voter that has been silent for long gives its seat to a learner that has the log. Without one
   it keeps the seat: a smaller electorate bears no more failures than the same one with a dead
   voter, and who is silent may come back with data that nobody else has.
4. Enough voters, at an odd number: two bear no more failures than one.
5. As many learners as votes are missing: the members that have been alive for longest.

A step that takes a voter away is taken only while those who stay answer and are a majority of what
stays, so that it can be committed; a minority commits nothing in any case.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from muster_protocol.raftguard.electorate import (
    promoted,
    with_barred,
    with_size,
    without,
)
from muster_protocol.types import NodeId
from muster_protocol.wire.raft import Configuration

SIZES: Final = (1, 3, 5, 7)
"""How many may vote. An even number bears no more failures than the odd one below."""

ANSWERING_S: Final = 1.5
"""A follower that answered so lately is there: some heartbeats."""

LEVEL_ENTRIES: Final = 64
"""A learner that lacks no more has the log: under load nobody has the very last entries."""

REPLACE_S: Final = 300.0
"""A voter that is silent for so long is replaced, if nothing else is configured: longer than a host
needs to start again with its checks, shorter than an operator needs to get up at night."""

LEARNER_GONE_S: Final = 60.0
"""A learner that is silent for so long gives way to another one."""

SETTLED_S: Final = 3.0
"""How long a member must have been alive to be worth a journal."""

NOT_AGAIN_S: Final = 5.0
"""A member that could not be enlisted is left alone for so long."""

LEAVING_S: Final = 60.0
"""Who said that it leaves is given no seat for so long; by then the members know it is gone."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A member of the cluster, as the membership shows it. `since`: when it came alive."""

    is_alive: bool
    since: float
    has_left: bool = False


@dataclass(frozen=True, slots=True)
class View:
    """What a leader knows. `answers`: of each follower, up to where it has the log, and when it
    answered last; `last_index` is the end of the leader's own log."""

    members: Mapping[NodeId, Candidate]
    answers: Mapping[NodeId, tuple[int, float | None]]
    last_index: int
    now: float


@dataclass(frozen=True, slots=True)
class Change:
    """Propose this electorate."""

    wanted: Configuration


@dataclass(frozen=True, slots=True)
class Enlist:
    """Ask this member to make a journal; then propose it as a learner."""

    node: NodeId


@dataclass(frozen=True, slots=True)
class HandOver:
    """Let another voter lead; it goes on."""


Step = Change | Enlist | HandOver


class Steward:
    """Of one leader, while it leads."""

    def __init__(self, *, me: NodeId, size: int, replace_after_s: float, now: float) -> None:
        """`size`: how many should vote where the electorate does not say it yet, 0 for as many as
        do, and three at least."""
        self._me = me
        self._size = size
        self._replace_after_s = replace_after_s
        self._led_since = now
        self._not_before: dict[NodeId, float] = {}
        self._leaving: dict[NodeId, float] = {}
        self._asked_for: list[NodeId] = []

    # --- what the shell tells ---------------------------------------------------------------

    def could_not_enlist(self, node: NodeId, now: float) -> None:
        """It has a journal that it must forget first, or does not answer."""
        self._not_before[node] = now + NOT_AGAIN_S

    def leaves(self, node: NodeId, now: float) -> None:
        """It has said so."""
        self._leaving[node] = now + LEAVING_S

    def ask_for(self, node: NodeId) -> None:
        """If a seat is free, it is for this member."""
        self._leaving.pop(node, None)
        if node not in self._asked_for:
            self._asked_for.append(node)

    # --- the decision -----------------------------------------------------------------------

    def decide(self, held: Configuration, view: View) -> Step | None:
        """The next step from this electorate, which is committed; None if all is well."""
        self._forget(held, view)
        if not held.size:
            return Change(with_size(held, self._size or self._odd(len(held.voters))))
        for look in (
            self._unwanted_voter,
            self._surplus_voter,
            self._dead_voter,
            self._unwanted_learner,
            self._promotion,
            self._enlisting,
            self._unbarring,
        ):
            step = look(held, view)
            if step is not None:
                return step
        return None

    def may_remove(self, held: Configuration, node: NodeId, view: View) -> bool:
        """Are those who stay there, so that its removal can be committed?"""
        stays = without(held, node)
        there = sum(
            voter.node == self._me or self._answers(NodeId(voter.node), view)
            for voter in stays.voters
        )
        return bool(stays.voters) and there >= stays.majority

    def has_room(self, held: Configuration, view: View) -> bool:
        """Is there a free seat, or one of a dead voter?"""
        return self._missing(held, view) > 0

    def _forget(self, held: Configuration, view: View) -> None:
        self._not_before = {n: at for n, at in self._not_before.items() if at > view.now}
        self._leaving = {n: until for n, until in self._leaving.items() if until > view.now}
        self._asked_for = [
            node
            for node in self._asked_for
            if node in view.members and not held.is_voter(node) and node not in held.barred
        ]

    def _unwanted_voter(self, held: Configuration, view: View) -> Step | None:
        for voter in held.voters:
            node = NodeId(voter.node)
            if not self._must_go(held, node, view):
                continue
            if node == self._me:
                if any(self._answers(NodeId(other.node), view) for other in held.voters):
                    return HandOver()
            elif self.may_remove(held, node, view):
                return Change(without(held, node))
        return None

    def _surplus_voter(self, held: Configuration, view: View) -> Step | None:
        if len(held.voters) <= held.size:
            return None
        others = [NodeId(voter.node) for voter in held.voters if voter.node != self._me]
        others.sort(key=lambda node: (self._answers(node, view), self._age(node, view), node))
        for node in others:
            if self.may_remove(held, node, view):
                return Change(without(held, node))
        return None

    def _dead_voter(self, held: Configuration, view: View) -> Step | None:
        if not self._level(held, view):
            return None
        for node in self._dead(held, view):
            if self.may_remove(held, node, view):
                return Change(without(held, node))
        return None

    def _unwanted_learner(self, held: Configuration, view: View) -> Step | None:
        wanted = self._missing(held, view)
        learners = self._by_preference(NodeId(seat.node) for seat in held.learners)
        for place, node in enumerate(learners):
            is_gone = self._silent_s(node, view) >= LEARNER_GONE_S
            if is_gone or place == wanted or self._must_go(held, node, view):
                self._not_before[node] = view.now + NOT_AGAIN_S
                return Change(without(held, node))
        return None

    def _promotion(self, held: Configuration, view: View) -> Step | None:
        room = held.size - len(held.voters)
        level = self._level(held, view)
        is_odd_with_it = len(held.voters) % 2 == 0
        if level and room and (is_odd_with_it or min(len(level), room) >= 2):
            return Change(promoted(held, level[0]))
        return None

    def _enlisting(self, held: Configuration, view: View) -> Step | None:
        if len(held.learners) >= self._missing(held, view):
            return None
        free = [node for node in view.members if self._may_learn(held, node, view)]
        free.sort(key=lambda node: (view.members[node].since, node))
        for node in self._by_preference(free):
            return Enlist(node)
        return None

    def _unbarring(self, held: Configuration, view: View) -> Step | None:
        known = [node for node in held.barred if node in view.members]
        return Change(with_barred(held, known)) if len(known) < len(held.barred) else None

    # --- small questions --------------------------------------------------------------------

    def _must_go(self, held: Configuration, node: NodeId, view: View) -> bool:
        member = view.members.get(node)
        has_left = member is not None and member.has_left
        return has_left or node in held.barred or node in self._leaving

    def _may_learn(self, held: Configuration, node: NodeId, view: View) -> bool:
        member = view.members[node]
        is_settled = member.is_alive and view.now >= member.since + SETTLED_S
        is_free = held.seat(node) is None and node not in self._not_before
        return is_settled and is_free and not self._must_go(held, node, view)

    def _by_preference(self, nodes: Iterable[NodeId]) -> list[NodeId]:
        """Those first that were asked for."""
        return sorted(nodes, key=lambda node: node not in self._asked_for)

    def _missing(self, held: Configuration, view: View) -> int:
        """Learners that may become voters: for free seats and for those of the dead."""
        return max(0, held.size - len(held.voters) + len(self._dead(held, view)))

    def _dead(self, held: Configuration, view: View) -> list[NodeId]:
        others = (NodeId(voter.node) for voter in held.voters if voter.node != self._me)
        return [node for node in others if self._silent_s(node, view) >= self._replace_after_s]

    def _level(self, held: Configuration, view: View) -> list[NodeId]:
        """Learners that have the log and answer."""
        learners = (NodeId(seat.node) for seat in held.learners)
        return [
            node
            for node in self._by_preference(learners)
            if self._answers(node, view)
            and view.answers[node][0] >= max(held.index, view.last_index - LEVEL_ENTRIES)
        ]

    def _answers(self, node: NodeId, view: View) -> bool:
        _, at = view.answers.get(node, (0, None))
        return at is not None and view.now - at <= ANSWERING_S

    def _silent_s(self, node: NodeId, view: View) -> float:
        """Since its last answer, or since we lead."""
        _, at = view.answers.get(node, (0, None))
        return view.now - max(self._led_since, at if at is not None else self._led_since)

    def _age(self, node: NodeId, view: View) -> float:
        """Who came last goes first."""
        member = view.members.get(node)
        return -member.since if member is not None else float("-inf")

    def _odd(self, voters: int) -> int:
        return next((size for size in SIZES[1:] if size >= voters), SIZES[-1])


def removed(held: Configuration, node: NodeId) -> Configuration:
    """Without a seat for `node`, and none to come."""
    return with_barred(without(held, node), {*held.barred, node})


def admitted(held: Configuration, node: NodeId) -> Configuration:
    """`node` may have a seat again."""
    return with_barred(held, {*held.barred} - {node})
