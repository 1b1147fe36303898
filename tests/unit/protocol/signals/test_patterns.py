"""The seed's nine constructors, as its lines 929-1046 have them."""

from __future__ import annotations

import pytest

from muster_protocol.effects import Emit
from muster_protocol.signals import patterns
from muster_protocol.signals.signal import check_type
from muster_protocol.types import NodeId, Priority, Scope

NODE = NodeId("a" * 32)

SEED = [
    (
        "node_announcement",
        patterns.node_announcement({"node_id": NODE, "load": 0.5}),
        {"node_id": NODE, "load": 0.5},
        {"priority": "normal", "broadcast_scope": "cluster"},
    ),
    (
        "node_failure",
        patterns.node_failure(NODE, "timeout"),
        {"node": NODE, "failure_type": "timeout"},
        {"priority": "high", "broadcast_scope": "cluster"},
    ),
    (
        "load_report",
        patterns.load_report(NODE, {"cpu_usage": 0.5}),
        {"node": NODE, "load": {"cpu_usage": 0.5}},
        {"priority": "low", "frequency": "regular"},
    ),
    (
        "rebalancing_request",
        patterns.rebalancing_request({"moves": []}),
        {"moves": []},
        {"priority": "high", "coordination_required": True},
    ),
    (
        "health_alert",
        patterns.health_alert("agent_parked", {"agent": "x"}),
        {"alert_type": "agent_parked", "data": {"agent": "x"}},
        {"priority": "high", "alert": True},
    ),
    (
        "consensus_proposal",
        patterns.consensus_proposal("p1", {"k": 1}),
        {"id": "p1", "proposal": {"k": 1}},
        {"priority": "high", "consensus_required": True},
    ),
    (
        "consensus_vote",
        patterns.consensus_vote("p1", "accept", NODE),
        {"proposal_id": "p1", "vote": "accept", "voter": NODE},
        {"priority": "high", "consensus_response": True},
    ),
    (
        "variable_sync",
        patterns.variable_sync("v1", {"value": 1}),
        {"variable_id": "v1", "sync_data": {"value": 1}},
        {"priority": "medium", "variable_coordination": True},
    ),
    (
        "variable_conflict",
        patterns.variable_conflict("v1", {"values": [1, 2]}),
        {"variable_id": "v1", "conflict": {"values": [1, 2]}},
        {"priority": "high", "conflict_resolution_required": True},
    ),
]


@pytest.mark.parametrize(("name", "emit", "data", "metadata"), SEED, ids=[row[0] for row in SEED])
def test_a_constructor_has_the_seeds_payload_metadata_and_priority(
    name: str, emit: Emit, data: dict[str, object], metadata: dict[str, object]
) -> None:
    assert emit.type == patterns.ALIASES[name]
    assert emit.data == data
    assert emit.metadata == {"cluster_event": True, **metadata}
    assert emit.priority is Priority[str(metadata["priority"]).upper()]
    assert emit.scope is Scope.CLUSTER


def test_every_alias_leads_to_a_type_that_may_be_emitted() -> None:
    for name, signal_type in patterns.ALIASES.items():
        assert check_type(signal_type) == signal_type, name
    assert check_type(patterns.SIGNALS_MISSED)


def test_a_signal_that_every_node_learns_by_itself_can_stay_at_home() -> None:
    assert patterns.node_failure(NODE, "timeout", scope=Scope.NODE).scope is Scope.NODE
