"""A cluster of membership machines on an event heap: virtual time, seeded faults, no trio.

Every message passes the real codec, so that what cannot be encoded, decoded or packed shows. The
shell's part (seal, open streams, drain before timers, report lag) is done here in its simplest
form: a packet is delivered after a delay, a push-pull hands both tables over after another.

Faults: loss, cuts between groups (one-way too), a kill (the host refuses connections), a power cut
(the host is silent), a pause (nothing is handled, packets wait; then they are read before timers),
and the slow reader of the Lifeguard replications, which reads each packet 0.5-2.5 s late while its
timers are on time.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

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
from muster_protocol.membership.member import Member
from muster_protocol.membership.swim import Swim
from muster_protocol.types import Address, NodeId
from muster_protocol.wire.codec import encode
from muster_protocol.wire.membership import (
    MemberState,
    NodeMeta,
    decode_message,
    decode_sync_table,
)

LATENCY_S: Final = (0.0005, 0.0015)
SLOW_READ_S: Final = (0.5, 2.5)
STREAM_TIMEOUT_S: Final = 0.5
LAG_REPORT_S: Final = 0.1
INPUT, TIMER = 0, 1
"""Order of what happens at one instant: input first."""


def node_id(number: int) -> NodeId:
    """The id of node `number`."""
    return NodeId(f"{number + 1:032x}")


def address_of(number: int) -> Address:
    """Where node `number` lives."""
    return Address(f"10.0.{number // 250}.{number % 250 + 1}", 7411)


@dataclass
class Node:
    """One host: its machine, and what is done to it."""

    id: NodeId
    name: str
    address: Address
    swim: Swim
    boot: str
    is_up: bool = True
    is_host_up: bool = True
    is_slow: bool = False
    paused_until: float | None = None
    waiting: list[Any] = field(default_factory=list)
    wake_token: int = 0
    packets: int = 0
    bytes: int = 0


@dataclass(frozen=True)
class Happened:
    """A signal or a notice, with when and where."""

    at: float
    node: NodeId
    type: str
    data: dict[str, Any]


class SwimCluster:
    """Nodes by number; `run` moves time."""

    def __init__(
        self,
        *,
        seed: int,
        config: MembershipConfig | None = None,
        loss: float = 0.0,
        meta: NodeMeta | None = None,
    ) -> None:
        self.random = random.Random(seed)
        self.config = config if config is not None else MembershipConfig.lan()
        self.meta = meta if meta is not None else NodeMeta()
        self.loss = loss
        self.now = 0.0
        self.nodes: list[Node] = []
        self.signals: list[Happened] = []
        self.notices: list[Happened] = []
        self.packet_bytes_max = 0
        self.is_cut: Callable[[Address, Address], bool] = lambda source, to: False
        self._heap: list[tuple[float, int, int, Callable[[], None]]] = []
        self._ties = itertools.count()
        self._boots = itertools.count(1)

    # --- nodes -----------------------------------------------------------------------------

    def add(self, *, join: Iterable[Node] = (), **changes: Any) -> Node:
        """Start one node more; `changes` replace fields of its own record."""
        number = len(self.nodes)
        me = Member(node_id(number), f"node-{number}", address_of(number), meta=self.meta)
        me = msgspec.structs.replace(me, **changes)
        boot = self._next_boot()
        node = Node(me.id, me.name, me.address, self._machine(me, boot), boot)
        self.nodes.append(node)
        self._reschedule(node)
        self.hint(node, join)
        return node

    def add_many(self, count: int, *, apart_s: float = 0.0) -> list[Node]:
        """`count` nodes, each of which is told the first one's address."""
        nodes = []
        for _ in range(count):
            nodes.append(self.add(join=self.nodes[:1]))
            self.run(apart_s)
        return nodes

    def restart(self, node: Node, *, join: Iterable[Node] = (), **changes: Any) -> None:
        """The same identity in a new process that remembers nothing."""
        me = Member(node.id, node.name, node.address, meta=self.meta)
        me = msgspec.structs.replace(me, **changes)
        node.boot, node.address = self._next_boot(), me.address
        node.swim = self._machine(me, node.boot)
        node.is_up = node.is_host_up = True
        node.paused_until = None
        node.waiting.clear()
        self._reschedule(node)
        self.hint(node, join)

    def hint(self, node: Node, others: Iterable[Node]) -> None:
        """Tell a node where others are."""
        addresses = tuple(other.address for other in others if other is not node)
        if addresses:
            self.post(node, JoinHint(addresses))

    def kill(self, node: Node) -> None:
        """The process dies; its host refuses connections."""
        node.is_up = False

    def power_off(self, node: Node) -> None:
        """The host dies; nothing answers."""
        node.is_up = node.is_host_up = False

    def pause(self, node: Node, seconds: float) -> None:
        """Handle nothing for a while."""
        node.paused_until = self.now + seconds
        self._at(node.paused_until, TIMER, lambda: self._resume(node))

    def cut(self, *groups: Iterable[Node]) -> None:
        """Nodes of different groups do not reach each other."""
        group_of = {node.address: number for number, group in enumerate(groups) for node in group}
        self.is_cut = lambda source, to: group_of.get(source) != group_of.get(to)

    def heal(self) -> None:
        """Everybody reaches everybody."""
        self.is_cut = lambda source, to: False

    def _next_boot(self) -> str:
        return f"{next(self._boots):024x}"

    def _machine(self, me: Member, boot: str) -> Swim:
        rng = random.Random(self.random.random())
        return Swim(config=self.config, me=me, rng=rng, boot=boot, now=self.now)

    # --- what is seen ----------------------------------------------------------------------

    def state(self, observer: Node, subject: Node) -> MemberState | None:
        """What one node takes another for; None if it does not know it."""
        for view in observer.swim.members():
            if view.id == subject.id:
                return view.state
        return None

    def all_see(self, subject: Node, state: MemberState) -> bool:
        """Whether everybody else who is up takes the subject for this."""
        return all(
            self.state(node, subject) is state
            for node in self.nodes
            if node.is_up and node is not subject
        )

    def views(self) -> list[dict[str, tuple[Any, ...]]]:
        """What those who are up believe, comparable: everything but their own observations."""
        return [
            {
                view.id: (view.name, view.address, view.incarnation, view.state, view.meta)
                for view in sorted(node.swim.members(), key=lambda view: view.id)
            }
            for node in self.nodes
            if node.is_up
        ]

    def is_converged(self) -> bool:
        """Whether all who are up believe the same, and each other to be alive."""
        views = self.views()
        up = [node for node in self.nodes if node.is_up]
        return all(view == views[0] for view in views) and all(
            views[0].get(node.id, (0, 0, 0, None))[3] is MemberState.ALIVE for node in up
        )

    def signals_of(self, type_: str, subject: Node | None = None) -> list[Happened]:
        """The signals of one type, perhaps about one node only."""
        return [
            signal
            for signal in self.signals
            if signal.type == type_ and (subject is None or signal.data["node"] == subject.id)
        ]

    # --- time ------------------------------------------------------------------------------

    def run(self, seconds: float) -> None:
        """Let time pass."""
        self.run_until(lambda: False, seconds)

    def run_until(
        self, condition: Callable[[], bool], seconds: float, *, step: float = 0.0
    ) -> bool:
        """Let time pass until the condition holds; False when it did not in time.

        With a `step` the condition is looked at that often only: it may be costly.
        """
        end = self.now + seconds
        look_at = self.now
        while True:
            if self.now >= look_at:
                if condition():
                    return True
                look_at = self.now + step
            if not self._heap or self._heap[0][0] > end:
                self.now = end
                return condition()
            self.now, _, _, action = heapq.heappop(self._heap)
            action()

    def post(self, node: Node, event: Any) -> None:
        """Give a node's machine an event now; while it is paused, when it goes on."""
        if not node.is_up:
            return
        if node.paused_until is not None:
            node.waiting.append(event)
            return
        self._handle(node, event)

    def _handle(self, node: Node, event: Any) -> None:
        encode(event)
        for effect in node.swim.handle(event, now=self.now):
            self._perform(node, effect)
        self._reschedule(node)

    def _reschedule(self, node: Node) -> None:
        node.wake_token += 1
        token, deadline = node.wake_token, node.swim.deadline
        if deadline is not None:
            self._at(max(deadline, self.now), TIMER, lambda: self._wake(node, token))

    def _wake(self, node: Node, token: int) -> None:
        if node.is_up and node.paused_until is None and token == node.wake_token:
            self._handle(node, DeadlineReached())

    def _resume(self, node: Node) -> None:
        node.paused_until = None
        if not node.is_up:
            return
        waiting, node.waiting = node.waiting, []
        for event in waiting:
            self._handle(node, event)
        deadline = node.swim.deadline
        if deadline is not None and self.now - deadline > LAG_REPORT_S:
            self._handle(node, LoopLagged(self.now - deadline))
        self._reschedule(node)

    def _at(self, when: float, order: int, action: Callable[[], None]) -> None:
        heapq.heappush(self._heap, (when, order, next(self._ties), action))

    # --- the world -------------------------------------------------------------------------

    def _perform(self, node: Node, effect: Effect) -> None:
        match effect:
            case SendPacket():
                self._send(node, effect)
            case StartSync(peer=peer, address=address):
                self._exchange(node, peer, address)
            case ProbeByStream(peer=peer, address=address, sequence=sequence):
                self._dial(node, peer, address, sequence)
            case Emit(type=type_, data=data):
                self.signals.append(Happened(self.now, node.id, type_, dict(data)))
            case Notify(event=event, severity=severity, fields=fields):
                data = dict(fields) | {"severity": severity}
                self.notices.append(Happened(self.now, node.id, event, data))
            case _:
                raise AssertionError(f"unknown effect {effect}")

    def _send(self, node: Node, packet: SendPacket) -> None:
        raw = [encode(message) for message in packet.messages]
        size = SEALING_BYTES + BODY_ENVELOPE_BYTES + sum(map(len, raw))
        assert 0 < len(raw) <= PACKET_MESSAGES_MAX
        assert size <= PACKET_BYTES_MAX, f"a packet of {size} bytes"
        self.packet_bytes_max = max(self.packet_bytes_max, size)
        node.packets += 1
        node.bytes += size
        target = self._at_address(packet.to)
        is_bound_to_other = target is not None and packet.receiver not in (None, target.id)
        if target is None or is_bound_to_other or not self._reaches(node.address, packet.to):
            return
        messages = tuple(decode_message(item) for item in raw)
        event = PacketReceived(node.id, node.address, messages)
        self._deliver(target, event)

    def _deliver(self, target: Node, event: Any) -> None:
        delay = self.random.uniform(*LATENCY_S)
        if target.is_slow:
            delay += self.random.uniform(*SLOW_READ_S)
        self._at(self.now + delay, INPUT, lambda: self.post(target, event))

    def _reaches(self, source: Address, to: Address) -> bool:
        return not self.is_cut(source, to) and self.random.random() >= self.loss

    def _connects(self, node: Node, target: Node | None) -> bool:
        return (
            target is not None
            and target.is_up
            and target.paused_until is None
            and not self.is_cut(node.address, target.address)
            and not self.is_cut(target.address, node.address)
        )

    def _exchange(self, node: Node, peer: NodeId, address: Address) -> None:
        target = self._at_address(address)
        if target is None or target.id != peer or not self._connects(node, target):
            return
        mine, theirs = node.swim.table_for_sync(), target.swim.table_for_sync()
        self._deliver(target, SyncReceived(node.id, decode_sync_table(encode(mine))))
        self._deliver(node, SyncReceived(peer, decode_sync_table(encode(theirs))))

    def _dial(self, node: Node, peer: NodeId, address: Address, sequence: int) -> None:
        target = self._at_address(address)
        is_refused = (
            target is not None
            and target.is_host_up
            and not target.is_up
            and not self.is_cut(node.address, address)
        )
        if target is not None and target.id == peer and self._connects(node, target):
            delay = self.random.uniform(*SLOW_READ_S) if target.is_slow else 0.0
            self._later(node, delay, StreamProbeSucceeded(sequence))
        elif is_refused:
            self._later(node, 0.0, StreamProbeFailed(sequence, refused=True))
        else:
            self._later(node, STREAM_TIMEOUT_S, StreamProbeFailed(sequence))

    def _later(self, node: Node, delay: float, event: Any) -> None:
        if node.is_slow:
            delay += self.random.uniform(*SLOW_READ_S)
        at = self.now + delay + self.random.uniform(*LATENCY_S)
        self._at(at, INPUT, lambda: self.post(node, event))

    def _at_address(self, address: Address) -> Node | None:
        for node in self.nodes:
            if node.address == address:
                return node
        return None
