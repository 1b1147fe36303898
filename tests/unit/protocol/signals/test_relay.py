"""The relay machine: order, gaps, late joiners, restarts and slow subscribers."""

from __future__ import annotations

import collections
import itertools
from typing import Any

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from muster_protocol.effects import DeadlineReached, Emit, Notify
from muster_protocol.errors import RemoteError
from muster_protocol.limits import SIGNAL_BYTES_MAX
from muster_protocol.signals import relay as relay_module
from muster_protocol.signals.relay import (
    RETRY_S,
    RING_SIGNALS_MAX,
    WINDOW_SIGNALS_MAX,
    Deliver,
    LocalSignal,
    PeerDown,
    PeerForgotten,
    PeerUp,
    Relay,
    RelayReceived,
    SendRelay,
)
from muster_protocol.signals.signal import Signal
from muster_protocol.types import NodeId, Scope
from muster_protocol.wire.codec import Decoder, encode
from muster_protocol.wire.relay import (
    BATCH_SIGNALS_MAX,
    Ack,
    Position,
    RelayMessage,
    Signals,
    Subscribe,
)

A, B = NodeId("a" * 32), NodeId("b" * 32)
DECODER: Decoder[RelayMessage] = Decoder(RelayMessage)


def a_signal(number: int, *, source: str = "a/test") -> Signal:
    return Signal(
        id=str(number),
        source=source,
        type="test.counted",
        time=0.0,
        data={"n": number},
        scope=Scope.CLUSTER,
    )


class Pair:
    """Two relays and one stream between them. Messages wait until `flow`, and are encoded."""

    def __init__(self) -> None:
        self.now = 0.0
        self.lives = 0
        self.relays: dict[NodeId, Relay] = {}
        self.heard: dict[NodeId, list[int]] = {A: [], B: []}
        self.missed: dict[NodeId, int] = {A: 0, B: 0}
        self.wire: dict[NodeId, collections.deque[bytes]] = {
            A: collections.deque(),
            B: collections.deque(),
        }
        for node in (A, B):
            self.start(node)

    def other(self, node: NodeId) -> NodeId:
        return B if node == A else A

    def start(self, node: NodeId) -> None:
        self.lives += 1
        self.relays[node] = Relay(node=node, life=f"{self.lives:x}")

    def feed(self, node: NodeId, event: Any) -> None:
        for effect in self.relays[node].handle(event, now=self.now):
            if isinstance(effect, SendRelay):
                self.wire[effect.peer].append(encode(effect.message))
            elif isinstance(effect, Deliver):
                assert effect.signal.sequence > 0
                self.heard[node].append(effect.signal.data["n"])
            elif isinstance(effect, Emit):
                assert effect.type == "cluster.signals.missed"
                assert effect.scope is Scope.NODE
                self.missed[node] += effect.data["count"]

    def connect(self) -> None:
        for node in (A, B):
            self.feed(node, PeerUp(self.other(node)))

    def disconnect(self) -> None:
        for node in (A, B):
            self.wire[node].clear()
            self.feed(node, PeerDown(self.other(node)))

    def step(self, to: NodeId) -> bool:
        if not self.wire[to]:
            return False
        message = DECODER.decode(self.wire[to].popleft())
        self.feed(to, RelayReceived(self.other(to), message))
        return True

    def flow(self) -> None:
        while self.step(A) | self.step(B):
            pass

    def publish(self, node: NodeId, *numbers: int) -> None:
        for number in numbers:
            self.feed(node, LocalSignal(a_signal(number)))


def a_connected_pair() -> Pair:
    pair = Pair()
    pair.connect()
    pair.flow()
    return pair


def test_signals_arrive_at_the_other_member_in_order() -> None:
    pair = a_connected_pair()
    pair.publish(A, 1, 2, 3)
    pair.publish(B, 4)
    pair.flow()
    assert pair.heard == {A: [4], B: [1, 2, 3]}


