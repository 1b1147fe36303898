"""Membership: who is here. SWIM with suspicion and the whole of Lifeguard, as one pure machine.

Sources: Das, Gupta, Motivala, "SWIM" (DSN 2002); Dadgar, Phillips, Currey, "Lifeguard" (arXiv
1707.00788). Where memberlist's code and the papers differ, the module that decides says what and
why. Theory of operation, from the outside in:

* `probing` asks the members in turn whether they live, and asks others to ask (`probe`: the stages
  of one question). A question that fails becomes an accusation;
* `rumours` keeps the table by what is heard: order of updates, suspicion, refutation. `member` has
  the order, `suspicion` the time that a suspicion lasts, `table` the table and its graves;
* `gossip` passes on what is new, on every packet that leaves (`outbox`, `broadcasts`) and on some
  of its own;
* `sync` compares tables with digests, and exchanges them where they differ;
* `joining` asks addresses until somebody answers;
* `awareness` is how much this node doubts itself: it stretches `probing`, and rises when probes
  fail for want of an echo, when others suspect us, and when our loop is late;
* `identity` finds two nodes with one id, or one name.

The parts share the table and the outbox and know nothing else of each other, but that `probing`
accuses through `rumours`. `Swim` takes the events, gives each part what is its own, and says when
to be woken. What one part left for another (`Aftermath`) is settled after each event.

**Phases.** A node is alive until it is told to stop or to leave. It then says so under its present
incarnation, asks nothing any more, still answers, and goes on telling for `farewell_s` at most.
Then `has_departed` is true, and the process may end. A stopped member keeps its place: it is shown
as stopped, is neither probed nor forgotten, and is back with its next `Alive`, whose incarnation is
higher because it is told at once what it has to supersede. How long its absence may last before
anybody acts on it is decided elsewhere, from `since`. Failed and left members are forgotten after
`forget_failed_s` and `forget_left_s`.

**Figures** (sim/machines/gossip.py, LAN defaults, 1 ms network; time until *all* others say
failed). SIGKILL: median 2.2 s at three nodes, 3.4 the worst of forty; 2.3 s at fifty. Power cut:
4.7 s at three, 5.9 the worst; 6.7 s at fifty. Idle: 2.0 packets and 250 bytes per node and second,
at three nodes and at fifty. Six nodes, one of which reads each packet 0.5-2.5 s late, a fifth of
the packets lost, sixty runs of a minute; runs in which somebody alive was said to have failed:

    without Lifeguard 27 · buddy alone 28 · probe alone 8 · suspicion alone 6 · all three 0
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from muster_protocol.effects import DeadlineReached, Effect, earliest
from muster_protocol.errors import UsageError
from muster_protocol.limits import META_BYTES_MAX, PUSH_PULL_MEMBERS_MAX
from muster_protocol.membership.awareness import Awareness
from muster_protocol.membership.config import MembershipConfig
from muster_protocol.membership.events import (
    AddressChanged,
    ForgetRequested,
    JoinHint,
    LeaveRequested,
    LoopLagged,
    PacketReceived,
    StopRequested,
    StreamProbeFailed,
    StreamProbeSucceeded,
    SyncReceived,
    UpdateMeta,
)
from muster_protocol.membership.gossip import Gossip
from muster_protocol.membership.identity import Identity
from muster_protocol.membership.joining import HINTS_MAX, Joining
from muster_protocol.membership.member import Member, MemberView, alive_update
from muster_protocol.membership.outbox import Outbox
from muster_protocol.membership.probing import Probing
from muster_protocol.membership.rumours import Heard, Rumours
from muster_protocol.membership.sequences import Sequences
from muster_protocol.membership.sync import Sync
from muster_protocol.membership.table import Table
from muster_protocol.types import NodeId, Rng, Severity, Size
from muster_protocol.wire.membership import (
    Ack,
    Alive,
    Digest,
    DigestDiffers,
    Failed,
    IndirectAck,
    JoinReply,
    JoinRequest,
    Left,
    MemberState,
    Nack,
    NodeMeta,
    Ping,
    PingReq,
    Stopped,
    Suspect,
    SyncTable,
    Update,
    meta_bytes,
)

REAP_INTERVAL_S: Final = 60.0
"""How often the table is searched for members to forget; they stay for a day, so a minute is
nothing."""


@dataclass(frozen=True, slots=True)
class SwimStatistics:
    """For status and metrics. Counts since the start of the machine."""

    members: int
    states: Mapping[str, int]
    """The others, by state."""
    local_health: int
    """0 is well; up to `awareness_max - 1`."""
    probes: int
    probes_failed: int
    probes_by_stream: int
    probes_relayed: int
    suspicions_raised: int
    refutations: int
    broadcasts_queued: int
    packets_sent: int
    syncs_started: int
    joins_pending: int
    ignored: Mapping[str, int]
    """What was not taken, by cause."""


class Swim:
    """One node's membership. `handle` events in, effects out; `deadline` as everywhere.

    `me` is what this node says of itself, `boot` the hexadecimal salt of this process. Errors of
    the constructor: UsageError when the metadata is too long.
    """

    def __init__(
        self, *, config: MembershipConfig, me: Member, rng: Rng, boot: str, now: float
    ) -> None:
        if meta_bytes(me.meta) > META_BYTES_MAX:
            raise UsageError(f"metadata above {META_BYTES_MAX} bytes encoded")
        self._config = config
        self._boot = boot
        self._now = now
        self._reap_at = now + REAP_INTERVAL_S
        self._departs_at: float | None = None
        self._ignored: collections.Counter[str] = collections.Counter()
        self._table = Table(me, now=now)
        self._outbox = Outbox(config, self._table)
        self._awareness = Awareness(maximum=config.awareness_max, enabled=config.lha_probe)
        self._sequences = Sequences(rng)
        self._gossip = Gossip(
            config=config, table=self._table, outbox=self._outbox, rng=rng, now=now
        )
        self._rumours = Rumours(
            config=config,
            table=self._table,
            outbox=self._outbox,
            gossip=self._gossip,
            awareness=self._awareness,
        )
        self._probing = Probing(
            config=config,
            table=self._table,
            outbox=self._outbox,
            rumours=self._rumours,
            awareness=self._awareness,
            sequences=self._sequences,
            rng=rng,
        )
        self._sync = Sync(config=config, table=self._table, outbox=self._outbox, rng=rng, now=now)
        self._joining = Joining(
            config=config,
            table=self._table,
            outbox=self._outbox,
            sequences=self._sequences,
            rng=rng,
            boot=boot,
        )
        self._identity = Identity(
            table=self._table, outbox=self._outbox, sequences=self._sequences, boot=boot, now=now
        )
        self._on_event = self._event_handlers()
        self._on_message = self._message_handlers()

    def _event_handlers(self) -> dict[type, Callable[[Any], None]]:
        return {
            PacketReceived: self._on_packet,
            SyncReceived: self._on_sync,
            StreamProbeSucceeded: self._on_stream_succeeded,
            StreamProbeFailed: self._on_stream_failed,
            LoopLagged: self._on_lag,
            JoinHint: self._on_hint,
            UpdateMeta: self._on_update_meta,
            AddressChanged: self._on_address,
            StopRequested: self._on_stop,
            LeaveRequested: self._on_leave,
            ForgetRequested: self._on_forget,
            DeadlineReached: self._on_deadline,
        }

    def _message_handlers(self) -> dict[type, Callable[[Any, PacketReceived], None]]:
        return {
            Ping: self._on_ping,
            Ack: self._on_ack,
            PingReq: self._on_ping_req,
            Nack: self._on_nack,
            IndirectAck: self._on_indirect_ack,
            Alive: self._on_update,
            Suspect: self._on_update,
            Failed: self._on_update,
            Stopped: self._on_update,
            Left: self._on_update,
            Digest: self._on_digest,
            DigestDiffers: self._on_differs,
            JoinRequest: self._on_join_request,
            JoinReply: self._on_join_reply,
        }

    # --- for the shell ---------------------------------------------------------------------

    @property
    def deadline(self) -> float | None:
        if self.has_departed:
            return None
        parts = (self._probing, self._rumours, self._gossip, self._sync, self._joining)
        due = [part.deadline for part in parts]
        return earliest(*due, self._reap_at, self._departs_at)

    def handle(self, event: Any, *, now: float) -> tuple[Effect, ...]:
        """Take one event and say what should be done about it."""
        self._now = now
        if not self.has_departed:
            self._on_event[type(event)](event)
            self._settle()
        return self._outbox.take()

    def members(self) -> tuple[MemberView, ...]:
        """Everybody, this node first, then in the order in which they came to be known."""
        return self._table.views()

    def member(self, node: NodeId) -> Member | None:
        """What is believed of one member, this node included; None for a stranger."""
        if node == self._table.me.id:
            return self._table.me
        entry = self._table.get(node)
        return None if entry is None else entry.member

    def table_for_sync(self) -> SyncTable:
        """What to send on a push-pull stream."""
        return self._table.for_sync(now=self._now)

    @property
    def identity_conflict(self) -> bool:
        """Another, older process lives under our node id: this one must not vote."""
        return self._identity.has_yielded

    @property
    def has_departed(self) -> bool:
        """The farewell of a stopping or leaving node is said: the process may end."""
        return self._departs_at is not None and self._now >= self._departs_at

    def statistics(self) -> SwimStatistics:
        counts, rumours = self._probing.counts, self._rumours.counts
        told = ("refutations", "suspicions raised")
        return SwimStatistics(
            members=len(self._table),
            states={state.name.lower(): self._table.count(state) for state in MemberState},
            local_health=self._awareness.score,
            probes=counts.sent,
            probes_failed=counts.failed,
            probes_by_stream=counts.by_stream,
            probes_relayed=counts.relayed,
            suspicions_raised=rumours["suspicions raised"],
            refutations=rumours["refutations"],
            broadcasts_queued=len(self._outbox.broadcasts),
            packets_sent=self._outbox.packets_sent,
            syncs_started=self._sync.started,
            joins_pending=len(self._joining),
            ignored=dict(self._ignored) | {k: n for k, n in rumours.items() if k not in told},
        )

    def sizes(self) -> Iterator[Size]:
        """How much this machine keeps, and the limits of it."""
        config, broadcasts = self._config, self._outbox.broadcasts
        yield from self._table.sizes()
        yield from self._probing.sizes()
        yield Size("addresses asked", len(self._joining), HINTS_MAX)
        accusations = 2 + config.suspicion_confirmations  # the first, and those that it waits for
        yield Size("broadcasts", len(broadcasts), len(self._table) * accusations)
        # One that waits was sent less often than the limit; which is larger in a larger cluster.
        sendings_max = config.retransmit_limit(PUSH_PULL_MEMBERS_MAX) - 1
        yield Size("sendings of a broadcast", broadcasts.sendings, sendings_max)

    # --- events ----------------------------------------------------------------------------

    def _on_packet(self, event: PacketReceived) -> None:
        entry = self._table.get(event.sender)
        if entry is not None:
            entry.last_seen = self._now
        for message in event.messages:
            self._on_message[type(message)](message, event)

    def _on_sync(self, event: SyncReceived) -> None:
        before = self._table.digest()
        is_newcomer = self._table.present == 1
        heard = Heard(event.peer, None, self._now, is_passed_on=not is_newcomer)
        for record in event.table.members:
            self._rumours.hear_record(record, heard)
        if (entry := self._table.get(event.peer)) is not None:
            entry.last_seen = self._now
        self._sync.brought(self._table.digest() != before, now=self._now)

    def _on_stream_succeeded(self, event: StreamProbeSucceeded) -> None:
        self._probing.on_stream(event.sequence)

    def _on_stream_failed(self, event: StreamProbeFailed) -> None:
        if event.refused:
            self._probing.on_stream_refused(event.sequence, now=self._now)

    def _on_lag(self, event: LoopLagged) -> None:
        if event.seconds <= self._config.lag_tolerated_s:
            return
        self._awareness.lagged(event.seconds)
        self._probing.postpone(event.seconds)
        self._rumours.postpone(event.seconds)

    def _on_hint(self, event: JoinHint) -> None:
        if self._is_alive:
            self._joining.hint(event.addresses, now=self._now)
            self._joining.expire(now=self._now)

    def _on_update_meta(self, event: UpdateMeta) -> None:
        size = meta_bytes(event.meta)
        if size > META_BYTES_MAX:
            self._outbox.notify(
                "meta.oversized", Severity.ERROR, bytes=size, bytes_max=META_BYTES_MAX
            )
        elif event.meta != self._table.me.meta:
            self._renew(meta=event.meta)

    def _on_address(self, event: AddressChanged) -> None:
        if event.address != self._table.me.address:
            self._renew(address=event.address)

    def _on_stop(self, _: StopRequested) -> None:
        self._depart(MemberState.STOPPED)

    def _on_leave(self, _: LeaveRequested) -> None:
        self._depart(MemberState.LEFT)

    def _on_forget(self, event: ForgetRequested) -> None:
        entry = self._table.get(event.node)
        if entry is None or entry.state not in (MemberState.FAILED, MemberState.STOPPED):
            state = "unknown" if entry is None else entry.state.name.lower()
            self._outbox.notify("forget.refused", Severity.WARNING, node=event.node, state=state)
            return
        me = self._table.me.id
        update = Left(event.node, entry.member.incarnation, me)
        self._rumours.hear(update, Heard(me, None, self._now))

    def _on_deadline(self, _: DeadlineReached) -> None:
        self._probing.expire(now=self._now)
        self._rumours.expire(now=self._now)
        self._sync.expire(now=self._now)
        self._joining.expire(now=self._now)
        self._gossip.expire(now=self._now)
        if self._now >= self._reap_at:
            self._reap()

    # --- messages --------------------------------------------------------------------------

    def _on_ping(self, ping: Ping, packet: PacketReceived) -> None:
        me = self._table.me
        if ping.target != me.id:
            self._ignored["ping for somebody else"] += 1
        elif packet.sender == me.id:
            self._identity.check(packet.source, now=self._now)
            ack = self._identity.answer(ping.sequence, now=self._now)
            self._outbox.send(packet.source, packet.sender, ack)
        else:
            word = self._rumours.word_for(packet.sender, seen_at=packet.source)
            self._outbox.send(packet.source, packet.sender, *word, Ack(ping.sequence))
            self._introduce(packet)

    def _on_ack(self, ack: Ack, packet: PacketReceived) -> None:
        if packet.sender == self._table.me.id:
            self._identity.on_ack(ack, packet.source, now=self._now)
            if self._identity.has_yielded:
                self._rumours.mute()
        else:
            self._probing.on_ack(ack.sequence, packet.sender)

    def _on_ping_req(self, request: PingReq, packet: PacketReceived) -> None:
        if request.target != self._table.me.id:
            self._probing.relay(request, packet.sender, packet.source, now=self._now)

    def _on_nack(self, nack: Nack, _: PacketReceived) -> None:
        self._probing.on_nack(nack.sequence)

    def _on_indirect_ack(self, ack: IndirectAck, _: PacketReceived) -> None:
        self._probing.on_indirect_ack(ack.sequence)

    def _on_update(self, update: Update, packet: PacketReceived) -> None:
        self._rumours.hear(update, self._heard(packet))

    def _on_digest(self, digest: Digest, packet: PacketReceived) -> None:
        self._introduce(packet)
        self._sync.on_digest(digest, packet.sender, packet.source, now=self._now)

    def _on_differs(self, _: DigestDiffers, packet: PacketReceived) -> None:
        self._sync.on_differs(packet.sender, now=self._now)

    def _on_join_request(self, request: JoinRequest, packet: PacketReceived) -> None:
        me = self._table.me
        if request.record.node != packet.sender:
            self._ignored["introduction of somebody else"] += 1
        elif packet.sender == me.id and request.boot == self._boot:
            self._joining.answered(request.sequence)
        elif packet.sender == me.id:
            self._identity.check(packet.source, now=self._now)
        elif self._is_alive:
            self._rumours.hear(request.record, self._heard(packet))
            if self._table.get(packet.sender) is None:
                return
            reply = JoinReply(request.sequence, alive_update(me), self._table.digest())
            self._outbox.send(packet.source, packet.sender, reply)

    def _on_join_reply(self, reply: JoinReply, packet: PacketReceived) -> None:
        record = reply.record
        if record.node != packet.sender or not self._joining.answered(reply.sequence):
            self._ignored["answer to no question"] += 1
            return
        differs = reply.digest != self._table.digest()
        self._rumours.hear(record, self._heard(packet))
        if differs and self._table.get(record.node) is not None:
            self._sync.start(record.node, record.address, now=self._now)

    # --- what several of them need ---------------------------------------------------------

    @property
    def _is_alive(self) -> bool:
        return self._table.me.state is MemberState.ALIVE

    def _heard(self, packet: PacketReceived) -> Heard:
        return Heard(packet.sender, packet.source, self._now)

    def _introduce(self, packet: PacketReceived) -> None:
        """A stranger takes us for a member, as after our restart: ask to be taken in again."""
        is_stranger = self._table.get(packet.sender) is None
        if is_stranger and packet.sender != self._table.me.id and self._is_alive:
            self._joining.hint((packet.source,), now=self._now)

    def _renew(self, *, meta: NodeMeta | None = None, **changes: Any) -> None:
        """Say something new of ourselves, under a new incarnation."""
        me = self._table.me
        if meta is not None:
            changes["meta"] = meta
        me = msgspec.structs.replace(me, incarnation=me.incarnation + 1, **changes)
        self._rumours.announce(me, now=self._now)

    def _depart(self, state: MemberState) -> None:
        """Say good-bye, and begin nothing more. Leaving outranks stopping, so it may follow it."""
        me = self._table.me
        if state <= me.state:
            return
        for part in (self._probing, self._sync, self._joining):
            part.stop()
        self._rumours.announce(me.claimed(state, me.incarnation), now=self._now)
        self._gossip.urge(now=self._now)
        self._departs_at = self._now + self._config.farewell_s

    def _settle(self) -> None:
        """Give each part what the event left for it."""
        aftermath = self._rumours.take_aftermath()
        if self._departs_at is not None:
            if self._table.present == 1 or self._table.me.id not in self._outbox.broadcasts:
                self._departs_at = self._now
            return
        for node in aftermath.newcomers:
            self._probing.include(node, now=self._now)
        for node in aftermath.doubts:
            self._probing.confirm(node, now=self._now)
        for address in aftermath.doubles:
            self._identity.check(address, now=self._now)

    def _reap(self) -> None:
        """Forget who failed or left long ago."""
        self._reap_at = self._now + REAP_INTERVAL_S
        keep_s = {
            MemberState.FAILED: self._config.forget_failed_s,
            MemberState.LEFT: self._config.forget_left_s,
        }
        for entry in list(self._table.entries()):
            if entry.state in keep_s and self._now - entry.since >= keep_s[entry.state]:
                self._table.forget(entry.member.id)
                self._outbox.broadcasts.drop(entry.member.id)
