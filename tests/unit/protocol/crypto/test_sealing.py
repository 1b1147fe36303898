"""Sealed packets: who believes whom, when, and what an attacker with a recorder achieves."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from muster_protocol.crypto import sealing
from muster_protocol.crypto.insecure import InsecureKeys
from muster_protocol.crypto.keyring import Keyring
from muster_protocol.crypto.sealing import (
    BODY_BYTES_MAX,
    CANDIDATES_MAX,
    COUNTER_MAX,
    HELD_MAX,
    OVERHEAD_BYTES,
    PEERS_MAX,
    PROOF_BYTES,
    Kind,
    PacketKeys,
    PacketSealer,
)
from muster_protocol.errors import LocalError, RemoteError
from muster_protocol.limits import PACKET_BYTES_MAX
from muster_protocol.types import Address, NodeId

SECRET, OTHER_SECRET = b"s" * 32, b"o" * 32
RING = Keyring([SECRET], label="lab")
ELSEWHERE = Address("127.0.0.99", 99)
BODY = b"a body of a packet that is long enough to be asked about"


@dataclass
class Node:
    """A sealer at an address, with what it delivered and sent."""

    name: str
    sealer: PacketSealer
    address: Address
    nonces: itertools.count[int]  # the LAN's: no node draws one again after a restart
    delivered: list[tuple[str, bytes]] = field(default_factory=list)
    is_bound: list[bool] = field(default_factory=list)

    @property
    def id(self) -> NodeId:
        return node_id(self.name)

    def open(self, packet: bytes, source: Address, now: float) -> list[tuple[bytes, Address]]:
        nonce = f"{self.name}{next(self.nonces):07d}".encode()
        opened = self.sealer.open(packet, source, now=now, nonce8=nonce)
        self.delivered += [(one.sender[0], one.body) for one in opened.delivered]
        self.is_bound += [one.is_bound for one in opened.delivered]
        return list(opened.replies)


def node_id(name: str) -> NodeId:
    return NodeId(name * 32)


class Lan:
    """Carries packets between nodes at once, and records all of them."""

    def __init__(self, names: str = "abc", keys: PacketKeys = RING) -> None:
        self.now = 1_000.0
        self.boots, self.nonces = itertools.count(1), itertools.count()
        self.keys = keys
        self.nodes: dict[str, Node] = {}
        self.recorded: list[tuple[bytes, Address, Address]] = []
        for name in names:
            self.restart(name)

    def restart(self, name: str) -> Node:
        salt = next(self.boots).to_bytes(12, "big")
        sealer = PacketSealer(self.keys, node_id=node_id(name), boot_salt=salt)
        address = Address(f"127.0.0.{ord(name)}", 7411)
        self.nodes[name] = Node(name, sealer, address, self.nonces)
        return self.nodes[name]

    def send(self, source: str, target: str, body: bytes = BODY, *, bound: bool = True) -> bytes:
        """Seal, carry, and carry all that is said in reply. The first packet."""
        sender, receiver = self.nodes[source], self.nodes[target]
        packet = sender.sealer.seal(body, receiver.id if bound else None, now=self.now)
        self.carry(packet, sender.address, receiver.address)
        return packet

    def carry(self, packet: bytes, source: Address, target: Address) -> None:
        queue = [(packet, source, target)]
        while queue:
            packet, source, target = queue.pop(0)
            self.recorded.append((packet, source, target))
            node = next((node for node in self.nodes.values() if node.address == target), None)
            if node is not None:
                replies = node.open(packet, source, self.now)
                queue += [(reply, target, to) for reply, to in replies]

    def replay(self, packet: bytes, target: str) -> None:
        """An attacker sends a recorded packet from an address of its own, and hears the reply."""
        self.carry(packet, ELSEWHERE, self.nodes[target].address)


def refused(call: Callable[[], object]) -> str:
    with pytest.raises(RemoteError) as caught:
        call()
    return caught.value.cause


@pytest.fixture(params=["sealed", "insecure"])
def lan(request: pytest.FixtureRequest) -> Lan:
    return Lan(keys=RING if request.param == "sealed" else InsecureKeys(label="lab"))


# --- first contact -------------------------------------------------------------------------


def test_first_packet_of_first_contact_is_not_lost_and_costs_three_more(lan: Lan) -> None:
    lan.send("a", "b")
    assert lan.nodes["b"].delivered == [("a", BODY)]
    assert len(lan.recorded) == 4
    lan.send("b", "a")
    assert lan.nodes["a"].delivered == [("b", BODY)]
    assert len(lan.recorded) == 5, "contact was established both ways at once"


def test_contact_by_address_works_and_is_marked_as_not_bound(lan: Lan) -> None:
    lan.send("a", "b", bound=False)
    lan.send("a", "b")
    assert lan.nodes["b"].delivered == [("a", BODY)] * 2
    assert lan.nodes["b"].is_bound == [False, True]


def test_two_that_speak_at_once_both_get_their_first_packet(lan: Lan) -> None:
    a, b = lan.nodes["a"], lan.nodes["b"]
    packets = [
        (a.sealer.seal(BODY, b.id, now=lan.now), a.address, b.address),
        (b.sealer.seal(BODY, a.id, now=lan.now), b.address, a.address),
    ]
    while packets:
        packet, source, target = packets.pop(0)
        node = a if target == a.address else b
        packets += [(reply, target, to) for reply, to in node.open(packet, source, lan.now)]
        lan.recorded.append((packet, source, target))
    assert (a.delivered, b.delivered) == ([("b", BODY)], [("a", BODY)])
    assert len(lan.recorded) == 6, "two packets, two challenges, two answers"


def test_packets_of_a_burst_before_the_answer_are_held_in_order(lan: Lan) -> None:
    a, b = lan.nodes["a"], lan.nodes["b"]
    bodies = [BODY + bytes([number]) for number in range(HELD_MAX + 2)]
    packets = [a.sealer.seal(body, b.id, now=lan.now) for body in bodies]
    replies = [b.open(packet, a.address, lan.now) for packet in reversed(packets)]
    assert [len(reply) for reply in replies] == [1] + [0] * (HELD_MAX + 1), "one challenge"
    lan.carry(replies[0][0][0], b.address, a.address)
    assert b.delivered == [("a", body) for body in bodies[-HELD_MAX:]]
    assert b.sealer.statistics().held_dropped == 2


def test_lost_challenge_is_repeated_with_the_next_packet_a_second_later(lan: Lan) -> None:
    a, b = lan.nodes["a"], lan.nodes["b"]
    assert b.open(a.sealer.seal(BODY, b.id, now=lan.now), a.address, lan.now)
    lan.now += 0.9
    assert not b.open(a.sealer.seal(BODY, b.id, now=lan.now), a.address, lan.now)
    lan.now += 0.2
    lan.send("a", "b")
    assert len(b.delivered) >= 2, "what was held within the last second comes as well"


def test_packet_that_overtakes_the_answer_is_delivered_once(lan: Lan) -> None:
    a, b = lan.nodes["a"], lan.nodes["b"]
    ((challenge, _),) = b.open(a.sealer.seal(BODY, b.id, now=lan.now), a.address, lan.now)
    ((answer, _),) = a.open(challenge, b.address, lan.now)
    overtaker = a.sealer.seal(b"fast " + BODY, b.id, now=lan.now)
    b.open(overtaker, a.address, lan.now)
    b.open(answer, a.address, lan.now)
    assert [body for _, body in b.delivered] == [BODY, b"fast " + BODY]
    assert refused(lambda: lan.replay(overtaker, "b")) == "replayed"


def test_node_may_change_its_address(lan: Lan) -> None:
    lan.send("a", "b")
    a, b = lan.nodes["a"], lan.nodes["b"]
    b.open(a.sealer.seal(b"moved", b.id, now=lan.now), ELSEWHERE, lan.now)
    assert b.delivered[-1] == ("a", b"moved")


def test_established_peers_exchange_small_packets(lan: Lan) -> None:
    lan.send("a", "b")
    lan.send("a", "b", b"")
    assert lan.nodes["b"].delivered[-1] == ("a", b"")


# --- replays -------------------------------------------------------------------------------


def test_packet_repeated_within_one_boot_is_refused(lan: Lan) -> None:
    packet = lan.send("a", "b")
    later = lan.send("a", "b")
    assert refused(lambda: lan.replay(packet, "b")) == "replayed"
    assert refused(lambda: lan.replay(later, "b")) == "replayed"
    assert len(lan.nodes["b"].delivered) == 2


def test_held_packet_repeated_is_refused(lan: Lan) -> None:
    a, b = lan.nodes["a"], lan.nodes["b"]
    packet = a.sealer.seal(BODY, b.id, now=lan.now)
    b.open(packet, a.address, lan.now)
    assert refused(lambda: lan.replay(packet, "b")) == "replayed"


def test_everything_repeated_to_a_restarted_receiver_delivers_nothing(lan: Lan) -> None:
    for _ in range(20):
        lan.send("a", "b")
    recorded = list(lan.recorded)
    b = lan.restart("b")
    for packet, _, _ in recorded:
        try:
            lan.replay(packet, "b")
        except RemoteError as error:
            assert error.cause in ("replayed", "forged", "not-for-us")  # noqa: PT017
    assert b.delivered == []


def test_replay_that_is_held_is_not_delivered_by_the_living_senders_answer(lan: Lan) -> None:
    """The attacker repeats an old packet to a restarted receiver and lets the challenge through."""
    old = lan.send("a", "b", b"an old packet, an old packet, an old packet, an old packet")
    lan.now += 10.0
    b = lan.restart("b")
    lan.carry(old, lan.nodes["a"].address, b.address)
    assert b.delivered == [], "a answered, but did not vouch for it"
    assert b.sealer.statistics().held_dropped == 1
    lan.send("a", "b")
    assert b.delivered == [("a", BODY)], "and a is established all the same"


def test_answer_does_not_vouch_for_the_packet_before_a_pause(lan: Lan) -> None:
    """Marks are made when something is sent: an idle sender's last packet must still age."""
    a = lan.nodes["a"]
    old = lan.send("a", "b")
    b = lan.restart("b")
    lan.now += 4 * sealing.VOUCH_S
    fresh = a.sealer.seal(BODY, b.id, now=lan.now)
    replies = b.open(old, a.address, lan.now) + b.open(fresh, a.address, lan.now)
    lan.carry(replies[0][0], b.address, a.address)
    assert b.delivered == [("a", BODY)]
    assert b.sealer.statistics().held_dropped == 1


