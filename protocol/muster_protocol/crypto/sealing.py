"""Sealed packets: what goes out, and how a receiver comes to believe what comes in.

The header, 38 bytes, and the tag behind the body, 16:

     0   1  version (4 bits) | kind: data, challenge, answer
     1   3  key id: names the secret and the label without decrypting
     4  16  sender's node id
    20  12  boot salt: random at each start of the process, never stored
    32   6  counter: from 1, one per boot for all destinations and kinds
    38   n  AES-256-GCM-SIV
            key              HKDF(secret, salt = boot salt, info = label | node id)
            nonce            counter
            associated data  header | label | receiver id (zero where it is not known)

**Why a salt and a counter.** A counter that is kept on disk repeats (key, nonce) after a restored
image; a new salt at each start cannot. A virtual machine resumed from a snapshot still repeats
counters inside one boot, so the cipher is one that survives it (GCM-SIV, RFC 8452), and the node
calls `renew` when it notices.

**Why a challenge.** A replay window protects only while it is remembered. After its own restart a
receiver would take every packet that was ever recorded, and those of a sender's earlier boots
verify for ever. So a (node id, boot salt) that is not *established* is opened and held, not
delivered, and asked to prove that it lives: a challenge of 8 random bytes goes to where the packet
came from, and an answer that echoes them establishes the boot, opens its replay window at the
answer's counter and forgets the sender's older boot. No clock is compared, nothing is stored,
and a node may change its address.

    A                                                    B
    data ------------------------------------------------>  unknown boot: held
      <------------------------------- challenge(nonce b)   at most 1/s for a boot
    answer(echo b, nonce a, recent) --------------------->  A established, data delivered
      <-------------------------------------- answer(echo a)
    B established

The answer carries a counter-challenge where the challenger is unknown too, so two strangers
believe each other after three extra packets, and the first one is not lost.

**Held packets may be replays as well.** Whoever records a packet and repeats it to a restarted
receiver has it held; the living sender's next answer would then deliver it. So an answer says how
many of the counters before it were used *recently* (within `VOUCH_S` to three times that); older
held packets are dropped. A packet of the last second that is delivered to a receiver which
restarted meanwhile is what a slow network does as well.

**No amplifier.** Challenge and answer have the same size, and nothing is sent in reply to a packet
smaller than it. Both tables are bounded; the least recently used entry goes first, and whoever was
forgotten is challenged again. The rate limit is per boot, not per node: a repeated packet of an
old boot must not use up the challenge of the living one.

Rejected: a boot counter or the time in the header (both trust what a restored image has lost);
binding to the address (nodes move; NAT); the cluster id in the associated data (a joiner does not
know it; it stands in the sealed body).

The machine is pure: time and random bytes are arguments. `open` raises `RemoteError` for what is
refused, with a cause that is counted, and has then changed no state.
"""

from __future__ import annotations

import enum
import struct
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol

from cryptography.exceptions import InvalidTag

from muster_protocol.crypto.keyring import Aead, KeyId
from muster_protocol.crypto.replay import ReplayWindow
from muster_protocol.errors import LocalError, RemoteError
from muster_protocol.limits import PACKET_BYTES_MAX
from muster_protocol.types import Address, NodeId

VERSION: Final = 1
"""The major version of the packet format. Another one is refused and counted, never guessed at."""

_HEADER: Final = struct.Struct(">B3s16s12s6s")
_PROOF: Final = struct.Struct(">8s8sH")  # echo, nonce, recent
_TAG_BYTES: Final = 16
_NONE: Final = bytes(8)
_ANYBODY: Final = bytes(16)

OVERHEAD_BYTES: Final = _HEADER.size + _TAG_BYTES
"""What sealing adds to a body: 54."""

BODY_BYTES_MAX: Final = PACKET_BYTES_MAX - OVERHEAD_BYTES
PROOF_BYTES: Final = OVERHEAD_BYTES + _PROOF.size
"""Size of a challenge or answer: 72. A smaller packet of an unknown boot is not challenged."""

BOOT_SALT_BYTES: Final = 12
NONCE_BYTES: Final = 8
COUNTER_MAX: Final = 2**48 - 1
"""Six bytes: nine years of a million packets per second. Then `renew` starts a new boot."""

PEERS_MAX: Final = 4_096
"""Established boots: four times the largest cluster that the simulator runs."""

CANDIDATES_MAX: Final = 256
"""Boots that are being asked. Each takes a valid packet of its own to make, so only recorded ones
can fill the table, and 256 nodes restarting at once fit."""

