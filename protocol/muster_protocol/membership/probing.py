"""Asking the others whether they live, one per interval, and asking for others.

**Order.** The members are asked in a random order, each once, then in a new random order: that
bounds the time until a given member is asked (SWIM, section 4.3). A newcomer is put in at random.

**Confirming.** Lifeguard's suspicion waits for others to confirm it, and in SWIM they come by it
only when their own turn is there, after n intervals on average. Here whoever hears a suspicion
asks the member himself, with a chance such that about twice K do, in a small cluster everybody.
So a true suspicion is confirmed one interval later, at any size, and a false one meets somebody
who can reach the member and tells it (the ping carries the suspicion): it refutes at once. A slow
node that accuses everybody costs a few pings more for each accusation.

**Local health** stretches the interval and the timeout. memberlist stretches the interval only;
the paper both. A node that reads its packets late is not helped by asking less often, it is helped
by waiting longer.

**Streams.** A member that answers by stream and never by packet lives; it is reported when that
happens repeatedly, because a cluster in which UDP is blocked somewhere works until it does not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from muster_protocol.membership.awareness import Awareness
from muster_protocol.membership.config import MembershipConfig
from muster_protocol.membership.effects import ProbeByStream
from muster_protocol.membership.outbox import Outbox
from muster_protocol.membership.probe import Probe, Relay
from muster_protocol.membership.rumours import Rumours
from muster_protocol.membership.sequences import Sequences
from muster_protocol.membership.suspicion import REFUSED, SILENT
from muster_protocol.membership.table import MEMBERS_MAX, Entry, Table
from muster_protocol.types import Address, NodeId, Rng, Severity, Size
from muster_protocol.wire.membership import (
    IndirectAck,
    MemberState,
    Nack,
    Ping,
    PingReq,
)

RELAYS_MAX: Final = 256
"""Pings on behalf of others: far above the few that one failed member causes; the oldest go."""

CONFIRMING_MAX: Final = 8
"""Confirming probes at one time: an accuser of everybody must not make us ask everybody."""

STREAM_ONLY_ROUNDS: Final = 3
"""Probes in a row that only a stream answered: with 5 % loss of packets chance does that once in
millions of rounds."""


@dataclass(slots=True)
class ProbeCounts:
    """For statistics."""

    sent: int = 0
    failed: int = 0
    by_stream: int = 0
    relayed: int = 0


class Probing:
    """All probes and relays in flight."""

    def __init__(
        self,
        *,
        config: MembershipConfig,
        table: Table,
        outbox: Outbox,
        rumours: Rumours,
        awareness: Awareness,
        sequences: Sequences,
        rng: Rng,
    ) -> None:
        self._config = config
        self._table = table
        self._outbox = outbox
        self._rumours = rumours
        self._awareness = awareness
        self._sequences = sequences
        self._rng = rng
        self._order: list[NodeId] = []
        self._probes: dict[int, Probe] = {}
        self._relays: dict[int, Relay] = {}
        self._stream_only: dict[NodeId, int] = {}
        self._next_round: float | None = None
        self.counts = ProbeCounts()

    @property
    def deadline(self) -> float | None:
        """The next timeout of a probe or relay, or the next round."""
        due = [flight.deadline for flight in self._probes.values()]
        due.extend(relay.deadline for relay in self._relays.values())
        if self._next_round is not None:
            due.append(self._next_round)
        return min(due, default=None)

    def sizes(self) -> Iterator[Size]:
        """How much is kept here. A round's probe lasts as many intervals as local health says, and
        one begins in each."""
        rounds = self._config.awareness_max
        yield Size("probes", len(self._probes), CONFIRMING_MAX + 1 + rounds)
        yield Size("relayed probes", len(self._relays), RELAYS_MAX)
        yield Size("members heard by stream only", len(self._stream_only), MEMBERS_MAX)

    # --- when to ask -----------------------------------------------------------------------

    def include(self, node: NodeId, *, now: float) -> None:
        """A member is present that was not: put it into the round, and begin rounds."""
        if node not in self._order:
            self._order.insert(self._rng.randrange(len(self._order) + 1), node)
        if self._next_round is None:
            self._next_round = now + self._rng.uniform(0.0, self._config.probe_interval_s)

    def confirm(self, node: NodeId, *, now: float) -> None:
        """Others suspect the member: perhaps ask it ourselves."""
        entry = self._table.get(node)
        if entry is None or not self._config.lha_suspicion:
            return
        in_flight = [probe.target for probe in self._probes.values()]
        if node in in_flight or len(in_flight) > CONFIRMING_MAX:
            return
        others = max(1, self._table.count(MemberState.ALIVE))
        if self._rng.random() * others < 2 * self._config.suspicion_confirmations:
            self._begin(entry, now)

    def stop(self) -> None:
        """Ask nobody any more; relays that others wait for go on."""
        self._probes.clear()
        self._next_round = None

    def postpone(self, seconds: float) -> None:
        """Our loop stood still for so long."""
        for probe in self._probes.values():
            probe.postpone(seconds)
        if self._next_round is not None:
            self._next_round += seconds

    def expire(self, *, now: float) -> None:
        """Do what is due."""
        for probe in [probe for probe in self._probes.values() if probe.deadline <= now]:
            entry = self._table.get(probe.target)
            if entry is None or not entry.member.is_present:
                del self._probes[probe.sequence]
            elif probe.is_indirect:
                self._fail(probe, SILENT, now)
            else:
                self._ask_others(probe, entry)
        for relay in [relay for relay in self._relays.values() if relay.deadline <= now]:
            self._expire_relay(relay)
        if self._next_round is not None and self._next_round <= now:
            self._begin_round(now)

    def _begin_round(self, now: float) -> None:
        entry = self._next_target()
        if entry is None:
            self._next_round = None
            return
        self._next_round = now + self._config.probe_interval_s * self._awareness.multiplier
        if entry.member.id not in [probe.target for probe in self._probes.values()]:
            self._begin(entry, now)

    def _next_target(self) -> Entry | None:
        for _ in range(2):
            while self._order:
                entry = self._table.get(self._order.pop())
                if entry is not None and entry.member.is_present:
                    return entry
            present = [entry for entry in self._table.entries() if entry.member.is_present]
            self._forget_absent()
            self._order = [entry.member.id for entry in present]
            self._rng.shuffle(self._order)
        return None

    def _forget_absent(self) -> None:
        """Who is gone is not in a round any more, and may never answer by packet again."""
        for node in list(self._stream_only):
            entry = self._table.get(node)
            if entry is None or not entry.member.is_present:
                del self._stream_only[node]

    # --- one probe -------------------------------------------------------------------------

    def _begin(self, entry: Entry, now: float) -> None:
        stretch = self._awareness.multiplier
        probe = Probe(
            sequence=self._sequences.next(),
            target=entry.member.id,
            indirect_at=now + self._config.probe_timeout_s * stretch,
            ends_at=now + self._config.probe_interval_s * stretch,
        )
        self._probes[probe.sequence] = probe
        self.counts.sent += 1
        word = self._rumours.word_for(probe.target)
        self._outbox.send(
            entry.member.address, probe.target, *word, Ping(probe.sequence, probe.target)
        )

    def _ask_others(self, probe: Probe, entry: Entry) -> None:
        assert probe.indirect_at is not None, "asked twice"
        timeout_s = probe.ends_at - probe.indirect_at
        probe.indirect_at = None
        relays = self._table.pick(
            self._rng,
            self._config.indirect_checks,
            lambda other: other.state is MemberState.ALIVE and other is not entry,
        )
        nack_ms = (
            int(timeout_s * self._config.nack_fraction * 1000) if self._config.lha_probe else 0
        )
        request = PingReq(probe.sequence, probe.target, entry.member.address, nack_ms)
        for relay in relays:
            self._outbox.send(relay.member.address, relay.member.id, request)
        probe.nacks_expected = len(relays)
        if self._config.stream_probes:
            self._outbox.add(ProbeByStream(probe.target, entry.member.address, probe.sequence))

    def _fail(self, probe: Probe, reason: str, now: float) -> None:
        del self._probes[probe.sequence]
        self.counts.failed += 1
        if reason != REFUSED:
            self._awareness.probe_failed(
                nacks_expected=probe.nacks_expected, nacks_received=probe.nacks_received
            )
        self._rumours.accuse(probe.target, reason, now=now)

    def _succeed(self, probe: Probe) -> None:
        del self._probes[probe.sequence]
        self._awareness.probe_answered()

    # --- answers ---------------------------------------------------------------------------

    def on_ack(self, sequence: int, sender: NodeId) -> None:
        """The target of a probe, or of a relay, answered itself."""
        probe = self._probes.get(sequence)
        if probe is not None and probe.target == sender:
            self._stream_only.pop(sender, None)
            self._succeed(probe)
        relay = self._relays.get(sequence)
        if relay is not None and relay.target == sender:
            del self._relays[sequence]
            answer = IndirectAck(relay.origin_sequence)
            self._outbox.send(relay.origin_address, relay.origin, answer)

    def on_indirect_ack(self, sequence: int) -> None:
        """A relay reached the target."""
        probe = self._probes.get(sequence)
        if probe is not None:
            self._succeed(probe)

    def on_nack(self, sequence: int) -> None:
        """A relay did not reach it, but we reached the relay and hear it."""
        probe = self._probes.get(sequence)
        if probe is not None:
            probe.nacks_received = min(probe.nacks_received + 1, probe.nacks_expected)

    def on_stream(self, sequence: int) -> None:
        """The stream probe reached the target, and no packet did so far."""
        probe = self._probes.get(sequence)
        if probe is None:
            return
        self._succeed(probe)
        self.counts.by_stream += 1
        rounds = self._stream_only.get(probe.target, 0) + 1
        self._stream_only[probe.target] = rounds
        entry = self._table.get(probe.target)
        if rounds == STREAM_ONLY_ROUNDS and entry is not None:
            self._outbox.notify(
                "packets.blocked",
                Severity.WARNING,
                node=probe.target,
                name=entry.member.name,
                address=str(entry.member.address),
            )

    def on_stream_refused(self, sequence: int, *, now: float) -> None:
        """The target's host says that no process listens."""
        probe = self._probes.get(sequence)
        if probe is not None and probe.is_indirect:
            self._fail(probe, REFUSED, now)

    # --- for others ------------------------------------------------------------------------

    def relay(self, request: PingReq, origin: NodeId, source: Address, *, now: float) -> None:
        """Ping for somebody else."""
        while len(self._relays) >= RELAYS_MAX:
            del self._relays[next(iter(self._relays))]
        nack_s = request.nack_after_ms / 1000
        relay = Relay(
            sequence=self._sequences.next(),
            target=request.target,
            origin=origin,
            origin_address=source,
            origin_sequence=request.sequence,
            nack_at=now + nack_s if nack_s else None,
            ends_at=now + max(2 * nack_s, self._config.probe_interval_s),
        )
        self._relays[relay.sequence] = relay
        self.counts.relayed += 1
        word = self._rumours.word_for(relay.target)
        self._outbox.send(request.address, relay.target, *word, Ping(relay.sequence, relay.target))

    def _expire_relay(self, relay: Relay) -> None:
        if relay.nack_at is None:
            del self._relays[relay.sequence]
            return
        relay.nack_at = None
        self._outbox.send(relay.origin_address, relay.origin, Nack(relay.origin_sequence))
