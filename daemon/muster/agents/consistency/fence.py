"""Where this side may not act: refused at once, with the reason."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from muster.agents.consistency.forwarding import RETRY_S
from muster_protocol.errors import OutcomeUnknown, Refused
from muster_protocol.partition.quorum import Standing

if TYPE_CHECKING:
    from muster.agents.consistency.ports import Ports
    from muster.agents.consistency.seat import Seat

TOLD_WITHIN_S: Final = 3.0
"""In which a member that starts is told who votes, if any voter is there: to be seen by gossip
takes a second, and it asks twice a second."""

NOBODY_YET: Final = "no voter of this cluster was reached since the start of this node"
DOWN: Final = "the agent `consistency` does not run here at the moment: see `muster agents`"


class Fence:
    """Of one node, around what its requests may do."""

    def __init__(self, ports: Ports, seat: Seat, *, why_no_cluster: Callable[[], str]) -> None:
        """`why_no_cluster`: in a few words; "" where there is one."""
        self._ports = ports
        self._seat = seat
        self._why_no_cluster = why_no_cluster
        self._clock = ports.world.clock
        self._resumed_at: float | None = None
        self.has_ended = False
        """The agent serves no more."""

    def resumed(self) -> None:
        """The agent knows what an earlier start left behind."""
        self._resumed_at = self._clock.now()

    @property
    def is_resuming(self) -> bool:
        """A node that has just started reads its disk, and if it has no seat asks who votes: it
        does not know yet what to refuse."""
        if self.has_ended:
            return False
        if self._resumed_at is None:
            return True
        is_told = self._seat.committed_configuration is not None or self._why_no_cluster()
        return not is_told and self._clock.now() < self._resumed_at + TOLD_WITHIN_S

    async def until_resumed(self, deadline: float) -> None:
        """Wait for that, but not beyond the deadline."""
        while self.is_resuming and self._clock.now() < deadline:
            await self._clock.sleep(RETRY_S)

    def check(self, *, was_proposed: bool) -> None:
        """Errors: Refused("not-quorate", "down"); OutcomeUnknown instead, if an earlier attempt may
        have done something."""
        verdict, suspended = self._ports.verdict(), self._seat.suspended
        if verdict.may_act and not self.has_ended and not suspended:
            return
        if self.has_ended:
            if was_proposed:
                raise OutcomeUnknown("the agent `consistency` failed meanwhile")
            raise Refused("down", DOWN)
        why = suspended or verdict.reason
        if verdict.standing is Standing.FOUNDING:
            why = NOBODY_YET
        if was_proposed:
            raise OutcomeUnknown(f"the quorum was lost meanwhile: {why}")
        if why_not := self._why_no_cluster():
            raise Refused("not-quorate", f"there is no cluster yet: {why_not}")
        raise Refused("not-quorate", f"not quorate: {why}")