def test_packets_of_an_old_boot_are_never_believed_again(lan: Lan) -> None:
    old = [lan.send("a", "b") for _ in range(3)]
    lan.restart("a")
    lan.send("a", "b")
    lan.send("b", "a")
    b = lan.nodes["b"]
    count = len(b.delivered)
    for packet in old:
        lan.replay(packet, "b")
        lan.now += 1.0
        assert refused(lambda: lan.replay(packet, "b")) == "replayed"  # noqa: B023
    assert len(b.delivered) == count
    lan.send("a", "b")
    assert len(b.delivered) == count + 1, "and the living boot stays established"


def test_withheld_answer_of_an_old_boot_does_not_bring_it_back(lan: Lan) -> None:
    a, b = lan.nodes["a"], lan.nodes["b"]
    ((challenge, _),) = b.open(a.sealer.seal(BODY, b.id, now=lan.now), a.address, lan.now)
    ((answer, _),) = a.open(challenge, b.address, lan.now)
    lan.restart("a")
    lan.send("a", "b")
    assert refused(lambda: lan.replay(answer, "b")) == "replayed"
    lan.send("a", "b")
    assert len(b.delivered) == 2


def test_candidate_grows_old_and_its_challenge_with_it(lan: Lan) -> None:
    a, b = lan.nodes["a"], lan.nodes["b"]
    ((challenge, _),) = b.open(a.sealer.seal(BODY, b.id, now=lan.now), a.address, lan.now)
    ((answer, _),) = a.open(challenge, b.address, lan.now)
    lan.now += sealing.CANDIDATE_S + 1.0
    assert refused(lambda: lan.replay(answer, "b")) == "replayed"


