"""What can befall a cluster of membership machines on the event heap, and its end."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, Final

from muster.sim.machines.gossip import GossipMembers, SimMember
from muster_protocol.membership.events import (
    LeaveRequested,
    StopRequested,
    SyncReceived,
    UpdateMeta,
)
from muster_protocol.types import NodeId
from muster_protocol.wire.membership import NodeMeta, SyncTable

FAREWELL_S: Final = 2.0
"""After which a process that said good-bye has ended: twice what the machine takes at most."""

TABLES_MAX: Final = 8
"""Old tables that are kept to be pushed later."""

BENIGN_KINDS: Final = ("kill", "stop", "news", "old-table")
"""After which nobody may be failed who was not killed."""

FAULT_KINDS: Final = (
    *BENIGN_KINDS,
    "power-off",
    "pause",
    "split",
    "deaf",
    "mute",
    "flap",
    "leave",
    "stall",
)


class GossipFaults:
    """Faults of one run. Times until a fault ends are drawn, `fault_s` in the mean."""

    def __init__(self, cluster: GossipMembers, rng: random.Random, *, fault_s: float) -> None:
        self._cluster = cluster
        self._rng = rng
        self._fault_s = fault_s
        self._tables: list[tuple[NodeId, SyncTable]] = []
        self._news = 0
        self.was_down: dict[NodeId, None] = {}
        self.gone: dict[NodeId, None] = {}
        """Who left for good."""

        self._begin: dict[str, Callable[[SimMember], None]] = {
            "kill": self._kill,
            "power-off": self._power_off,
            "pause": self._pause,
            "stall": self._stall,
            "stop": self._stop,
            "leave": self._leave,
            "split": self._split,
            "deaf": self._deaf,
            "mute": self._mute,
            "flap": self._flap,
            "news": self._tell_news,
            "old-table": self._old_table,
        }
        assert tuple(sorted(self._begin)) == tuple(sorted(FAULT_KINDS))

    def strike(self, kind: str, member: SimMember) -> None:
        """Begin a fault, which ends by itself. Who has left is let be."""
        if member.id not in self.gone:
            self._begin[kind](member)

    def end_all(self) -> None:
        """Heal the network, the slow and the paused; who is down is left to `bring_back`."""
        cluster = self._cluster
        cluster.drop(self.bring_back)
        cluster.run(FAREWELL_S)
        cluster.network.heal()
        for member in cluster.members:
            member.is_slow = False
            cluster.resume(member)
            cluster.unstall(member)

    def bring_back(self, member: SimMember) -> None:
        """Start it again, if it is down and has not left."""
        if not member.is_up and member.id not in self.gone:
            others = [other for other in self._cluster.up() if other is not member]
            join = self._rng.sample(others, min(2, len(others)))
            self._cluster.restart(member, join=join)

    # --- one method per kind ----------------------------------------------------------------

    def _kill(self, member: SimMember) -> None:
        if member.is_up:
            self.was_down[member.id] = None
            self._cluster.kill(member)
            self._cluster.at(self._lasts_s(), self.bring_back, member)

    def _power_off(self, member: SimMember) -> None:
        if member.is_up:
            self.was_down[member.id] = None
            self._cluster.power_off(member)
            self._cluster.at(self._lasts_s(), self.bring_back, member)

    def _pause(self, member: SimMember) -> None:
        self._cluster.pause(member, self._lasts_s())

    def _stall(self, member: SimMember) -> None:
        self._cluster.stall(member, self._lasts_s())

    def _stop(self, member: SimMember) -> None:
        self._depart(member, StopRequested())
        self._cluster.at(FAREWELL_S + self._lasts_s(), self.bring_back, member)

    def _leave(self, member: SimMember) -> None:
        if len(self.gone) + 2 < len(self._cluster.members):
            self.gone[member.id] = None
            self._depart(member, LeaveRequested())

    def _depart(self, member: SimMember, event: Any) -> None:
        """Say good-bye, and end when it is said."""
        self.was_down[member.id] = None
        self._cluster.post(member, event)
        self._cluster.at(FAREWELL_S, self._end, member, member.boot)

    def _end(self, member: SimMember, boot: str) -> None:
        if member.boot == boot:
            self._cluster.kill(member)

    def _split(self, _: SimMember) -> None:
        members = self._cluster.members
        self._cluster.cut(self._rng.sample(members, self._rng.randint(1, len(members))))
        self._cluster.at(self._lasts_s(), self._uncut)

    def _deaf(self, member: SimMember) -> None:
        """It hears nothing, and is heard."""
        self._cluster.network.is_cut = lambda _, to: to == member.address
        self._cluster.at(self._lasts_s(), self._uncut)

    def _mute(self, member: SimMember) -> None:
        self._cluster.network.is_cut = lambda source, _: source == member.address
        self._cluster.at(self._lasts_s(), self._uncut)

    def _flap(self, member: SimMember) -> None:
        """It is cut off every other half second."""
        self._cluster.network.is_cut = lambda source, to: (
            member.address in (source, to) and int(2 * self._cluster.now) % 2 == 0
        )
        self._cluster.at(self._lasts_s(), self._uncut)

    def _uncut(self) -> None:
        self._cluster.network.is_cut = None

    def _tell_news(self, member: SimMember) -> None:
        """What it says of itself changes, and so its incarnation."""
        self._news += 1
        self._cluster.post(member, UpdateMeta(NodeMeta(build=f"news {self._news}")))

    def _old_table(self, member: SimMember) -> None:
        """Somebody who slept for long comes with the table of then."""
        if self._tables and self._rng.random() < 0.5:
            peer, table = self._rng.choice(self._tables)
            if peer != member.id:
                self._cluster.post(member, SyncReceived(peer, table))
        elif member.is_up:
            self._tables.append((member.id, member.swim.table_for_sync()))
            del self._tables[:-TABLES_MAX]

    def _lasts_s(self) -> float:
        return self._rng.expovariate(1.0 / self._fault_s)
