"""What a member may make of what it is told.

* **Hearsay**: after an update was handled, what is believed of its subject is not older than what
  was said: at least that incarnation, and at that incarnation at least that state, but that a
  failure may be doubted first. The subject itself must have refuted it, by a higher incarnation.
* **Suspicion**: nobody is failed who was not suspected before, at that incarnation and for at least
  half of the shortest time that a suspicion lasts (`Rumours` on premature failures). A running
  timer that is carried over to a higher incarnation breaks this; kinship and DAOS both had that.

Both hold at any moment and under any faults, as long as Lifeguard's suspicion is switched on.
"""

from __future__ import annotations

from collections.abc import Hashable

from muster.sim.checkers.violated import Violated
from muster_protocol.membership.member import Member
from muster_protocol.wire.membership import MemberState

ROUNDING_S = 1e-6


class Hearsay:
    """Compares what was said with what is believed then."""

    def said_of_another(
        self, observer: str, believed: Member, incarnation: int, state: MemberState
    ) -> None:
        """`believed`: of the subject, after it was handled. Errors: Violated."""
        least = MemberState.SUSPECT if state is MemberState.FAILED else state
        if (believed.incarnation, believed.state) < (incarnation, least):
            raise Violated(
                "hearsay",
                f"{observer} was told {_word(incarnation, state)} of {believed.name}, and holds on "
                f"to {_word(believed.incarnation, believed.state)}",
            )

    def said_of_itself(self, me: Member, incarnation: int, state: MemberState) -> None:
        """`me`: what the subject says of itself afterwards. Errors: Violated."""
        is_refuted = me.incarnation > incarnation or me.state >= state
        if me.incarnation < incarnation or not is_refuted:
            raise Violated(
                "hearsay",
                f"{me.name} heard {_word(incarnation, state)} of itself, and says "
                f"{_word(me.incarnation, me.state)}",
            )


class SuspicionTimes:
    """When each life of each observer began to suspect whom, at which incarnation."""

    def __init__(self, *, shortest_s: float) -> None:
        """`shortest_s`: the shortest time that any suspicion may last."""
        self._least_s = shortest_s / 2 - ROUNDING_S
        self._since: dict[tuple[Hashable, str], tuple[int, float]] = {}

    def suspected(self, life: Hashable, member: str, incarnation: int, at: float) -> None:
        """A suspicion began; of an incarnation that is suspected already, it goes on."""
        held = self._since.get((life, member))
        if held is None or held[0] != incarnation:
            self._since[life, member] = (incarnation, at)

    def cleared(self, life: Hashable, member: str) -> None:
        """It was refuted, or the member is gone."""
        self._since.pop((life, member), None)

    def failed(
        self, observer: str, life: Hashable, member: str, incarnation: int, at: float
    ) -> None:
        """Somebody who was present is taken for failed. Errors: Violated."""
        held = self._since.pop((life, member), None)
        if held is None or held[0] != incarnation:
            raise Violated(
                "suspicion", f"{observer} failed {member} at {incarnation} without a suspicion"
            )
        if at - held[1] < self._least_s:
            raise Violated(
                "suspicion",
                f"{observer} failed {member} at {incarnation} {at - held[1]:.3f} s after the "
                f"suspicion began, and at least {self._least_s:.3f} s are due",
            )


def _word(incarnation: int, state: MemberState) -> str:
    return f"{state.name.lower()} at {incarnation}"
