"""The verdict: how is this node, and what should be done about it, in one look.

`HEALTHY`: quorate, a leader is known, nothing is wrong. `DEGRADED`: it works, and something should
be looked at. `NOT QUORATE`: strong writes and linearizable reads are refused here. `FOUNDING`:
there is no cluster yet. The first problem is the reason; each names the next command.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from muster import __version__
from muster.agents.consistency.fence import NOBODY_YET
from muster.runtime.host import HostState
from muster_protocol.partition.quorum import Standing
from muster_protocol.session.methods import Problem, StatusResult
from muster_protocol.wire.membership import MemberState

if TYPE_CHECKING:
    from muster.node import Node

VERDICTS = {
    Standing.FOUNDING: "FOUNDING",
    Standing.MINORITY: "NOT QUORATE",
    Standing.ELECTING: "NOT QUORATE",
}


def status_of(node: Node) -> StatusResult:
    """The answer to `muster status`."""
    parts = node.parts
    assert parts is not None
    consistency, verdict = parts.agents.consistency, node.verdict()
    problems = _problems(node)
    standing = verdict.standing if consistency is not None else Standing.QUORATE
    word = VERDICTS.get(standing, "DEGRADED" if problems else "HEALTHY")
    if standing is Standing.FOUNDING and node.place.cluster:
        word = "NOT QUORATE"
    members = node.members()
    names = {member.id: member.name for member in members}
    leader = consistency.leader() if consistency is not None else None
    voter = consistency.voter if consistency is not None else None
    supervised = parts.supervisor.statistics()
    return StatusResult(
        verdict=word,
        reason=problems[0].what if problems else verdict.reason,
        problems=problems,
        node=parts.me,
        name=node.name,
        cluster=node.place.cluster,
        label=node.config.cluster.label,
        address=str(parts.address),
        uptime_s=node.world.clock.now() - node.started_at,
        build=__version__,
        members_alive=sum(member.state is MemberState.ALIVE for member in members),
        members_total=sum(member.state is not MemberState.LEFT for member in members),
        voters_reachable=verdict.reachable,
        voters_total=verdict.voters,
        is_voter=consistency is not None and consistency.is_voter,
        role=consistency.role if consistency is not None else "member",
        leader=leader or "",
        leader_name=names.get(leader, "") if leader else "",
        term=consistency.term if consistency is not None else 0,
        commit_index=voter.journal.commit_index if voter is not None else 0,
        applied_index=voter.core.applied_index if voter is not None else 0,
        standing=standing.value,
        agents_running=sum(child.state is HostState.RUNNING for child in supervised),
        agents_total=len(supervised),
        keys=len(voter.replica.registry) if voter is not None else 0,
    )


SILENT_S: Final = 10.0
"""Some times what a restart takes, from the first packet to the first answer to a leader."""

WITNESS_CALLED: Final = (
    "what is written now is on fewer disks than usual: another node is away or behind, and the "
    "witness votes in its place"
)


def _problems(node: Node) -> list[Problem]:
    """What is wrong, the worst first."""
    return [
        *_quorum_problems(node),
        *_seat_problems(node),
        *_identity_problems(node),
        *_agent_problems(node),
        *_member_problems(node),
    ]


def _quorum_problems(node: Node) -> list[Problem]:
    assert node.parts is not None
    consistency, verdict = node.parts.agents.consistency, node.verdict()
    if consistency is None:
        return []
    if node.parts.streams.superseded:
        return [Problem(what=node.parts.streams.superseded, next="muster raft recover --help")]
    if verdict.standing is Standing.FOUNDING:
        what = NOBODY_YET if node.place.cluster else consistency.founding_hint()
        return [Problem(what=what, next="muster members")]
    if verdict.standing is Standing.MINORITY:
        return [Problem(what=verdict.reason, next="muster partition")]
    if verdict.standing is Standing.ELECTING:
        return [Problem(what=verdict.reason, next="muster raft")]
    return []


def _seat_problems(node: Node) -> list[Problem]:
    """What a leader knows of the seats: who is there and does not answer has perhaps lost the
    journal, or the promises, that the seat belongs to."""
    assert node.parts is not None
    consistency = node.parts.agents.consistency
    if consistency is None or consistency.voter is None or not consistency.leads():
        return []
    guard, now = consistency.voter.core.guard, node.world.clock.now()
    problems = []
    if guard.is_witness_called:
        problems.append(Problem(what=WITNESS_CALLED, next="muster raft"))
    settled = {
        member.id: member.name
        for member in node.members()
        if member.state is MemberState.ALIVE and now - member.since >= SILENT_S
    }
    for seat, (_, answered_at) in guard.acknowledged().items():
        is_silent = answered_at is None or now - answered_at >= SILENT_S
        if is_silent and seat in settled:
            what = f"{settled[seat]} is alive, and does not answer in its seat"
            problems.append(Problem(what=what, next=f"muster raft remove {settled[seat]}"))
    return problems


def _identity_problems(node: Node) -> list[Problem]:
    assert node.parts is not None
    agents = node.parts.agents
    if agents.failure is not None and agents.failure.swim.identity_conflict:
        return [
            Problem(
                what="this node's id is alive elsewhere too: it does not vote",
                next="stop one of the two, move its state directory away, start it again",
            )
        ]
    return []


def _agent_problems(node: Node) -> list[Problem]:
    assert node.parts is not None
    return [
        Problem(
            what=f"agent {child.name} is {child.state.value}: {child.last_error}",
            next=f"muster agents unpark {child.name}"
            if child.state is HostState.PARKED
            else "muster agents",
        )
        for child in node.parts.supervisor.statistics()
        if child.state in (HostState.PARKED, HostState.BACKING_OFF)
    ]


def _member_problems(node: Node) -> list[Problem]:
    bad = (MemberState.SUSPECT, MemberState.FAILED, MemberState.STOPPED)
    problems = [
        Problem(what=f"{member.name} is {member.state.name.lower()}", next="muster members")
        for member in node.members()
        if member.state in bad
    ]
    names: dict[str, int] = {}
    for member in node.members():
        if member.state is not MemberState.LEFT:
            names[member.name] = names.get(member.name, 0) + 1
    problems += [
        Problem(what=f"{count} members are called {name}", next="muster members")
        for name, count in names.items()
        if count > 1
    ]
    return problems