def test_challenge_is_answered_once(lan: Lan) -> None:
    a, b = lan.nodes["a"], lan.nodes["b"]
    ((challenge, _),) = b.open(a.sealer.seal(BODY, b.id, now=lan.now), a.address, lan.now)
    assert len(a.open(challenge, b.address, lan.now)) == 1
    assert refused(lambda: a.open(challenge, ELSEWHERE, lan.now)) == "replayed"


# --- redirection, other clusters, damage ---------------------------------------------------


def test_packet_redirected_to_a_third_node_is_refused(lan: Lan) -> None:
    packet = lan.send("a", "b")
    lan.send("a", "c")
    assert refused(lambda: lan.replay(packet, "c")) == "forged"


def test_challenge_redirected_to_a_third_node_is_refused(lan: Lan) -> None:
    a, b = lan.nodes["a"], lan.nodes["b"]
    ((challenge, _),) = b.open(a.sealer.seal(BODY, b.id, now=lan.now), a.address, lan.now)
    assert refused(lambda: lan.replay(challenge, "c")) == "forged"


def test_proofs_are_never_taken_from_packets_for_anybody(lan: Lan) -> None:
    a = lan.nodes["a"]
    for kind in (Kind.CHALLENGE, Kind.ANSWER):
        packet = a.sealer._prove(kind, bytes(16), b"echoecho", b"noncenon", lan.now)
        assert refused(lambda: lan.replay(packet, "b")) == "forged"  # noqa: B023


