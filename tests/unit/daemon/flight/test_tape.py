"""A tape hands events to its machine and writes down what came of them."""

from __future__ import annotations

import pytest

from muster.flight.births import RelayBirth
from muster.flight.records import Born, Handled, checksum
from muster.flight.tape import Tape
from muster_protocol.signals.relay import PeerUp
from muster_protocol.types import NodeId
from testkit.flights import MemoryLog

ALPHA, BETA = NodeId("a" * 32), NodeId("b" * 32)
BIRTH = RelayBirth(node=ALPHA, life="ff", now=1.0)


def test_the_record_has_the_birth_each_event_and_the_checksum_of_what_was_decided() -> None:
    log = MemoryLog()
    effects = Tape.begin("signals", BIRTH, log).handle(PeerUp(BETA), now=2.0)
    begun, event = log.file.records
    assert isinstance(begun, Born)
    assert isinstance(event, Handled)
    assert (begun.machine, begun.now, begun.memory) == ("signals", 1.0, None)
    assert (event.kind, event.now, event.decided) == ("PeerUp", 2.0, checksum(effects))


def test_an_event_that_the_machine_raises_on_is_on_the_record_with_what_it_raised() -> None:
    log = MemoryLog()
    with pytest.raises(KeyError):
        Tape.begin("signals", BIRTH, log).handle("?", now=2.0)
    _, event = log.file.records
    assert isinstance(event, Handled)
    assert (event.kind, event.decided) == ("str", "KeyError: <class 'str'>")


def test_what_happens_beside_the_machine_is_noted_and_compared_with_nothing() -> None:
    log = MemoryLog()
    Tape.begin("signals", BIRTH, log).note("trimmed", now=3.0)
    assert isinstance(log.file.records[1], Handled)
    assert log.file.records[1].decided is None


def test_without_a_recorder_a_tape_only_hands_on() -> None:
    tape = Tape.begin("signals", BIRTH, None)
    assert tape.handle(PeerUp(BETA), now=2.0) == BIRTH.build().handle(PeerUp(BETA), now=2.0)
    tape.note("trimmed", now=3.0)
