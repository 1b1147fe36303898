"""Push-pull: making sure, now and then, that two tables say the same.

Gossip reaches everybody with high probability; this is for the rest, for a node that was cut off,
and for a partition that healed. One packet carries a digest of the table to one member by chance.
Only if the tables differ a stream is opened, by the one who asked, and both tables are exchanged
whole. So it costs 14 bytes in quiet times, where memberlist sends the table over TCP each time.

**How often.** Every `sync_interval_s`, longer in large clusters, but from `sync_interval_min_s` on,
doubling, after a start and after each exchange that brought something new: what is not settled is
looked at soon again.

**How many.** The one who is asked answers at most `DIFFERENCES_PER_S_MAX` times a second that the
tables differ, so that a mass join cannot make one node hold thousands of streams (memberlist:
7 GB with 3,000 push-pulls at once).

**Failed and stopped members are asked too**, one by chance every `reconnect_interval_s`. A digest
is the cheapest question whose answer, from a member that is back, leads to an exchange in which
both sides learn what they missed. That is how a partition heals that lasted longer than gossip to
the dead.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from muster_protocol.membership.config import MembershipConfig
from muster_protocol.membership.effects import StartSync
from muster_protocol.membership.outbox import Outbox
from muster_protocol.membership.table import Entry, Table
from muster_protocol.types import Address, NodeId, Rng
from muster_protocol.wire.membership import Digest, DigestDiffers, MemberState

DIFFERENCES_PER_S_MAX: Final = 16
"""Exchanges begun with one node per second: 16 tables of 1,000 members are 3 MB."""

STARTS_GAP_S: Final = 0.1
"""Between two exchanges that one node begins: a join answered by many needs one table first."""

ASKED_MAX: Final = 16
"""Members whose answer to a digest is still accepted."""


class Sync:
    """Decides whose table to compare with, and when."""

    def __init__(
        self, *, config: MembershipConfig, table: Table, outbox: Outbox, rng: Rng, now: float
    ) -> None:
        self._config = config
        self._table = table
        self._outbox = outbox
        self._rng = rng
        self._interval_s = config.sync_interval_min_s
        self._next_round: float | None = now + self._jittered(self._interval_s)
        self._next_reconnect: float | None = now + self._jittered(config.reconnect_interval_s)
        self._asked: dict[NodeId, None] = {}
        self._answers: list[float] = []
        self._started_at = now - STARTS_GAP_S
        self.started = 0

    @property
    def deadline(self) -> float | None:
        due = [at for at in (self._next_round, self._next_reconnect) if at is not None]
        return min(due, default=None)

    def expire(self, *, now: float) -> None:
        """Ask whoever is due."""
        if self._next_round is not None and self._next_round <= now:
            self._ask(_is_present)
            self._next_round = now + self._jittered(self._interval_s)
            quiet_s = self._config.sync_interval_at(self._table.present)
            self._interval_s = min(2 * self._interval_s, quiet_s)
        if self._next_reconnect is not None and self._next_reconnect <= now:
            if self._table.count(MemberState.FAILED) or self._table.count(MemberState.STOPPED):
                self._ask(_is_missed)
            self._next_reconnect = now + self._jittered(self._config.reconnect_interval_s)

    def on_digest(self, digest: Digest, sender: NodeId, source: Address, *, now: float) -> None:
        """Somebody compares his table with ours."""
        self._answers = [at for at in self._answers if now - at < 1.0]
        if digest != self._table.digest() and len(self._answers) < DIFFERENCES_PER_S_MAX:
            self._answers.append(now)
            self._outbox.send(source, sender, DigestDiffers())

    def on_differs(self, sender: NodeId, *, now: float) -> None:
        """The member that we asked has another table."""
        entry = self._table.get(sender)
        if entry is not None and sender in self._asked:
            del self._asked[sender]
            self.start(sender, entry.member.address, now=now)

    def start(self, peer: NodeId, address: Address, *, now: float) -> None:
        """Exchange tables, unless an exchange was begun a moment ago."""
        if now - self._started_at >= STARTS_GAP_S:
            self._started_at = now
            self.started += 1
            self._outbox.add(StartSync(peer, address))

    def brought(self, news: bool, *, now: float) -> None:
        """An exchange ended; if it brought news, there may be more."""
        if news and self._next_round is not None:
            self._interval_s = self._config.sync_interval_min_s
            self._next_round = min(self._next_round, now + self._jittered(self._interval_s))

    def stop(self) -> None:
        """Compare with nobody any more."""
        self._next_round = self._next_reconnect = None

    def _ask(self, wanted: Callable[[Entry], bool]) -> None:
        for entry in self._table.pick(self._rng, 1, wanted):
            self._asked[entry.member.id] = None
            if len(self._asked) > ASKED_MAX:
                del self._asked[next(iter(self._asked))]
            self._outbox.send(entry.member.address, entry.member.id, self._table.digest())

    def _jittered(self, interval_s: float) -> float:
        return interval_s * self._rng.uniform(0.75, 1.25)


def _is_present(entry: Entry) -> bool:
    return entry.member.is_present


def _is_missed(entry: Entry) -> bool:
    return entry.state in (MemberState.FAILED, MemberState.STOPPED)
