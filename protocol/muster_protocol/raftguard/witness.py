"""The witness: a voter without a log, so that a site of two nodes bears the loss of either.

It runs no engine. What it keeps is its term, its vote in it, and a **mark**: the entry, by term and
index, before whose end a log may not end if its owner is to have this vote. A leader that cannot
commit otherwise (`witnessing`) has the mark raised to the end of what is on its own disk, and
counts the answer as that of a follower that has the log so far.

That is Raft's voter reduced to what safety needs of it (Ongaro & Ousterhout, Raft, 5.4.1): the
election restriction compares nothing but the term and index of the last entry, and an answer to an
append promises nothing but that later candidates have to have that entry. The mark never goes
down. A follower's log may: but then a leader of a later term has replaced the end of it, and an
entry of that term is a higher mark. Too high a mark loses nothing; it only waits for whoever has
the entry.

What is promised leaves after it is durable: each `Persist` stands before what depends on it. All
of it survives the loss of a seat: with another seat in the same cluster the promises hold on.

Others have asked for such a voter for years (etcd 8934, 20696; consensus of two nodes blocks when
one stops). Rejected: entries without their data in an ordinary journal (it grows, has to be
trimmed, and a witness that the leader reaches first is ahead of the other node for no gain).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from muster_protocol.effects import Effect, Notify, Persist
from muster_protocol.errors import RemoteError, StorageCorrupt
from muster_protocol.raftguard.elections import ELECTION_MIN_S
from muster_protocol.raftguard.events import (
    FrameReceived,
    PeerDown,
    PeerUp,
    SendFrame,
    SuspendVoting,
)
from muster_protocol.types import HexId, NodeId, OptionalHexId, Severity, UInt
from muster_protocol.wire.codec import Decoder, encode
from muster_protocol.wire.raft import (
    Ack,
    Generation,
    HigherTerm,
    Mark,
    PreVote,
    PreVoteRequest,
    ReadEcho,
    ReadProbe,
    Vote,
    VoteRequest,
)

WITNESS_RECORD: Final = "witness"
RECORD_FORMAT: Final = 1

Effects = tuple[Effect, ...]


class Promises(msgspec.Struct, frozen=True, array_like=True):
    """What a witness must not forget. The generation tells it apart from one that did (D23)."""

    format: int
    node: HexId
    cluster: HexId
    generation: Generation
    term: UInt = 0
    vote: OptionalHexId = ""
    mark_term: UInt = 0
    mark_index: UInt = 0

    @property
    def mark(self) -> tuple[int, int]:
        """Term and index of the entry that a log has to have."""
        return (self.mark_term, self.mark_index)


_PROMISES: Decoder[Promises] = Decoder(Promises)


def load_promises(data: bytes | None, *, path: str) -> Promises | None:
    """What is stored, None where nothing is. Errors: StorageCorrupt."""
    if data is None:
        return None
    try:
        promises = _PROMISES.decode(data)
    except RemoteError as error:
        raise StorageCorrupt(f"{path}: not the record of a witness") from error
    if promises.format != RECORD_FORMAT:
        raise StorageCorrupt(
            f"{path}: a witness's record of format {promises.format}, "
            f"this version knows {RECORD_FORMAT}"
        )
    return promises


def persist(promises: Promises) -> Persist:
    """Make them durable."""
    return Persist(WITNESS_RECORD, encode(promises))


class Witness:
    """One witness. `handle` events in, effects out; it has no timers."""

    def __init__(self, promises: Promises) -> None:
        self.promises = promises
        self.leader: NodeId | None = None
        self.suspended = ""
        """Why it says nothing any more."""

        self._heard_at = float("-inf")
        self._links: dict[NodeId, int] = {}
        self._frame_handlers: dict[type[Any], Callable[[NodeId, Any, float], Effects]] = {
            Mark: self._on_mark,
            VoteRequest: self._on_vote_request,
            PreVoteRequest: self._on_pre_vote_request,
            ReadProbe: self._on_read_probe,
            HigherTerm: self._on_higher_term,
        }

    @property
    def deadline(self) -> float | None:
        return None

    def handle(self, event: Any, *, now: float) -> Effects:
        if isinstance(event, PeerUp):
            self._links[event.peer] = event.epoch
            return ()
        if isinstance(event, PeerDown):
            return self._on_peer_down(event)
        if isinstance(event, SuspendVoting):
            return self._on_suspend(event)
        assert isinstance(event, FrameReceived)
        handler = self._frame_handlers.get(type(event.frame))
        is_current = self._links.get(event.peer) == event.epoch
        if handler is None or not is_current or self.suspended:
            return ()  # nothing that concerns a witness, of an old connection, or not to be heard
        return handler(event.peer, event.frame, now)

    def hears_leader(self, now: float) -> bool:
        """Did one speak lately, over a stream that is still open?"""
        return self.leader is not None and now - self._heard_at < ELECTION_MIN_S

    def _on_peer_down(self, event: PeerDown) -> Effects:
        if self._links.get(event.peer) == event.epoch:
            del self._links[event.peer]
            if self.leader == event.peer:
                self.leader = None  # as every voter: a killed leader is noticed at once
        return ()

    def _on_suspend(self, event: SuspendVoting) -> Effects:
        if self.suspended:
            return ()
        self.suspended = event.reason
        told = {"reason": event.reason}
        return (Notify("raft.voting.suspended", Severity.ERROR, told),)

    # --- what a leader says -----------------------------------------------------------------

    def _on_mark(self, peer: NodeId, frame: Mark, now: float) -> Effects:
        if frame.term < self.promises.term:
            return self._your_term_is_over(peer)
        stored = self._in_term(frame.term)
        self.leader, self._heard_at = peer, now
        if not frame.index:
            return (*stored, SendFrame(peer, Ack(frame.term, 1, success=False, reset=False)))
        if (frame.index_term, frame.index) > self.promises.mark:
            stored = self._promise(mark_term=frame.index_term, mark_index=frame.index)
        ack = Ack(frame.term, frame.index + 1, success=True, reset=False)
        return (*stored, SendFrame(peer, ack))

    def _on_read_probe(self, peer: NodeId, frame: ReadProbe, now: float) -> Effects:
        del now
        if frame.term < self.promises.term:
            return self._your_term_is_over(peer)
        return (*self._in_term(frame.term), SendFrame(peer, ReadEcho(frame.term, frame.round)))

    # --- what a candidate asks --------------------------------------------------------------

    def _on_pre_vote_request(self, peer: NodeId, frame: PreVoteRequest, now: float) -> Effects:
        if frame.term < self.promises.term:
            return self._your_term_is_over(peer)
        granted = (
            frame.next_term > self.promises.term
            and (frame.last_term, frame.last_index) >= self.promises.mark
            and not self.hears_leader(now)
        )
        return (SendFrame(peer, PreVote(self.promises.term, frame.round, granted)),)

    def _on_vote_request(self, peer: NodeId, frame: VoteRequest, now: float) -> Effects:
        del now
        if frame.term < self.promises.term:
            return self._your_term_is_over(peer)
        stored = self._in_term(frame.term)
        is_behind = (frame.last_term, frame.last_index) < self.promises.mark
        if is_behind or self.promises.vote not in ("", peer):
            return stored
        if not self.promises.vote:
            stored = self._promise(vote=peer)
        return (*stored, SendFrame(peer, Vote(frame.term)))

    # --- small things -----------------------------------------------------------------------

    def _on_higher_term(self, peer: NodeId, frame: HigherTerm, now: float) -> Effects:
        del peer, now
        return self._in_term(frame.term)

    def _your_term_is_over(self, peer: NodeId) -> Effects:
        return (SendFrame(peer, HigherTerm(self.promises.term)),)

    def _in_term(self, term: int) -> Effects:
        """Be in this term, if it is a later one: durably, before anything is said in it."""
        if term <= self.promises.term:
            return ()
        self.leader = None
        return self._promise(term=term, vote="")

    def _promise(self, **changes: Any) -> Effects:
        self.promises = msgspec.structs.replace(self.promises, **changes)
        return (persist(self.promises),)
