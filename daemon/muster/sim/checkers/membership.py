"""What gossip must not get wrong.

* **Incarnations** of a member, as one observer sees them, never go back within the observer's life.
* **No resurrection**: who was seen failed, stopped or left at an incarnation is seen alive again
  only at a higher one, which only the member itself can make.
* **Input before timers**: nobody is accused of silence while there is input that was not read: the
  answer may be in it. That is the driver's promise; a loop that was late breaks it first.
* **Convergence**: after the faults have ended, all see all alive that run, and nobody else.

Accuracy (nobody who runs and can be reached is failed) is not demanded while there are faults: a
cut member *must* be failed. It is counted in the experiments.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping

from muster.sim.checkers.violated import Violated

ALIVE, SUSPECT = "alive", "suspect"


class MembershipViews:
    """What each life of each observer has seen."""

    def __init__(self) -> None:
        self._seen: dict[tuple[Hashable, str], tuple[int, str]] = {}

    def sees(
        self, observer: str, life: Hashable, member: str, incarnation: int, state: str
    ) -> None:
        """Errors: Violated."""
        before = self._seen.get((life, member))
        self._seen[life, member] = (incarnation, state)
        if before is None:
            return
        if incarnation < before[0]:
            raise Violated(
                "incarnations",
                f"{observer} saw {member} at incarnation {before[0]}, then at {incarnation}",
            )
        was_gone = before[1] not in (ALIVE, SUSPECT)
        if was_gone and state in (ALIVE, SUSPECT) and incarnation == before[0]:
            raise Violated(
                "no resurrection",
                f"{observer} saw {member} {before[1]} and then {state}, both at {incarnation}",
            )


def accused_with_input_unread(observer: str, member: str, unread: int) -> None:
    """`unread`: packets that `observer` could have read when it accused. Errors: Violated."""
    if unread:
        raise Violated(
            "input before timers", f"{observer} accused {member} with {unread} packets unread"
        )


def converged(views: Mapping[str, Mapping[str, str]]) -> list[str]:
    """`views`: observer -> member -> state, of all that run. What still differs, one line each."""
    missing = [
        f"{observer} sees {member} {states.get(member, 'not at all')}"
        for observer, states in views.items()
        for member in views
        if states.get(member) != ALIVE
    ]
    ghosts = [
        f"{observer} sees {member} {state}, and there is no such node"
        for observer, states in views.items()
        for member, state in states.items()
        if member not in views and state in (ALIVE, SUSPECT)
    ]
    return missing + ghosts
