"""A flight record through the machines again: what is the same, what differs, what is unknown."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from muster.entropy import rng_state
from muster.flight.births import PeersBirth, RelayBirth, SwimBirth, WatchBirth
from muster.flight.records import checksum, encode_event, encode_lost, read_flight_file
from muster.replay.replaying import Outcome, Replay, in_order
from muster_protocol.discovery.peers import MemberGone, MemberSeen
from muster_protocol.effects import DeadlineReached
from muster_protocol.membership.config import MembershipConfig
from muster_protocol.membership.events import JoinHint, PacketReceived
from muster_protocol.membership.member import Member
from muster_protocol.partition import quorum
from muster_protocol.partition.quorum import Evidence, EvidenceSeen
from muster_protocol.signals.relay import PeerUp
from muster_protocol.types import Address, NodeId
from muster_protocol.wire.membership import Ping
from testkit.flights import MemoryLog, steps_of, taped

ALPHA, BETA = NodeId("a" * 32), NodeId("b" * 32)
HERE, THERE = Address("127.0.0.1", 7411), Address("127.0.0.2", 7411)

SWIM = SwimBirth(
    config=MembershipConfig.lan(),
    me=Member(ALPHA, "alpha", HERE),
    boot="00",
    rng=rng_state(random.Random(1)),
    now=0.0,
)
WATCH = WatchBirth(me=ALPHA, quorum_size=0, now=0.0)
PEERS = PeersBirth(me=ALPHA, own=HERE, static=(HERE, THERE), stored=None, now=0.0)
RELAY = RelayBirth(node=ALPHA, life="ff", now=0.0)

ALONE = EvidenceSeen(Evidence((ALPHA, BETA), (ALPHA,), True, False, None))
TOGETHER = EvidenceSeen(Evidence((ALPHA, BETA), (ALPHA, BETA), True, True, BETA))


def a_split(log: MemoryLog) -> None:
    """Quorate, alone, confirmed, quorate again."""
    watch = taped("partition", WATCH, log)
    watch.handle(TOGETHER, now=1.0)
    watch.handle(ALONE, now=2.0)
    watch.handle(DeadlineReached(), now=7.0)
    watch.handle(TOGETHER, now=9.0)


def outcomes(log: MemoryLog) -> list[str]:
    return [step.outcome.value for step in steps_of(log.file)]


def test_decisions_are_as_then_and_can_be_seen() -> None:
    log = MemoryLog()
    a_split(log)
    begins, together, alone, confirmed, again = steps_of(log.file)
    assert begins.outcome is Outcome.BEGINS
    assert {step.outcome for step in (together, alone, confirmed, again)} == {Outcome.SAME}
    assert alone.event == ALONE
    assert [effect.type for effect in confirmed.effects] == ["cluster.partition.confirmed"]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("name", "birth", "events"),
    [
        ("failure", SWIM, [JoinHint((THERE,)), DeadlineReached(), DeadlineReached()]),
        ("failure", SWIM, [PacketReceived(BETA, THERE, (Ping(7, ALPHA),)), DeadlineReached()]),
        ("discovery", PEERS, [DeadlineReached(), MemberSeen(BETA, THERE), MemberGone(BETA, True)]),
        ("signals", RELAY, [PeerUp(BETA), DeadlineReached()]),
    ],
)
def test_each_machine_lives_again(name: str, birth: Any, events: list[Any]) -> None:
    log = MemoryLog()
    tape = taped(name, birth, log)
    for number, event in enumerate(events):
        tape.handle(event, now=float(number))
    assert outcomes(log) == ["begins"] + ["same"] * len(events)
    assert any(step.effects for step in steps_of(log.file))


def test_a_machine_that_decides_otherwise_now_is_found_at_its_first_decision(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The check can fail: another time-out is another decision."""
    log = MemoryLog()
    a_split(log)
    monkeypatch.setattr(quorum, "CONFIRM_AFTER_S", 6.0)
    replay = Replay()
    steps = list(replay.steps([log.file]))
    tally = replay.tallies["partition"]
    assert (tally.same, tally.differing) == (3, 1)
    assert tally.first_difference is steps[3]
    assert (steps[3].at, steps[3].effects, steps[3].outcome) == (7.0, (), Outcome.DIFFERS)


def test_the_same_events_into_another_machine_are_other_decisions() -> None:
    log, other = MemoryLog(), MemoryLog()
    a_split(log)
    taped("partition", replace(WATCH, quorum_size=3), other)
    for step in steps_of(log.file)[1:]:
        other.record("partition", step.event, step.at, checksum(step.effects))
    assert outcomes(other)[:2] == ["begins", "differs"]


def test_a_file_whose_beginning_is_lost_goes_on_from_the_memory() -> None:
    first = MemoryLog(generation=4)
    watch = taped("partition", WATCH, first)
    watch.handle(TOGETHER, now=1.0)
    watch.handle(ALONE, now=2.0)
    second = first.turn(5, 3.0)
    watch._log = second
    watch.handle(DeadlineReached(), now=7.0)
    assert outcomes(second) == ["goes on", "same"]
    both = steps_of(first.file, second.file)
    assert [step.outcome.value for step in both] == ["begins", "same", "same", "same"]


