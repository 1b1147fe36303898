"""A flight record may hold anything: it is read, or answered by one line, and it runs nothing.

Files are made from valid ones: bytes changed, records in another order, values put in place of
others. Whatever is in them, a replay ends, and raises nothing.
"""

from __future__ import annotations

import contextlib
import random
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from muster.entropy import rng_state
from muster.flight.births import RelayBirth, SwimBirth, WatchBirth
from muster.flight.records import FORMAT, read_flight_file
from muster.replay.replaying import Replay
from muster.replay.wording import in_short
from muster_protocol.effects import DeadlineReached
from muster_protocol.errors import UsageError
from muster_protocol.membership.config import MembershipConfig
from muster_protocol.membership.events import JoinHint, PacketReceived
from muster_protocol.membership.member import Member
from muster_protocol.partition.quorum import Evidence, EvidenceSeen
from muster_protocol.signals.relay import PeerUp
from muster_protocol.types import Address, NodeId
from muster_protocol.wire.framing import frame
from muster_protocol.wire.membership import Alive, Ping
from testkit.flights import MemoryLog, taped

ALPHA, BETA = NodeId("a" * 32), NodeId("b" * 32)
HERE, THERE = Address("127.0.0.1", 7411), Address("127.0.0.2", 7411)


def a_flight() -> MemoryLog:
    log = MemoryLog()
    me = Member(ALPHA, "alpha", HERE)
    rng = rng_state(random.Random(1))
    birth = SwimBirth(config=MembershipConfig.lan(), me=me, boot="00", rng=rng, now=0.0)
    swim = taped("failure", birth, log)
    swim.handle(JoinHint((THERE,)), now=0.0)
    beta = Alive(BETA, "beta", THERE, 0)
    swim.handle(PacketReceived(BETA, THERE, (beta, Ping(7, ALPHA))), now=0.1)
    for _ in range(4):
        swim.handle(DeadlineReached(), now=swim.machine.deadline)
    watch = taped("partition", WatchBirth(me=ALPHA, quorum_size=0, now=0.0), log)
    watch.handle(EvidenceSeen(Evidence((ALPHA, BETA), (ALPHA,), True, False, None)), now=1.0)
    taped("signals", RelayBirth(node=ALPHA, life="ff", now=0.0), log).handle(PeerUp(BETA), now=1.0)
    log.data += log.turn(2, 2.0).data[len(MemoryLog(generation=2).data) :]
    swim.handle(DeadlineReached(), now=5.0)
    return log


VALID = bytes(a_flight().data)


def records() -> list[Any]:
    """The frames of the valid one, decoded."""
    found, place = [], 0
    while place < len(VALID):
        size = int.from_bytes(VALID[place : place + 4], "big")
        found.append(msgspec.msgpack.decode(VALID[place + 4 : place + 4 + size]))
        place += 4 + size
    return found


RECORDS = records()

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats()
    | st.text(max_size=8)
    | st.binary(max_size=8)
    | st.sampled_from(["muster_protocol.types:Address", "value", "same", "os:system", "failure"])
)
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=4), max_leaves=8)


def survives(data: bytes) -> None:
    """Read and replay it to the end."""
    with contextlib.suppress(UsageError):
        for step in Replay().steps([read_flight_file(data, "x")]):
            in_short(step.event, step.kind)
            for effect in step.effects:
                in_short(effect)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    survives(data)


@given(st.lists(st.tuples(st.integers(0, len(VALID) - 1), st.integers(0, 255)), max_size=8))
@settings(deadline=None)
def test_changed_bytes_are_replayed_as_far_as_they_go(edits: list[tuple[int, int]]) -> None:
    data = bytearray(VALID)
    for place, byte in edits:
        data[place] = byte
    survives(bytes(data))


def replaced(value: Any, path: list[int], new: Any) -> Any:
    """`value` with what `path` leads to replaced."""
    if not path or not isinstance(value, list | dict) or not value:
        return new
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    key = keys[path[0] % len(keys)]
    copy = value.copy()
    copy[key] = replaced(value[key], path[1:], new)
    return copy


@given(
    st.lists(
        st.tuples(
            st.integers(0, len(RECORDS) - 1), st.lists(st.integers(0, 30), min_size=1), values
        ),
        max_size=3,
    ),
    st.randoms(use_true_random=False),
    st.booleans(),
)
@settings(deadline=None)
def test_records_with_other_insides_and_in_another_order_are_replayed_to_the_end(
    edits: list[tuple[int, list[int], Any]], rng: random.Random, is_shuffled: bool
) -> None:
    changed = list(RECORDS)
    for number, path, new in edits:
        changed[number] = replaced(changed[number], path, new)
    if is_shuffled:
        rng.shuffle(changed)
    changed[0:0] = [[FORMAT, 1, "x"]]
    with contextlib.suppress(OverflowError):
        encoded = [msgspec.msgpack.encode(record) for record in changed]
        survives(b"".join(frame(each, bytes_max=2**24) for each in encoded))