def test_own_packet_that_comes_back_is_not_for_us(lan: Lan) -> None:
    packet = lan.send("a", "b", bound=False)
    assert refused(lambda: lan.replay(packet, "a")) == "not-for-us"


def test_second_process_with_our_node_id_is_heard(lan: Lan) -> None:
    """So that a cloned identity can be noticed and told."""
    original, clone = lan.nodes["a"], lan.restart("a")
    clone.address = ELSEWHERE
    lan.nodes["clone"] = original
    lan.carry(clone.sealer.seal(BODY, original.id, now=lan.now), clone.address, original.address)
    assert original.delivered == [("a", BODY)]


def test_foreign_secret_and_foreign_label_are_named_without_decrypting() -> None:
    lan = Lan("ab")
    for foreign in (Keyring([OTHER_SECRET], label="lab"), Keyring([SECRET], label="other")):
        stranger = PacketSealer(foreign, node_id=node_id("d"), boot_salt=bytes(12))
        packet = stranger.seal(BODY, lan.nodes["b"].id, now=lan.now)
        with pytest.raises(RemoteError, match=foreign.primary.id) as caught:
            lan.replay(packet, "b")
        assert caught.value.cause == "foreign-key"


def test_insecure_and_sealed_nodes_do_not_talk() -> None:
    stranger = PacketSealer(InsecureKeys(label="lab"), node_id=node_id("d"), boot_salt=bytes(12))
    lan = Lan("ab")
    packet = stranger.seal(BODY, lan.nodes["b"].id, now=lan.now)
    assert refused(lambda: lan.replay(packet, "b")) == "foreign-key"