HELD_MAX: Final = 4
"""Packets held per candidate: a ping and what else a node sends within one round trip."""

CHALLENGE_PERIOD_S: Final = 1.0
"""Between two challenges to one boot: the protocol period of the failure detector, so each probe
may renew one that was lost."""

CANDIDATE_S: Final = 10.0
"""Age at which a candidate starts anew, so that no old answer can still establish it."""

VOUCH_S: Final = 1.0
"""An answer vouches for packets sent this long ago at least: many times a LAN's round trip."""


class Kind(enum.IntEnum):
    """The low four bits of a packet's first byte."""

    DATA = 1
    CHALLENGE = 2
    ANSWER = 3


_KINDS: Final = {int(kind): kind for kind in Kind}


class PacketKey(Protocol):
    """One key: `Key` or `InsecureKeys`."""

    @property
    def id(self) -> KeyId: ...

    def packet_cipher(self, node_id: bytes, boot_salt: bytes) -> Aead: ...


class PacketKeys(Protocol):
    """All keys of one label: `Keyring` or `InsecureKeys`."""

    @property
    def label(self) -> str: ...

    @property
    def primary(self) -> PacketKey: ...

    def find(self, key_id: bytes) -> PacketKey | None: ...


@dataclass(frozen=True, slots=True)
class Delivery:
    """A body that is authentic, fresh and not a repetition.

    `is_bound` is False where the sender did not know its receiver: such a packet may have been
    redirected here, so only a message meant for anybody (a join) may be believed.
    """

    sender: NodeId
    body: bytes
    source: Address
    is_bound: bool


@dataclass(frozen=True, slots=True)
class Opened:
    """What came of one packet: bodies to deliver, in the order of their counters, and packets to
    send. `used_nonce` says that the caller must not pass the same random bytes again."""

    delivered: tuple[Delivery, ...] = ()
    replies: tuple[tuple[bytes, Address], ...] = ()
    used_nonce: bool = False


@dataclass(frozen=True, slots=True)
class SealerStatistics:
    """Sizes of the tables, and what the machine did of its own accord."""

    peers: int
    candidates: int
    counter: int
    challenges_sent: int
    answers_sent: int
    held_dropped: int


class _Header(NamedTuple):  # a tuple: made for every packet, and four times as fast
    raw: bytes
    kind: Kind
    key_id: bytes
    sender: bytes
    boot_salt: bytes
    counter: int


@dataclass(slots=True)
class _Boot:
    """One boot of one node; `ciphers` by key id, made when first needed."""

    node_id: NodeId
    salt: bytes
    ciphers: dict[bytes, Aead] = field(default_factory=dict)


@dataclass(slots=True)
class _Peer:
    """An established boot."""

    boot: _Boot
    window: ReplayWindow


@dataclass(slots=True)
class _Candidate:
    """A boot that has not yet proven that it lives."""

    boot: _Boot
    since: float
    nonce: bytes = b""  # empty: not yet challenged
    challenged_at: float = 0.0
    answered: int = 0  # counter of the last challenge of its that was answered
    held: dict[int, Delivery] = field(default_factory=dict)


