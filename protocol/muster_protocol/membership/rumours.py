"""What is said of members: believing it, doubting it, refuting it, passing it on.

One method per kind of update, by a table. The order of updates is `member.supersedes`; beyond it:

* **About ourselves** (`_about_me`): what supersedes our own record is refuted, by an incarnation
  above it. Numbers only ever grow, so none is used twice. The refutation goes to whoever told us
  and to the accuser at once, and then the way of all gossip. An accuser who missed an earlier
  refutation is told again. A node that stops or leaves says
  *that* again, not that it lives.
* **Suspicion** is started by a `Suspect` that supersedes, ends by a refutation, or by `expire` in
  a failure. At a higher incarnation it is a new one. Up to K accusers are passed on.
* **A failure of somebody whom we take for alive is first a suspicion.** Usually a `Failed` finds
  our own suspicion old, and is believed at once. Where it does not, the news comes from another
  side of a healed partition, or from a node that lost touch with everybody; then the accused can
  answer within the shortest suspicion and nobody is reported failed who is not. The same holds
  for failures in a push-pulled table, where memberlist does it too.
* **Who speaks for itself is answered.** If a member says of itself what we know better (it failed,
  stopped, left, or is further in its incarnations), it is told: a restarted node begins at
  incarnation 0 and learns with the first packet what it has to supersede. So it rejoins at once.
* **Another cluster's members** are not believed. Both sides have to have a cluster id: a node
  without one is on its way into some.

What is left to others to do (probe, look for a double) is collected in `Aftermath`, which the
machine empties after each event.
"""

from __future__ import annotations

import collections
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Final

from muster_protocol.membership.awareness import Awareness
from muster_protocol.membership.config import MembershipConfig
from muster_protocol.membership.gossip import Gossip
from muster_protocol.membership.identity import Names
from muster_protocol.membership.member import Member, alive_update, member_of, update_of
from muster_protocol.membership.outbox import Outbox
from muster_protocol.membership.suspicion import REFUSED, SILENT, Bounds, Suspicion
from muster_protocol.membership.table import Entry, Table
from muster_protocol.types import NO_CLUSTER, Address, NodeId, Priority, Severity
from muster_protocol.wire.membership import (
    INCARNATION_END,
    NOBODY,
    Alive,
    Failed,
    Left,
    MemberRecord,
    MemberState,
    Stopped,
    Suspect,
    Update,
)

_SIGNALS: Final[dict[MemberState, tuple[str, Priority]]] = {
    MemberState.SUSPECT: ("suspected", Priority.MEDIUM),
    MemberState.FAILED: ("failed", Priority.HIGH),
    MemberState.STOPPED: ("stopped", Priority.NORMAL),
    MemberState.LEFT: ("left", Priority.NORMAL),
}

FOREIGNERS_MAX: Final = 64
"""Members of other clusters that were reported; past it they are only counted."""


@dataclass(frozen=True, slots=True)
class Heard:
    """How an update came here, and when.

    `source` is None where nothing can be answered (a push-pull). `age_s` is how long the state has
    lasted already, as far as known.
    """

    via: NodeId
    source: Address | None
    now: float
    age_s: float = 0.0
    is_passed_on: bool = True
    """Whether others should hear of it from us: not if we are the only one to whom it is new."""


@dataclass(slots=True)
class Aftermath:
    """What one event left to be done."""

    newcomers: list[NodeId] = field(default_factory=list)
    """Present, and not probed so far."""
    doubts: list[NodeId] = field(default_factory=list)
    """Suspected by others since this event: worth a probe of our own."""
    doubles: list[Address] = field(default_factory=list)
    """Where somebody else is said to live under our own id."""


