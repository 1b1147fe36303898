"""Looks at running nodes and tells the checkers what it sees.

Whole nodes are looked at a few times in a second of virtual time, which costs nothing that they
could notice; what lasts for less than that and must be seen (who became leader) comes from what
nodes log.
"""

from __future__ import annotations

from typing import Any, Final

import trio

from muster.agents.failure import FailureDetector
from muster.sim.checkers.bounds import within_bounds
from muster.sim.checkers.fence import MinorityFence
from muster.sim.checkers.membership import (
    MembershipViews,
    accused_with_input_unread,
    converged,
)
from muster.sim.checkers.model import StoreModel
from muster.sim.checkers.raft import CommittedPrefixes, ElectionSafety
from muster.sim.checkers.storage import AcknowledgedWrites, same_state
from muster.sim.checkers.violated import Violated
from muster.sim.cluster import Life, SimCluster, SimNode
from muster.sim.sizes import sizes_of_node, sizes_of_voter
from muster_protocol.consistency.commands import decode_batch
from muster_protocol.effects import Notify
from muster_protocol.membership.suspicion import SILENT
from muster_protocol.raftguard.events import Role
from muster_protocol.raftguard.translation import batch_of

LOOK_S: Final = 0.2
"""Between two looks: a fifth of an election time-out."""

SIZES_EVERY: Final = 5
"""Looks, from one count of a node's sizes to the next. They take turns. What passes a limit and
has no end is there a second later too, and counting was a tenth of an idle run."""

ACCUSATIONS: Final = ("membership.suspicion.raised", "membership.member.failed")
"""What a node says when one of its own timers ends in an accusation."""

FAILURES: Final = ("agent.failed", "agent.parked")
"""What a supervisor says of an agent that raised. No fault of ours makes one: disks that fail end
the node."""


