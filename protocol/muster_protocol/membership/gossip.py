"""When updates are told that no other packet carries away.

Ping and ack carry updates too, but a second apart. So while there is something to tell, a few
members chosen by chance get a packet of their own every `gossip_interval_s`. With nothing to tell
there is no gossip and no timer: an idle cluster sends pings and acks only.

The first update in a quiet time, and a refutation, do not wait for the interval. Members that
failed or stopped a short while ago are among the chosen: if one is alive after all, it learns what
is said of it and refutes (memberlist's gossip to the dead).
"""

from __future__ import annotations

from typing import Final

from muster_protocol.membership.config import MembershipConfig
from muster_protocol.membership.outbox import Outbox
from muster_protocol.membership.table import Entry, Table
from muster_protocol.types import Rng
from muster_protocol.wire.membership import MemberState, Update

ROUNDS_GAP_S: Final = 0.02
"""Between two rounds at least, however much there is to refute: a tenth of the LAN interval."""


class Gossip:
    """Tells updates. `deadline` is None when there is nothing to tell."""

    def __init__(
        self, *, config: MembershipConfig, table: Table, outbox: Outbox, rng: Rng, now: float
    ) -> None:
        self._config = config
        self._table = table
        self._outbox = outbox
        self._rng = rng
        self._last_round = now - config.gossip_interval_s
        self.deadline: float | None = None

    def spread(self, update: Update, *, now: float) -> None:
        """Queue an update; in a quiet time its first round is due at once."""
        self._outbox.broadcasts.put(update)
        if self.deadline is None:
            self.deadline = max(now, self._last_round + self._config.gossip_interval_s)

    def urge(self, *, now: float) -> None:
        """Let the next round be due at once: what was queued cannot wait."""
        self.deadline = max(now, self._last_round + ROUNDS_GAP_S)

    def expire(self, *, now: float) -> None:
        """Run the round that is due, if one is."""
        if self.deadline is None or self.deadline > now:
            return
        self._last_round = now
        chosen = self._table.pick(
            self._rng, self._config.gossip_nodes, lambda entry: self._is_worth(entry, now)
        )
        for entry in chosen:
            if self._outbox.broadcasts:
                self._outbox.send(entry.member.address, entry.member.id)
        is_quiet = not self._outbox.broadcasts or not chosen
        self.deadline = None if is_quiet else now + self._config.gossip_interval_s

    def _is_worth(self, entry: Entry, now: float) -> bool:
        if entry.state in (MemberState.FAILED, MemberState.STOPPED):
            return now - entry.since < self._config.gossip_to_dead_s
        return entry.member.is_present
