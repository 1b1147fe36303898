"""A cluster of membership machines on an event heap: virtual time, seeded faults, no trio.

Every message passes the real codec, so that what cannot be encoded, decoded or packed shows. The
shell's part (open streams, drain before timers, report lag) is done here in its simplest form: a
packet is delivered after a delay, a push-pull hands both tables over after another; packets are
not sealed.

What can be done to a member: a kill (its host refuses connections), a power cut (the host is
silent), a pause (nothing is handled, packets wait; then they are read before timers), a stall of
its network, the slow reader, and all that `GossipNetwork` does to the way between two.
"""

from __future__ import annotations

import functools
import itertools
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from muster.sim.machines.gossip_network import STREAM_TIMEOUT_S, GossipNetwork
from muster.sim.machines.heap import EventHeap
from muster_protocol.effects import DeadlineReached, Effect, Emit, Notify, SendPacket
from muster_protocol.limits import PACKET_BYTES_MAX, PACKET_MESSAGES_MAX
from muster_protocol.membership.config import BODY_ENVELOPE_BYTES, SEALING_BYTES, MembershipConfig
from muster_protocol.membership.effects import ProbeByStream, StartSync
from muster_protocol.membership.events import (
    JoinHint,
    LoopLagged,
    PacketReceived,
    StreamProbeFailed,
    StreamProbeSucceeded,
    SyncReceived,
)
from muster_protocol.membership.member import Member, record_of
from muster_protocol.membership.swim import Swim
from muster_protocol.types import Address, NodeId
from muster_protocol.wire.codec import encode
from muster_protocol.wire.membership import (
    MemberState,
    NodeMeta,
    SyncTable,
    decode_message,
    decode_sync_table,
)

DECODED_KEPT: Final = 8_192
"""Messages of which the same bytes need not be decoded again: one rumour goes to dozens."""

_decoded = functools.lru_cache(DECODED_KEPT)(decode_message)

LAG_REPORT_S: Final = 0.1
"""As the driver's."""


def node_id(number: int) -> NodeId:
    """The id of member `number`."""
    return NodeId(f"{number + 1:032x}")


def address_of(number: int) -> Address:
    """Where member `number` lives."""
    return Address(f"10.{number // 62_500}.{number // 250 % 250}.{number % 250 + 1}", 7411)


@dataclass(eq=False)
class SimMember:
    """One host: its machine, and what is done to it."""

    id: NodeId
    name: str
    address: Address
    swim: Swim
    boot: str
    is_up: bool = True
    is_host_up: bool = True
    is_slow: bool = False
    stalled_until: float = 0.0
    held: list[tuple[Callable[..., object], tuple[Any, ...]]] = field(default_factory=list)
    paused_until: float | None = None
    waiting: list[Any] = field(default_factory=list)
    wakes_at: float | None = None
    packets: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class Happened:
    """A signal or a notice, with when and where."""

    at: float
    node: NodeId
    type: str
    data: dict[str, Any]