class Watch:
    """All checkers of one run, and where they get their facts."""

    def __init__(self, cluster: SimCluster) -> None:
        self._cluster = cluster
        self.elections = ElectionSafety()
        self.prefixes = CommittedPrefixes()
        self.views = MembershipViews()
        self.acknowledged = AcknowledgedWrites()
        self.fence = MinorityFence()
        self.failed_alive = 0
        """How often somebody was taken for failed whose process ran."""
        self._found: list[Violated] = []
        self._log: dict[int, bytes] = {}
        self._looks = 0

    def note(self, sim: SimNode, note: Notify) -> None:
        """A node logged something. What is wrong with it is raised by the next `look`: here it
        would end the agent that logged, whose supervisor takes that for a bug and restarts it."""
        try:
            self._check(sim, note)
        except Violated as violated:
            self._found.append(violated)

    def _check(self, sim: SimNode, note: Notify) -> None:
        if note.event == "raft.role.changed" and note.fields["role"] == "leader":
            self.elections.leads(sim.name, note.fields["term"])
        elif note.event in ACCUSATIONS and note.fields["reason"] == SILENT:
            accused_with_input_unread(sim.name, note.fields["name"], self._unread(sim))
        if note.event == "membership.member.failed":
            self.failed_alive += self._runs(note.fields["name"])
        elif note.event == "raft.state.diverged":
            raise Violated("equal replicas", f"{sim.name} was told of {note.fields}")
        elif note.event in FAILURES:
            told = f"{note.fields['agent']} of {sim.name} failed: {note.fields['error']}"
            raise Violated("agents", told)

    def _runs(self, name: str) -> bool:
        return any(sim.name == name and sim.life is Life.RUNNING for sim in self._cluster.nodes)

    def _unread(self, sim: SimNode) -> int:
        """Packets that have arrived, and events that wait, at the failure detector."""
        parts = sim.running.parts
        assert parts is not None
        arrived = self._cluster.fabric.mailbox(parts.address).arrived(trio.current_time())
        driver = parts.supervisor.host(FailureDetector.name).statistics().driver
        return arrived + driver.inbox_length

    def look(self) -> None:
        """Errors: Violated."""
        if self._found:
            raise self._found[0]
        self._looks += 1
        self._look_at_sides()
        for turn, sim in enumerate(self._cluster.nodes, start=self._looks):
            voter = voter_of(sim)
            if voter is not None:
                self._look_at_voter(sim, voter)
            if not _is_off(sim):
                self._look_at_members(sim)
            if turn % SIZES_EVERY == 0:
                _check_sizes(sim, voter)

    def _look_at_sides(self) -> None:
        """Which voter cannot reach a majority of the voters it knows of, and acts all the same?"""
        now = trio.current_time()
        for sim in self._cluster.nodes:
            consistency = None if _is_off(sim) else sim.agents.consistency
            if consistency is None or not consistency.is_voter:
                self.fence.pauses(sim.name)
                continue
            held = consistency.configuration
            there = (other for other in self._cluster.nodes if not _is_off(other))
            voters = [other for other in there if held.is_voter(other.me)]
            reached = sum(other is sim or self._is_in_reach(sim, other) for other in voters)
            is_minority = reached < held.majority
            may_act = sim.running.verdict().may_act
            self.fence.sees(sim.name, now, is_minority=is_minority, may_act=may_act)

    def _is_in_reach(self, sim: SimNode, other: SimNode) -> bool:
        """Neither gone, nor behind a cut of either way, which is enough to break all streams."""
        here, there, fabric = sim.host.ip, other.host.ip, self._cluster.fabric
        is_cut = fabric.is_cut(here, there) or fabric.is_cut(there, here)
        return other.is_up and other.life is not Life.PAUSED and not is_cut

    def _look_at_voter(self, sim: SimNode, voter: Any) -> None:
        if voter.core.role is Role.LEADER:
            self.elections.leads(sim.name, voter.core.term)
        journal, life = voter.journal, voter.proposals.origin
        first = max(self.prefixes.next_index(life), journal.first_index)
        self.prefixes.commit_index(sim.name, life, journal.commit_index)
        for index in range(first, journal.commit_index + 1):
            entry = journal.entry_at(index)
            self.prefixes.committed(sim.name, index, entry.term, entry.command)
            self._log[index] = entry.command

    def _look_at_members(self, sim: SimNode) -> None:
        failure = sim.agents.failure
        if failure is None:
            return
        for view in failure.swim.members():
            state = view.state.name.lower()
            self.views.sees(sim.name, failure.swim, view.name, view.incarnation, state)

    # --- after the faults -----------------------------------------------------------------------

    def not_recovered(self) -> list[str]:
        """What is still missing until the cluster is as before, one line each."""
        cluster = self._cluster
        off = [f"{sim.name} {sim.life}: {sim.ended_why}" for sim in cluster.nodes if _is_off(sim)]
        if off:
            return off
        if cluster.leader() is None:
            return ["there is no leader whom all follow", *map(_standing, cluster.nodes)]
        views = {
            sim.name: {view.name: view.state.name.lower() for view in sim.running.members()}
            for sim in cluster.nodes
        }
        fenced = [sim for sim in cluster.nodes if not sim.running.verdict().may_act]
        return [
            *converged(views),
            *(f"{sim.name} may not act: {sim.running.verdict().reason}" for sim in fenced),
        ]

    def is_quiet(self) -> bool:
        """Have all voters applied the same?"""
        applied = [(v.core.applied_index, v.journal.last_index) for v in self._voters().values()]
        return len(frozenset(applied)) == 1 and applied[0][0] == applied[0][1]

    def check_state(self) -> None:
        """At quiescence. Errors: Violated."""
        self.look()  # what was committed since the last look belongs to the log too
        voters, model = self._voters(), self._model()
        same_state({name: v.replica.registry.digest() for name, v in voters.items()})
        for name, voter in voters.items():
            registry = voter.replica.registry
            entries = {
                key: (entry.revision, entry.value)
                for key, entry in registry.capture().entries.items()
            }
            self.acknowledged.final(name, registry.revision, entries)
            model.compare(name, registry.revision, entries)

    def _model(self) -> StoreModel:
        """What the committed log makes."""
        model = StoreModel()
        for index in range(1, max(self._log) + 1):
            batch = batch_of(self._log[index])
            for command in decode_batch(batch).commands if batch is not None else ():
                model.apply(command)
        return model

    def _voters(self) -> dict[str, Any]:
        found = ((sim.name, voter_of(sim)) for sim in self._cluster.nodes)
        return {name: voter for name, voter in found if voter is not None}


def voter_of(sim: SimNode) -> Any:
    """The running voter of a node, or None."""
    parts = sim.node.parts if sim.is_up and sim.node is not None else None
    consistency = parts.agents.consistency if parts is not None else None
    return consistency.voter if consistency is not None else None


def _standing(sim: SimNode) -> str:
    """What keeps it from acting, if anything does."""
    verdict, consistency = sim.running.verdict(), sim.agents.consistency
    is_founding = consistency is not None and not consistency.cluster
    return f"{sim.name}: {consistency.founding_hint() if is_founding else verdict.reason}"


def _check_sizes(sim: SimNode, voter: Any) -> None:
    """Errors: Violated."""
    if voter is not None:
        within_bounds(sim.name, sizes_of_voter(voter))
    if not _is_off(sim):
        within_bounds(sim.name, sizes_of_node(sim.running))


def _is_off(sim: SimNode) -> bool:
    return sim.life is not Life.RUNNING or sim.node is None or sim.node.parts is None
