"""Two nodes with one id, and two nodes with one name.

**One id** means a copied state directory or a cloned machine image. Both copies answer for the
same member and would vote twice in the consensus. It looks, at first, like something harmless: a
record of our own at an address that is not ours is usually our own past, from before a move, and
is simply refuted. So the address is asked. A `Ping` for our own id, answered by an `Ack` with our
id and another boot, is proof; silence, or our own boot (one of our own addresses), is none.

The process that runs for a shorter time yields: it is the copy far more often than not, and the
rule needs no third party. It says so as an error, mutes its own refutations, so that the two do
not outbid each other's incarnations for ever, and `has_yielded` tells the consensus to stop
voting. There is no way back but a restart, with a new identity. The older one only warns.

**One name** is a nuisance, not a danger: names are for people. It is reported once per pair, and
both stay. A failed or left member's name may be taken again, as a rebuilt host does.
"""

from __future__ import annotations

from typing import Final

from muster_protocol.membership.member import Member
from muster_protocol.membership.outbox import Outbox
from muster_protocol.membership.sequences import Sequences
from muster_protocol.membership.table import Table
from muster_protocol.types import Address, NodeId, Severity
from muster_protocol.wire.membership import Ack, MemberState, Ping

CHECK_S: Final = 5.0
"""How long an asked address may take to answer, and the gap between two questions: several WAN
probe timeouts."""

WARN_S: Final = 60.0
"""Between two warnings of the one who does not yield."""

NAME_CONFLICTS_MAX: Final = 256
"""Reported pairs that are remembered. More are reported again when their members change."""


class Identity:
    """Looks for another process that lives under our id."""

    def __init__(
        self, *, table: Table, outbox: Outbox, sequences: Sequences, boot: str, now: float
    ) -> None:
        self._table = table
        self._outbox = outbox
        self._sequences = sequences
        self._boot = boot
        self._started = now
        self._asked: dict[int, Address] = {}
        self._asked_at = now - CHECK_S
        self._warned_at = now - WARN_S
        self.has_yielded = False

    def check(self, address: Address, *, now: float) -> None:
        """Ask an address where we are said, or were seen, to live."""
        if self.has_yielded or now - self._asked_at < CHECK_S:
            return
        sequence = self._sequences.next()
        self._asked, self._asked_at = {sequence: address}, now
        me = self._table.me.id
        self._outbox.send(address, me, Ping(sequence, me))

    def answer(self, sequence: int, *, now: float) -> Ack:
        """The ack for somebody who has our id: with what names this process."""
        return Ack(sequence, self._boot, int((now - self._started) * 1000))

    def on_ack(self, ack: Ack, source: Address, *, now: float) -> None:
        """An ack from our own id: another process, or ourselves at another address."""
        if self._asked.pop(ack.sequence, None) is None or ack.boot in ("", self._boot):
            return
        uptime_ms = int((now - self._started) * 1000)
        if (uptime_ms, self._boot) < (ack.uptime_ms, ack.boot):
            self.has_yielded = True
            self._report(Severity.ERROR, source)
        elif now - self._warned_at >= WARN_S:
            self._warned_at = now
            self._report(Severity.WARNING, source)

    def _report(self, severity: Severity, source: Address) -> None:
        me = self._table.me
        self._outbox.notify(
            "identity.duplicate",
            severity,
            node=me.id,
            address=str(me.address),
            other_address=str(source),
            yields=self.has_yielded,
        )


class Names:
    """Reports members that share a name, each pair once."""

    def __init__(self, table: Table, outbox: Outbox) -> None:
        self._table = table
        self._outbox = outbox
        self._reported: dict[tuple[NodeId, NodeId], None] = {}

    def check(self, member: Member) -> None:
        """Compare one member's name with everybody's who could be meant by it."""
        for other in self._table.named(member.name):
            if other.id != member.id and _is_here(other):
                self._report(member, other)

    def _report(self, left: Member, right: Member) -> None:
        pair = (min(left.id, right.id), max(left.id, right.id))
        if pair in self._reported:
            return
        self._reported[pair] = None
        if len(self._reported) > NAME_CONFLICTS_MAX:
            del self._reported[next(iter(self._reported))]
        self._outbox.notify(
            "name.duplicate",
            Severity.WARNING,
            name=left.name,
            nodes=list(pair),
            addresses=[str(left.address), str(right.address)],
        )


def _is_here(member: Member) -> bool:
    """Present, or stopped and expected back."""
    return member.is_present or member.state is MemberState.STOPPED