class Rumours:
    """Keeps the table by what is heard."""

    def __init__(
        self,
        *,
        config: MembershipConfig,
        table: Table,
        outbox: Outbox,
        gossip: Gossip,
        awareness: Awareness,
    ) -> None:
        self._config = config
        self._table = table
        self._outbox = outbox
        self._gossip = gossip
        self._awareness = awareness
        self._names = Names(table, outbox)
        self._foreigners: dict[NodeId, None] = {}
        self._aftermath = Aftermath()
        self.counts: collections.Counter[str] = collections.Counter()
        self._is_muted = False
        self._bounds_at = (0, 0)
        self._bounds_now = self._bounds_of(0, 0)
        self._handlers: dict[type, Callable[[Any, Heard], None]] = {
            Alive: self._on_alive,
            Suspect: self._on_suspect,
            Failed: self._on_failed,
            Stopped: self._on_stopped,
            Left: self._on_left,
        }

    # --- what comes in ---------------------------------------------------------------------

    def hear(self, update: Update, heard: Heard) -> None:
        """Take one update from gossip."""
        self._handlers[type(update)](update, heard)

    def hear_record(self, record: MemberRecord, heard: Heard) -> None:
        """Take one row of a push-pulled table: an update with the member's description."""
        claim = member_of(record)
        if not claim.is_present:
            heard = replace(heard, age_s=record.age_s)
        if self._table.get(record.node) is None and record.node != self._table.me.id:
            self._welcome(claim, heard, by=record.by)
        elif record.state is MemberState.ALIVE:
            self._on_alive(alive_update(claim), heard)
        else:
            self.hear(update_of(claim, by=record.by or heard.via, reason=SILENT), heard)

    def accuse(self, node: NodeId, reason: str, *, now: float) -> None:
        """Our own probe failed: suspect the member, or confirm the suspicion of others."""
        entry = self._table.get(node)
        if entry is None or not entry.member.is_present:
            return
        me = self._table.me.id
        accusation = Suspect(node, entry.member.incarnation, me, reason)
        is_first = entry.suspicion is None or me not in entry.suspicion.accusers
        self._on_suspect(accusation, Heard(me, None, now))
        if is_first:
            self.counts["suspicions raised"] += 1
            self._outbox.notify(
                "suspicion.raised",
                Severity.INFO,
                **_describe(entry.member),
                reason=reason,
                local_health=self._awareness.score,
            )
        if self._config.buddy:
            self._outbox.send(entry.member.address, node, accusation)

    def expire(self, *, now: float) -> None:
        """Turn the suspicions that nobody refuted in time into failures."""
        if not self._table.has_suspects:
            return
        bounds = self._bounds()
        due = [
            entry for entry in self._table.suspects() if _suspicion(entry).deadline(bounds) <= now
        ]
        for entry in due:
            self._fail(entry, now=now)

    def postpone(self, seconds: float) -> None:
        """Our loop stood still for so long: refutations may wait unread, so give them time."""
        limit = self._bounds().min_s
        for entry in self._table.suspects():
            _suspicion(entry).postpone(seconds, at_most=limit)

    @property
    def deadline(self) -> float | None:
        """When the next suspicion ends."""
        if not self._table.has_suspects:
            return None
        bounds = self._bounds()
        return min((_suspicion(e).deadline(bounds) for e in self._table.suspects()), default=None)

    # --- what goes out ---------------------------------------------------------------------

    def announce(self, me: Member, *, now: float) -> None:
        """Replace the own record and tell everybody."""
        self._table.set_me(me, now=now)
        if not self._is_muted:
            self._gossip.spread(update_of(me, by=me.id), now=now)

    def mute(self) -> None:
        """Our identity belongs to another process: refute nothing and say no more of ourselves,
        not even good-bye, which would be taken for his."""
        self._is_muted = True
        self._outbox.broadcasts.drop(self._table.me.id)

    def word_for(self, node: NodeId, *, seen_at: Address | None = None) -> tuple[Update, ...]:
        """What the member should hear of itself before anything else, if anything.

        That it is suspected is Lifeguard's buddy; that it is dead, everybody needs who is not; and
        who speaks from elsewhere than where we take it to live may have moved, or be two.
        """
        entry = self._table.get(node)
        if entry is None:
            return ()
        if entry.state is MemberState.ALIVE:
            has_moved = seen_at not in (None, entry.member.address)
            return (alive_update(entry.member),) if has_moved else ()
        if entry.state is MemberState.SUSPECT and not self._config.buddy:
            return ()
        return (self._word_on(entry),)

    def take_aftermath(self) -> Aftermath:
        """What the last event left to be done."""
        aftermath, self._aftermath = self._aftermath, Aftermath()
        return aftermath

    # --- one method per update -------------------------------------------------------------

    def _on_alive(self, update: Alive, heard: Heard) -> None:
        claim = member_of(update)
        if claim.id == self._table.me.id:
            self._about_me(claim, heard)
            return
        entry = self._table.get(claim.id)
        if entry is None:
            self._welcome(claim, heard)
        elif self._is_foreign(claim):
            pass
        elif claim.supersedes(entry.member):
            self._believe(entry, claim, update, heard)
        elif heard.via == claim.id and claim != entry.member:
            self._answer(heard, self._word_on(entry))

    def _on_suspect(self, update: Suspect, heard: Heard) -> None:
        claimed = self._claimed(update, MemberState.SUSPECT, heard)
        if claimed is None:
            return
        entry, claim = claimed
        held = entry.suspicion
        is_running = entry.state is MemberState.SUSPECT
        if held is not None and is_running and held.incarnation == update.incarnation:
            self._confirm(held, update, heard)
            return
        if claim.supersedes(entry.member):
            entry.suspicion = Suspicion(update.incarnation, heard.now, {update.by: update.reason})
            self._believe(entry, claim, update, heard)
            if update.by != self._table.me.id:
                self._aftermath.doubts.append(update.node)
        elif heard.via == update.by:
            self._answer(heard, self._word_on(entry))

    def _on_failed(self, update: Failed, heard: Heard) -> None:
        claimed = self._claimed(update, MemberState.FAILED, heard)
        if claimed is None:
            return
        entry, claim = claimed
        if not claim.supersedes(entry.member):
            return
        if self._is_premature(entry, update, now=heard.now):
            doubt = Suspect(update.node, update.incarnation, update.by, update.reason)
            self._on_suspect(doubt, heard)
            return
        if entry.suspicion is None or entry.suspicion.incarnation != update.incarnation:
            entry.suspicion = Suspicion(update.incarnation, heard.now, {update.by: update.reason})
        self._believe(entry, claim, update, heard)

    def _on_stopped(self, update: Stopped, heard: Heard) -> None:
        self._on_farewell(update, MemberState.STOPPED, heard)

    def _on_left(self, update: Left, heard: Heard) -> None:
        self._on_farewell(update, MemberState.LEFT, heard)

    def _on_farewell(self, update: Stopped | Left, state: MemberState, heard: Heard) -> None:
        claimed = self._claimed(update, state, heard)
        if claimed is not None and claimed[1].supersedes(claimed[0].member):
            self._believe(claimed[0], claimed[1], update, heard)

    def _claimed(
        self, update: Suspect | Failed | Stopped | Left, state: MemberState, heard: Heard
    ) -> tuple[Entry, Member] | None:
        """Of whom an update without a description speaks. None when it needs no more: it is of
        ourselves, and refuted, or of a stranger, of whom we would not know where he lives."""
        me = self._table.me
        if update.node == me.id:
            by = NOBODY if isinstance(update, Stopped) else update.by
            self._about_me(me.claimed(state, update.incarnation), heard, by=by)
            return None
        entry = self._table.get(update.node)
        return None if entry is None else (entry, entry.member.claimed(state, update.incarnation))

    # --- believing -------------------------------------------------------------------------

    def _welcome(self, claim: Member, heard: Heard, *, by: NodeId = NOBODY) -> None:
        """Somebody new; or somebody forgotten, who has to say himself that he lives."""
        grave = self._table.grave(claim.id)
        if grave is not None and claim.incarnation <= grave:
            if heard.via == claim.id:
                self._answer(heard, Left(claim.id, grave, self._table.me.id))
            return
        if self._is_foreign(claim) or self._is_outdated(claim, heard.age_s):
            return
        if self._table.is_full:
            self.counts["table full"] += 1
            return
        if not claim.is_present:
            self._table.insert(claim, since=heard.now - heard.age_s)
            return
        member = claim.claimed(MemberState.ALIVE, claim.incarnation)
        entry = self._table.insert(member, since=heard.now)
        self._signal(entry, "announced", was="", by=claim.id)
        self._aftermath.newcomers.append(member.id)
        self._names.check(member)
        self._pass_on(alive_update(member), heard)
        if claim.state is MemberState.SUSPECT:
            self._on_suspect(Suspect(claim.id, claim.incarnation, by or heard.via, SILENT), heard)

    def _believe(self, entry: Entry, claim: Member, update: Update, heard: Heard) -> None:
        """Take what supersedes into the table, tell the bus, pass it on."""
        old = entry.member
        self._table.change(entry, claim, since=heard.now - heard.age_s)
        by = claim.id if isinstance(update, Alive | Stopped) else update.by or claim.id
        event, priority = _SIGNALS.get(claim.state, ("recovered", Priority.NORMAL))
        if claim.state is not MemberState.ALIVE or old.state is not MemberState.ALIVE:
            self._signal(entry, event, was=_word(old), by=by, priority=priority)
        elif not claim.says_the_same_of_itself(old):
            self._signal(entry, "updated", was=_word(old), by=by)
        if claim.is_present and (claim.name != old.name or not old.is_present):
            self._names.check(claim)
        if claim.is_present and not old.is_present:
            self._aftermath.newcomers.append(claim.id)
        self._pass_on(update, heard)

    def _confirm(self, held: Suspicion, update: Suspect, heard: Heard) -> None:
        is_needed = held.confirmations < self._config.suspicion_confirmations
        if held.accuse(update.by, update.reason) and is_needed and self._config.lha_suspicion:
            self._pass_on(update, heard)

    def _fail(self, entry: Entry, *, now: float) -> None:
        """Nobody refuted it. `by` is somebody who could not reach the member himself."""
        member, suspicion, me = entry.member, _suspicion(entry), self._table.me.id
        by = me if me in suspicion.accusers else next(iter(suspicion.accusers))
        update = Failed(member.id, member.incarnation, by, suspicion.reason)
        claim = member.claimed(MemberState.FAILED, member.incarnation)
        self._outbox.notify(
            "member.failed",
            Severity.WARNING,
            **_describe(member),
            reason=suspicion.reason,
            accused_by=list(suspicion.accusers),
            suspected_s=round(now - suspicion.started, 3),
        )
        self._believe(entry, claim, update, Heard(me, None, now))

    def _is_premature(self, entry: Entry, update: Failed, *, now: float) -> bool:
        """Whether a failure should be a suspicion first: see the module's docstring."""
        if not self._config.lha_suspicion or not entry.member.is_present:
            return False
        held = entry.suspicion
        if held is None or held.incarnation != update.incarnation:
            return True
        bounds = self._bounds()
        shortest = bounds.refused_min_s if update.reason == REFUSED else bounds.min_s
        return now - held.started < shortest / 2

    def _is_outdated(self, claim: Member, age_s: float) -> bool:
        limits = {
            MemberState.FAILED: self._config.forget_failed_s,
            MemberState.LEFT: self._config.forget_left_s,
        }
        return age_s >= limits.get(claim.state, float("inf"))

    def _is_foreign(self, claim: Member) -> bool:
        ours, theirs = self._table.me.meta.cluster_id, claim.meta.cluster_id
        if NO_CLUSTER in (ours, theirs) or ours == theirs:
            return False
        self.counts["foreign cluster"] += 1
        if claim.id not in self._foreigners and len(self._foreigners) < FOREIGNERS_MAX:
            self._foreigners[claim.id] = None
            self._outbox.notify(
                "cluster.foreign", Severity.WARNING, **_describe(claim), cluster=theirs, ours=ours
            )
        return True

    def _bounds(self) -> Bounds:
        """Asked for at every deadline, and the same until somebody comes, goes or is doubted."""
        sizes = self._table.present, self._table.count(MemberState.ALIVE)
        if sizes != self._bounds_at:
            self._bounds_at, self._bounds_now = sizes, self._bounds_of(*sizes)
        return self._bounds_now

    def _bounds_of(self, present: int, alive: int) -> Bounds:
        config = self._config
        min_s = config.suspicion_min_s(present)
        if not config.lha_suspicion:
            return Bounds(min_s, min_s, min_s, confirmations=0)
        return Bounds(
            min_s=min_s,
            max_s=config.suspicion_max_s(present),
            refused_min_s=min(min_s, config.suspicion_refused_min_s),
            confirmations=min(config.suspicion_confirmations, alive),
        )

    # --- answering -------------------------------------------------------------------------

    def _about_me(self, claim: Member, heard: Heard, *, by: NodeId = NOBODY) -> None:
        me = self._table.me
        if self._is_muted:
            return
        if not claim.supersedes(me):
            has_missed = by == heard.via and claim.incarnation < me.incarnation
            if has_missed and self._config.buddy:
                self._answer(heard, update_of(me, by=me.id))
            return
        if claim.state is MemberState.ALIVE and claim.address != me.address:
            self._aftermath.doubles.append(claim.address)
        if claim.incarnation + 1 >= INCARNATION_END:
            self.counts["absurd incarnation"] += 1
            return
        self.counts["refutations"] += 1
        if claim.state in (MemberState.SUSPECT, MemberState.FAILED):
            self._awareness.was_suspected()
            self._outbox.notify(
                "suspicion.refuted",
                Severity.WARNING,
                state=_word(claim),
                incarnation=claim.incarnation,
                told_by=heard.via,
                local_health=self._awareness.score,
            )
        self.announce(me.claimed(me.state, claim.incarnation + 1), now=heard.now)
        self._gossip.urge(now=heard.now)
        if self._config.buddy:
            word = update_of(self._table.me, by=me.id)
            self._answer(heard, word)
            accuser = self._table.get(by)
            if accuser is not None and by != heard.via:
                self._outbox.send(accuser.member.address, by, word)

    def _answer(self, heard: Heard, update: Update) -> None:
        """Tell the one from whom we heard something what is so."""
        if heard.source is not None:
            self._outbox.send(heard.source, heard.via, update)

    def _word_on(self, entry: Entry) -> Update:
        by, reason = self._table.me.id, ""
        if entry.suspicion is not None and entry.suspicion.accusers:
            by, reason = next(iter(entry.suspicion.accusers.items()))
        return update_of(entry.member, by=by, reason=reason)

    def _pass_on(self, update: Update, heard: Heard) -> None:
        if heard.is_passed_on:
            self._gossip.spread(update, now=heard.now)

    def _signal(
        self,
        entry: Entry,
        event: str,
        *,
        was: str,
        by: NodeId,
        priority: Priority = Priority.NORMAL,
    ) -> None:
        suspicion = entry.suspicion
        data = {
            **_describe(entry.member),
            "state": _word(entry.member),
            "was": was,
            "by": by,
            "reason": suspicion.reason if suspicion is not None else "",
            "accusers": list(suspicion.accusers) if suspicion is not None else [],
        }
        self._outbox.emit(event, data, priority)


def _suspicion(entry: Entry) -> Suspicion:
    assert entry.suspicion is not None, "a suspect without a suspicion"
    return entry.suspicion


def _describe(member: Member) -> dict[str, Any]:
    return {
        "node": member.id,
        "name": member.name,
        "address": str(member.address),
        "incarnation": member.incarnation,
    }


def _word(member: Member) -> str:
    return member.state.name.lower()