def test_a_member_that_joins_later_starts_at_the_present() -> None:
    pair = Pair()
    pair.publish(A, 1, 2, 3)
    pair.connect()
    pair.flow()
    pair.publish(A, 4)
    pair.flow()
    assert pair.heard[B] == [4]
    assert pair.missed[B] == 0


def test_what_was_published_while_the_stream_was_down_is_delivered_after() -> None:
    pair = a_connected_pair()
    pair.publish(A, 1)
    pair.flow()
    pair.disconnect()
    pair.publish(A, 2, 3)
    pair.connect()
    pair.flow()
    assert pair.heard[B] == [1, 2, 3]
    assert pair.missed[B] == 0


def test_what_was_on_its_way_when_the_stream_broke_is_delivered_once() -> None:
    pair = a_connected_pair()
    pair.publish(A, 1, 2)
    pair.step(B)  # the first arrives, its ack and the second are lost
    pair.disconnect()
    pair.connect()
    pair.flow()
    assert pair.heard[B] == [1, 2]


def test_a_subscriber_that_fell_out_of_the_ring_is_told_how_many_it_missed() -> None:
    pair = a_connected_pair()
    pair.publish(A, 0)
    pair.flow()
    pair.disconnect()
    pair.publish(A, *range(1, RING_SIGNALS_MAX + 11))
    pair.connect()
    pair.flow()
    assert pair.missed[B] == 10
    assert pair.heard[B] == [0, *range(11, RING_SIGNALS_MAX + 11)]
    assert pair.relays[A].statistics().signals_dropped_from_ring == 11


def test_a_slow_subscriber_has_a_bounded_window_and_learns_of_its_gap() -> None:
    pair = a_connected_pair()
    pair.publish(A, *range(5_000))
    assert pair.relays[A].statistics().signals_sent == WINDOW_SIGNALS_MAX
    pair.flow()
    heard, missed = pair.heard[B], pair.missed[B]
    assert heard[:WINDOW_SIGNALS_MAX] == list(range(WINDOW_SIGNALS_MAX))
    assert heard[-RING_SIGNALS_MAX:] == list(range(5_000 - RING_SIGNALS_MAX, 5_000))
    assert len(heard) + missed == 5_000
    assert pair.relays[A].statistics().signals_skipped == missed


def test_a_slow_subscriber_does_not_slow_the_others() -> None:
    relay = Relay(node=A, life="1")
    for peer in ("slow", "fast"):
        relay.handle(PeerUp(NodeId(peer)), now=0.0)
        relay.handle(
            RelayReceived(NodeId(peer), Subscribe(peer[:1].encode().hex(), "", 0)), now=0.0
        )
    sent = 0
    for number in range(500):
        effects = relay.handle(LocalSignal(a_signal(number)), now=0.0)
        sent += sum(isinstance(e, SendRelay) and e.peer == "fast" for e in effects)
        relay.handle(RelayReceived(NodeId("fast"), Ack("1", number + 1)), now=0.0)
    assert sent == 500


def test_the_ring_is_bounded_in_bytes_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay_module, "RING_BYTES_MAX", 1_000)
    pair = Pair()
    pair.publish(A, *range(100))
    statistics = pair.relays[A].statistics()
    assert statistics.ring_bytes <= 1_000
    assert 0 < statistics.ring_signals < 100
    assert statistics.signals_published == 100


def test_duplicates_are_dropped_by_sequence() -> None:
    pair = a_connected_pair()
    pair.publish(A, 1)
    (repeated,) = pair.wire[B]
    pair.flow()
    pair.wire[B].append(repeated)
    pair.flow()
    assert pair.heard[B] == [1]
    assert pair.relays[B].statistics().signals_duplicate == 1


def test_an_origin_that_was_restarted_is_heard_from_its_first_signal_on() -> None:
    """Its sequence starts again at 1; under the old life these would be duplicates."""
    pair = a_connected_pair()
    pair.publish(A, 1, 2, 3)
    pair.flow()
    pair.disconnect()
    pair.start(A)
    pair.publish(A, 4, 5)
    pair.connect()
    pair.flow()
    assert pair.heard[B] == [1, 2, 3, 4, 5]
    assert pair.missed[B] == 0