class GossipMembers(EventHeap):
    """Members in the order in which they were added; `run` moves time."""

    def __init__(
        self,
        *,
        seed: object,
        config: MembershipConfig | None = None,
        loss: float = 0.0,
        meta: NodeMeta | None = None,
        on_signal: Callable[[Happened], object] | None = None,
        on_handled: Callable[[SimMember, Any], object] | None = None,
    ) -> None:
        """`on_signal` takes what machines emit, instead of the list `signals`; `on_handled` sees
        each event after a machine has handled it."""
        super().__init__()
        self._rng = random.Random(f"{seed}/machines")
        self.network = GossipNetwork(random.Random(f"{seed}/network"), loss=loss)
        self.config = config if config is not None else MembershipConfig.lan()
        self.meta = meta if meta is not None else NodeMeta()
        self.members: list[SimMember] = []
        self.signals: list[Happened] = []
        self.notices: list[Happened] = []
        self.packet_bytes_max = 0
        self._on_signal = on_signal if on_signal is not None else self.signals.append
        self._on_handled = on_handled
        self._at_address: dict[Address, SimMember] = {}
        self._boots = itertools.count(1)

    # --- members ---------------------------------------------------------------------------

    def add(self, *, join: Iterable[SimMember] = (), **changes: Any) -> SimMember:
        """Start one member more; `changes` replace fields of its own record."""
        number = len(self.members)
        me = Member(node_id(number), f"node-{number}", address_of(number), meta=self.meta)
        me = msgspec.structs.replace(me, **changes)
        boot = self._next_boot()
        member = SimMember(me.id, me.name, me.address, self._machine(me, boot), boot)
        self.members.append(member)
        self._at_address[member.address] = member
        self._reschedule(member)
        self.hint(member, join)
        return member

    def add_many(self, count: int, *, apart_s: float = 0.0) -> None:
        """`count` members, each of which is told the first one's address."""
        for _ in range(count):
            self.add(join=self.members[:1])
            self.run(apart_s)

    def found(self, count: int) -> None:
        """`count` members that have known each other for long, without the time that joining
        takes: each is told of all by one push-pull, and what that would make it say is unsaid."""
        for _ in range(count):
            self.add()
        own = (member.swim.members()[0] for member in self.members)
        rows = tuple(
            record_of(Member(view.id, view.name, view.address, meta=view.meta), age_s=0.0)
            for view in own
        )
        for member in self.members:
            peer = self.members[member is self.members[0]]
            member.swim.handle(SyncReceived(peer.id, SyncTable(rows)), now=self.now)
            self._reschedule(member)

    def restart(self, member: SimMember, *, join: Iterable[SimMember] = (), **changes: Any) -> None:
        """The same identity in a new process that remembers nothing."""
        me = Member(member.id, member.name, member.address, meta=self.meta)
        me = msgspec.structs.replace(me, **changes)
        self._at_address.pop(member.address, None)
        member.boot, member.address = self._next_boot(), me.address
        self._at_address[member.address] = member
        member.swim = self._machine(me, member.boot)
        member.is_up = member.is_host_up = True
        member.paused_until = member.wakes_at = None
        member.stalled_until = 0.0
        member.waiting.clear()
        member.held.clear()
        self._reschedule(member)
        self.hint(member, join)

    def hint(self, member: SimMember, others: Iterable[SimMember]) -> None:
        """Tell a member where others are."""
        addresses = tuple(other.address for other in others if other is not member)
        if addresses:
            self.post(member, JoinHint(addresses))

    def kill(self, member: SimMember) -> None:
        """The process dies; its host refuses connections."""
        member.is_up = False

    def power_off(self, member: SimMember) -> None:
        """The host dies; nothing answers."""
        member.is_up = member.is_host_up = False

    def pause(self, member: SimMember, seconds: float) -> None:
        """Handle nothing for a while. A pause within another one may make it longer."""
        until = max(self.now + seconds, member.paused_until or 0.0)
        member.paused_until = until
        self.at(until - self.now, self._resume, member, member.boot)

    def stall(self, member: SimMember, seconds: float) -> None:
        """Its network stands still both ways, with timers on time; then all that was held flows, in
        its order. A stall within another one may make it longer."""
        member.stalled_until = max(member.stalled_until, self.now + seconds)
        self.at(seconds, self._flow, member)

    def unstall(self, member: SimMember) -> None:
        """End a stall before its time."""
        member.stalled_until = self.now
        self._flow(member)

    def resume(self, member: SimMember) -> None:
        """End a pause before its time."""
        if member.paused_until is not None:
            member.paused_until = self.now
            self._resume(member, member.boot)

    def cut(self, *groups: Iterable[SimMember]) -> None:
        """Members of different groups do not reach each other."""
        self.network.cut(
            {member.address: number for number, group in enumerate(groups) for member in group}
        )

    def _next_boot(self) -> str:
        return f"{next(self._boots):024x}"

    def _machine(self, me: Member, boot: str) -> Swim:
        rng = random.Random(self._rng.random())
        return Swim(config=self.config, me=me, rng=rng, boot=boot, now=self.now)

    # --- what is seen ----------------------------------------------------------------------

    def up(self) -> list[SimMember]:
        """Whose process runs, perhaps paused."""
        return [member for member in self.members if member.is_up]

    def state(self, observer: SimMember, subject: SimMember) -> MemberState | None:
        """What one member takes another for; None if it does not know it."""
        for view in observer.swim.members():
            if view.id == subject.id:
                return view.state
        return None

    def all_see(self, subject: SimMember, state: MemberState | None) -> bool:
        """Whether everybody else who is up takes the subject for this."""
        return all(
            self.state(member, subject) is state for member in self.up() if member is not subject
        )

    def views(self) -> list[dict[str, tuple[Any, ...]]]:
        """What those who are up believe, comparable: everything but their own observations."""
        return [
            {
                view.id: (view.name, view.address, view.incarnation, view.state, view.meta)
                for view in sorted(member.swim.members(), key=lambda view: view.id)
            }
            for member in self.up()
        ]

    def is_converged(self) -> bool:
        """Whether all who are up believe the same, and each other to be alive."""
        views = self.views()
        return all(view == views[0] for view in views) and all(
            views[0].get(member.id, (0, 0, 0, None))[3] is MemberState.ALIVE for member in self.up()
        )

    def signals_of(self, type_: str, subject: SimMember | None = None) -> list[Happened]:
        """The signals of one type, perhaps about one member only."""
        return [
            signal
            for signal in self.signals
            if signal.type == type_ and (subject is None or signal.data["node"] == subject.id)
        ]

    # --- time ------------------------------------------------------------------------------

    def run(self, seconds: float) -> None:
        """Let time pass."""
        self.run_until(self.now + seconds)

    def wait_for(self, condition: Callable[[], bool], seconds: float, *, step_s: float) -> bool:
        """Let time pass until the condition holds, looked at so often; False: not in time."""
        end = self.now + seconds
        while not condition():
            if self.now >= end:
                return False
            self.run_until(min(end, self.now + step_s))
        return True

    def post(self, member: SimMember, event: Any) -> None:
        """Give a machine an event now; while it is paused, when it goes on."""
        if not member.is_up:
            return
        if member.paused_until is not None:
            member.waiting.append(event)
            return
        self._handle(member, event)

    def _handle(self, member: SimMember, event: Any) -> None:
        for effect in member.swim.handle(event, now=self.now):
            self._perform(member, effect)
        if self._on_handled is not None:
            self._on_handled(member, event)
        self._reschedule(member)

    def _reschedule(self, member: SimMember) -> None:
        """One wake is under way at a time: a later deadline waits for the earlier wake."""
        deadline = member.swim.deadline
        if deadline is not None and (member.wakes_at is None or deadline < member.wakes_at):
            member.wakes_at = max(deadline, self.now)
            self.at(member.wakes_at - self.now, self._wake, member, member.boot, member.wakes_at)

    def _wake(self, member: SimMember, boot: str, at: float) -> None:
        if member.boot != boot or member.wakes_at != at:
            return
        member.wakes_at = None
        if not member.is_up or member.paused_until is not None:
            return
        deadline = member.swim.deadline
        if deadline is not None and deadline <= self.now:
            self._handle(member, DeadlineReached())
        else:
            self._reschedule(member)

    def _resume(self, member: SimMember, boot: str) -> None:
        if member.boot != boot or not member.is_up or member.paused_until != self.now:
            return
        member.paused_until = None
        waiting, member.waiting = member.waiting, []
        for event in waiting:
            self._handle(member, event)
        deadline = member.swim.deadline
        if deadline is not None and self.now - deadline > LAG_REPORT_S:
            self._handle(member, LoopLagged(self.now - deadline))
        self._reschedule(member)

    # --- the world -------------------------------------------------------------------------

    def _perform(self, member: SimMember, effect: Effect) -> None:
        if isinstance(effect, SendPacket):
            self._send(member, effect)
        elif isinstance(effect, Emit):
            self._on_signal(Happened(self.now, member.id, effect.type, dict(effect.data)))
        elif isinstance(effect, Notify):
            data = dict(effect.fields) | {"severity": effect.severity}
            self.notices.append(Happened(self.now, member.id, effect.event, data))
        elif isinstance(effect, StartSync):
            self._exchange(member, effect.peer, effect.address)
        elif isinstance(effect, ProbeByStream):
            self._dial(member, effect.peer, effect.address, effect.sequence)
        else:
            raise AssertionError(f"unknown effect {effect}")

    def _send(self, member: SimMember, packet: SendPacket) -> None:
        raw = [encode(message) for message in packet.messages]
        self._account(member, raw)
        delays = self.network.deliveries(member.address, packet.to)
        target = self._at_address.get(packet.to)
        if target is None or packet.receiver not in (None, target.id):
            return
        messages = tuple(_decoded(item) for item in raw) if delays else ()
        event = PacketReceived(member.id, member.address, messages)
        for delay_s in delays:
            reading_s = self.network.reading_s() if target.is_slow else 0.0
            self._through(member, self.at, delay_s + reading_s, self._receive, target, event)

    def _account(self, member: SimMember, raw: Sequence[bytes]) -> None:
        size = SEALING_BYTES + BODY_ENVELOPE_BYTES + sum(map(len, raw))
        assert 0 < len(raw) <= PACKET_MESSAGES_MAX
        assert size <= PACKET_BYTES_MAX, f"a packet of {size} bytes"
        self.packet_bytes_max = max(self.packet_bytes_max, size)
        member.packets += 1
        member.bytes += size

    def _through(self, member: SimMember, action: Callable[..., object], *args: Any) -> None:
        """Through the member's own network: now, or when it flows again."""
        if self.now < member.stalled_until:
            member.held.append((action, args))
        else:
            action(*args)

    def _flow(self, member: SimMember) -> None:
        if self.now >= member.stalled_until:
            held, member.held = member.held, []
            for action, args in held:
                action(*args)

    def _receive(self, target: SimMember, event: Any) -> None:
        self._through(target, self.post, target, event)

    def _arrive(self, target: SimMember, boot: str, event: Any) -> None:
        """What came by a stream is lost with the process that had it; a packet is not."""
        if target.boot == boot:
            self._receive(target, event)

    def _connects(self, member: SimMember, target: SimMember | None, peer: NodeId) -> bool:
        return (
            target is not None
            and target.id == peer
            and target.is_up
            and target.paused_until is None
            and self.now >= max(member.stalled_until, target.stalled_until)
            and self.network.connects(member.address, target.address)
        )

    def _exchange(self, member: SimMember, peer: NodeId, address: Address) -> None:
        target = self._at_address.get(address)
        if target is None or not self._connects(member, target, peer):
            return
        mine, theirs = member.swim.table_for_sync(), target.swim.table_for_sync()
        for receiver, sender, table in ((target, member, mine), (member, target, theirs)):
            member.bytes += len(encoded := encode(table))
            event = SyncReceived(sender.id, decode_sync_table(encoded))
            delay_s = self.network.delay_s(is_slow=receiver.is_slow)
            self.at(delay_s, self._arrive, receiver, receiver.boot, event)

    def _dial(self, member: SimMember, peer: NodeId, address: Address, sequence: int) -> None:
        target = self._at_address.get(address)
        is_refused = (
            target is not None
            and target.is_host_up
            and not target.is_up
            and self.network.connects(member.address, address)
        )
        event: Any = StreamProbeFailed(sequence, refused=is_refused)
        delay_s = self.network.delay_s() if is_refused else STREAM_TIMEOUT_S
        if target is not None and self._connects(member, target, peer):
            delay_s = self.network.delay_s(is_slow=target.is_slow)
            event = StreamProbeSucceeded(sequence)
        if member.is_slow:
            delay_s += self.network.reading_s()
        self.at(delay_s, self._arrive, member, member.boot, event)
