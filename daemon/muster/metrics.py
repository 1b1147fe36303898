"""Prometheus metrics: read from the parts' statistics at the moment of the scrape.

Nothing is counted twice: each part counts for itself (`statistics()`), and this turns the numbers
into families with names, units and help. One registry per node, no module state. A test keeps
`docs/metrics.md` the same as this table.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from muster import __version__
from muster.http import Page, json_page
from muster.runtime.host import HostState
from muster.status import status_of
from muster_protocol.raftguard.events import Role
from muster_protocol.wire.membership import MemberState

if TYPE_CHECKING:
    from muster.agents.consistency.voter import Voter
    from muster.histogram import Histogram
    from muster.node import Node

Sample = tuple[tuple[str, ...], float]


@dataclass(frozen=True, slots=True)
class Family:
    """One metric family: how it is called, what it means, where its samples come from."""

    name: str
    is_counter: bool
    help: str
    labels: tuple[str, ...]
    read: Callable[[Node], Iterable[Sample]]


def _members(node: Node) -> Iterable[Sample]:
    members = node.members()
    for state in MemberState:
        yield (state.name.lower(),), sum(member.state is state for member in members)


def _agents(node: Node) -> Iterable[Sample]:
    assert node.parts is not None
    for child in node.parts.supervisor.statistics():
        yield (child.name,), float(child.state is HostState.RUNNING)


def _restarts(node: Node) -> Iterable[Sample]:
    assert node.parts is not None
    for child in node.parts.supervisor.statistics():
        yield (child.name,), child.restarts


def _hosts(read: Callable[[Any], float]) -> Callable[[Node], Iterable[Sample]]:
    def samples(node: Node) -> Iterable[Sample]:
        assert node.parts is not None
        for child in node.parts.supervisor.statistics():
            if child.host is not None:
                yield (child.name,), read(child.host)

    return samples


def _packets(read: Callable[[Any], float]) -> Callable[[Node], Iterable[Sample]]:
    def samples(node: Node) -> Iterable[Sample]:
        assert node.parts is not None
        yield (), read(node.parts.channel.statistics())

    return samples


def _refused(node: Node) -> Iterable[Sample]:
    assert node.parts is not None
    for cause, count in node.parts.channel.statistics().refused:
        yield ("packet", cause), count
    for cause, count in node.parts.streams.statistics().refused:
        yield ("stream", cause), count


def _voter(read: Callable[[Any], float]) -> Callable[[Node], Iterable[Sample]]:
    def samples(node: Node) -> Iterable[Sample]:
        if (voter := _voter_of(node)) is not None:
            yield (), read(voter)

    return samples


def _voter_of(node: Node) -> Voter | None:
    """The node's voter, while it runs."""
    assert node.parts is not None
    consistency = node.parts.agents.consistency
    return consistency.voter if consistency is not None else None


def _by_cause(read: Callable[[Any], Mapping[str, int]]) -> Callable[[Node], Iterable[Sample]]:
    def samples(node: Node) -> Iterable[Sample]:
        if (voter := _voter_of(node)) is not None:
            for cause, count in read(voter).items():
                yield (cause,), count

    return samples


def _proposals(node: Node) -> Iterable[Sample]:
    if (voter := _voter_of(node)) is not None:
        proposals = voter.proposals
        yield ("committed",), proposals.committed
        yield ("unknown",), proposals.unknown
        yield ("not-leader",), proposals.refused
        yield ("overload",), proposals.overloaded


def _reads(node: Node) -> Iterable[Sample]:
    if (voter := _voter_of(node)) is not None:
        yield ("confirmed",), voter.reads.confirmed
        yield ("not-leader",), voter.reads.refused
        yield ("overload",), voter.reads.overloaded


def _lag_entries(node: Node) -> Iterable[Sample]:
    for name, voter, (acknowledged, _) in _followers(node, with_witness=False):
        yield (name,), voter.journal.last_index - acknowledged


def _answer_age(node: Node) -> Iterable[Sample]:
    for name, _, (_, answered_at) in _followers(node, with_witness=True):
        if answered_at is not None:
            yield (name,), node.world.clock.now() - answered_at


def _followers(
    node: Node, *, with_witness: bool
) -> Iterator[tuple[str, Voter, tuple[int, float | None]]]:
    """On the leader: each follower's name, and what it last acknowledged, and when."""
    voter = _voter_of(node)
    if voter is None or voter.core.role is not Role.LEADER:
        return
    names = {member.id: member.name for member in node.members()}
    for follower, answer in voter.core.guard.acknowledged().items():
        if with_witness or follower != voter.configuration.witness:
            yield names.get(follower, follower), voter, answer


