"""What a node knows about the quorum: who has a seat, who of them is in reach, who leads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from muster.agents.consistency.hopes import NEVER, Hopes
from muster_protocol.partition.quorum import Evidence
from muster_protocol.types import NodeId

if TYPE_CHECKING:
    from muster.agents.consistency.ports import Ports
    from muster.agents.consistency.seat import Seat
    from muster.agents.consistency.voter import Voter

HEARD_WITHIN_S: Final = 1.5
"""A quorum that was heard so lately counts as heard: the leader's own fallback time."""


class QuorumEvidence:
    """As one node sees it."""

    def __init__(self, ports: Ports) -> None:
        self._ports = ports
        self._hopes = Hopes()

    def now(self, seat: Seat | None, leader: NodeId | None) -> Evidence:
        """`seat`: None where this node belongs to no cluster. `leader`: who leads, as it knows."""
        configuration = seat.committed_configuration if seat is not None else None
        if seat is None or configuration is None:
            return Evidence((), (), is_voter=False, hears_quorum=False, leader=None)
        voters = tuple(NodeId(voter.node) for voter in configuration.voters)
        if seat.voter is None and seat.superblock is not None:
            return Evidence(voters, (), is_voter=True, hears_quorum=False, leader=None)
        if seat.voter is None or not seat.is_voter:
            there = list(self._ports.live_voters())
            if seat.witness.is_witness_of(configuration):
                there.append(self._ports.me)
            reachable = tuple(voter for voter in voters if voter in there)
            return Evidence(voters, reachable, is_voter=False, hears_quorum=False, leader=leader)
        guard = seat.voter.core.guard
        there = [*guard.connected(), self._ports.me]
        return Evidence(
            voters,
            tuple(v for v in voters if v in there or self._is_coming(seat.voter, v)),
            is_voter=True,
            hears_quorum=guard.hears_quorum(self._ports.world.clock.now(), HEARD_WITHIN_S),
            leader=guard.leader,
        )

    def _is_coming(self, here: Voter, voter: NodeId) -> bool:
        since, lost_at = self._ports.alive_since(voter), here.links.lost_at.get(voter, NEVER)
        now = self._ports.world.clock.now()
        return since is not None and self._hopes.is_coming(
            voter, lost_at=lost_at, alive_since=since, now=now
        )
