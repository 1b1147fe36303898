"""Who should have a seat: what a leader does, step by step, so that enough members vote.

`Steward.decide` looks once a second and names one step at most; the next is named when that one is
committed. What it strives for, in this order:

1. Who has left, or was removed, has no seat. A leader that must go hands over first.
2. No more voters than wanted.
3. A voter that has been silent for long gives its seat to a learner that has the log. Without one
   it keeps the seat: a smaller electorate bears no more failures than the same one with a dead
   voter, and who is silent may come back with data that nobody else has.
4. Enough voters, in steps to odd numbers: two bear no more failures than one.
5. As many learners as votes are missing: the members that have been alive for longest.
6. Where the voters that have the data are even in number and nobody else can be had, a witness
   (`witness`): with it, two bear the loss of one. It goes when they are odd in number again.

A step is taken only if those who answer are a majority of what it makes, so that it can be
committed. An answer from before the step was decided does not count for that (`can_commit`): a node
that has died a moment ago would, and with it the quorum would be gone. A minority commits nothing
in any case.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from muster_protocol.limits import VOTERS_MAX
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
    is_witness: bool = False
    """It can be the witness, and nothing else."""


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
    """Ask this member to make a journal; then propose it as a learner, or as the witness."""

    node: NodeId
    as_witness: bool = False


@dataclass(frozen=True, slots=True)
class HandOver:
    """Let another voter lead, none of `avoid`; it goes on."""

    avoid: tuple[NodeId, ...] = ()


@dataclass(frozen=True, slots=True)
class Wait:
    """Something else has to happen first."""


Step = Change | Enlist | HandOver | Wait


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
        self._leaving[node] = now

    def stays(self, node: NodeId) -> None:
        """It could not leave."""
        self._leaving.pop(node, None)

    def may_be_asked(self, node: NodeId, now: float) -> bool:
        """Has it not just refused?"""
        return now >= self._not_before.get(node, 0.0)

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
            self._witness,
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
        return bool(stays.data_voters) and there >= stays.majority

    def has_room(self, held: Configuration, view: View) -> bool:
        """Is there a free seat, or one of a dead voter?"""
        return self._missing(held, view) > 0

    def _forget(self, held: Configuration, view: View) -> None:
        self._not_before = {n: at for n, at in self._not_before.items() if at > view.now}
        self._leaving = {n: at for n, at in self._leaving.items() if not self._is_over(n, at, view)}
        self._asked_for = [
            node
            for node in self._asked_for
            if node in view.members and not held.is_voter(node) and node not in held.barred
        ]

    def _is_over(self, node: NodeId, left_at: float, view: View) -> bool:
        """It left long ago, or is back."""
        member = view.members.get(node)
        is_back = member is not None and member.is_alive and member.since > left_at + SETTLED_S
        return is_back or view.now >= left_at + LEAVING_S

    def _unwanted_voter(self, held: Configuration, view: View) -> Step | None:
        """The leader itself last: who comes after it should find little left to do."""
        unwanted = self.unwanted(held, view)
        for node in unwanted:
            if node != self._me and self.may_remove(held, node, view):
                return Change(without(held, node))
        if self._me in unwanted and self.has_successor(held, view):
            return HandOver(avoid=unwanted)
        return None

    def others(self, node: NodeId, view: View) -> list[NodeId]:
        """Members beside this one that are there, stay, and can have the data."""
        return [
            other
            for other, member in view.members.items()
            if other != node
            and member.is_alive
            and not member.is_witness
            and other not in self._leaving
        ]

    def unwanted(self, held: Configuration, view: View) -> tuple[NodeId, ...]:
        """Voters that have left, are about to, or were removed."""
        nodes = (NodeId(voter.node) for voter in held.voters)
        return tuple(node for node in nodes if self._must_go(held, node, view))

    def has_successor(self, held: Configuration, view: View) -> bool:
        """Is there another voter that answers, and stays?"""
        unwanted = self.unwanted(held, view)
        others = (NodeId(voter.node) for voter in held.data_voters)
        return any(self._answers(node, view) and node not in unwanted for node in others)

    def _surplus_voter(self, held: Configuration, view: View) -> Step | None:
        """Who answered least lately, and then who came last."""
        if len(held.data_voters) <= held.size:
            return None
        others = [NodeId(voter.node) for voter in held.data_voters if voter.node != self._me]
        others.sort(key=lambda node: (self._answered(node, view), self._age(node, view), node))
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
        unwanted = self.unwanted(held, view)
        staying = sum(voter.node not in unwanted for voter in held.data_voters)
        room = held.size - staying
        level = self._level(held, view)
        becomes_odd = staying % 2 == 0 or min(len(level), room) >= 2
        if not (level and room and (becomes_odd or (room >= 2 and self._has_witness(held, view)))):
            return None
        if len(held.voters) == VOTERS_MAX:
            node = NodeId(held.witness)  # it makes room; who else has to go is removed before this
            may_go = bool(node) and self.may_remove(held, node, view)
            return Change(without(held, node)) if may_go else None
        return Change(promoted(held, level[0]))

    def _enlisting(self, held: Configuration, view: View) -> Step | None:
        if len(held.learners) >= self._missing(held, view):
            return None
        free = [node for node in view.members if self._may_learn(held, node, view)]
        free.sort(key=lambda node: (view.members[node].since, node))
        for node in self._by_preference(free):
            return Enlist(node)
        return None

    def _unbarring(self, held: Configuration, view: View) -> Step | None:
        """Who has left is not coming back. Who is merely not seen keeps its bar: a leader that has
        just started has not heard of everybody yet."""
        members = view.members
        kept = [n for n in held.barred if n not in members or not members[NodeId(n)].has_left]
        return Change(with_barred(held, kept)) if len(kept) < len(held.barred) else None

    def _witness(self, held: Configuration, view: View) -> Step | None:
        if not held.witness:
            free = [node for node in view.members if self._may_witness(held, node, view)]
            free.sort(key=lambda node: (view.members[node].since, node))
            return Enlist(free[0], as_witness=True) if free else None
        node = NodeId(held.witness)
        is_gone = self._silent_s(node, view) >= self._replace_after_s
        others = (other for other in view.members if other != node)
        alone = without(held, node)
        is_replaced = is_gone and any(self._may_witness(alone, other, view) for other in others)
        is_surplus = bool(self.why_no_witness(alone))
        if (is_surplus or is_replaced) and self.may_remove(held, node, view):
            return Change(alone)
        return None

    def why_no_witness(self, held: Configuration) -> str:
        """Why this electorate can do without another witness, in a few words; "" if it cannot."""
        data = len(held.data_voters)
        if held.witness:
            return "there is a witness already"
        if data % 2:
            return f"with {data} voters that have the data, a witness would make none the safer"
        if data >= held.size:
            return f"no more than {held.size} are to vote"
        return ""

    # --- small questions --------------------------------------------------------------------

    def _has_witness(self, held: Configuration, view: View) -> bool:
        """Is there a member that can make an even number of voters odd?"""
        return any(
            member.is_witness and (node == held.witness or self._is_free(held, node, view))
            for node, member in view.members.items()
        )

    def _may_witness(self, held: Configuration, node: NodeId, view: View) -> bool:
        """A learner that is about to vote makes it superfluous."""
        is_free = not held.learners and not self.why_no_witness(held)
        is_one = view.members[node].is_witness and self._is_free(held, node, view)
        return is_free and is_one

    def _must_go(self, held: Configuration, node: NodeId, view: View) -> bool:
        member = view.members.get(node)
        has_left = member is not None and member.has_left
        return has_left or node in held.barred or node in self._leaving

    def _may_learn(self, held: Configuration, node: NodeId, view: View) -> bool:
        return not view.members[node].is_witness and self._is_free(held, node, view)

    def _is_free(self, held: Configuration, node: NodeId, view: View) -> bool:
        """Is it there, without a seat, and may have one?"""
        member = view.members[node]
        is_settled = member.is_alive and view.now >= member.since + SETTLED_S
        is_free = held.seat(node) is None and node not in self._not_before
        return is_settled and is_free and not self._must_go(held, node, view)

    def _by_preference(self, nodes: Iterable[NodeId]) -> list[NodeId]:
        """Those first that were asked for."""
        return sorted(nodes, key=lambda node: node not in self._asked_for)

    def _missing(self, held: Configuration, view: View) -> int:
        """Learners that may become voters: for free seats, and for those of who goes or is dead."""
        going = {*self.unwanted(held, view), *self._dead(held, view)} - {held.witness}
        return max(0, held.size - len(held.data_voters) + len(going))

    def _dead(self, held: Configuration, view: View) -> list[NodeId]:
        others = (NodeId(voter.node) for voter in held.data_voters if voter.node != self._me)
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
        return view.now - self._answered(node, view) <= ANSWERING_S

    def _answered(self, node: NodeId, view: View) -> float:
        _, at = view.answers.get(node, (0, None))
        return at if at is not None else float("-inf")

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


def can_commit(wanted: Configuration, me: NodeId, view: View, *, since: float) -> bool:
    """Has a majority of this electorate, with the leader `me`, answered since then?"""
    there = 0
    for voter in wanted.voters:
        _, at = view.answers.get(NodeId(voter.node), (0, None))
        there += voter.node == me or (at is not None and at > since)
    return there >= wanted.majority