def test_an_origin_restarted_behind_a_living_stream_gets_its_subscribers_back() -> None:
    pair = a_connected_pair()
    pair.publish(A, 1)
    pair.flow()
    pair.start(A)
    pair.feed(A, PeerUp(B))
    pair.flow()
    pair.publish(A, 2)
    pair.publish(B, 3)
    pair.flow()
    assert pair.heard == {A: [3], B: [1, 2]}


def test_a_restarted_subscriber_starts_at_the_present() -> None:
    pair = a_connected_pair()
    pair.publish(A, 1)
    pair.flow()
    pair.disconnect()
    pair.start(B)
    pair.publish(A, 2)
    pair.connect()
    pair.flow()
    pair.publish(A, 3)
    pair.flow()
    assert pair.heard[B] == [1, 3]
    assert pair.missed[B] == 0


def test_an_unanswered_subscribe_is_repeated() -> None:
    relay = Relay(node=A, life="1")
    (first,) = relay.handle(PeerUp(B), now=5.0)
    assert relay.deadline == 5.0 + RETRY_S
    assert relay.handle(DeadlineReached(), now=6.0) == ()
    assert relay.handle(DeadlineReached(), now=5.0 + RETRY_S) == (first,)
    relay.handle(RelayReceived(B, Position("2", 0)), now=16.0)
    assert relay.handle(DeadlineReached(), now=40.0) == ()
    assert relay.deadline is None


def test_what_an_older_connection_still_delivers_is_ignored() -> None:
    pair = a_connected_pair()
    pair.publish(A, 1)
    late = DECODER.decode(pair.wire[B][0])
    pair.disconnect()
    assert pair.relays[B].handle(RelayReceived(A, late), now=0.0) == ()
    assert pair.relays[B].handle(RelayReceived(NodeId("stranger"), late), now=0.0) == ()


def test_signals_of_another_life_are_ignored() -> None:
    pair = a_connected_pair()
    assert pair.relays[B].handle(RelayReceived(A, Signals("ff", 1, (b"",))), now=0.0) == ()
    assert pair.relays[A].handle(RelayReceived(B, Ack("ff", 99)), now=0.0) == ()


def test_a_hole_in_a_stream_is_asked_for_again() -> None:
    pair = a_connected_pair()
    pair.publish(A, 1, 2, 3)
    pair.wire[B].popleft()
    pair.flow()
    assert pair.heard[B] == [1, 2, 3]


def test_an_ack_of_what_was_never_sent_opens_no_window() -> None:
    pair = a_connected_pair()
    pair.publish(A, *range(WINDOW_SIGNALS_MAX))
    pair.feed(A, RelayReceived(B, Ack("1", 2**40)))
    pair.publish(A, *range(WINDOW_SIGNALS_MAX * 2))
    assert pair.relays[A].statistics().signals_sent == 2 * WINDOW_SIGNALS_MAX


def test_a_subscription_from_the_future_starts_at_the_present() -> None:
    relay = Relay(node=A, life="1")
    relay.handle(PeerUp(B), now=0.0)
    effects = relay.handle(RelayReceived(B, Subscribe("2", "1", 1_000)), now=0.0)
    assert SendRelay(B, Position("1", 0)) in effects


def test_a_signal_that_cannot_be_read_costs_one_signal() -> None:
    pair = a_connected_pair()
    pair.publish(A, 1)
    message = DECODER.decode(pair.wire[B].popleft())
    assert isinstance(message, Signals)
    broken = Signals(message.life, 1, (b"\xc1", b"\xc1"))
    effects = pair.relays[B].handle(RelayReceived(A, broken), now=0.0)
    notices = [effect for effect in effects if isinstance(effect, Notify)]
    assert [notice.event for notice in notices] == ["relay.signal.refused"] * 2
    assert effects[-1] == SendRelay(A, Ack("1", 2))
    assert pair.relays[B].statistics().signals_refused == 2


