"""Who looks at running nodes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest

from muster.sim.checkers.violated import Violated
from muster.sim.cluster import SimCluster, SimNode
from muster.sim.watch import Watch
from muster_protocol.effects import Notify


def test_what_a_note_shows_is_raised_by_the_next_look_and_not_in_the_agent_that_logs() -> None:
    """There its supervisor would take it for a bug of the agent, and restart it."""
    watch = Watch(cast(SimCluster, SimpleNamespace(nodes=[])))
    for name in ("n1", "n2"):
        sim = cast(SimNode, SimpleNamespace(name=name))
        watch.note(sim, Notify("raft.role.changed", fields={"role": "leader", "term": 7}))
    with pytest.raises(Violated, match="term 7"):
        watch.look()
