"""The table: everybody this node knows of, itself included, and the graves of the forgotten.

**How the dead stay dead.** A table that was pushed to us may be old: its owner slept, or was cut
off for days. While we remember a failed or left member, its record supersedes the old `Alive`,
which has no higher incarnation. When it is forgotten at last, its id and incarnation remain as a
grave: whatever is said of that member at an incarnation not above it is ignored, unless the member
says so itself, in which case it is told, raises its incarnation and is a member again. (memberlist
keeps nothing, so that one node with an old table revived a gone member again and again for six
hours: its issue #312.) And the dead also go: records travel with their age, so everybody forgets a
failure at about the same time, and nobody takes up a failed member that is due to be forgotten.
Without that, two tables hand a dead member to each other for ever (foca #31, chitchat #161).
What remains: a node that never knew the member, and first hears of it from an old table, shows it
until its own probes fail, which is one suspicion later.

The checksum is kept up to date with each change and does not depend on the order of changes, so
that comparing tables costs nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from muster_protocol.limits import PUSH_PULL_MEMBERS_MAX
from muster_protocol.membership.member import Accusation, Member, MemberView, record_of
from muster_protocol.membership.suspicion import ACCUSERS_MAX, Suspicion
from muster_protocol.types import Address, NodeId, Rng, Size
from muster_protocol.wire.codec import encode
from muster_protocol.wire.membership import NOBODY, Digest, MemberState, SyncTable

GRAVES_MAX: Final = 4_096
"""Forgotten members whose incarnation is still known: years of a LAN cluster's departures, in less
than a megabyte. The oldest go first."""

MEMBERS_MAX: Final = PUSH_PULL_MEMBERS_MAX - 1
"""Others in the table; with ourselves they fill a push-pull."""

PICK_TRIES: Final = 4
"""Draws for each one to be picked before all are looked at: enough where most are wanted, which is
the rule, and a few microseconds where they are not."""


@dataclass(slots=True)
class Entry:
    """One other member: what is believed of it, and what this node saw itself."""

    member: Member
    since: float
    last_seen: float | None = None
    suspicion: Suspicion | None = None
    """Of the present or, for a failed member, the last suspicion."""

    @property
    def state(self) -> MemberState:
        return self.member.state

    @property
    def accuser(self) -> NodeId:
        """Who first could not reach the member; nobody if it is not in doubt."""
        return next(iter(self.suspicion.accusers)) if self.suspicion is not None else NOBODY


class Table:
    """Everybody. `me` is this node's own record; entries are the others."""

    def __init__(self, me: Member, *, now: float) -> None:
        self._me = me
        self._me_since = now
        self._entries: dict[NodeId, Entry] = {}
        self._suspects: dict[NodeId, Entry] = {}
        self._named: dict[str, dict[NodeId, None]] = {}
        self._listed: list[Entry] | None = []
        """The entries to draw from; None until they are listed again."""
        self._counts = dict.fromkeys(MemberState, 0)
        self._graves: dict[NodeId, int] = {}
        self._checksum = _fingerprint(me)

    @property
    def me(self) -> Member:
        return self._me

    def set_me(self, me: Member, *, now: float) -> None:
        """Replace the own record."""
        if me.state != self._me.state:
            self._me_since = now
        self._checksum ^= _fingerprint(self._me) ^ _fingerprint(me)
        self._me = me

    def __len__(self) -> int:
        return len(self._entries) + 1

    def get(self, node: NodeId) -> Entry | None:
        """Another member's entry; None for strangers and for ourselves."""
        return self._entries.get(node)

    def entries(self) -> Iterable[Entry]:
        """The others, in the order in which they came to be known."""
        return self._entries.values()

    def suspects(self) -> Iterable[Entry]:
        """Those that are suspected now."""
        return self._suspects.values()

    @property
    def has_suspects(self) -> bool:
        """Whether anybody is suspected: asked after every event, and hardly ever so."""
        return bool(self._suspects)

    def count(self, state: MemberState) -> int:
        """How many others are in a state."""
        return self._counts[state]

    @property
    def present(self) -> int:
        """Members alive or suspected, ourselves included: the n of every formula."""
        return 1 + self._counts[MemberState.ALIVE] + self._counts[MemberState.SUSPECT]

    @property
    def is_full(self) -> bool:
        return len(self._entries) >= MEMBERS_MAX

    def insert(self, member: Member, *, since: float) -> Entry:
        """Take up somebody new."""
        assert member.id not in self._entries, f"{member.id} is in the table already"
        assert member.id != self._me.id, "the own record is not an entry"
        entry = Entry(member, since)
        self._entries[member.id] = entry
        self._listed = None
        self._named.setdefault(member.name, {})[member.id] = None
        self._graves.pop(member.id, None)
        self._counts[member.state] += 1
        self._checksum ^= _fingerprint(member)
        return entry

    def change(self, entry: Entry, member: Member, *, since: float) -> None:
        """Believe something else of a member. `since` counts when its state changes."""
        old = entry.member
        self._checksum ^= _fingerprint(old) ^ _fingerprint(member)
        self._counts[old.state] -= 1
        self._counts[member.state] += 1
        entry.member = member
        if old.name != member.name:
            self._unname(old)
            self._named.setdefault(member.name, {})[member.id] = None
        if old.state != member.state:
            entry.since = since
        if member.state is MemberState.SUSPECT:
            self._suspects[member.id] = entry
        else:
            self._suspects.pop(member.id, None)
            if member.state is not MemberState.FAILED:
                entry.suspicion = None

    def forget(self, node: NodeId) -> None:
        """Drop a member and dig its grave."""
        entry = self._entries.pop(node)
        self._listed = None
        self._unname(entry.member)
        self._suspects.pop(node, None)
        self._counts[entry.state] -= 1
        self._checksum ^= _fingerprint(entry.member)
        self._graves[node] = entry.member.incarnation
        if len(self._graves) > GRAVES_MAX:
            del self._graves[next(iter(self._graves))]

    def grave(self, node: NodeId) -> int | None:
        """The incarnation up to which a forgotten member stays dead."""
        return self._graves.get(node)

    def sizes(self) -> Iterator[Size]:
        """How much is kept here."""
        yield Size("members", len(self._entries), MEMBERS_MAX)
        yield Size("graves", len(self._graves), GRAVES_MAX)
        for entry in self._suspects.values():
            if entry.suspicion is not None:
                accusers = len(entry.suspicion.accusers)
                yield Size(f"accusers of {entry.member.name}", accusers, ACCUSERS_MAX)

    def named(self, name: str) -> list[Member]:
        """Everybody of this name, ourselves included."""
        found = [self._entries[node].member for node in self._named.get(name, ())]
        return [*found, self._me] if self._me.name == name else found

    def _unname(self, member: Member) -> None:
        holders = self._named[member.name]
        del holders[member.id]
        if not holders:
            del self._named[member.name]

    def present_at(self, address: Address) -> NodeId | None:
        """Who of those present says to be at an address."""
        for entry in self._entries.values():
            if entry.member.address == address and entry.member.is_present:
                return entry.member.id
        return None

    def pick(self, rng: Rng, count: int, wanted: Callable[[Entry], bool]) -> list[Entry]:
        """Up to `count` different others that are wanted, by chance.

        Drawn from all and refused when not wanted, so that the few packets of a round do not cost
        a look at every member; where few are wanted, all are looked at.
        """
        if self._listed is None:
            self._listed = list(self._entries.values())
        listed, chosen = self._listed, dict[NodeId, Entry]()
        if len(listed) > PICK_TRIES * count:
            for _ in range(PICK_TRIES * count):
                entry = listed[rng.randrange(len(listed))]
                if wanted(entry):
                    chosen[entry.member.id] = entry
                if len(chosen) == count:
                    return list(chosen.values())
        candidates = [entry for entry in self._entries.values() if wanted(entry)]
        return rng.sample(candidates, min(count, len(candidates)))

    def digest(self) -> Digest:
        """The whole table in 14 bytes."""
        return Digest(len(self), self._checksum)

    def for_sync(self, *, now: float) -> SyncTable:
        """The whole table, for a push-pull."""
        mine = record_of(self._me, age_s=now - self._me_since)
        rows = (
            record_of(entry.member, age_s=now - entry.since, by=entry.accuser)
            for entry in self.entries()
        )
        return SyncTable((mine, *rows))

    def views(self) -> tuple[MemberView, ...]:
        """The whole table, for people and other machines; ourselves first."""
        others = (
            _view(entry.member, entry.since, entry.last_seen, entry.suspicion)
            for entry in self.entries()
        )
        return (_view(self._me, self._me_since, None, None), *others)


def _view(
    member: Member, since: float, last_seen: float | None, suspicion: Suspicion | None
) -> MemberView:
    accusers = suspicion.accusers if suspicion is not None else {}
    return MemberView(
        id=member.id,
        name=member.name,
        address=member.address,
        incarnation=member.incarnation,
        state=member.state,
        since=since,
        last_seen=last_seen,
        meta=member.meta,
        suspected_by=tuple(Accusation(by, reason) for by, reason in accusers.items()),
    )


def _fingerprint(member: Member) -> int:
    """63 bits of who, which incarnation, what state and, of those present, what they say of
    themselves. A suspicion counts as alive."""
    if member.is_present:
        data = encode(member.claimed(MemberState.ALIVE, member.incarnation))
    else:
        data = encode((member.id, member.incarnation, int(member.state)))
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "big") >> 1
