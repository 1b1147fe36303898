"""The replicated state machine: a versioned key-value store with client sessions.

`apply(command) -> Result` is deterministic: the same commands in the same order give the same
state and the same results on every replica, whatever engine (Raft now, PBFT later) agreed on the
order. It never raises for anything a client can send, and changes state only after all its checks.

**Exactly once.** A session is a client's random id. The registry keeps, per session, the result of
its newest *changing* request; the same request number again gives that result and changes
nothing, a lower one is rejected. Reads leave no trace. Results of changes carry no values, so that
what a session keeps is small.

At most `SESSIONS_MAX` sessions are kept; the one unused for longest is dropped first, which is the
same one on every replica because "used" is counted in applied commands, not in time. A repeated
request of a dropped session must not look like a new one. So each command says which revision was
known before it was first proposed (`since`), and the registry keeps the highest revision at which a
dropped session's last request was answered (`forgotten`): a command of an unknown session from
before that one is `Expired`. If it took effect, it made a revision above its `since`; if it did
not, it may be applied now. Rejected: sessions that are opened by an entry of their own (Ongaro's
dissertation, 6.3), because nearly all of ours make one change, which would then cost two; and
expiry by time, because nothing bounds how wrong the clocks are.

**Snapshots** do not block: `capture` copies the tables shallowly (values are immutable), 4 ms for
100,000 keys, and the copy is encoded elsewhere, in slices. Rejected: to copy piece by piece, with
the old values of what is changed meanwhile kept aside: needed from a million small keys on.
"""

from __future__ import annotations

import bisect
import collections
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from muster_protocol.consistency.commands import (
    Command,
    Conflict,
    Delete,
    Done,
    Expired,
    Get,
    KeyValue,
    List,
    NotFound,
    Operation,
    Put,
    Rejected,
    Result,
)
from muster_protocol.consistency.fingerprints import Hashes, fingerprint
from muster_protocol.errors import RemoteError
from muster_protocol.limits import CONTROL_FRAME_BYTES_MAX, STORE_BYTES_MAX
from muster_protocol.wire.codec import Decoder, encode

SESSIONS_MAX: Final = 10_000
"""Ten times the control connections of a busy node; an entry takes about 200 bytes."""

ENTRY_BYTES: Final = 64
"""What an entry counts for beside its key and value: revisions, lengths and the time, encoded."""

PAGE_BYTES_MAX: Final = CONTROL_FRAME_BYTES_MAX // 2
"""Keys and values of one listing page, so that the reply fits a control frame."""

UNHASHED_BYTES_MAX: Final = 1024 * 1024
"""Of what was changed before it is hashed for the fingerprint, which then takes 2 ms. It bounds the
operations that are kept for it, too."""

CHANGE_BYTES: Final = 512
"""What a change counts for there, beside its value: as long as it takes to hash so much more."""

SNAPSHOT_FORMAT: Final = 2
"""2: fingerprints of requests, and what was forgotten."""

READS: Final = (Get, List)
"""What changes nothing."""

SLICE_ITEMS: Final = 500
"""Items per encoded slice: about a millisecond of holding the interpreter with small values."""

SLICE_BYTES: Final = 256 * 1024
"""And of keys and values, from which on a slice takes no more: as long with large ones. So one has
at most a largest value beyond that, and fits a record of the disk however large the values are."""


class _Session(msgspec.Struct, array_like=True, gc=False):
    request: int
    result: Result
    used: int
    fingerprint: bytes
    """Of the request's operation: the same number for another operation is a mistake. It is filled
    in when the session is hashed."""


class _Header(msgspec.Struct, array_like=True, tag=0):
    format: int
    revision: int
    applied: int
    forgotten: int


class _Entries(msgspec.Struct, array_like=True, tag=1):
    entries: list[KeyValue]


class _Sessions(msgspec.Struct, array_like=True, tag=2):
    sessions: list[tuple[str, _Session]]


_SLICES: Decoder[_Header | _Entries | _Sessions] = Decoder(_Header | _Entries | _Sessions)


@dataclass(frozen=True, slots=True)
class Captured:
    """The state at one moment, cheap to take; `slices` encodes it piece by piece."""

    revision: int
    applied: int
    forgotten: int
    keys: list[str]
    """Sorted."""

    entries: dict[str, KeyValue]
    sessions: dict[str, _Session]

    def slices(self) -> Iterator[bytes]:
        """The encoded state. Equal states give equal bytes."""
        yield encode(_Header(SNAPSHOT_FORMAT, self.revision, self.applied, self.forgotten))
        part: list[KeyValue] = []
        size = 0
        for key in self.keys:
            entry = self.entries[key]
            part.append(entry)
            size += _size(entry)
            if len(part) == SLICE_ITEMS or size >= SLICE_BYTES:
                yield encode(_Entries(part))
                part, size = [], 0
        if part:
            yield encode(_Entries(part))
        yield from self._session_slices()

    def _session_slices(self) -> Iterator[bytes]:
        names = sorted(self.sessions)
        for start in range(0, len(names), SLICE_ITEMS):
            some = names[start : start + SLICE_ITEMS]
            yield encode(_Sessions([(name, self.sessions[name]) for name in some]))


