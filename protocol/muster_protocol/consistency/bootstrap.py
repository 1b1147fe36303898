"""Founding a cluster: once in its life, and never two.

The danger is that two disjoint or overlapping sets of nodes each found a cluster. So:

1. A candidate is a node with `bootstrap_expect` = N and in no cluster yet. When it sees exactly N
   candidates (itself included) and no cluster of its label, the one with the lowest id proposes
   that set under a random cluster id.
2. Every candidate, the proposer included, durably promises its *one* bootstrap to one proposal,
   and only if the proposed set is the set that it sees itself. Sets of N nodes that overlap share
   a node, and that node promises once; disjoint sets of N need 2N candidates, and whoever sees more
   than N refuses and names them.
3. When all N have promised, the proposer durably decides. Deciding creates the first configuration
   record; only then is there an engine. All N, not a majority: a majority could be formed twice.
4. A promise ends only by the proposer's durable abort (it gives up after `ABORT_AFTER_S` while a
   founder is silent), or by the operator's `muster bootstrap reset`. A founder without news asks
   the proposer.

A node that sees a cluster of its label joins it, and the setting is ignored from then on.
Rejected: electing a founder by a majority of what is seen (two majorities of two views), and
letting the lowest id found alone with the others joining (it loses their identities if it dies).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final

import msgspec

from muster_protocol.effects import DeadlineReached, Effect, Notify, Persist
from muster_protocol.errors import RemoteError, StorageCorrupt
from muster_protocol.types import ClusterId, HexId, NodeId, OptionalHexId, Severity
from muster_protocol.wire.bootstrap import (
    Aborted,
    AskOutcome,
    BootstrapMessage,
    Decide,
    Declined,
    Founded,
    Promised,
    Propose,
    Undecided,
    UnknownProposal,
)
from muster_protocol.wire.codec import Decoder, encode
from muster_protocol.wire.raft import Configuration, Voter

ANSWERS_MAX: Final = 64
"""Answers to a decision that wait for the disk; the oldest go. The proposer asks again each second,
and what it no longer waits for need not be answered."""

RETRY_S: Final = 1.0
"""Between two rounds of questions; a founding takes a few of them at most."""

RETRY_WHEN_FOUNDED_S: Final = 5.0
"""A founder that is down when the decision falls asks by itself when it comes back."""

ABORT_AFTER_S: Final = 30.0
"""A proposal without all its promises is given up after this: ten times a slow host's start."""

RECORD_NAME: Final = "bootstrap"

Effects = tuple[Effect, ...]


class Record(msgspec.Struct, frozen=True, array_like=True):
    """What a candidate has durably promised, or decided. `aborted` are its own given-up ones."""

    format: int = 1
    proposal: OptionalHexId = ""
    proposer: OptionalHexId = ""
    cluster: OptionalHexId = ""
    founders: tuple[HexId, ...] = ()
    generation: Annotated[str, msgspec.Meta(pattern=r"^([0-9a-f]{16})?\Z")] = ""
    configuration: Configuration | None = None
    aborted: tuple[HexId, ...] = ()


_RECORDS: Decoder[Record] = Decoder(Record)


def load_record(data: bytes | None, *, path: str) -> Record:
    """The stored record, an empty one where there is none. Errors: StorageCorrupt."""
    if data is None:
        return Record()
    try:
        return _RECORDS.decode(data)
    except RemoteError as error:
        raise StorageCorrupt(f"{path}: not a bootstrap record") from error


# --- events -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CandidatesSeen:
    """The gossip view changed: candidates in it (without us) by id, and clusters of our label."""

    names: Mapping[NodeId, str]
    clusters: tuple[ClusterId, ...]


@dataclass(frozen=True, slots=True)
class Asked:
    """A question came in; `token` goes back with the `Answer`."""

    peer: NodeId
    message: BootstrapMessage
    token: int


@dataclass(frozen=True, slots=True)
class Answered:
    """A peer's answer to a question of ours."""

    peer: NodeId
    message: BootstrapMessage


@dataclass(frozen=True, slots=True)
class FoundingDone:
    """Journal and superblock are durable."""


@dataclass(frozen=True, slots=True)
class ResetRequested:
    """The operator voids this node's promise."""


# --- effects ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ask(Effect):
    peer: NodeId
    message: BootstrapMessage


@dataclass(frozen=True, slots=True)
class Answer(Effect):
    token: int
    message: BootstrapMessage


