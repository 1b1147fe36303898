"""The shell of the steward: while this voter leads, it sees to it that enough members vote.

Once a second the pure machine is shown what the leader knows, and its step is carried out; the
requests of operators go the same way. Two steps never meet: each is proposed only while the
electorate is committed, and the guard looks again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Final

import trio

from muster_protocol.effects import Notify
from muster_protocol.errors import OutcomeUnknown, Refused
from muster_protocol.raftguard.electorate import with_learner, with_witness
from muster_protocol.raftguard.events import Role
from muster_protocol.raftguard.seats import TOO_FEW, Seats
from muster_protocol.raftguard.steward import (
    Candidate,
    Change,
    Enlist,
    HandOver,
    Step,
    Steward,
    View,
    can_commit,
)
from muster_protocol.types import NodeId
from muster_protocol.wire.raft import Configuration, Voter
from muster_protocol.wire.seats import EnlistRequest, SeatRequest

if TYPE_CHECKING:
    from muster.agents.consistency.voter import Voter as RunningVoter
    from muster.clock import Clock

LOOK_S: Final = 1.0
"""Between two looks; a seat that is missing for a second more is missed by nobody."""

ANSWER_S: Final = 1.0
"""Within which followers answer that are there: some heartbeats, and a sync."""

STEP_S: Final = 0.05
"""Between two looks of a request: a change is committed in a few milliseconds."""


class Stewardship:
    """Of one voter."""

    def __init__(
        self,
        *,
        voter: RunningVoter,
        clock: Clock,
        size: int,
        replace_after_s: float,
        members: Callable[[], Mapping[NodeId, Candidate]],
        enlist: Callable[[NodeId, EnlistRequest], Awaitable[str]],
        notify: Callable[[Notify], None],
    ) -> None:
        """`enlist` asks a member, and returns the generation of what it made; "" if it has not.
        `size`, `replace_after_s`: as for `Steward`."""
        self._voter = voter
        self._clock = clock
        self._size = size
        self._replace_after_s = replace_after_s
        self._members = members
        self._enlist = enlist
        self._notify = notify
        self._at_work = trio.Lock()
        self._under_way = 0
        """Requests."""
        self._term: int | None = None
        self._steward: Steward
        self._seats: Seats

    async def run(self) -> None:
        """Look, again and again, until cancelled."""
        while True:
            await self._clock.sleep(LOOK_S)
            async with self._at_work:
                if self._may_change():
                    await self._do(self._steward.decide(self._held(), self._view()))

    async def change(self, request: SeatRequest, *, deadline: float) -> None:
        """Carry out what an operator wants; returns when it is committed.

        Errors: UsageError; Refused("not-leader", "conflict"); OutcomeUnknown.
        """
        self._lead()
        if request.what == "transfer":
            if not self._voter.core.guard.peers.connected_replicas():
                raise Refused("conflict", "there is no other voter that could lead")
            self._voter.transfer_leadership()
            return
        seats = self._seats
        self._under_way += 1
        try:
            await self._carry_out(request, deadline)
        except BaseException:
            seats.withdrawn(request)
            raise
        finally:
            self._under_way -= 1
        if request == SeatRequest("leave", self._voter.me):
            await self._until_answered(deadline)

    async def _until_answered(self, deadline: float) -> None:
        """The last one ends when it has its answer, and the others are waiting for theirs."""
        while self._under_way and self._clock.now() < deadline:
            await self._clock.sleep(STEP_S)

    async def _carry_out(self, request: SeatRequest, deadline: float) -> None:
        while True:
            self._lead()
            async with self._at_work:
                if self._may_change():
                    step = self._seats.next_step(request, self._held(), self._view())
                    if step is None:
                        return
                    if not await self._do(step):
                        raise Refused("conflict", TOO_FEW)
            if self._clock.now() >= deadline:
                raise OutcomeUnknown("not known to be committed in time; it is harmless to repeat")
            await self._clock.sleep(STEP_S)

    def _lead(self) -> None:
        """A leader of another term begins anew. Errors: Refused("not-leader")."""
        core = self._voter.core
        if core.role is not Role.LEADER or not self._voter.is_running:
            raise Refused("not-leader", "this node does not lead")
        if self._term != core.term:
            self._term = core.term
            self._steward = Steward(
                me=self._voter.me,
                size=self._size,
                replace_after_s=self._replace_after_s,
                now=self._clock.now(),
            )
            self._seats = Seats(me=self._voter.me, steward=self._steward)

    def _may_change(self) -> bool:
        """Do we lead, and is there no change under way?"""
        try:
            self._lead()
        except Refused:
            return False
        return not self._voter.core.guard.why_not_change(self._held())

    def _held(self) -> Configuration:
        return self._voter.configuration

    def _view(self) -> View:
        return View(
            members=self._members(),
            answers=self._voter.core.guard.acknowledged(),
            last_index=self._voter.journal.last_index,
            now=self._clock.now(),
        )

    async def _do(self, step: Step | None) -> bool:
        """False if it was not even tried, because too few answer."""
        if isinstance(step, Change):
            return await self._change(step.wanted)
        if isinstance(step, HandOver):
            self._voter.transfer_leadership(step.avoid)
        elif isinstance(step, Enlist):
            await self._take_in(step)
        return True

    async def _change(self, wanted: Configuration) -> bool:
        """Propose it once a majority of it has answered from now on, if that comes soon."""
        held, since = self._held(), self._clock.now()
        with self._clock.move_on_after(ANSWER_S):
            while not can_commit(wanted, self._voter.me, self._view(), since=since):
                await self._clock.sleep(STEP_S)
        if not can_commit(wanted, self._voter.me, self._view(), since=since):
            return False
        if self._may_change() and self._held() == held:
            self._propose(wanted)
        return True

    async def _take_in(self, step: Enlist) -> None:
        node = step.node
        generation = await self._enlist(node, EnlistRequest(self._held(), step.as_witness))
        if not self._may_change():
            return
        held = self._held()
        if not generation:
            self._steward.could_not_enlist(node, self._clock.now())
        elif held.seat(node) is None and not step.as_witness:
            await self._change(with_learner(held, Voter(node, generation)))
        elif not self._steward.why_no_witness(held):
            await self._change(with_witness(held, Voter(node, generation)))

    def _propose(self, wanted: Configuration) -> None:
        refusal = self._voter.core.guard.why_not_change(wanted)
        if refusal:
            self._notify(Notify("raft.electorate.refused", fields={"reason": refusal}))
            return
        self._voter.reconfigure(wanted)
