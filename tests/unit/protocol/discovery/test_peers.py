"""Hints: static and remembered, until somebody is there and now and then afterwards."""

from __future__ import annotations

from muster_protocol.discovery.peers import (
    ALONE_PERIOD_S,
    PEERS_MAX,
    TOGETHER_PERIOD_S,
    KnownPeers,
    MemberGone,
    MemberSeen,
    Peer,
)
from muster_protocol.effects import DeadlineReached, Effect, Emit, Notify, Persist
from muster_protocol.types import Address, NodeId

ME, A, B = (NodeId(c * 32) for c in "0ab")
STATIC = (Address("127.0.0.2", 7411), Address("127.0.0.3", 7411))


def known(stored: bytes | None = None) -> KnownPeers:
    own = Address("127.0.0.1", 7411)
    return KnownPeers(me=ME, own=own, static=(own, *STATIC), stored=stored, now=0.0)


def hinted(effects: tuple[Effect, ...]) -> list[object]:
    return [e.data["addresses"] for e in effects if isinstance(e, Emit)]


def saved(machine: KnownPeers, now: float) -> bytes:
    (effect,) = [e for e in machine.handle(DeadlineReached(), now=now) if isinstance(e, Persist)]
    return effect.data


def test_static_addresses_are_hinted_at_once_and_again_while_alone() -> None:
    machine = known()
    assert hinted(machine.handle(DeadlineReached(), now=0.0)) == [
        [["127.0.0.2", 7411], ["127.0.0.3", 7411]]
    ]
    assert machine.deadline == ALONE_PERIOD_S


def test_a_live_members_address_is_not_hinted_and_hints_become_rare() -> None:
    machine = known()
    machine.handle(MemberSeen(A, STATIC[0]), now=0.0)
    assert hinted(machine.handle(DeadlineReached(), now=0.0)) == [[["127.0.0.3", 7411]]]
    machine.handle(DeadlineReached(), now=2.0)
    assert machine.deadline == TOGETHER_PERIOD_S


def test_a_seen_member_is_remembered_over_a_restart_at_its_newest_address() -> None:
    machine = known()
    machine.handle(MemberSeen(A, Address("10.0.0.1", 1)), now=0.0)
    machine.handle(MemberSeen(A, Address("10.0.0.2", 1)), now=0.1)
    again = known(saved(machine, 5.0))
    assert again.remembered() == (Peer(A, Address("10.0.0.2", 1)),)
    (addresses,) = hinted(again.handle(DeadlineReached(), now=0.0))
    assert ["10.0.0.2", 1] in addresses  # type: ignore[operator]


def test_a_failed_member_is_hinted_again_and_one_that_left_is_forgotten() -> None:
    machine = known()
    machine.handle(MemberSeen(A, Address("10.0.0.1", 1)), now=0.0)
    machine.handle(MemberSeen(B, Address("10.0.0.2", 1)), now=0.0)
    machine.handle(MemberGone(A, left=False), now=1.0)
    machine.handle(MemberGone(B, left=True), now=1.0)
    assert [peer.node for peer in machine.remembered()] == [A]
    (addresses,) = hinted(machine.handle(DeadlineReached(), now=10.0))
    assert ["10.0.0.1", 1] in addresses  # type: ignore[operator]
    assert ["10.0.0.2", 1] not in addresses  # type: ignore[operator]


def test_an_unreadable_record_is_told_and_the_static_addresses_serve() -> None:
    effects = known(b"\x00garbage").handle(DeadlineReached(), now=0.0)
    assert [e.event for e in effects if isinstance(e, Notify)] == ["discovery.peers.unreadable"]
    assert len(hinted(effects)) == 1


def test_this_node_is_never_its_own_peer() -> None:
    machine = known()
    machine.handle(MemberSeen(ME, Address("10.0.0.9", 1)), now=0.0)
    assert machine.remembered() == ()


def test_of_members_whose_end_was_never_told_only_the_newest_are_remembered() -> None:
    machine = known()
    for number in range(PEERS_MAX + 1):
        machine.handle(MemberSeen(NodeId(f"{number:032x}"), Address("10.0.0.1", number)), now=0.0)
    machine.handle(MemberSeen(A, STATIC[0]), now=0.0)
    (addresses,) = hinted(machine.handle(DeadlineReached(), now=0.0))
    assert ["10.0.0.1", PEERS_MAX] not in addresses  # type: ignore[operator]
    assert len(machine.remembered()) == PEERS_MAX
