"""Golden bytes of the flight record's format 2. What a daemon wrote yesterday must be readable by
the version that replays it; a difference here is a new format, or a bug."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import pytest

from muster.flight.births import RelayBirth
from muster.flight.records import (
    Born,
    Handled,
    Lost,
    checksum,
    encode_birth,
    encode_event,
    encode_header,
    encode_lost,
    read_flight_file,
)
from muster_protocol.effects import Notify
from muster_protocol.errors import UsageError
from muster_protocol.types import NodeId, Severity

HEADER = bytes.fromhex("0000000993020aa5302e312e30")
BEGUN = bytes.fromhex(
    "000000519501a77369676e616c73cb3ff800000000000083a46e6f6465d92030613061306130613061306130"
    "61306130613061306130613061306130613061a46c696665a26666a36e6f77cb3ff8000000000000c0"
)
EVENT = bytes.fromhex(
    "000000269600a77369676e616c73a450696e67cb400000000000000081a66e756d62657207cecb07c6d6"
)
RAISED = bytes.fromhex(
    "0000002d9600a77369676e616c73a450696e67cb400000000000000081a66e756d62657207ab4b65794572726f72"
    "3a2031"
)
GONE = bytes.fromhex("000000179402a77369676e616c73cb4008000000000000a3776879")


@dataclass(frozen=True)
class Ping:
    number: int


EFFECTS = (Notify("a.b", Severity.WARNING, {"n": 1}),)


def test_records_are_written_as_ever() -> None:
    birth = RelayBirth(node=NodeId("0a" * 16), life="ff", now=1.5)
    assert encode_header(10, "0.1.0").hex() == HEADER.hex()
    assert encode_birth("signals", 1.5, birth, None).hex() == BEGUN.hex()
    assert encode_event("signals", Ping(7), 2.0, checksum(EFFECTS)).hex() == EVENT.hex()
    assert encode_event("signals", Ping(7), 2.0, "KeyError: 1").hex() == RAISED.hex()
    assert encode_lost("signals", 3.0, "why").hex() == GONE.hex()


def test_records_are_read_as_ever() -> None:
    file = read_flight_file(HEADER + BEGUN + EVENT + RAISED + GONE, "x")
    begun, event, raised, gone = file.records
    assert (file.generation, file.build, file.damage) == (10, "0.1.0", "")
    assert isinstance(begun, Born)
    assert isinstance(event, Handled)
    assert isinstance(raised, Handled)
    assert msgspec.msgpack.decode(begun.birth, type=RelayBirth).life == "ff"
    assert msgspec.msgpack.decode(event.event, type=Ping) == Ping(7)
    assert (event.kind, event.now, event.decided) == ("Ping", 2.0, checksum(EFFECTS))
    assert raised.decided == "KeyError: 1"
    assert gone == Lost("signals", 3.0, "why")


def test_nothing_decided_is_zero_and_what_has_no_encoding_is_not_compared() -> None:
    assert checksum(()) == 0
    assert checksum((Notify("a", fields={"error": ValueError()}),)) is None


def test_the_first_format_is_answered_by_one_line() -> None:
    with pytest.raises(UsageError, match=r"^x: format 1 \(it holds no beginnings .*reads 2$"):
        read_flight_file(b"\0\0\0\3\x92\x01\x07", "x")
    with pytest.raises(UsageError, match=r"^x: format 3; this version reads 2$"):
        read_flight_file(b"\0\0\0\3\x92\x03\x07", "x")