class PacketSealer:
    """Seals what this boot of this node sends, opens what others send. One per process."""

    def __init__(self, keys: PacketKeys, *, node_id: NodeId, boot_salt: bytes) -> None:
        """`boot_salt`: 12 random bytes, drawn at each start and never stored."""
        assert len(boot_salt) == BOOT_SALT_BYTES
        self._keys = keys
        self._label = keys.label.encode()
        self._id = bytes.fromhex(node_id)
        self._node_id = node_id
        self._own = _Boot(node_id, boot_salt)
        self._counter = 0
        self._marked_at = -2 * VOUCH_S
        self._mark = self._recent_from = 1
        self._peers: OrderedDict[bytes, _Peer] = OrderedDict()
        self._candidates: OrderedDict[tuple[bytes, bytes], _Candidate] = OrderedDict()
        self._challenges_sent = self._answers_sent = self._held_dropped = 0

    # --- sending ---------------------------------------------------------------------------

    def seal(self, body: bytes, receiver: NodeId | None, *, now: float) -> bytes:
        """A packet for `receiver`, or for whoever is at the address where that is not known.

        `body` is at most `BODY_BYTES_MAX` bytes. Errors: LocalError when the counter is used up
        (`is_exhausted` tells before); nothing was sealed.
        """
        assert len(body) <= BODY_BYTES_MAX, f"body of {len(body)} bytes"
        bound_to = _ANYBODY if receiver is None else bytes.fromhex(receiver)
        return self._seal(Kind.DATA, body, bound_to, now)

    @property
    def is_exhausted(self) -> bool:
        """The counter is used up: nothing can be sealed before `renew`."""
        return self._counter >= COUNTER_MAX

    @property
    def boot_salt(self) -> bytes:
        return self._own.salt

    def renew(self, boot_salt: bytes) -> None:
        """Go on as a new boot: when the counter is used up, or after a resume from a snapshot,
        which took it back. What is known of peers is kept; they will challenge this boot."""
        assert len(boot_salt) == BOOT_SALT_BYTES
        assert boot_salt != self._own.salt
        self._own = _Boot(self._node_id, boot_salt)
        self._counter = 0
        self._mark = self._recent_from = 1

    def replace_keys(self, keys: PacketKeys) -> None:
        """Seal and open with another ring of the same label. Established boots stay so."""
        assert keys.label == self._keys.label
        self._keys = keys
        for boot in (self._own, *(peer.boot for peer in self._peers.values())):
            boot.ciphers.clear()  # of a removed secret nothing is kept
        self._candidates.clear()

    def statistics(self) -> SealerStatistics:
        return SealerStatistics(
            peers=len(self._peers),
            candidates=len(self._candidates),
            counter=self._counter,
            challenges_sent=self._challenges_sent,
            answers_sent=self._answers_sent,
            held_dropped=self._held_dropped,
        )

    def _seal(self, kind: Kind, body: bytes, receiver: bytes, now: float) -> bytes:
        if self.is_exhausted:
            raise LocalError("packet counter used up: this boot cannot seal any more")
        self._roll_marks(now)
        self._counter += 1
        key, counter = self._keys.primary, self._counter.to_bytes(6, "big")
        key_id = bytes.fromhex(key.id)
        header = _HEADER.pack(VERSION << 4 | kind, key_id, self._id, self._own.salt, counter)
        cipher = self._cipher(self._own, key, key_id)
        return header + cipher.encrypt(_nonce(counter), body, header + self._label + receiver)

    def _roll_marks(self, now: float) -> None:
        """Keep `_recent_from`: the first counter of the last `VOUCH_S` to three times that."""
        age = now - self._marked_at
        if age < VOUCH_S:
            return
        upcoming = self._counter + 1
        self._recent_from = self._mark if age < 2 * VOUCH_S else upcoming
        self._mark, self._marked_at = upcoming, now

    def _prove(self, kind: Kind, receiver: bytes, echo: bytes, nonce: bytes, now: float) -> bytes:
        self._roll_marks(now)
        recent = min(self._counter + 1 - self._recent_from, 0xFFFF)
        return self._seal(kind, _PROOF.pack(echo, nonce, recent), receiver, now)

    # --- receiving -------------------------------------------------------------------------

    def open(self, packet: bytes, source: Address, *, now: float, nonce8: bytes) -> Opened:
        """What came of `packet`. `nonce8`: 8 random bytes, in case a challenge is due.

        Errors: RemoteError with cause truncated, oversized, version, unknown-kind, foreign-key,
        not-for-us (our own packet came back), forged (damaged, another secret of the same id, or
        sealed for another node: the tag cannot tell them apart), replayed, unproven (too small
        to be challenged), garbage (authentic, and still malformed).
        """
        header = _parse(packet)
        if header.sender == self._id and header.boot_salt == self._own.salt:
            raise RemoteError("not-for-us", "a packet of our own came back")
        key = self._find_key(header)
        peer = self._peers.get(header.sender)
        if peer is not None and peer.boot.salt == header.boot_salt:
            body, is_bound = self._decrypt(packet, header, key, peer.boot)
            return self._from_peer(
                peer, header, Delivery(peer.boot.node_id, body, source, is_bound), now
            )
        candidate = self._candidate(header, now)
        body, is_bound = self._decrypt(packet, header, key, candidate.boot)
        delivery = Delivery(candidate.boot.node_id, body, source, is_bound)
        if header.kind is Kind.DATA:
            return self._hold(candidate, header, delivery, len(packet), now, nonce8)
        if header.kind is Kind.CHALLENGE:
            return self._answer_stranger(candidate, header, delivery, now, nonce8)
        return self._establish(candidate, header, delivery, now)

    def open_hint(self, packet: bytes, source: Address) -> Delivery:
        """A multicast announcement: authentic, but perhaps old, repeated or redirected.

        No challenge, no memory, no reply: a hint of where somebody may be, to be verified by
        talking to them. Errors: RemoteError, as `open`.
        """
        header = _parse(packet)
        if header.sender == self._id:
            raise RemoteError("not-for-us", "a packet of our own came back")
        if header.kind is not Kind.DATA:
            raise RemoteError("unknown-kind", f"a {header.kind.name.lower()} as an announcement")
        boot = _Boot(NodeId(header.sender.hex()), header.boot_salt)
        body, is_bound = self._decrypt(packet, header, self._find_key(header), boot)
        return Delivery(boot.node_id, body, source, is_bound)

    def _from_peer(self, peer: _Peer, header: _Header, delivery: Delivery, now: float) -> Opened:
        proof = None if header.kind is Kind.DATA else _parse_proof(delivery.body)
        if not peer.window.accept(header.counter):
            raise RemoteError("replayed", "a packet that came before, or is too old to tell")
        self._peers.move_to_end(header.sender)
        if proof is None:
            return Opened(delivered=(delivery,))
        return Opened(replies=self._answer(header, proof.nonce, _NONE, delivery.source, now))

    def _hold(
        self,
        candidate: _Candidate,
        header: _Header,
        delivery: Delivery,
        size: int,
        now: float,
        nonce8: bytes,
    ) -> Opened:
        if header.counter in candidate.held:
            raise RemoteError("replayed", "a packet that is held already")
        if size < PROOF_BYTES:
            raise RemoteError("unproven", "an unknown boot, and too small a packet to ask it")
        self._remember(header, candidate)
        is_due = self._challenge_is_due(candidate, now)
        if len(candidate.held) >= HELD_MAX:
            self._held_dropped += 1
            if not is_due:
                return Opened()
            del candidate.held[min(candidate.held)]  # the answer would not vouch for it any more
        candidate.held[header.counter] = delivery
        if not is_due:
            return Opened()
        nonce, is_fresh = self._challenge(candidate, nonce8, now)
        packet = self._prove(Kind.CHALLENGE, header.sender, _NONE, nonce, now)
        self._challenges_sent += 1
        return Opened(replies=((packet, delivery.source),), used_nonce=is_fresh)

    def _answer_stranger(
        self, candidate: _Candidate, header: _Header, delivery: Delivery, now: float, nonce8: bytes
    ) -> Opened:
        """Answer the challenge of a boot that is not established, and challenge it back."""
        proof = _parse_proof(delivery.body)
        if header.counter <= candidate.answered:
            raise RemoteError("replayed", "a challenge that was answered")
        self._remember(header, candidate)
        candidate.answered = header.counter
        nonce, is_fresh = _NONE, False
        if self._challenge_is_due(candidate, now):
            nonce, is_fresh = self._challenge(candidate, nonce8, now)
        replies = self._answer(header, proof.nonce, nonce, delivery.source, now)
        return Opened(replies=replies, used_nonce=is_fresh)

    def _establish(
        self, candidate: _Candidate, header: _Header, delivery: Delivery, now: float
    ) -> Opened:
        """The answer to our challenge came: believe this boot, forget the node's others."""
        proof = _parse_proof(delivery.body)
        if not candidate.nonce or proof.echo != candidate.nonce:
            raise RemoteError("replayed", "an answer to no challenge of ours")
        for entry in [entry for entry in self._candidates if entry[0] == header.sender]:
            del self._candidates[entry]
        peer = _Peer(candidate.boot, ReplayWindow(header.counter))
        self._peers[header.sender] = peer
        self._peers.move_to_end(header.sender)
        if len(self._peers) > PEERS_MAX:
            self._peers.popitem(last=False)
        fresh: list[Delivery] = []
        for counter in sorted(candidate.held):
            if counter > header.counter:
                peer.window.accept(counter)  # it overtook the answer on its way
            if counter >= header.counter - proof.recent:
                fresh.append(candidate.held[counter])
        self._held_dropped += len(candidate.held) - len(fresh)
        replies = self._answer(header, proof.nonce, _NONE, delivery.source, now)
        return Opened(delivered=tuple(fresh), replies=replies)

    def _answer(
        self, header: _Header, echo: bytes, nonce: bytes, source: Address, now: float
    ) -> tuple[tuple[bytes, Address], ...]:
        """An answer that echoes `echo` to the sender of `header`; nothing if nothing was asked."""
        if echo == _NONE:
            return ()
        self._answers_sent += 1
        return ((self._prove(Kind.ANSWER, header.sender, echo, nonce, now), source),)

    # --- candidates and ciphers ------------------------------------------------------------

    def _candidate(self, header: _Header, now: float) -> _Candidate:
        """What is known of a boot that is not established; a new value is not yet remembered."""
        candidate = self._candidates.get((header.sender, header.boot_salt))
        if candidate is None or now - candidate.since > CANDIDATE_S:
            return _Candidate(_Boot(NodeId(header.sender.hex()), header.boot_salt), since=now)
        return candidate

    def _remember(self, header: _Header, candidate: _Candidate) -> None:
        entry = (header.sender, header.boot_salt)
        self._candidates[entry] = candidate
        self._candidates.move_to_end(entry)
        if len(self._candidates) > CANDIDATES_MAX:
            self._candidates.popitem(last=False)

    @staticmethod
    def _challenge_is_due(candidate: _Candidate, now: float) -> bool:
        return not candidate.nonce or now - candidate.challenged_at >= CHALLENGE_PERIOD_S

    @staticmethod
    def _challenge(candidate: _Candidate, nonce8: bytes, now: float) -> tuple[bytes, bool]:
        """The nonce to send: the same for a candidate's life, so that a late answer still fits."""
        assert len(nonce8) == NONCE_BYTES
        is_fresh = not candidate.nonce
        candidate.nonce = candidate.nonce or nonce8
        candidate.challenged_at = now
        return candidate.nonce, is_fresh

    def _find_key(self, header: _Header) -> PacketKey:
        key = self._keys.find(header.key_id)
        if key is None:
            raise RemoteError(
                "foreign-key", f"sealed with key {header.key_id.hex()}: another secret or label"
            )
        return key

    @staticmethod
    def _cipher(boot: _Boot, key: PacketKey, key_id: bytes) -> Aead:
        cipher = boot.ciphers.get(key_id)
        if cipher is None:
            cipher = key.packet_cipher(bytes.fromhex(boot.node_id), boot.salt)
            boot.ciphers[key_id] = cipher
        return cipher

    def _decrypt(
        self, packet: bytes, header: _Header, key: PacketKey, boot: _Boot
    ) -> tuple[bytes, bool]:
        """The body, and whether it was sealed for us rather than for anybody."""
        cipher = self._cipher(boot, key, header.key_id)
        nonce = _nonce(packet[32:38])
        sealed, context = packet[_HEADER.size :], header.raw + self._label
        try:
            return cipher.decrypt(nonce, sealed, context + self._id), True
        except InvalidTag:
            if header.kind is not Kind.DATA:  # nobody proves anything to "anybody"
                raise _forged() from None
        try:
            return cipher.decrypt(nonce, sealed, context + _ANYBODY), False
        except InvalidTag:
            raise _forged() from None


