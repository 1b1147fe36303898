"""Tells the checkers what membership machines on the event heap were told and what they said."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from muster.sim.checkers.bounds import within_bounds
from muster.sim.checkers.membership import MembershipViews
from muster.sim.checkers.rumours import Hearsay, SuspicionTimes
from muster.sim.machines.gossip import Happened, SimMember
from muster_protocol.membership.config import MembershipConfig
from muster_protocol.membership.events import PacketReceived, SyncReceived
from muster_protocol.types import NodeId
from muster_protocol.wire.membership import Alive, Failed, Left, MemberState, Stopped, Suspect

SIZES_EVERY: Final = 16
"""Events between two looks at how much a machine keeps, which takes as long as several of them."""

Accused = Callable[[SimMember, SimMember, str], None]

_STATES: Final[dict[type, MemberState]] = {
    Alive: MemberState.ALIVE,
    Suspect: MemberState.SUSPECT,
    Failed: MemberState.FAILED,
    Stopped: MemberState.STOPPED,
    Left: MemberState.LEFT,
}


class GossipChecks:
    """All checkers that look at every event. `accused` is asked about accuracy: the observer, the
    subject, and "suspected" or "failed"."""

    def __init__(self, config: MembershipConfig, *, accused: Accused) -> None:
        self._accused = accused
        self._events = 0
        self._views = MembershipViews()
        self._hearsay = Hearsay()
        self._suspicions = SuspicionTimes(
            shortest_s=min(config.suspicion_refused_min_s, config.suspicion_min_s(1))
        )

    def handled(self, observer: SimMember, event: Any) -> None:
        """After a machine handled it. Errors: Violated."""
        if observer.swim.has_departed:
            return
        self._events += 1
        if self._events % SIZES_EVERY == 0:
            within_bounds(observer.name, observer.swim.sizes())
        if isinstance(event, PacketReceived):
            for message in event.messages:
                if isinstance(message, Alive | Suspect | Failed | Stopped | Left):
                    state = _STATES[type(message)]
                    self._said(observer, message.node, message.incarnation, state)
        elif isinstance(event, SyncReceived):
            for record in event.table.members:
                self._said(observer, record.node, record.incarnation, record.state)

    def _said(
        self, observer: SimMember, subject: NodeId, incarnation: int, state: MemberState
    ) -> None:
        believed = observer.swim.member(subject)
        if believed is None:
            return
        if subject == observer.id:
            self._hearsay.said_of_itself(believed, incarnation, state)
            return
        self._hearsay.said_of_another(observer.name, believed, incarnation, state)
        word = believed.state.name.lower()
        self._views.sees(observer.name, observer.boot, believed.name, believed.incarnation, word)

    def signalled(self, observer: SimMember, subject: SimMember, signal: Happened) -> None:
        """A machine emitted it. Errors: Violated."""
        kind, data = signal.type.rpartition(".")[2], signal.data
        life, name, incarnation = observer.boot, subject.name, data["incarnation"]
        self._views.sees(observer.name, life, name, incarnation, data["state"])
        if kind == "suspected":
            self._suspicions.suspected(life, name, incarnation, signal.at)
        elif kind == "failed" and data["was"] in ("alive", "suspect"):
            self._suspicions.failed(observer.name, life, name, incarnation, signal.at)
        else:
            self._suspicions.cleared(life, name)
        if kind in ("suspected", "failed"):
            self._accused(observer, subject, kind)
