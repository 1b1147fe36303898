"""The effects of one turn, and how packets are filled.

Every packet that leaves anyway carries what gossip still has to tell, as much as fits: that is
SWIM's dissemination. Sizes are exact, because messages are encoded to be counted; a packet whose
body would pass `packet_body_bytes_max` is never made.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from muster_protocol.effects import Effect, Emit, Notify, SendPacket
from muster_protocol.limits import PACKET_MESSAGES_MAX
from muster_protocol.membership.broadcasts import Broadcasts
from muster_protocol.membership.config import MembershipConfig
from muster_protocol.membership.table import Table
from muster_protocol.types import Address, NodeId, Priority, Severity
from muster_protocol.wire.codec import encode
from muster_protocol.wire.membership import MembershipMessage


class Outbox:
    """Collects effects until `take`."""

    def __init__(self, config: MembershipConfig, table: Table) -> None:
        self._config = config
        self._table = table
        self._effects: list[Effect] = []
        self.broadcasts = Broadcasts()
        self.packets_sent = 0

    def take(self) -> tuple[Effect, ...]:
        """The effects since the last call."""
        effects, self._effects = tuple(self._effects), []
        return effects

    def add(self, effect: Effect) -> None:
        self._effects.append(effect)

    def send(self, to: Address, receiver: NodeId | None, *messages: MembershipMessage) -> None:
        """One packet: these messages, and what else there is to tell."""
        room = self._config.packet_body_bytes_max - sum(len(encode(item)) for item in messages)
        assert room >= 0, f"{len(messages)} messages do not fit a packet"
        updates = self.broadcasts.pick(
            bytes_max=room,
            count_max=PACKET_MESSAGES_MAX - len(messages),
            sendings_max=self._config.retransmit_limit(self._table.present),
        )
        packed = (*messages, *(update for update in updates if update not in messages))
        if packed:
            self.packets_sent += 1
            self.add(SendPacket(to, packed, receiver))

    def notify(self, event: str, severity: Severity, **fields: Any) -> None:
        """Something for the log; `membership.` is put before the event."""
        self.add(Notify(f"membership.{event}", severity, fields))

    def emit(
        self, event: str, data: Mapping[str, Any], priority: Priority = Priority.NORMAL
    ) -> None:
        """A fact for the bus about one member; `cluster.node.` is put before the event."""
        self.add(Emit(f"cluster.node.{event}", data, subject=data["node"], priority=priority))