@dataclass(frozen=True, slots=True)
class Found(Effect):
    """Create journal and superblock, then post `FoundingDone`."""

    cluster: ClusterId
    generation: str
    configuration: Configuration


@dataclass(frozen=True, slots=True)
class JoinCluster(Effect):
    """There is a cluster of our label: belong to it, without a seat."""

    cluster: ClusterId


class Bootstrap:
    """One candidate. Lives on after the founding while others have not heard the decision."""

    def __init__(
        self,
        *,
        me: NodeId,
        expect: int,
        record: Record,
        founded: bool,
        fresh_id: Callable[[], str],
        now: float,
    ) -> None:
        """`fresh_id` gives 32 random hexadecimal digits. `founded`: there is a superblock."""
        self.me = me
        self.expect = expect
        self.record = record
        self.is_founded = founded
        self.is_member = founded
        self._fresh_id = fresh_id
        self._names: Mapping[NodeId, str] = {}
        self._promised: dict[str, str] = {me: record.generation} if record.proposer == me else {}
        self._informed: set[str] = {me}
        self._waiting_answers: list[tuple[int, str]] = []
        self._started_at = now
        is_waiting = bool(record.proposal) and (not founded or record.proposer == me)
        self._retry_at: float | None = now if is_waiting else None
        self._told: tuple[str, ...] = ()
        self._is_founding = False
        self._handlers: dict[type[Any], Callable[[Any, float], Effects]] = {
            CandidatesSeen: self._on_candidates,
            Asked: self._on_asked,
            Answered: self._on_answered,
            FoundingDone: self._on_founding_done,
            ResetRequested: self._on_reset,
            DeadlineReached: self._on_deadline,
        }

    @property
    def deadline(self) -> float | None:
        return self._retry_at

    def handle(self, event: Any, *, now: float) -> Effects:
        return self._handlers[type(event)](event, now)

    @property
    def has_open_promise(self) -> bool:
        """Is there a promise, or an own proposal, that is not decided? Only such a one can be
        voided."""
        return bool(self.record.proposal) and self.record.configuration is None

    @property
    def _is_proposer(self) -> bool:
        return bool(self.record.proposal) and self.record.proposer == self.me

    # --- who is there -----------------------------------------------------------------------

    def _on_candidates(self, event: CandidatesSeen, now: float) -> Effects:
        self._names = event.names
        if self.is_member:
            return ()
        if event.clusters and self.record.cluster not in event.clusters:
            return self._join(event.clusters)
        if self.record.proposal or not self.expect:
            return ()
        candidates = tuple(sorted((*event.names, self.me)))
        if len(candidates) > self.expect:
            return self._tell_too_many(candidates)
        if len(candidates) < self.expect or candidates[0] != self.me:
            return ()
        return self._propose(candidates, now)

    def _join(self, clusters: tuple[ClusterId, ...]) -> Effects:
        if self.record.configuration is not None:
            hint = (
                "this node takes part in another founding, which is decided and goes on: two "
                "clusters of one label; move this node's state directory away to join that one"
            )
            return self._tell_promise(clusters, hint)
        if self.record.proposal and not self._is_proposer:
            hint = "this node promised itself to a founding; `muster bootstrap reset` ends that"
            return self._tell_promise(clusters, hint)
        if len(clusters) > 1:
            return self._tell_once(
                "bootstrap.several.clusters", clusters, {"clusters": list(clusters)}
            )
        # Our own undecided proposal must end first, durably: else a late promise completes it.
        given_up = self._abort() if self.record.proposal else ()
        self.is_member = True
        self._retry_at = None
        return (*given_up, JoinCluster(clusters[0]))

    def _tell_promise(self, clusters: tuple[ClusterId, ...], hint: str) -> Effects:
        fields = {"cluster": clusters[0], "hint": hint}
        return self._tell_once("bootstrap.promise.stands", clusters, fields)

    def _tell_too_many(self, candidates: tuple[str, ...]) -> Effects:
        named = [f"{self._names.get(NodeId(c), 'this node')} ({c[:8]})" for c in candidates]
        return self._tell_once(
            "bootstrap.refused",
            candidates,
            {
                "expected": self.expect,
                "candidates": named,
                "hint": "set bootstrap_expect to 0 on those that shall join later",
            },
        )

    def _tell_once(self, event: str, about: tuple[str, ...], fields: Mapping[str, Any]) -> Effects:
        if self._told == (event, *about):
            return ()
        self._told = (event, *about)
        return (Notify(event, Severity.ERROR, fields),)

    # --- proposing --------------------------------------------------------------------------

    def _propose(self, founders: tuple[str, ...], now: float) -> Effects:
        generation = self._fresh_id()[:16]
        self.record = msgspec.structs.replace(
            self.record,
            proposal=self._fresh_id(),
            proposer=self.me,
            cluster=self._fresh_id(),
            founders=founders,
            generation=generation,
        )
        self._promised = {self.me: generation}
        self._started_at = now
        self._retry_at = now + RETRY_S
        return (
            self._persist(),
            Notify("bootstrap.proposed", fields={"founders": list(founders)}),
            *self._decide_if_all(),
            *self._ask_missing(),
        )

    def _ask_missing(self) -> Effects:
        """As proposer: ask those for a promise, or tell them the decision, who need it."""
        if self.record.configuration is not None:
            message: BootstrapMessage = Decide(
                self.record.proposal, self.record.cluster, self.record.configuration
            )
            missing = [f for f in self.record.founders if f not in self._informed]
        else:
            message = Propose(self.record.proposal, self.record.cluster, self.record.founders)
            missing = [f for f in self.record.founders if f not in self._promised]
        return tuple(Ask(NodeId(founder), message) for founder in missing)

    def _decide_if_all(self) -> Effects:
        is_decided = self.record.configuration is not None
        if is_decided or self.is_member or len(self._promised) < len(self.record.founders):
            return ()
        voters = tuple(Voter(f, self._promised[f]) for f in self.record.founders)
        self.record = msgspec.structs.replace(self.record, configuration=Configuration(voters))
        return (self._persist(), *self._found())

    def _found(self) -> Effects:
        assert self.record.configuration is not None
        if self.is_founded or self.is_member or self._is_founding:
            return ()
        self._is_founding = True  # once in a process: it takes as long as the disk takes
        return (
            Notify("bootstrap.decided", fields={"cluster": self.record.cluster}),
            Found(
                ClusterId(self.record.cluster), self.record.generation, self.record.configuration
            ),
        )

    def _on_founding_done(self, event: FoundingDone, now: float) -> Effects:
        del event
        self.is_founded = self.is_member = True
        answers = [Answer(token, Founded(proposal)) for token, proposal in self._waiting_answers]
        self._waiting_answers = []
        if not self._is_proposer:
            self._retry_at = None
            return tuple(answers)
        self._retry_at = now + RETRY_S
        return (*answers, *self._ask_missing())

    # --- questions --------------------------------------------------------------------------

    def _on_asked(self, event: Asked, now: float) -> Effects:
        message = event.message
        if isinstance(message, Propose):
            return self._on_propose(event, message, now)
        if isinstance(message, Decide):
            return self._on_decide(event, message)
        if isinstance(message, AskOutcome):
            return (Answer(event.token, self._outcome(message.proposal)),)
        if isinstance(message, Aborted):
            return (*self._on_aborted(message), Answer(event.token, message))
        return (Answer(event.token, Declined(message.proposal, "not a question")),)

    def _on_propose(self, event: Asked, message: Propose, now: float) -> Effects:
        reason = self._why_not(event.peer, message)
        if reason:
            return (Answer(event.token, Declined(message.proposal, reason)),)
        if self.record.proposal == message.proposal:
            return (Answer(event.token, Promised(message.proposal, self.record.generation)),)
        self.record = msgspec.structs.replace(
            self.record,
            proposal=message.proposal,
            proposer=event.peer,
            cluster=message.cluster,
            founders=message.founders,
            generation=self._fresh_id()[:16],
        )
        self._retry_at = now + 2 * RETRY_S
        return (
            self._persist(),
            Answer(event.token, Promised(message.proposal, self.record.generation)),
        )

    def _why_not(self, peer: NodeId, message: Propose) -> str:
        """Why this proposal gets no promise; "" if it does."""
        if self.is_member:
            return "in a cluster already"
        if self.record.proposal == message.proposal:
            return ""
        if self.record.proposal:
            return f"promised to the proposal of {self.record.proposer[:8]}"
        seen = tuple(sorted((*self._names, self.me)))
        if seen != message.founders or peer not in seen:
            return "sees other candidates: " + ", ".join(s[:8] for s in seen)
        return ""

    def _on_decide(self, event: Asked, message: Decide) -> Effects:
        if self.record.proposal != message.proposal or not self._has_our_promise(message):
            return (Answer(event.token, UnknownProposal(message.proposal)),)
        if self.is_founded:
            return (Answer(event.token, Founded(message.proposal)),)
        self._waiting_answers.append((event.token, message.proposal))
        del self._waiting_answers[:-ANSWERS_MAX]
        return self._accept(message)

    def _has_our_promise(self, decision: Decide) -> bool:
        """Is our seat in it the one that we promised? With another journal generation it is not."""
        seat = decision.configuration.seat(self.me)
        return seat is not None and seat.generation == self.record.generation

    def _accept(self, decision: Decide) -> Effects:
        if self.record.configuration is not None:
            return ()  # the founding is under way
        self.record = msgspec.structs.replace(self.record, configuration=decision.configuration)
        return (self._persist(), *self._found())

    def _outcome(self, proposal: str) -> BootstrapMessage:
        if proposal in self.record.aborted:
            return Aborted(proposal)
        if not self._is_proposer or proposal != self.record.proposal:
            return UnknownProposal(proposal)
        if self.record.configuration is None:
            return Undecided(proposal)
        return Decide(proposal, self.record.cluster, self.record.configuration)

    # --- answers ----------------------------------------------------------------------------

    def _on_answered(self, event: Answered, now: float) -> Effects:
        del now
        message = event.message
        if message.proposal != self.record.proposal:
            return ()
        if isinstance(message, Promised) and self._is_proposer:
            self._promised[event.peer] = message.generation
            return (*self._decide_if_all(),)
        if isinstance(message, Founded):
            self._informed.add(event.peer)
            if self.is_founded and len(self._informed) == len(self.record.founders):
                self._retry_at = None
            return ()
        if isinstance(message, Decide) and event.peer == self.record.proposer:
            return self._accept(message) if self._has_our_promise(message) else ()
        if isinstance(message, Aborted) and event.peer == self.record.proposer:
            return self._on_aborted(message)
        if isinstance(message, Declined | UnknownProposal):
            reason = message.reason if isinstance(message, Declined) else "unknown there"
            return self._tell_once(
                "bootstrap.declined", (event.peer, reason), {"by": event.peer, "reason": reason}
            )
        return ()

    def _on_aborted(self, message: Aborted) -> Effects:
        if message.proposal != self.record.proposal or self.record.configuration is not None:
            return ()
        return self._forget_promise()

    # --- time and operators -----------------------------------------------------------------

    def _on_deadline(self, event: DeadlineReached, now: float) -> Effects:
        del event
        if self._retry_at is None or now < self._retry_at:
            return ()
        if not self.record.proposal:
            self._retry_at = None
            return ()
        if self.is_member and not self.is_founded:
            return self._give_up_as_member()
        self._retry_at = now + (RETRY_WHEN_FOUNDED_S if self.is_founded else RETRY_S)
        if self.record.configuration is not None and not self.is_founded:
            return self._found()  # decided before a restart
        if not self._is_proposer:
            question = AskOutcome(self.record.proposal)
            return (Ask(NodeId(self.record.proposer), question),)
        if self.record.configuration is None and now - self._started_at > ABORT_AFTER_S:
            return self._abort()
        return self._ask_missing()

    def _give_up_as_member(self) -> Effects:
        """A member of a cluster that it did not found has nothing more to found."""
        self._retry_at = None
        is_open = self._is_proposer and self.record.configuration is None
        return self._abort() if is_open else ()

    def _abort(self) -> Effects:
        proposal, founders = self.record.proposal, self.record.founders
        aborted = (*self.record.aborted, proposal)
        self.record = Record(aborted=aborted)
        self._retry_at = None
        return (
            self._persist(),
            Notify("bootstrap.aborted", Severity.WARNING, {"founders": list(founders)}),
            *(Ask(NodeId(f), Aborted(proposal)) for f in founders if f != self.me),
        )

    def _on_reset(self, event: ResetRequested, now: float) -> Effects:
        del event, now
        if not self.has_open_promise:
            return ()
        return self._abort() if self._is_proposer else self._forget_promise()

    def _forget_promise(self) -> Effects:
        self.record = Record(aborted=self.record.aborted)
        self._retry_at = None
        self._told = ()
        return (self._persist(), Notify("bootstrap.promise.void"))

    def _persist(self) -> Persist:
        return Persist(RECORD_NAME, encode(self.record))
