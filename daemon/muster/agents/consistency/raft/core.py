"""Guard, engine and journal as one deterministic machine without any I/O.

`handle(event, now=now)` lets the guard decide, carries out towards the engine what it asks for,
collects what the engine wants to send while doing so, and returns only what concerns the outside:
frames to send, a snapshot to fetch, things to tell. What the journal buffered meanwhile is for
the caller to commit (`journal.is_dirty`), who then posts `LogDurable`.

An exception out of the engine leaves it half done. It is let through, and whoever runs the core
builds a new one from the journal; nobody goes on with the old.

What is committed is applied in pieces (`APPLY_ENTRIES_MAX`, `APPLY_BYTES_MAX`): a follower that
comes back has thousands of entries to apply at once, and gossip must not wait for them. As long as
there are more, a deadline is due (D31).

With a single voter the engine commits what it has appended in the very next tick, synced or not.
So it is not ticked while its journal is dirty, and proposals wait (D6).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from muster.agents.consistency.raft import rebound
from muster.agents.consistency.raft.engine import Engine
from muster.storage.journal import Journal
from muster_protocol.effects import DeadlineReached, Effect
from muster_protocol.errors import LocalError
from muster_protocol.raftguard.events import (
    Campaign,
    Deliver,
    EngineSent,
    LogDurable,
    OpenGate,
    ProposalRefused,
    Reconfigure,
    Role,
    RoleChanged,
    ShutGate,
    SnapshotInstalled,
    TickEngine,
)
from muster_protocol.raftguard.guard import RaftGuard
from muster_protocol.types import NodeId, Rng
from muster_protocol.wire.codec import encode
from muster_protocol.wire.raft import Configuration, Reconfiguration, is_reconfiguration

APPLY_ENTRIES_MAX: Final = 256
"""In one call: some 10 ms of small commands, less than a loop may be late without being noticed."""

APPLY_BYTES_MAX: Final = 64 * 1024
"""And from so much on no more: an entry may hold hundreds of commands, and 256 of them took 130 ms.
Some 5 ms; an event has up to three ticks, and each applies what the journal gives it at once. Not a
limit on time: whoever replays a tape must come to the same."""


@dataclass(frozen=True, slots=True)
class Propose:
    """Append this batch to the log, if we lead. Refused with `ProposalRefused` if we do not."""

    data: bytes


@dataclass(frozen=True, slots=True)
class ProposeElectorate:
    """Append this electorate to the log. Refused with `ProposalRefused` if it cannot be the next
    one (`RaftGuard.why_not_change`), or not now."""

    configuration: Configuration


class RaftCore:
    """One voter's Raft, whole."""

    def __init__(
        self,
        *,
        me: NodeId,
        journal: Journal,
        rng: Rng,
        now: float,
        apply: Callable[[bytes, int], None],
    ) -> None:
        """The electorate is that of the journal. `apply(batch, index)` is called for each committed
        batch, in order, and never raises."""
        self.me = me
        self.journal = journal
        self._rng = rng
        self._apply = apply
        self._now = now
        self.guard = RaftGuard(me=me, log=journal, rng=rng, now=now)
        self._outward: list[Effect] = []
        self._waiting: list[bytes] = []
        self._waiting_electorate: Configuration | None = None
        self._applied_before = 0
        """What was applied when the present call began."""
        self._applied_bytes = 0
        """Since then."""
        self._engine = self._build_engine()
        self._inward: Mapping[type[Any], Callable[[Any], None]] = {
            Deliver: self._deliver,
            OpenGate: self._open_gate,
            ShutGate: self._shut_gate,
            Campaign: self._campaign,
            TickEngine: lambda effect: self._tick(flush=effect.flush),
            Reconfigure: lambda effect: self._engine.reconfigure(effect.configuration),
        }

    # --- the machine ------------------------------------------------------------------------

    @property
    def deadline(self) -> float | None:
        return self._now if self._is_behind else self.guard.deadline

    def handle(self, event: Any, *, now: float) -> tuple[Effect, ...]:
        """Errors: whatever the engine raises; this core must not be used afterwards."""
        self._now = now
        self._applied_before, self._applied_bytes = self.applied_index, 0
        with rebound.calling(now=now, rng=self._rng):
            if isinstance(event, Propose):
                self._propose([event.data])
            elif isinstance(event, ProposeElectorate):
                self._propose_electorate(event.configuration)
            else:
                if isinstance(event, SnapshotInstalled):
                    self._restart_behind(event)
                self._perform(self.guard.handle(event, now=now))
                if isinstance(event, LogDurable):
                    self._propose_waiting()
            if isinstance(event, DeadlineReached) and self._is_behind:
                self._tick(flush=False)
            self._perform(self.guard.after_engine())
        outward, self._outward = tuple(self._outward), []
        return outward

    # --- reading ----------------------------------------------------------------------------

    @property
    def role(self) -> Role:
        return self.guard.role

    @property
    def leader(self) -> NodeId | None:
        return self.guard.leader

    @property
    def term(self) -> int:
        return self.journal.current_term

    @property
    def applied_index(self) -> int:
        return int(self._engine.raftLastApplied)

    # --- towards the engine -----------------------------------------------------------------

    def _build_engine(self) -> Engine:
        with rebound.calling(now=self._now, rng=self._rng):
            return Engine(
                me=self.me,
                journal=self.journal,
                on_send=self._on_engine_send,
                on_role=self._on_engine_role,
                on_apply=self._on_engine_apply,
            )

    def _restart_behind(self, event: SnapshotInstalled) -> None:
        """The state was replaced by a snapshot: log and engine begin behind it (D10)."""
        self.journal.reset_to(event.manifest)
        self._perform(self.guard.reconfigured(self._now))  # the old engine is still there for it
        self._engine = self._build_engine()
        if self.guard.role is not Role.FOLLOWER:
            self._on_engine_role(Role.FOLLOWER)

    def _perform(self, effects: tuple[Effect, ...]) -> None:
        for effect in effects:
            inward = self._inward.get(type(effect))
            if inward is None:
                self._outward.append(effect)
            else:
                inward(effect)

    def _deliver(self, effect: Deliver) -> None:
        self._engine.receive(effect.peer, effect.message)
        self._reconcile()
        self._tick(flush=False)

    def _open_gate(self, effect: OpenGate) -> None:
        for peer in effect.peers:
            self._engine.open_gate(peer)

    def _shut_gate(self, effect: ShutGate) -> None:
        for peer in effect.peers:
            self._engine.shut_gate(peer)

    def _campaign(self, effect: Campaign) -> None:
        del effect
        if not self._must_wait_for_disk():
            self._engine.campaign()

    def _tick(self, *, flush: bool) -> None:
        if self._must_wait_for_disk():
            return
        if flush:
            self._engine.flush()
        self._engine.doTick(0)
        while self._is_behind and self._may_apply_more:
            applied = self.applied_index
            self._engine.doTick(0)
            if self.applied_index == applied:
                raise LocalError(f"the engine does not get past log entry {applied + 1}")
        self._reconcile()

    @property
    def _may_apply_more(self) -> bool:
        """In the present call?"""
        entries = self.applied_index - self._applied_before
        return entries < APPLY_ENTRIES_MAX and self._applied_bytes < APPLY_BYTES_MAX

    def _reconcile(self) -> None:
        """A call into the engine may have added the newest electorate to the log, or truncated it:
        the guard and the engine take over what the log says now."""
        if self.journal.configuration != self.guard.configuration:
            self._perform(self.guard.reconfigured(self._now))

    @property
    def _is_behind(self) -> bool:
        """Is something committed that is not applied, and may be?"""
        has_more = self.applied_index < self._engine.raftCommitIndex
        return has_more and not self._must_wait_for_disk()

    def _must_wait_for_disk(self) -> bool:
        is_alone = self.guard.configuration.majority == 1
        return is_alone and self.journal.durable_lsn < self.journal.lsn

    def _propose(self, batches: list[bytes]) -> None:
        may_lead = self.role is Role.LEADER and not self.guard.suspended
        if not may_lead or self.guard.is_handing_over:
            self._outward.extend(ProposalRefused(data) for data in batches)
        elif self._must_wait_for_disk():
            self._waiting.extend(batches)
        else:
            for data in batches:
                self._engine.propose(data)
            self._tick(flush=False)  # appends to the log
            self._tick(flush=True)  # and this one sends

    def _propose_electorate(self, configuration: Configuration) -> None:
        data = encode(Reconfiguration(configuration))
        if self.guard.why_not_change(configuration):
            self._outward.append(ProposalRefused(data))
        elif self._must_wait_for_disk():
            self._waiting_electorate = configuration  # under load a moment without it never comes
        else:
            self._propose([data])

    def _propose_waiting(self) -> None:
        """All at once: they share the next sync."""
        electorate, self._waiting_electorate = self._waiting_electorate, None
        if electorate is not None:
            self._propose_electorate(electorate)
        waiting, self._waiting = self._waiting, []
        if waiting:
            self._propose(waiting)

    # --- from the engine --------------------------------------------------------------------

    def _on_engine_send(self, peer: NodeId, message: Mapping[str, Any]) -> None:
        self._perform(self.guard.handle(EngineSent(peer, message), now=self._now))

    def _on_engine_role(self, role: Role) -> None:
        self._perform(self.guard.handle(RoleChanged(role), now=self._now))

    def _on_engine_apply(self, data: bytes) -> None:
        self._applied_bytes += len(data)
        if not is_reconfiguration(data):
            self._apply(data, self.applied_index + 1)
