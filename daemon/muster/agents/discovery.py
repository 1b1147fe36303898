"""Node discovery: the seed's NodeDiscovery, with the sources that need no network of their own.

Static addresses from the configuration and the peers remembered on disk become hints on the bus
(`cluster.node.discovered`); who answers there is the failure detector's business. A hint is
never membership.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from muster.runtime.actions import ActionContext, action
from muster.runtime.agent import Agent
from muster_protocol.discovery.peers import KnownPeers, MemberGone, MemberSeen
from muster_protocol.effects import Effect
from muster_protocol.types import NodeId, parse_address

if TYPE_CHECKING:
    from muster.flight.tape import Tape


class SeenParams(msgspec.Struct, frozen=True):
    """The part of a `cluster.node.*` signal that says who and where ("host:port")."""

    node: str
    address: str


class GoneParams(msgspec.Struct, frozen=True):
    """The part of a `cluster.node.*` signal that says who."""

    node: str


class NodeDiscovery(Agent):
    """See the module. The actions have the seed's names."""

    name = "discovery"
    keeps_tape = True

    def __init__(self, *, tape: Tape[KnownPeers]) -> None:
        update = action(name="UpdateTopology", params=SeenParams)(self._on_seen)
        failed = action(name="HandleNodeFailure", params=GoneParams)(self._on_failed)
        left = action(name="HandleNodeLeave", params=GoneParams)(self._on_left)
        self.actions = (update, failed, left)
        self.routes = {
            "cluster.node.announced": update,
            "cluster.node.recovered": update,
            "cluster.node.updated": update,
            "cluster.node.failed": failed,
            "cluster.node.stopped": failed,
            "cluster.node.left": left,
        }
        super().__init__()
        self.known = tape.machine
        self._tape = tape

    @property
    def deadline(self) -> float | None:
        return self.known.deadline

    def handle_event(self, event: Any, *, now: float) -> tuple[Effect, ...]:
        return self._tape.handle(event, now=now)

    def statistics(self) -> Mapping[str, Any]:
        return {"remembered": len(self.known.remembered())}

    def _on_seen(
        self, state: Any, params: SeenParams, context: ActionContext
    ) -> tuple[Any, tuple[Effect, ...]]:
        address = parse_address(params.address, default_port=0)
        seen = MemberSeen(NodeId(params.node), address)
        return state, self._tape.handle(seen, now=context.now)

    def _on_failed(
        self, state: Any, params: GoneParams, context: ActionContext
    ) -> tuple[Any, tuple[Effect, ...]]:
        gone = MemberGone(NodeId(params.node), left=False)
        return state, self._tape.handle(gone, now=context.now)

    def _on_left(
        self, state: Any, params: GoneParams, context: ActionContext
    ) -> tuple[Any, tuple[Effect, ...]]:
        gone = MemberGone(NodeId(params.node), left=True)
        return state, self._tape.handle(gone, now=context.now)
