"""What leaves a voter is on its disk, and stays there.

An ack needs its entries and its term on the disk; a vote, or a request for one, its term. (A vote
of an older term was durable before the present term was even begun.) And what a voter has
acknowledged to the leader of a term it holds for as long as it is in that term, across restarts
and snapshots: only another leader may replace it, and that has another term.
"""

from __future__ import annotations

from muster.sim.checkers.violated import Violated
from muster_protocol.raftguard.events import Claim, ClaimKind, LogView


class Claims:
    """What voters have claimed to each other."""

    def __init__(self) -> None:
        self._acknowledged: dict[str, tuple[int, int]] = {}

    def claims(self, node: str, log: LogView, claim: Claim) -> None:
        """`node` says this to the others now. Errors: Violated."""
        is_durable = log.term_is_durable or claim.term < log.current_term
        if claim.kind is ClaimKind.ACK:
            is_durable = log.term_is_durable and claim.index <= log.durable_index
            self._acknowledged[node] = max(
                self._acknowledged.get(node, (0, 0)), (claim.term, claim.index)
            )
        if not is_durable and claim.kind is not ClaimKind.REPLY:
            raise Violated("durability", f"{node} claims {claim.kind} {claim.index}, not durable")

    def holds(self, node: str, log: LogView) -> None:
        """`node` has this log now. Errors: Violated."""
        term, index = self._acknowledged.get(node, (0, 0))
        if term == log.current_term and log.last_index < index:
            raise Violated(
                "durability",
                f"{node} has acknowledged entry {index} in term {term}, and its log ends at "
                f"{log.last_index}",
            )
