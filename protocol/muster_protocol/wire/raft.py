"""What voters say to each other on a stream of purpose `raft`, and the snapshot manifest.

The engine's own dictionaries never touch the wire: `raftguard` turns them into these frames and
back, so that what arrives is typed and bounded before it comes near the log. Every frame carries
its sender's term; an answer of another term is worthless (deviations D3, D25).
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from muster_protocol.limits import BARRED_MAX, BATCH_BYTES_MAX, VOTERS_MAX
from muster_protocol.types import HexId, OptionalHexId, UInt
from muster_protocol.wire.codec import Decoder

ENTRIES_PER_FRAME_MAX = 20_000
"""An append holds at most 1 MiB of commands and each has a few bytes of its own."""

Command = Annotated[bytes, msgspec.Meta(min_length=1, max_length=BATCH_BYTES_MAX)]
Generation = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{16}\Z")]


class Voter(msgspec.Struct, frozen=True, array_like=True, order=True):
    """One seat of the electorate: who, and with which journal.

    A node whose journal was lost comes back with another generation: it is a new member, and
    what it says does not count for the old seat (D23).
    """

    node: HexId
    generation: Generation


Seats = Annotated[tuple[Voter, ...], msgspec.Meta(max_length=VOTERS_MAX)]


class Configuration(msgspec.Struct, frozen=True, array_like=True):
    """The whole electorate, voters and learners sorted by node id."""

    voters: Seats
    index: UInt = 1
    """Of the entry that made it."""

    learners: Seats = ()
    """Who gets the log and does not count, until it is level and is made a voter."""

    size: Annotated[int, msgspec.Meta(ge=0, le=VOTERS_MAX)] = 0
    """How many voters there should be. 0: as many as there are."""

    barred: Annotated[tuple[HexId, ...], msgspec.Meta(max_length=BARRED_MAX)] = ()
    """Whose seat an operator took: they get none again before an operator gives it."""

    witness: OptionalHexId = ""
    """The voter that has no log, and only votes (`raftguard.witness`). "": none."""

    @property
    def replicas(self) -> tuple[Voter, ...]:
        """Who has the data, or gets it: voters and learners, but not the witness."""
        return tuple(seat for seat in self.seats if seat.node != self.witness)

    @property
    def data_voters(self) -> tuple[Voter, ...]:
        """The voters but the witness."""
        return tuple(voter for voter in self.voters if voter.node != self.witness)

    @property
    def seats(self) -> tuple[Voter, ...]:
        """Voters and learners."""
        return (*self.voters, *self.learners)

    def seat(self, node: str) -> Voter | None:
        """The seat of `node`, as a voter or a learner; None where it has none."""
        for seats in (self.voters, self.learners):  # it is asked with each frame
            for seat in seats:
                if seat.node == node:
                    return seat
        return None

    def is_voter(self, node: str) -> bool:
        """Does its vote count?"""
        return any(voter.node == node for voter in self.voters)

    @property
    def majority(self) -> int:
        return len(self.voters) // 2 + 1


class Reconfiguration(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """What an entry holds that changes the electorate, in the place of a batch of commands: the
    new one, whole. Its index is that of the entry, whatever stands in it."""

    configuration: Configuration


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """One log entry."""

    command: Command
    index: UInt
    term: UInt


class Manifest(msgspec.Struct, frozen=True, array_like=True):
    """What a snapshot is, without its data. `previous` and `last` are the two newest entries
    that it covers: the engine keeps both in its log."""

    previous: Entry
    last: Entry
    configuration: Configuration
    size_bytes: UInt
    sha256: Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]


class SnapshotWanted(msgspec.Struct, frozen=True, array_like=True):
    """Follower to leader, on a stream of purpose `snapshot`: the data from this byte on."""

    manifest: Manifest
    offset: UInt


class Append(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """Leader to follower: entries after (`previous_index`, `previous_term`); none = heartbeat."""

    term: UInt
    commit_index: UInt
    previous_index: UInt
    previous_term: UInt
    entries: Annotated[tuple[Entry, ...], msgspec.Meta(max_length=ENTRIES_PER_FRAME_MAX)]


class Ack(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """Follower to leader: everything below `next_index` is here, verified and durable (`success`),
    or: start again from there (`reset`), or neither: still alive, still working."""

    term: UInt
    next_index: UInt
    success: bool
    reset: bool


class VoteRequest(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """Candidate to voter."""

    term: UInt
    last_index: UInt
    last_term: UInt


class Vote(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """Voter to candidate: granted, and durable. A refusal is silence."""

    term: UInt


class PreVoteRequest(msgspec.Struct, frozen=True, array_like=True, tag=5):
    """Would you vote for me in `next_term`? Changes nobody's term (Ongaro's thesis, 9.6)."""

    term: UInt
    next_term: UInt
    last_index: UInt
    last_term: UInt
    round: UInt


class PreVote(msgspec.Struct, frozen=True, array_like=True, tag=6):
    """The answer to `round` of the receiver."""

    term: UInt
    round: UInt
    granted: bool


class HigherTerm(msgspec.Struct, frozen=True, array_like=True, tag=7):
    """Your term is over: the sender is in `term`."""

    term: UInt


class TimeoutNow(msgspec.Struct, frozen=True, array_like=True, tag=8):
    """Leader to follower: campaign at once, I am handing over (thesis, 3.10)."""

    term: UInt


class SnapshotOffer(msgspec.Struct, frozen=True, array_like=True, tag=9):
    """Leader to follower: what you need is compacted away; fetch this snapshot from me."""

    term: UInt
    manifest: Manifest


class ReadProbe(msgspec.Struct, frozen=True, array_like=True, tag=10):
    """Leader to follower: do I still lead, as far as you know? (thesis, 6.4)"""

    term: UInt
    round: UInt


class ReadEcho(msgspec.Struct, frozen=True, array_like=True, tag=11):
    """Follower to leader: I am in `term`, and was when `round` reached me."""

    term: UInt
    round: UInt


class StateAt(msgspec.Struct, frozen=True, array_like=True, tag=12):
    """Voter to voter: what I made of the log up to `index`. No part of Raft; see `divergence`."""

    index: UInt
    fingerprint: Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]


class Mark(msgspec.Struct, frozen=True, array_like=True, tag=13):
    """Leader to witness: I lead in `term`. From now on, vote for nobody whose log ends before the
    entry (`index`, `index_term`) of mine; `index` 0: of that, nothing new."""

    term: UInt
    index: UInt = 0
    index_term: UInt = 0


RaftFrame = (
    Append
    | Ack
    | VoteRequest
    | Vote
    | PreVoteRequest
    | PreVote
    | HigherTerm
    | TimeoutNow
    | SnapshotOffer
    | ReadProbe
    | ReadEcho
    | StateAt
    | Mark
)

_DECODER: Decoder[RaftFrame] = Decoder(RaftFrame)


def decode_frame(data: bytes) -> RaftFrame:
    """Errors: RemoteError("garbage")."""
    return _DECODER.decode(data)


_RECONFIGURATIONS: Decoder[Reconfiguration] = Decoder(Reconfiguration)
_RECONFIGURATION_HEAD = b"\x92\x02"
"""An array of two, the first of which is the tag."""


def is_reconfiguration(data: bytes) -> bool:
    """Does an entry that holds `data` change the electorate?"""
    return data[:2] == _RECONFIGURATION_HEAD


def decode_reconfiguration(data: bytes) -> Configuration:
    """Errors: RemoteError("garbage")."""
    return _RECONFIGURATIONS.decode(data).configuration