def test_each_damaged_byte_is_noticed(lan: Lan) -> None:
    lan.send("a", "b")
    a, b = lan.nodes["a"], lan.nodes["b"]
    packet = a.sealer.seal(BODY, b.id, now=lan.now)
    for position in range(len(packet)):
        damaged = bytearray(packet)
        damaged[position] ^= 0x04
        cause = refused(lambda: lan.replay(bytes(damaged), "b"))  # noqa: B023
        assert cause in ("forged", "foreign-key", "version", "unknown-kind")
    assert len(b.delivered) == 1


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (lambda packet: b"", "truncated"),
        (lambda packet: packet[: OVERHEAD_BYTES - 1], "truncated"),
        (lambda packet: packet.ljust(PACKET_BYTES_MAX + 1, b"\0"), "oversized"),
        (lambda packet: bytes([2 << 4 | Kind.DATA]) + packet[1:], "version"),
        (lambda packet: bytes([15 << 4]), "version"),
        (lambda packet: bytes([1 << 4 | 0]) + packet[1:], "unknown-kind"),
        (lambda packet: bytes([1 << 4 | 9]) + packet[1:], "unknown-kind"),
        (lambda packet: bytes([1 << 4 | Kind.ANSWER]) + packet[1:], "forged"),
    ],
)
def test_packet_that_does_not_fit_has_a_cause(
    lan: Lan, change: Callable[[bytes], bytes], cause: str
) -> None:
    a, b = lan.nodes["a"], lan.nodes["b"]
    packet = a.sealer.seal(BODY, b.id, now=lan.now)
    assert refused(lambda: lan.replay(change(packet), "b")) == cause


def test_authentic_proof_of_a_wrong_size_is_garbage(lan: Lan) -> None:
    a, b = lan.nodes["a"], lan.nodes["b"]
    for kind in (Kind.CHALLENGE, Kind.ANSWER):
        packet = a.sealer._seal(kind, b"?", bytes.fromhex(b.id), lan.now)
        assert refused(lambda: lan.replay(packet, "b")) == "garbage"  # noqa: B023
    lan.send("a", "b")
    packet = a.sealer._seal(Kind.CHALLENGE, b"?", bytes.fromhex(b.id), lan.now)
    assert refused(lambda: lan.replay(packet, "b")) == "garbage"


# --- bounds --------------------------------------------------------------------------------


def test_header_takes_what_the_format_says() -> None:
    assert (OVERHEAD_BYTES, PROOF_BYTES) == (54, 72)
    sealer = PacketSealer(RING, node_id=node_id("a"), boot_salt=b"0123456789ab")
    packet = sealer.seal(BODY, None, now=0.0)
    assert len(packet) == len(BODY) + 54
    assert packet[0] == 0x11
    assert packet[1:4].hex() == RING.primary.id
    assert packet[4:20].hex() == node_id("a")
    assert packet[20:32] == b"0123456789ab"
    assert packet[32:38] == bytes([0, 0, 0, 0, 0, 1])
    assert len(sealer.seal(bytes(BODY_BYTES_MAX), None, now=0.0)) == PACKET_BYTES_MAX


def test_reply_is_never_larger_than_what_came(lan: Lan) -> None:
    a, b = lan.nodes["a"], lan.nodes["b"]
    small = a.sealer.seal(bytes(PROOF_BYTES - OVERHEAD_BYTES - 1), b.id, now=lan.now)
    assert refused(lambda: lan.replay(small, "b")) == "unproven"
    lan.send("a", "b", bytes(PROOF_BYTES - OVERHEAD_BYTES))
    sizes = [len(packet) for packet, _, _ in lan.recorded]
    assert max(sizes) == PROOF_BYTES
    assert len(lan.nodes["b"].delivered) == 1


def test_flood_of_one_unknown_boot_gets_one_challenge_a_second(lan: Lan) -> None:
    a, b = lan.nodes["a"], lan.nodes["b"]
    replies = 0
    for number in range(500):
        packet = a.sealer.seal(BODY, b.id, now=lan.now)
        replies += len(b.open(packet, ELSEWHERE, lan.now + number * 0.01))
    assert replies == 5


def test_flood_of_old_boots_stays_in_its_table_and_does_not_silence_the_living_one() -> None:
    lan = Lan("ab")
    b = lan.nodes["b"]
    for _ in range(CANDIDATES_MAX + 50):
        old = lan.restart("a")
        lan.nodes["b"].open(old.sealer.seal(BODY, b.id, now=lan.now), ELSEWHERE, lan.now)
    assert b.sealer.statistics().candidates == CANDIDATES_MAX
    lan.restart("a")
    lan.send("a", "b")
    assert b.delivered == [("a", BODY)]
    assert b.sealer.statistics().candidates == 0, "one boot was believed: the others are forgotten"


