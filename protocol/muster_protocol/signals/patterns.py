"""The seed's nine signal patterns, as effects.

Each constructor keeps the seed's name, payload keys and metadata exactly (`SignalPatterns`, lines
929-1046), and gives them our canonical dotted type. `ALIASES` maps the seed's names to those
types, for whoever searches by them. Where the seed names one fact in several ways, every name is
in the table.

All nine carry `cluster_event: true`, and go to every member unless `scope` says otherwise. Only
two of them name a broadcast scope in the seed; the others (a load report, a vote) mean nothing
unless another node hears them, so they have the same one. An agent that already learns a fact on
every node by itself, as the failure detector does through gossip, passes `Scope.NODE`: relaying it
would say the same thing N times.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from muster_protocol.effects import Emit
from muster_protocol.types import NodeId, Priority, Scope

NODE_ANNOUNCED: Final = "cluster.node.announced"
NODE_SUSPECTED: Final = "cluster.node.suspected"
NODE_FAILED: Final = "cluster.node.failed"
NODE_LEFT: Final = "cluster.node.left"
PARTITION_SUSPECTED: Final = "cluster.partition.suspected"
PARTITION_CONFIRMED: Final = "cluster.partition.confirmed"
PARTITION_RECOVERED: Final = "cluster.partition.recovered"
LOAD_REPORTED: Final = "cluster.load.reported"
REBALANCE_REQUESTED: Final = "cluster.rebalance.requested"
HEALTH_ALERTED: Final = "cluster.health.alerted"
CONSENSUS_PROPOSED: Final = "cluster.consensus.proposed"
CONSENSUS_VOTED: Final = "cluster.consensus.voted"
VARIABLE_SYNCED: Final = "cluster.variable.synced"
VARIABLE_CONFLICTED: Final = "cluster.variable.conflicted"
SIGNALS_MISSED: Final = "cluster.signals.missed"

ALIASES: Final[Mapping[str, str]] = MappingProxyType(
    {
        # the nine constructors
        "node_announcement": NODE_ANNOUNCED,
        "node_failure": NODE_FAILED,
        "load_report": LOAD_REPORTED,
        "rebalancing_request": REBALANCE_REQUESTED,
        "health_alert": HEALTH_ALERTED,
        "consensus_proposal": CONSENSUS_PROPOSED,
        "consensus_vote": CONSENSUS_VOTED,
        "variable_sync": VARIABLE_SYNCED,
        "variable_conflict": VARIABLE_CONFLICTED,
        # the names that the seed's agents listen for, where they differ from the constructors'
        "node_failure_detected": NODE_FAILED,
        "node_failure_suspected": NODE_SUSPECTED,
        "network_partition_detected": PARTITION_CONFIRMED,
        "partition_detected": PARTITION_CONFIRMED,
        "partition_suspected": PARTITION_SUSPECTED,
        "partition_recovery_complete": PARTITION_RECOVERED,
    }
)
"""The seed's name of a signal -> our type."""

_PRIORITY_NAMES: Final = {priority: priority.name.lower() for priority in Priority}


def _emit(
    signal_type: str,
    data: Mapping[str, Any],
    priority: Priority,
    scope: Scope,
    subject: str = "",
    **metadata: Any,
) -> Emit:
    return Emit(
        type=signal_type,
        data=dict(data),
        subject=subject,
        scope=scope,
        priority=priority,
        metadata={"cluster_event": True, "priority": _PRIORITY_NAMES[priority], **metadata},
    )


def node_announcement(node_info: Mapping[str, Any], *, scope: Scope = Scope.CLUSTER) -> Emit:
    """A node says who it is: the seed's payload is the announcement itself."""
    subject = str(node_info.get("node_id", ""))
    return _emit(
        NODE_ANNOUNCED, node_info, Priority.NORMAL, scope, subject, broadcast_scope="cluster"
    )


def node_failure(node: NodeId, failure_type: str, *, scope: Scope = Scope.CLUSTER) -> Emit:
    """A node has failed."""
    data = {"node": node, "failure_type": failure_type}
    return _emit(NODE_FAILED, data, Priority.HIGH, scope, node, broadcast_scope="cluster")


def load_report(node: NodeId, load: Mapping[str, Any], *, scope: Scope = Scope.CLUSTER) -> Emit:
    """How loaded a node is; sent regularly."""
    data = {"node": node, "load": dict(load)}
    return _emit(LOAD_REPORTED, data, Priority.LOW, scope, node, frequency="regular")


def rebalancing_request(plan: Mapping[str, Any], *, scope: Scope = Scope.CLUSTER) -> Emit:
    """Somebody asked for agents to be moved: the seed's payload is the plan itself."""
    return _emit(REBALANCE_REQUESTED, plan, Priority.HIGH, scope, coordination_required=True)


def health_alert(
    alert_type: str, alert_data: Mapping[str, Any], *, scope: Scope = Scope.CLUSTER
) -> Emit:
    """Something needs an operator's eye."""
    data = {"alert_type": alert_type, "data": dict(alert_data)}
    return _emit(HEALTH_ALERTED, data, Priority.HIGH, scope, alert=True)


def consensus_proposal(proposal_id: str, proposal: Any, *, scope: Scope = Scope.CLUSTER) -> Emit:
    """A proposal was made."""
    data = {"id": proposal_id, "proposal": proposal}
    return _emit(
        CONSENSUS_PROPOSED, data, Priority.HIGH, scope, proposal_id, consensus_required=True
    )


def consensus_vote(
    proposal_id: str, vote: str, voter: NodeId, *, scope: Scope = Scope.CLUSTER
) -> Emit:
    """A vote was cast."""
    data = {"proposal_id": proposal_id, "vote": vote, "voter": voter}
    return _emit(CONSENSUS_VOTED, data, Priority.HIGH, scope, proposal_id, consensus_response=True)


def variable_sync(variable_id: str, sync_data: Any, *, scope: Scope = Scope.CLUSTER) -> Emit:
    """A cognitive variable was synchronised."""
    data = {"variable_id": variable_id, "sync_data": sync_data}
    return _emit(
        VARIABLE_SYNCED, data, Priority.MEDIUM, scope, variable_id, variable_coordination=True
    )


def variable_conflict(
    variable_id: str, conflict_data: Any, *, scope: Scope = Scope.CLUSTER
) -> Emit:
    """Two values of a cognitive variable disagree."""
    data = {"variable_id": variable_id, "conflict": conflict_data}
    return _emit(
        VARIABLE_CONFLICTED,
        data,
        Priority.HIGH,
        scope,
        variable_id,
        conflict_resolution_required=True,
    )