@dataclass(frozen=True, slots=True)
class _Proof:
    echo: bytes
    nonce: bytes
    recent: int


def _parse(packet: bytes) -> _Header:
    if len(packet) > PACKET_BYTES_MAX:
        raise RemoteError("oversized", f"packet of {len(packet)} bytes")
    if not packet:
        raise RemoteError("truncated", "empty packet")
    if packet[0] >> 4 != VERSION:
        raise RemoteError("version", f"packet format {packet[0] >> 4}; this node speaks {VERSION}")
    if len(packet) < OVERHEAD_BYTES:
        raise RemoteError("truncated", f"packet of {len(packet)} bytes")
    first, key_id, sender, boot_salt, counter = _HEADER.unpack_from(packet)
    kind = _KINDS.get(first & 0x0F)
    if kind is None:
        raise RemoteError("unknown-kind", f"packet of kind {first & 0x0F}")
    raw = packet[: _HEADER.size]
    return _Header(raw, kind, key_id, sender, boot_salt, int.from_bytes(counter, "big"))


def _parse_proof(body: bytes) -> _Proof:
    if len(body) != _PROOF.size:
        raise RemoteError("garbage", f"a challenge or answer of {len(body)} bytes")
    return _Proof(*_PROOF.unpack(body))


def _nonce(counter: bytes) -> bytes:
    return bytes(6) + counter


def _forged() -> RemoteError:
    return RemoteError(
        "forged", "not sealed with our secret for this node: damaged, forged or redirected"
    )