def test_forged_packets_of_unknown_senders_leave_no_trace() -> None:
    lan = Lan("ab")
    packet = bytearray(lan.nodes["a"].sealer.seal(BODY, lan.nodes["b"].id, now=lan.now))
    for number in range(1, 100):
        packet[20] = number
        refused(lambda: lan.replay(bytes(packet), "b"))
    assert lan.nodes["b"].sealer.statistics().candidates == 0


def test_peer_that_was_longest_silent_is_forgotten_and_comes_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sealing, "PEERS_MAX", 2)
    lan = Lan("abcd")
    for name in "bcbd":
        lan.send(name, "a")
    assert lan.nodes["a"].sealer.statistics().peers == 2
    challenges = lan.nodes["a"].sealer.statistics().challenges_sent
    lan.send("b", "a")
    assert lan.nodes["a"].sealer.statistics().challenges_sent == challenges, "b is still known"
    lan.now += 5.0
    lan.send("c", "a")
    assert [sender for sender, _ in lan.nodes["a"].delivered] == ["b", "c", "b", "d", "b", "c"]
    assert PEERS_MAX == 4_096


def test_counter_that_is_used_up_seals_no_more_until_renewed(lan: Lan) -> None:
    a = lan.nodes["a"]
    lan.send("a", "b")
    a.sealer._counter = COUNTER_MAX - 1
    lan.send("a", "b")
    assert a.sealer.is_exhausted
    with pytest.raises(LocalError, match="used up"):
        a.sealer.seal(BODY, lan.nodes["b"].id, now=lan.now)
    a.sealer.renew(b"another salt")
    lan.send("a", "b")
    lan.send("b", "a")
    assert len(lan.nodes["b"].delivered) == 3
    assert len(a.delivered) == 1, "what a knew of b is still known"


# --- keys ----------------------------------------------------------------------------------


def test_rotation_loses_no_packet() -> None:
    lan = Lan("ab")
    lan.send("a", "b")
    lan.send("b", "a")
    both = RING.install(OTHER_SECRET)
    new = Keyring([OTHER_SECRET], label="lab").primary.id
    for ring in (both, both.use(new), both.use(new).remove(RING.primary.id)):
        for name in "ab":
            lan.nodes[name].sealer.replace_keys(ring)
            lan.send("a", "b")
            lan.send("b", "a")
    assert len(lan.nodes["a"].delivered) == len(lan.nodes["b"].delivered) == 7
    assert len(lan.recorded) == 4 + 1 + 12, "no new challenge"


def test_removed_secret_opens_nothing_any_more() -> None:
    lan = Lan("ab")
    lan.send("a", "b")
    lan.nodes["b"].sealer.replace_keys(Keyring([OTHER_SECRET], label="lab"))
    assert refused(lambda: lan.send("a", "b")) == "foreign-key"


# --- hints ---------------------------------------------------------------------------------


def test_announcement_is_read_without_contact_and_without_memory(lan: Lan) -> None:
    a, b = lan.nodes["a"], lan.nodes["b"]
    packet = a.sealer.seal(BODY, None, now=lan.now)
    for _ in range(2):
        hint = b.sealer.open_hint(packet, a.address)
        assert (hint.sender, hint.body, hint.is_bound) == (a.id, BODY, False)
    statistics = b.sealer.statistics()
    assert (statistics.peers, statistics.candidates, statistics.counter) == (0, 0, 0)


def test_announcement_of_our_own_or_of_another_kind_is_refused(lan: Lan) -> None:
    a, b = lan.nodes["a"], lan.nodes["b"]
    packet = a.sealer.seal(BODY, None, now=lan.now)
    assert refused(lambda: a.sealer.open_hint(packet, a.address)) == "not-for-us"
    ((challenge, _),) = b.open(packet, a.address, lan.now)
    assert refused(lambda: a.sealer.open_hint(challenge, b.address)) == "unknown-kind"
