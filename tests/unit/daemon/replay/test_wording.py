"""Events and effects in few words."""

from __future__ import annotations

from muster.replay.wording import WIDTH, in_short
from muster_protocol.effects import DeadlineReached, Notify, SendPacket
from muster_protocol.types import Address, NodeId, Severity
from muster_protocol.wire.membership import Alive, JoinRequest, Ping

BETA, THERE = NodeId("b" * 32), Address("127.0.0.2", 7411)


def test_ids_are_short_addresses_are_whole_and_what_says_nothing_is_left_out() -> None:
    effect = SendPacket(THERE, (Ping(7, BETA),), BETA)
    assert in_short(effect) == (
        "SendPacket to=127.0.0.2:7411 messages=[Ping(sequence=7 target=bbbbbbbb)] receiver=bbbbbbbb"
    )
    assert in_short(DeadlineReached()) == "DeadlineReached"


def test_what_is_deep_inside_is_named_and_no_more() -> None:
    request = JoinRequest(1, "00", Alive(BETA, "beta", THERE, 3))
    effect = SendPacket(THERE, (request,), None)
    assert "record=Alive(node=bbbbbbbb …)" in in_short(effect)


def test_long_things_are_cut_to_one_line_and_counted() -> None:
    assert in_short(Notify("a", Severity.ERROR, {str(n): b"xyz" for n in range(9)})) == (
        "Notify event=a severity=error fields=['0'=3 bytes, '1'=3 bytes, '2'=3 bytes, "
        "'3'=3 bytes, … 5 more]"
    )
    assert len(in_short(tuple("x" * 100 for _ in range(9)))) == WIDTH


def test_what_has_no_type_any_more_is_named_by_its_kind() -> None:
    assert in_short([1.5, None], "Started") == "Started [1.5, None]"
