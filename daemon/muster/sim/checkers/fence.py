"""A minority does not act.

A voter that cannot reach a majority of all voters must refuse writes and linearizable reads: they
could only time out. It may take some time to notice, and it may hope for others again: who comes
alive by gossip, which a cut of one way lets through, counts as reachable until there was time to
dial him. That nothing wrong comes of it when it does act is what the other checkers see; here it is
the promise itself.
"""

from __future__ import annotations

from typing import Final

from muster.sim.checkers.violated import Violated

ACTS_S: Final = 8.0
"""At a time: the 3 s of silence after which a link counts as lost, 3 s of hope, and what was under
way when the cut came."""


class MinorityFence:
    """For how long each voter that is on the smaller side has acted there without a pause."""

    def __init__(self) -> None:
        self._since: dict[str, float] = {}

    def sees(self, name: str, now: float, *, is_minority: bool, may_act: bool) -> None:
        """`is_minority`: it cannot reach so many voters that they are a majority with itself. To be
        told a few times in a second. Errors: Violated."""
        if not (is_minority and may_act):
            self._since.pop(name, None)
        elif (acts_s := now - self._since.setdefault(name, now)) > ACTS_S:
            raise Violated("minority", f"{name} acts for {acts_s:.1f} s without a majority")

    def pauses(self, name: str) -> None:
        """It does not run at the moment, and has to notice again."""
        self._since.pop(name, None)
