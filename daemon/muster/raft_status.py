"""The answer to `muster raft`: this node's view of the log and of the voters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from muster_protocol.raftguard.events import Role
from muster_protocol.session.methods import RaftResult, VoterRow
from muster_protocol.types import NodeId

if TYPE_CHECKING:
    from muster.agents.consistency.agent import ConsistencyManager
    from muster.agents.consistency.voter import Voter
    from muster.clock import Clock
    from muster_protocol.membership.member import MemberView


def raft_result(
    consistency: ConsistencyManager, members: Sequence[MemberView], me: NodeId, clock: Clock
) -> RaftResult:
    """What this node knows; a node without a seat knows only who has one."""
    names = {member.id: member.name for member in members}
    leader = consistency.leader()
    voter = consistency.voter
    if voter is None:
        evidence, held = consistency.evidence(), consistency.configuration
        rows = [
            _row(
                node,
                names,
                leader,
                me,
                connected=node in evidence.reachable,
                is_witness=held is not None and node == held.witness,
            )
            for node in evidence.voters
        ]
        return _without_voter(consistency, me, names, rows)
    statistics = voter.core.guard.statistics()
    manifest = voter.journal.manifest
    return RaftResult(
        node=me,
        is_voter=consistency.is_voter,
        role=consistency.role,
        leader=leader or "",
        leader_name=names.get(leader, "") if leader else "",
        term=voter.core.term,
        first_index=voter.journal.first_index,
        last_index=voter.journal.last_index,
        durable_index=voter.journal.durable_index,
        commit_index=voter.journal.commit_index,
        applied_index=voter.core.applied_index,
        revision=voter.replica.registry.revision,
        keys=len(voter.replica.registry),
        state_fingerprint=voter.replica.registry.fingerprint().hex(),
        snapshot_index=manifest.last.index if manifest else 0,
        journal_bytes=voter.journal.bytes_on_disk,
        voters=_voter_rows(voter, names, leader, me, clock),
        elections_won=statistics.elections_won,
        campaigns=statistics.campaigns,
        dropped=dict(statistics.dropped),
        voting_suspended=consistency.suspended,
        states_agree_up_to=voter.divergence.agreed_index,
        states_diverged=[names.get(node, node) for node in voter.divergence.diverged],
        voters_wanted=voter.configuration.size,
        barred=[names.get(NodeId(node), node) for node in voter.configuration.barred],
        is_changing=voter.configuration.index > voter.journal.commit_index,
        witness_called=voter.core.guard.is_witness_called,
    )


def _voter_rows(
    voter: Voter, names: dict[NodeId, str], leader: NodeId | None, me: NodeId, clock: Clock
) -> list[VoterRow]:
    guard, now = voter.core.guard, clock.now()
    connected = {*guard.peers.followers(), *guard.connected()}
    answers, witness = guard.acknowledged(), voter.configuration.witness
    rows = []
    for seat in voter.configuration.seats:
        node = NodeId(seat.node)
        acknowledged, answered_at = answers.get(node, (voter.journal.durable_index, now))
        leads = voter.core.role is Role.LEADER
        has_log = leads and node != witness
        rows.append(
            _row(
                node,
                names,
                leader,
                me,
                connected=node == me or node in connected,
                votes=voter.configuration.is_voter(node),
                is_witness=node == witness,
                acknowledged=acknowledged if has_log else None,
                lag=voter.journal.last_index - acknowledged if has_log else None,
                answer_age_s=now - answered_at if leads and answered_at is not None else None,
            )
        )
    return rows


def _row(
    node: NodeId,
    names: dict[NodeId, str],
    leader: NodeId | None,
    me: NodeId,
    *,
    connected: bool,
    votes: bool = True,
    is_witness: bool = False,
    acknowledged: int | None = None,
    lag: int | None = None,
    answer_age_s: float | None = None,
) -> VoterRow:
    return VoterRow(
        id=node,
        name=names.get(node, ""),
        role=_role(votes=votes, leads=node == leader, is_witness=is_witness),
        is_me=node == me,
        connected=connected,
        acknowledged_index=acknowledged,
        lag=lag,
        answer_age_s=answer_age_s,
    )


def _role(*, votes: bool, leads: bool, is_witness: bool) -> str:
    if is_witness or not votes:
        return "witness" if is_witness else "learner"
    return "leader" if leads else "voter"


def _without_voter(
    consistency: ConsistencyManager, me: NodeId, names: dict[NodeId, str], rows: list[VoterRow]
) -> RaftResult:
    leader, held = consistency.leader(), consistency.configuration
    promises = consistency.promises
    return RaftResult(
        node=me,
        is_voter=consistency.is_voter,
        role=consistency.role,
        leader=leader or "",
        leader_name=names.get(leader, "") if leader else "",
        term=consistency.term,
        first_index=0,
        last_index=0,
        durable_index=0,
        commit_index=0,
        applied_index=0,
        revision=0,
        keys=0,
        state_fingerprint="",
        snapshot_index=0,
        journal_bytes=0,
        voters=rows,
        elections_won=0,
        campaigns=0,
        dropped={},
        voters_wanted=held.size if held is not None else 0,
        barred=[names.get(NodeId(node), node) for node in held.barred] if held is not None else [],
        mark_index=promises.mark_index if promises is not None else 0,
        voting_suspended=consistency.suspended,
    )