class Registry:
    """The state. Owned by exactly one applier."""

    def __init__(
        self, *, sessions_max: int = SESSIONS_MAX, store_bytes_max: int = STORE_BYTES_MAX
    ) -> None:
        """Both must be the same on every replica: only tests take others."""
        self.sessions_max = sessions_max
        self.store_bytes_max = store_bytes_max
        self.store_bytes = 0
        """Of all entries, as `STORE_BYTES_MAX` counts them."""
        self.revision = 0
        self.applied = 0
        self.forgotten = 0
        self._entries: dict[str, KeyValue] = {}
        self._keys: list[str] = []
        self._sessions: collections.OrderedDict[str, _Session] = collections.OrderedDict()
        """In order of use. A plain dictionary finds its first item the more slowly, the more have
        been taken from its front."""
        self._entry_hashes = Hashes(self._entries, named=False)
        self._session_hashes = Hashes(self._sessions, named=True)
        self._changed_entries: dict[str, None] = {}
        self._changed_sessions: dict[str, Operation | None] = {}
        """Since they were hashed. With what was done in it, if that was."""
        self._unhashed_bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def sessions(self) -> int:
        """How many are remembered."""
        return len(self._sessions)

    # --- applying ---------------------------------------------------------------------------

    def apply(self, command: Command) -> Result:
        """The next command in the agreed order."""
        self.applied += 1
        operation = command.operation
        if isinstance(operation, READS):
            return Rejected(self.revision, "reads do not go through the log")
        session = self._sessions.get(command.session)
        if session is None:
            if command.since < self.forgotten:
                return Expired(self.revision)
        elif command.request <= session.request:
            return self._repeat(command, session, operation)
        result = self._change(operation, command.wall)
        self._remember(command, result)
        return result

    def _repeat(self, command: Command, session: _Session, operation: Operation) -> Result:
        """This session's newest request again, or one that is older still: nothing changes but
        when the session was used."""
        self._hash_changes()
        session.used = self.applied
        self._sessions.move_to_end(command.session)
        self._changed_sessions[command.session] = None
        if command.request == session.request:
            if session.fingerprint != _fingerprint(operation):
                return Rejected(self.revision, "this request was made for something else")
            return _repeated(session.result)
        return Rejected(self.revision, "an older request of this session", is_unknown=True)

    def read(self, operation: Operation) -> Result:
        """Answer a Get or List from the present state, without a trace."""
        if isinstance(operation, Get):
            entry = self._entries.get(operation.key)
            return Done(self.revision, entry) if entry else NotFound(self.revision)
        assert isinstance(operation, List)
        return self._list(operation)

    def _change(self, operation: Put | Delete, wall: float) -> Result:
        held = self._entries.get(operation.key)
        if operation.expected is not None:
            held_revision = held.revision if held else 0
            if operation.expected != held_revision:
                return Conflict(self.revision, _without_value(held) if held else None)
        if isinstance(operation, Put):
            return self._put(operation, held, wall)
        if held is None:
            return NotFound(self.revision)
        self.revision += 1
        self.store_bytes -= _size(held)
        self._changed_entries[operation.key] = None
        del self._entries[operation.key]
        del self._keys[bisect.bisect_left(self._keys, operation.key)]
        return Done(self.revision, _without_value(held))

    def _put(self, operation: Put, held: KeyValue | None, wall: float) -> Result:
        revision = self.revision + 1
        key, value, created, version = operation.key, operation.value, revision, 1
        growth = len(value)
        if held is None:
            growth += len(key.encode()) + ENTRY_BYTES
        else:
            created, version = held.created, held.version + 1
            growth -= len(held.value)
        if growth > 0 and self.store_bytes + growth > self.store_bytes_max:
            full = f"the store is full, it takes {self.store_bytes_max} bytes: delete keys first"
            return Rejected(self.revision, full, is_full=True)
        if held is None:
            bisect.insort(self._keys, key)
        self.revision, self.store_bytes = revision, self.store_bytes + growth
        self._entries[key] = KeyValue(key, value, revision, created, version, wall)
        self._changed_entries[key] = None
        self._unhashed_bytes += len(value)
        return Done(revision, KeyValue(key, b"", revision, created, version, wall))

    def _list(self, operation: List) -> Done:
        start = bisect.bisect_left(self._keys, operation.prefix)
        if operation.after:
            start = max(start, bisect.bisect_right(self._keys, operation.after))
        page: list[KeyValue] = []
        size = 0
        for key in self._keys[start : start + operation.limit + 1]:
            if not key.startswith(operation.prefix):
                return Done(self.revision, entries=tuple(page))
            entry = self._entries[key]
            size += len(key) + len(entry.value)
            if len(page) == operation.limit or (page and size > PAGE_BYTES_MAX):
                return Done(self.revision, entries=tuple(page), more=True)
            page.append(entry)
        return Done(self.revision, entries=tuple(page))

    def _remember(self, command: Command, result: Result) -> None:
        """In place of what was kept of this session, as the one used last."""
        name, sessions = command.session, self._sessions
        sessions[name] = _Session(command.request, result, self.applied, b"")
        sessions.move_to_end(name)
        self._changed_sessions[name] = command.operation
        if len(sessions) > self.sessions_max:
            oldest, dropped = sessions.popitem(last=False)
            self._changed_sessions[oldest] = None
            self.forgotten = max(self.forgotten, dropped.result.revision)
        operation = command.operation
        kept = len(operation.value) if isinstance(operation, Put) else 0  # until it is hashed
        self._unhashed_bytes += CHANGE_BYTES + kept
        if self._unhashed_bytes > UNHASHED_BYTES_MAX:
            self._hash_changes()

    def _hash_changes(self) -> None:
        """For the fingerprint."""
        for name, operation in self._changed_sessions.items():
            if operation is not None:
                self._sessions[name].fingerprint = _fingerprint(operation)
        self._session_hashes.renew(self._changed_sessions)
        self._entry_hashes.renew(self._changed_entries)
        self._changed_sessions.clear()
        self._changed_entries.clear()
        self._unhashed_bytes = 0

    def skip_revisions(self, count: int) -> None:
        """The next change makes a revision that is so much higher. No command does this: it is for
        a state that goes on without the others, who may have made some of these revisions."""
        self.revision += count

    # --- snapshots --------------------------------------------------------------------------

    def capture(self) -> Captured:
        """The present state, to be encoded off the loop while this one goes on."""
        self._hash_changes()
        sessions = {
            name: _Session(held.request, held.result, held.used, held.fingerprint)
            for name, held in self._sessions.items()
        }
        keys, entries = list(self._keys), dict(self._entries)
        return Captured(self.revision, self.applied, self.forgotten, keys, entries, sessions)

    def fingerprint(self) -> bytes:
        """Equal on replicas that applied the same, and at hand at any time."""
        self._hash_changes()
        counters = self.revision, self.applied, self.forgotten
        return fingerprint((self._entry_hashes, self._session_hashes), counters)

    def digest(self) -> str:
        """SHA-256 of the whole state in hexadecimal: equal on replicas that applied the same."""
        digest = hashlib.sha256()
        for part in self.capture().slices():
            digest.update(part)
        return digest.hexdigest()

    @classmethod
    def restore(cls, slices: Iterable[bytes]) -> Registry:
        """The registry that was captured. Errors: RemoteError("garbage") for anything else."""
        registry = cls()
        is_headed = False
        for data in slices:
            part: Any = _SLICES.decode(data)
            if isinstance(part, _Header):
                if part.format != SNAPSHOT_FORMAT or is_headed:
                    raise RemoteError("garbage", f"snapshot of unknown format {part.format}")
                is_headed = True
                registry.revision, registry.applied = part.revision, part.applied
                registry.forgotten = part.forgotten
            elif isinstance(part, _Entries):
                registry._entries.update((entry.key, entry) for entry in part.entries)
            else:
                registry._sessions.update(part.sessions)
        if not is_headed:
            raise RemoteError("garbage", "snapshot without a header")
        registry._keys = sorted(registry._entries)
        registry.store_bytes = sum(map(_size, registry._entries.values()))
        by_use = sorted(registry._sessions.items(), key=lambda item: item[1].used)
        registry._sessions.clear()
        registry._sessions.update(by_use)
        registry._entry_hashes.renew(registry._entries)
        registry._session_hashes.renew(registry._sessions)
        return registry


def _fingerprint(operation: Operation) -> bytes:
    return hashlib.blake2b(encode(operation), digest_size=8).digest()


def _size(entry: KeyValue) -> int:
    return len(entry.key.encode()) + len(entry.value) + ENTRY_BYTES


def _without_value(entry: KeyValue) -> KeyValue:
    return msgspec.structs.replace(entry, value=b"")


def _repeated(result: Result) -> Result:
    return msgspec.structs.replace(result, repeated=True) if isinstance(result, Done) else result
