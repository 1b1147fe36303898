"""Getting in: asking addresses until somebody answers.

Discovery yields addresses, never members. Each hinted address is sent a `JoinRequest`, again and
again at doubling intervals, until somebody answers from it or it turns out to be a member's
address, or our own. One lost packet must not decide how long a join takes: memberlist's worst of
thirty joins of a hundred nodes took 101 s, because its one announcement was lost.

The address of a member is remembered in the table only: when all its members were cut off for so
long that they are forgotten, discovery hints again.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from muster_protocol.membership.config import MembershipConfig
from muster_protocol.membership.member import alive_update
from muster_protocol.membership.outbox import Outbox
from muster_protocol.membership.sequences import Sequences
from muster_protocol.membership.table import Table
from muster_protocol.types import Address, Rng
from muster_protocol.wire.membership import JoinRequest

HINTS_MAX: Final = 256
"""Addresses asked at one time; the oldest go. Discovery repeats what it finds."""

JITTER: Final = 0.2
"""Part of a wait that is left to chance: nodes that start together should not ask in step."""


@dataclass(slots=True)
class Hint:
    """An address that has not answered. The sequence is the same each time, so that a late answer
    to an earlier request counts."""

    address: Address
    sequence: int
    due_at: float
    wait_s: float


class Joining:
    """The addresses that have not answered."""

    def __init__(
        self,
        *,
        config: MembershipConfig,
        table: Table,
        outbox: Outbox,
        sequences: Sequences,
        rng: Rng,
        boot: str,
    ) -> None:
        self._config = config
        self._table = table
        self._outbox = outbox
        self._sequences = sequences
        self._rng = rng
        self._boot = boot
        self._hints: dict[Address, Hint] = {}

    def __len__(self) -> int:
        return len(self._hints)

    @property
    def deadline(self) -> float | None:
        return min((hint.due_at for hint in self._hints.values()), default=None)

    def hint(self, addresses: Iterable[Address], *, now: float) -> None:
        """Somebody may be there: ask at the next occasion, and until there is an answer."""
        for address in addresses:
            if address in self._hints or not self._is_news(address):
                continue
            while len(self._hints) >= HINTS_MAX:
                del self._hints[next(iter(self._hints))]
            self._hints[address] = Hint(
                address, self._sequences.next(), now, self._config.join_retry_min_s
            )

    def answered(self, sequence: int) -> bool:
        """An answer came. False when it is to no question of ours."""
        for hint in self._hints.values():
            if hint.sequence == sequence:
                del self._hints[hint.address]
                return True
        return False

    def stop(self) -> None:
        """Ask nobody any more."""
        self._hints.clear()

    def expire(self, *, now: float) -> None:
        """Ask whoever is due."""
        is_alone = self._table.present == 1
        wait_max_s = self._config.join_retry_alone_s if is_alone else self._config.join_retry_max_s
        for hint in [hint for hint in self._hints.values() if hint.due_at <= now]:
            if not self._is_news(hint.address):
                del self._hints[hint.address]
                continue
            hint.due_at = now + hint.wait_s * (1 + JITTER * self._rng.random())
            hint.wait_s = min(2 * hint.wait_s, wait_max_s)
            request = JoinRequest(hint.sequence, self._boot, alive_update(self._table.me))
            self._outbox.send(hint.address, None, request)

    def _is_news(self, address: Address) -> bool:
        return address != self._table.me.address and self._table.present_at(address) is None