def _vitals(read: Callable[[Any], float]) -> Callable[[Node], Iterable[Sample]]:
    return lambda node: [((), read(node.world.vitals.read()))]


FAMILIES: Final = (
    Family("muster_members", False, "Members by state, as seen from here.", ("state",), _members),
    Family("muster_may_write", False, "1 where this side may act, 0 where it is fenced.", (),
           lambda node: [((), float(node.verdict().may_act))]),
    Family("muster_voters_reachable", False, "Committed voters in reach, this node included.", (),
           lambda node: [((), node.verdict().reachable)]),
    Family("muster_raft_leader", False, "1 on the leader.", (),
           _voter(lambda voter: float(voter.core.role is Role.LEADER))),
    Family("muster_raft_term", False, "Raft term.", (), _voter(lambda voter: voter.core.term)),
    Family("muster_raft_commit_index", False, "Highest committed log index.", (),
           _voter(lambda voter: voter.journal.commit_index)),
    Family("muster_raft_applied_index", False, "Highest applied log index.", (),
           _voter(lambda voter: voter.core.applied_index)),
    Family("muster_raft_durable_index", False, "Highest log index on this disk.", (),
           _voter(lambda voter: voter.journal.durable_index)),
    Family("muster_raft_campaigns", True, "Elections that this node started, by what it missed.",
           ("cause",), _by_cause(lambda voter: voter.core.guard.statistics().campaigns_by_cause)),
    Family("muster_raft_elections_won", True, "Elections that this node won.", (),
           _voter(lambda voter: voter.core.guard.statistics().elections_won)),
    Family("muster_raft_leaderships_lost", True, "How often this node stopped leading, and why.",
           ("cause",), _by_cause(lambda voter: voter.core.guard.statistics().leaderships_lost)),
    Family("muster_raft_follower_lag_entries", False,
           "On the leader: log entries that a follower has not acknowledged.", ("follower",),
           _lag_entries),
    Family("muster_raft_follower_answer_age_seconds", False,
           "On the leader: time since a follower's latest answer.", ("follower",), _answer_age),
    Family("muster_raft_proposals_pending", False, "Commands that wait for their commit.", (),
           _voter(lambda voter: voter.proposals.pending)),
    Family("muster_raft_proposals_pending_bytes", False, "And their size.", (),
           _voter(lambda voter: voter.proposals.pending_bytes)),
    Family("muster_raft_proposals", True, "Commands handed to this voter, by what became of them.",
           ("outcome",), _proposals),
    Family("muster_raft_reads", True, "Linearizable reads of this voter: confirmed, or why not.",
           ("outcome",), _reads),
    Family("muster_raft_reads_waiting", False, "Reads that wait for a majority's word.", (),
           _voter(lambda voter: voter.reads.waiting)),
    Family("muster_raft_voters", False, "Members whose vote counts.", (),
           _voter(lambda voter: len(voter.configuration.voters))),
    Family("muster_raft_voters_wanted", False, "Members that should vote (0: not said yet).", (),
           _voter(lambda voter: voter.configuration.size)),
    Family("muster_raft_learners", False, "Members that get the log and do not vote.", (),
           _voter(lambda voter: len(voter.configuration.learners))),
    Family("muster_raft_witness_called", False,
           "On the leader: 1 while the witness's word stands in for another node's disk.", (),
           _voter(lambda voter: int(voter.core.guard.is_witness_called))),
    Family("muster_raft_states_diverged", False, "Voters known to have another state.", (),
           _voter(lambda voter: len(voter.divergence.diverged))),
    Family("muster_raft_journal_bytes", False, "Journal on this disk, in bytes.", (),
           _voter(lambda voter: voter.journal.bytes_on_disk)),
    Family("muster_raft_journal_commits", True, "Group commits (syncs) of the journal.", (),
           _voter(lambda voter: voter.journal.commits)),
    Family("muster_raft_snapshots_taken", True, "Snapshots that this voter has taken.", (),
           _voter(lambda voter: voter.compaction.taken)),
    Family("muster_raft_snapshots_installed", True, "Snapshots that a leader sent, in force.", (),
           _voter(lambda voter: voter.compaction.installed)),
    Family("muster_store_keys", False, "Keys in the replicated store.", (),
           _voter(lambda voter: len(voter.replica.registry))),
    Family("muster_agent_running", False, "1 for an agent that runs.", ("agent",), _agents),
    Family("muster_agent_restarts", True, "Restarts of an agent.", ("agent",), _restarts),
    Family("muster_agent_events", True, "Events that an agent handled.", ("agent",),
           _hosts(lambda host: host.driver.events_handled)),
    Family("muster_agent_events_dropped", True, "Events that a full mailbox lost.", ("agent",),
           _hosts(lambda host: host.driver.events_dropped)),
    Family("muster_agent_lag_seconds", False, "How late the last deadline fired.", ("agent",),
           _hosts(lambda host: host.driver.lag_last_s)),
    Family("muster_packets_sent", True, "Packets sent.", (),
           _packets(lambda packets: packets.packets_sent)),
    Family("muster_packets_received", True, "Packets received.", (),
           _packets(lambda packets: packets.packets_received)),
    Family("muster_packet_sent_bytes", True, "Bytes sent in packets.", (),
           _packets(lambda packets: packets.bytes_sent)),
    Family("muster_packet_received_bytes", True, "Bytes received in packets.", (),
           _packets(lambda packets: packets.bytes_received)),
    Family("muster_refused", True, "Packets and streams that did not fit, by cause.",
           ("kind", "cause"), _refused),
    Family("muster_process_memory_bytes", False, "Resident memory.", (),
           _vitals(lambda vitals: vitals.process_memory_bytes)),
    Family("muster_process_cpu_seconds", True, "CPU time used.", (),
           _vitals(lambda vitals: vitals.process_cpu_s)),
    Family("muster_uptime_seconds", False, "Time since the start.", (),
           lambda node: [((), node.world.clock.now() - node.started_at)]),
    Family("muster_loop_lag_max_seconds", False,
           "The latest that the loop ever was, or its longest turn.", (),
           lambda node: [((), node.loop_lag.max_s)]),
    Family("muster_build_info", False, "1, with the release as a label.", ("build",),
           lambda _node: [((__version__,), 1.0)]),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class HistogramFamily:
    """The same for how long something takes; None where there is none."""

    name: str
    help: str
    read: Callable[[Node], Histogram | None]


def _voter_seconds(read: Callable[[Voter], Histogram]) -> Callable[[Node], Histogram | None]:
    def histogram(node: Node) -> Histogram | None:
        voter = _voter_of(node)
        return None if voter is None else read(voter)

    return histogram


HISTOGRAMS: Final = (
    HistogramFamily("muster_raft_sync_seconds",
                    "A group commit of the journal: write, sync, and the way there and back.",
                    _voter_seconds(lambda voter: voter.sync_seconds)),
    HistogramFamily("muster_raft_commit_seconds",
                    "A batch of commands from its proposal here until it was applied here.",
                    _voter_seconds(lambda voter: voter.proposals.commit_seconds)),
    HistogramFamily("muster_loop_lag_seconds",
                    "How late the loop wakes who waits for a moment, ten looks a second.",
                    lambda node: node.loop_lag.seconds),
    HistogramFamily("muster_loop_turn_seconds",
                    "How long a turn of the loop takes, from when it was due: all others wait.",
                    lambda node: node.loop_lag.turns.seconds),
)  # fmt: skip


class NodeCollector(Collector):
    """One node's metrics."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def collect(self) -> Iterator[Metric]:
        for family in FAMILIES:
            kind = CounterMetricFamily if family.is_counter else GaugeMetricFamily
            metric = kind(family.name, family.help, labels=family.labels)
            for labels, value in family.read(self._node):
                metric.add_metric(labels, float(value))
            yield metric
        for described in HISTOGRAMS:
            timed = HistogramMetricFamily(described.name, described.help)
            if (histogram := described.read(self._node)) is not None:
                buckets = [(_bound(bound), count) for bound, count in histogram.cumulative()]
                timed.add_metric((), buckets, histogram.sum_s)
            yield timed


def _bound(seconds: float) -> str:
    return "+Inf" if math.isinf(seconds) else str(seconds)


def pages(node: Node) -> dict[str, Callable[[], Page]]:
    """What the HTTP listener shows of a node."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(NodeCollector(node))

    def metrics() -> Page:
        return Page(200, "text/plain; version=0.0.4; charset=utf-8", generate_latest(registry))

    def health() -> Page:
        """Alive: the loop turns, or nobody would answer."""
        return json_page(200, {"alive": True})

    def ready() -> Page:
        """Ready: requests can be served here."""
        status = status_of(node)
        code = 200 if status.verdict in ("HEALTHY", "DEGRADED") else 503
        return json_page(code, {"verdict": status.verdict, "reason": status.reason})

    return {"/metrics": metrics, "/healthz": health, "/readyz": ready}
