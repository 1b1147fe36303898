"""Whether a voter without a link counts as reachable: it may be about to be dialled.

Links end for good reasons too, and a node that starts is alive by gossip before there is a link.
Without some patience, a leader's death in that second would make a survivor refuse although the
other one is there. With too much, a minority acts: so hope has an end.
"""

from __future__ import annotations

from typing import Final

from muster_protocol.types import NodeId

LINK_GRACE_S: Final = 3.0
"""How long a voter that gossip shows as (again) alive counts as reachable before there is a link: a
restarted node is dialled within a second."""

RELINK_GRACE_S: Final = 0.5
"""How long a voter whose link just ended, and whom gossip shows alive, still counts as reachable:
time to dial it again (a removed secret closes all links at once)."""

HOPE_AGAIN_S: Final = 30.0
"""A voter that comes alive again and again, and is never reached, is hoped for once in so long: a
cut of one way lets its gossip through."""

NEVER: Final = float("-inf")


class Hopes:
    """Of one voter, for the others."""

    def __init__(self) -> None:
        self._hopes: dict[NodeId, tuple[float, float]] = {}
        """When its link was lost, and since when it is hoped for."""

    def is_coming(self, voter: NodeId, *, lost_at: float, alive_since: float, now: float) -> bool:
        """Was its link lost only now (`NEVER`: there was none), or did it come alive behind that,
        and only now? `alive_since`: as gossip has it."""
        if now - lost_at < RELINK_GRACE_S:
            return True
        if alive_since <= lost_at:
            return False
        lost_before, hoped_since = self._hopes.get(voter, (lost_at, NEVER))
        if lost_before != lost_at or alive_since - hoped_since >= HOPE_AGAIN_S:
            hoped_since = alive_since
            self._hopes[voter] = (lost_at, hoped_since)
        return now - hoped_since < LINK_GRACE_S
