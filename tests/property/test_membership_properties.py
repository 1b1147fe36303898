"""What must hold for any updates, messages and bytes."""

from __future__ import annotations

import contextlib
import random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from muster_protocol.effects import DeadlineReached, SendPacket
from muster_protocol.errors import RemoteError
from muster_protocol.limits import PACKET_MESSAGES_MAX
from muster_protocol.membership.config import MembershipConfig
from muster_protocol.membership.events import PacketReceived, SyncReceived
from muster_protocol.membership.member import Member, merge
from muster_protocol.membership.swim import Swim
from muster_protocol.types import Address, NodeId
from muster_protocol.wire.codec import encode
from muster_protocol.wire.membership import (
    INCARNATION_END,
    Ack,
    Alive,
    Digest,
    DigestDiffers,
    Failed,
    IndirectAck,
    JoinReply,
    JoinRequest,
    Left,
    MemberRecord,
    MemberState,
    Nack,
    NodeMeta,
    Ping,
    PingReq,
    Stopped,
    Suspect,
    SyncTable,
    decode_message,
    decode_sync_table,
)

NODES = [NodeId(digit * 32) for digit in "0123"]
ME = NODES[0]

node_ids = st.sampled_from(NODES)
names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,10}", fullmatch=True)
addresses = st.builds(Address, st.sampled_from(["10.0.0.1", "10.0.0.2", "fd00::1"]), st.just(7411))
incarnations = st.one_of(st.integers(0, 5), st.integers(0, INCARNATION_END - 1))
sequences = st.integers(0, 2**32 - 1)
boots = st.sampled_from(["", "ab" * 12])
tags = st.dictionaries(st.text("ab", min_size=1, max_size=4), st.text(max_size=10), max_size=3)
metas = st.builds(NodeMeta, build=st.text("xyz", max_size=5), voter=st.booleans(), tags=tags)
reasons = st.sampled_from(["", "silent", "refused"])
alives = st.builds(Alive, node_ids, names, addresses, incarnations, metas)
digests = st.builds(Digest, st.integers(0, 2**32 - 1), st.integers(0, 2**63 - 1))
updates = st.one_of(
    alives,
    st.builds(Suspect, node_ids, incarnations, node_ids, reasons),
    st.builds(Failed, node_ids, incarnations, node_ids, reasons),
    st.builds(Stopped, node_ids, incarnations),
    st.builds(Left, node_ids, incarnations),
)
messages = st.one_of(
    updates,
    st.builds(Ping, sequences, node_ids),
    st.builds(Ack, sequences, boots, st.integers(0, 2**40)),
    st.builds(PingReq, sequences, node_ids, addresses, st.integers(0, 600_000)),
    st.builds(Nack, sequences),
    st.builds(IndirectAck, sequences),
    digests,
    st.builds(DigestDiffers),
    st.builds(JoinRequest, sequences, boots, alives),
    st.builds(JoinReply, sequences, alives, digests),
)
records = st.builds(
    MemberRecord,
    node_ids,
    names,
    addresses,
    incarnations,
    st.sampled_from(MemberState),
    metas,
    st.integers(0, 10**6),
    node_ids,
)
tables = st.builds(SyncTable, st.lists(records, max_size=5).map(tuple))
members = st.builds(
    Member,
    st.just(NODES[1]),
    names,
    addresses,
    st.integers(0, 2),
    st.sampled_from(MemberState),
    metas,
)


@given(members, members)
def test_merge_is_commutative(left: Member, right: Member) -> None:
    assert merge(left, right) == merge(right, left)


@given(members, members, members)
def test_merge_is_associative(first: Member, second: Member, third: Member) -> None:
    assert merge(merge(first, second), third) == merge(first, merge(second, third))


@given(members, members)
def test_merge_is_idempotent(left: Member, right: Member) -> None:
    merged = merge(left, right)
    assert merge(left, left) == left
    assert merge(merged, left) == merge(merged, right) == merged


@given(messages)
def test_message_survives_the_wire(message: Any) -> None:
    assert decode_message(encode(message)) == message


@given(tables)
def test_table_survives_the_wire(table: SyncTable) -> None:
    assert decode_sync_table(encode(table)) == table


@given(st.binary(max_size=200))
def test_hostile_bytes_are_a_remote_error_or_a_message(data: bytes) -> None:
    for decode in (decode_message, decode_sync_table):
        with contextlib.suppress(RemoteError):
            decode(data)


@given(messages, st.data())
def test_mutilated_messages_are_a_remote_error_or_a_message(message: Any, data: Any) -> None:
    raw = bytearray(encode(message))
    position = data.draw(st.integers(0, len(raw) - 1))
    raw[position] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(raw)))
    for hostile in (bytes(raw), bytes(raw[:cut])):
        with contextlib.suppress(RemoteError):
            decode_message(hostile)


def a_machine() -> Swim:
    me = Member(ME, "me", Address("10.0.0.9", 7411))
    config = MembershipConfig.lan()
    return Swim(config=config, me=me, rng=random.Random(1), boot="cd" * 12, now=0.0)


packets = st.builds(
    PacketReceived, node_ids, addresses, st.lists(messages, min_size=1, max_size=4).map(tuple)
)
events = st.one_of(packets, st.builds(SyncReceived, node_ids, tables), st.just(DeadlineReached()))


@given(st.lists(st.tuples(events, st.floats(0.0, 5.0)), max_size=30))
def test_machine_keeps_its_promises_whatever_comes(steps: list[tuple[Any, float]]) -> None:
    """No event raises; packets fit; what is believed of anybody, and said of us, only grows."""
    swim, now = a_machine(), 0.0
    order: dict[NodeId, tuple[int, MemberState]] = {}
    for event, pause in steps:
        now += pause
        effects = swim.handle(event, now=now)
        for effect in effects:
            if isinstance(effect, SendPacket):
                body = sum(len(encode(message)) for message in effect.messages)
                assert body <= MembershipConfig.lan().packet_body_bytes_max
                assert 0 < len(effect.messages) <= PACKET_MESSAGES_MAX
        for view in swim.members():
            believed = (view.incarnation, view.state)
            assert believed >= order.get(view.id, believed)
            order[view.id] = believed
        assert swim.members()[0].state is MemberState.ALIVE
        assert swim.deadline is not None


@given(st.lists(updates, max_size=12), st.randoms(use_true_random=False))
def test_machines_that_heard_the_same_agree_whatever_the_order(
    said: list[Any], shuffled: random.Random
) -> None:
    """Farewells and lives, that is: a failure takes its time where somebody was taken for alive."""
    known = [Alive(node, "n", Address("10.0.0.1", 7411), 0) for node in NODES[1:]]
    said = [update for update in said if not isinstance(update, Failed) and update.node != ME]
    here, there = a_machine(), a_machine()
    for swim in (here, there):
        swim.handle(PacketReceived(NODES[1], known[0].address, tuple(known)), now=1.0)
        for update in said:
            swim.handle(PacketReceived(NODES[1], known[0].address, (update,)), now=1.0)
        shuffled.shuffle(said)

    def beliefs(swim: Swim) -> list[tuple[Any, ...]]:
        views = sorted(swim.members()[1:], key=lambda view: view.id)
        return [(view.id, view.incarnation, view.state) for view in views]

    assert beliefs(here) == beliefs(there)