def test_a_file_that_begins_in_the_middle_says_so() -> None:
    log = MemoryLog()
    log.record("partition", ALONE, 1.0, 0)
    replay = Replay()
    (step,) = replay.steps([log.file])
    assert step.outcome is Outcome.NOT_REPLAYED
    assert replay.tallies["partition"].why_not_replayed == (
        "its beginning was overwritten, or is in another file"
    )


def test_files_between_which_one_is_missing_do_not_follow_each_other() -> None:
    first, third = MemoryLog(generation=1), MemoryLog(generation=3)
    a_split(first)
    third.record("partition", ALONE, 20.0, 0)
    *_, last = steps_of(first.file, third.file)
    assert (last.outcome, last.why) == (Outcome.NOT_REPLAYED, "records before it are missing")


def test_a_gap_ends_a_life_and_a_memory_begins_the_next() -> None:
    log = MemoryLog()
    watch = taped("partition", WATCH, log)
    watch.handle(ALONE, now=1.0)
    log.data += encode_lost("partition", 2.0, "the disk was too slow")
    log.record("partition", ALONE, 2.0, 0)
    log.data += log.turn(2, 3.0).data[len(MemoryLog(generation=2).data) :]
    watch.handle(DeadlineReached(), now=7.0)
    assert outcomes(log) == ["begins", "same", "lost", "not replayed", "goes on", "same"]


def test_an_event_that_was_kept_as_text_ends_a_life() -> None:
    log = MemoryLog()
    taped("partition", WATCH, log)
    log.data += encode_event("partition", EvidenceSeen(ValueError("x")), 1.0, 0)  # type: ignore[arg-type]
    log.record("partition", ALONE, 2.0, 0)
    _, unread, after = steps_of(log.file)
    assert unread.why.startswith("an event cannot be read")
    assert after.why == unread.why


def test_an_event_of_another_version_ends_a_life() -> None:
    log = MemoryLog()
    taped("partition", WATCH, log)
    log.record("partition", Ping(1, ALPHA), 1.0, 0)
    assert steps_of(log.file)[1].why == "this version knows no event Ping"


def test_a_machine_that_raised_raises_again_and_is_as_then() -> None:
    log = MemoryLog()
    relay = taped("signals", RELAY, log)
    with pytest.raises(KeyError):
        relay.handle(Ping(1, ALPHA), now=1.0)
    log.data += encode_event("signals", PeerUp(BETA), 2.0, "KeyError: 1")
    _, unknown, gone = steps_of(log.file)
    assert unknown.why == "this version knows no event Ping"
    assert gone.outcome is Outcome.NOT_REPLAYED


def test_what_raised_then_and_does_not_now_differs() -> None:
    log = MemoryLog()
    taped("signals", RELAY, log)
    log.data += encode_event("signals", PeerUp(BETA), 2.0, "KeyError: 1")
    _, step = steps_of(log.file)
    assert (step.outcome, step.why) == (Outcome.DIFFERS, "then it raised KeyError: 1")


def test_what_raises_now_and_did_not_then_differs_and_ends_its_life(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log = MemoryLog()
    a_split(log)

    def break_down(*_: object, **__: object) -> None:
        raise RuntimeError("a new bug")

    monkeypatch.setattr(quorum, "judge", break_down)
    _, first, *rest = steps_of(log.file)
    assert first.outcome is Outcome.DIFFERS
    assert first.why.endswith("now raises RuntimeError: a new bug")
    assert {step.outcome for step in rest} == {Outcome.NOT_REPLAYED}


def test_an_agents_events_are_shown_and_no_more() -> None:
    log = MemoryLog()
    log.record("consistency", Ping(1, ALPHA), 1.0)
    replay = Replay()
    (step,) = replay.steps([log.file])
    assert (step.outcome, step.event) == (Outcome.NOT_REPLAYED, [1, 1, ALPHA])
    assert not replay.tallies["consistency"].is_machine


def test_one_machine_can_be_asked_for() -> None:
    log = MemoryLog()
    a_split(log)
    taped("signals", RELAY, log).handle(PeerUp(BETA), now=1.0)
    assert {step.machine for step in steps_of(log.file, only="signals")} == {"signals"}


def test_files_are_taken_by_age_and_two_of_one_turn_are_of_two_nodes() -> None:
    old, new = MemoryLog(generation=2).file, MemoryLog(generation=3).file
    assert in_order({"b": new, "a": old}) == [old, new]
    with pytest.raises(ValueError, match="a and b are not of one node"):
        in_order({"a": old, "b": old})


@pytest.mark.parametrize(
    "break_it", [lambda data: data[:-3], lambda data: data + b"\0\0\0\2\x91\x07"]
)
def test_what_stands_before_damage_is_replayed(break_it: Callable[[bytes], bytes]) -> None:
    log = MemoryLog()
    a_split(log)
    file = read_flight_file(break_it(bytes(log.data)), "x")
    assert file.damage
    assert [step.outcome.value for step in steps_of(file)][:4] == ["begins", "same", "same", "same"]