def test_a_signal_that_cannot_be_sent_does_not_end_the_relay() -> None:
    relay = Relay(node=A, life="1")
    huge = msgspec.structs.replace(a_signal(1), data={"blob": "x" * SIGNAL_BYTES_MAX})
    (notice,) = relay.handle(LocalSignal(huge), now=0.0)
    assert isinstance(notice, Notify)
    assert relay.statistics().signals_published == 0


def test_a_member_that_left_for_good_is_forgotten() -> None:
    pair = a_connected_pair()
    pair.feed(B, PeerForgotten(A))
    pair.publish(A, 1)
    pair.flow()
    assert pair.heard[B] == []
    assert pair.relays[B].statistics().peers_up == 0


def test_places_of_members_that_are_down_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay_module, "PUSH_PULL_MEMBERS_MAX", 3)
    relay = Relay(node=A, life="1")
    for number in range(10):
        relay.handle(PeerUp(NodeId(str(number))), now=0.0)
        if number > 1:
            relay.handle(PeerDown(NodeId(str(number))), now=0.0)
    assert len(relay._subscriptions) == 3
    assert relay.statistics().peers_up == 2


def test_a_node_does_not_subscribe_at_itself() -> None:
    assert Relay(node=A, life="1").handle(PeerUp(A), now=0.0) == ()


def test_the_messages_are_golden() -> None:
    """A change here is a change of the wire format."""
    messages = (Subscribe("1", "", 2), Position("1", 3), Signals("1", 4, (b"x",)), Ack("1", 5))
    assert [encode(message).hex() for message in messages] == [
        "94a3737562a131a002",
        "93a3706f73a13103",
        "94a3736967a1310491c40178",
        "93a361636ba13105",
    ]


@pytest.mark.parametrize(
    "message",
    [
        ["sub", "x", "", 0],
        ["sub", "1", "1", -1],
        ["sub", "", "1", 0],
        ["sig", "1", 0, [b"x"]],
        ["sig", "1", 1, []],
        ["sig", "1", 1, [b"x"] * (BATCH_SIGNALS_MAX + 1)],
        ["sig", "1", 1, [b"x" * (SIGNAL_BYTES_MAX + 1)]],
        ["ack", "1" * 65, 0],
        ["xyz", "1", 0],
        [],
    ],
)
def test_a_message_that_does_not_fit_is_the_senders_fault(message: list[object]) -> None:
    with pytest.raises(RemoteError):
        DECODER.decode(msgspec.msgpack.encode(message))


class RelayUnderFaults(RuleBasedStateMachine):
    """Whatever streams and origins do: order, no duplicates, and no loss that is not told."""

    def __init__(self) -> None:
        super().__init__()
        self.pair = a_connected_pair()
        self.is_up = True
        self.published = 0

    @rule(count=st.integers(1, 3 * BATCH_SIGNALS_MAX))
    def publish(self, count: int) -> None:
        self.pair.publish(A, *range(self.published, self.published + count))
        self.published += count

    @rule()
    def overflow_the_ring(self) -> None:
        self.publish(RING_SIGNALS_MAX + 5)

    @rule(steps=st.integers(1, 5))
    def deliver_some(self, steps: int) -> None:
        for _ in range(steps):
            self.pair.step(B)
            self.pair.step(A)

    @precondition(lambda self: self.is_up)
    @rule()
    def break_the_stream(self) -> None:
        self.pair.disconnect()
        self.is_up = False

    @precondition(lambda self: not self.is_up)
    @rule()
    def connect(self) -> None:
        self.pair.connect()
        self.is_up = True

    @rule()
    def let_flow(self) -> None:
        self.pair.flow()
        if self.is_up:
            assert len(self.pair.heard[B]) + self.pair.missed[B] == self.published

    @invariant()
    def order_is_kept_and_nothing_comes_twice(self) -> None:
        heard = self.pair.heard[B]
        assert all(first < second for first, second in itertools.pairwise(heard))


RelayUnderFaults.TestCase.settings = settings(
    max_examples=40, stateful_step_count=25, deadline=None
)
TestRelayUnderFaults = RelayUnderFaults.TestCase
