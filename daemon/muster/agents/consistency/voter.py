"""A voter's shell: the Raft core with its disk, its streams and its clients.

Everything that waits stands here: the driver that feeds the core, the group commit, the links to
the other voters, the fetching and taking of snapshots. The decisions are the core's.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import trio

from muster.agents.consistency.adopting import adopt
from muster.agents.consistency.compaction import SNAPSHOTS, Compaction, Replicated
from muster.agents.consistency.links import VoterLinks
from muster.agents.consistency.proposals import Change, Proposals, Told
from muster.agents.consistency.raft.birth import taped_core
from muster.agents.consistency.raft.core import Propose, ProposeElectorate
from muster.agents.consistency.reads import Reads
from muster.agents.consistency.replica import Replica
from muster.agents.consistency.snapshotting import fetch_snapshot, serve_snapshot
from muster.driver import Driver
from muster.histogram import Histogram
from muster.storage.journal import Journal
from muster.storage.recovery import open_journal
from muster.storage.snapshots import SnapshotStore
from muster_protocol.consistency.commands import Command, Operation, Result, is_read
from muster_protocol.consistency.divergence import EVERY, Divergence
from muster_protocol.consistency.registry import Registry
from muster_protocol.effects import Effect, Notify
from muster_protocol.errors import (
    LocalError,
    Refused,
    RemoteError,
    SafetyViolation,
    StorageCorrupt,
    UsageError,
)
from muster_protocol.limits import LOG_ENTRIES_MAX
from muster_protocol.raftguard.events import (
    Claim,
    ClaimKind,
    FetchSnapshot,
    FrameReceived,
    LogDurable,
    ProposalRefused,
    ReadsConfirmed,
    ReadsRefused,
    ReadWanted,
    Role,
    SafetyViolated,
    SendFrame,
    SnapshotFailed,
    SnapshotInstalled,
    SuspendVoting,
    TransferLeadership,
)
from muster_protocol.raftguard.transfer import Transfer
from muster_protocol.types import Address, NodeId, Severity
from muster_protocol.wire.raft import Configuration, Manifest, StateAt

if TYPE_CHECKING:
    from muster.agents.consistency.trace import DurabilityTrace
    from muster.flight.tape import FlightLog
    from muster.net.peers import PeerConnection, PeerStreams
    from muster.storage.superblock import Superblock
    from muster.world import World


NO_ROOM: Final = "the log has no room: no snapshot could be written"

MARK_AFTER_S: Final = 1.0
"""Without a commit for so long, the newest one is closed with a mark: rarely enough to cost
nothing, and soon enough that rot in it is told from a torn write all but at once."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a voter is given by its node."""

    world: World
    streams: PeerStreams
    address_of: Callable[[NodeId], Address | None]
    notify: Callable[[Notify], None]
    trace: DurabilityTrace
    recorder: FlightLog | None
    boot: str


def load_state(
    world: World, superblock: Superblock, notify: Callable[[Notify], None]
) -> tuple[Journal, Registry, int, SnapshotStore]:
    """Recover journal and state from the disk; blocks. Also: the applied index.

    Errors: StorageCorrupt, StorageError.
    """
    store = SnapshotStore(world.files)
    newest = store.newest()
    manifest = newest[0] if newest else None
    journal, torn_bytes = open_journal(world.files, superblock, manifest)
    if torn_bytes:
        notify(Notify("journal.torn.tail.cut", Severity.WARNING, {"bytes": torn_bytes}))
    if newest is None:
        return journal, Registry(), 1, store
    try:
        registry = Registry.restore(newest[1])
    except RemoteError as error:
        raise StorageCorrupt(f"the snapshot does not hold a state: {error}") from error
    return journal, registry, newest[0].last.index, store


class Voter:
    """One voter at work. Build it from recovered state, then `run` it."""

    def __init__(
        self,
        *,
        superblock: Superblock,
        journal: Journal,
        registry: Registry,
        applied_index: int,
        store: SnapshotStore,
        around: Surroundings,
    ) -> None:
        world = around.world
        self.me = superblock.node_id
        self.journal = journal
        self._store = store
        self._around = around
        self._clock = world.clock
        self._offload = world.offload
        self.replica = Replica(
            registry=registry,
            applied_index=applied_index,
            known=lambda origin, number: self.proposals.commands(origin, number),
            on_applied=self._on_applied,
            notify=around.notify,
        )
        self._tape = taped_core(
            me=self.me,
            journal=journal,
            rng=world.entropy.stream("raft"),
            now=world.clock.now(),
            apply=self.replica.apply,
            log=around.recorder,
        )
        self.core = self._tape.machine
        self.compaction = self._compaction()
        # A voter that its agent restarted counts its batches from 1 again, and old ones may still
        # be applied: so the origin names this voter, not the boot.
        origin = f"{around.boot}-{world.entropy.token_bytes(8).hex()}"
        self.proposals = Proposals(clock=world.clock, origin=origin, propose=self._propose)
        self._driver = Driver(self, name="raft", clock=world.clock, perform=self._perform)
        self.reads = Reads(
            clock=world.clock, want=lambda ticket: self._driver.complete(ReadWanted(ticket))
        )
        self.links = self._new_links()
        self._dirty = trio.Event()
        self._applied = trio.Event()
        self._nursery: trio.Nursery | None = None
        self._snapshot_under_way = False
        self._image_under_way = False
        self._store_in_use = trio.Lock()
        self.transfer = Transfer()
        self._refused: bytes | None = None
        self.sync_seconds = Histogram()
        """Of group commits, from taking what is to be written until the loop knows it synced."""
        self.divergence = Divergence(me=self.me, replicas=len(self.configuration.replicas))

    def _new_links(self) -> VoterLinks:
        around = self._around
        return VoterLinks(
            me=self.me,
            configuration=lambda: self.configuration,
            streams=around.streams,
            clock=self._clock,
            rng=around.world.entropy.stream("raft links"),
            address_of=around.address_of,
            take=self._take,
        )

    def _compaction(self) -> Compaction[Registry]:
        return Compaction(
            core=self.core,
            store=self._store,
            files=self._around.world.files,
            state=Replicated(self.replica.capture, Registry.restore, self.replica.replace),
            policy=SNAPSHOTS,
            on_trimmed=lambda trimmed: self._tape.note(trimmed, now=self._clock.now()),
        )

    # --- the machine that the driver drives ---------------------------------------------------

    @property
    def deadline(self) -> float | None:
        return self.core.deadline

    def handle(self, event: Any, *, now: float) -> tuple[Effect, ...]:
        was_leader, applied = self.core.role is Role.LEADER, self.core.applied_index
        configuration = self.configuration
        effects = self._tape.handle(event, now=now)
        if self.configuration is not configuration:
            self.divergence.replicas = len(self.configuration.replicas)
            self.links.reconfigured()
        if was_leader and self.core.role is not Role.LEADER:
            self.proposals.leadership_lost()
        if self.journal.is_dirty:
            self._dirty.set()
        if self.core.applied_index > applied:
            self._applied.set()
            self._applied = trio.Event()
        return effects

    # --- running ------------------------------------------------------------------------------

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled. Errors: StorageError when the disk fails, which nothing here survives,
        SafetyViolation when Raft's safety was seen violated, or what the engine raised."""
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                try:
                    nursery.start_soon(self._commit_loop)
                    nursery.start_soon(self.proposals.run)
                    nursery.start_soon(self.links.run)
                    await nursery.start(self._driver.run)
                    task_status.started()
                    await trio.sleep_forever()
                finally:
                    self._end()  # while the nursery still takes, but cancels, what is started
        finally:
            self.journal.close()

    def _end(self) -> None:
        self._nursery = None
        self._driver.close()
        self.proposals.close()
        self.reads.close()

    @property
    def configuration(self) -> Configuration:
        """The electorate in force."""
        return self.journal.configuration

    @property
    def committed_configuration(self) -> Configuration:
        """The newest electorate that cannot be undone any more, as far as this voter knows."""
        return self.journal.electorates.at(self.journal.commit_index)

    @property
    def is_voter(self) -> bool:
        """Does its vote count, by an electorate that cannot be undone any more?"""
        seat = self.committed_configuration.seat(self.me)
        is_mine = seat is not None and seat.generation == self.journal.generation
        return is_mine and self.committed_configuration.is_voter(self.me)

    @property
    def is_running(self) -> bool:
        """False before `run`, and from the moment that anything in it failed: what the core then
        says is no longer true."""
        return self._nursery is not None and not self._driver.is_closed

    async def submit(self, command: Command, *, deadline: float) -> Result:
        """Commit a command here, or answer a read from the state that is committed by now.

        Errors: Refused("not-leader", "overload"); OutcomeUnknown, of a change.
        """
        if is_read(command.operation):
            return await self._read(command.operation, deadline=deadline)
        if len(self.journal) >= LOG_ENTRIES_MAX:
            raise Refused("overload", NO_ROOM)
        return await self.proposals.submit(command, deadline=deadline)

    def begin(self, changes: Sequence[Change], told: Callable[[Change, Told | None], None]) -> None:
        """`submit` for changes that came together, without a wait: `told(change, outcome)` once for
        each. Errors of `submit` are outcomes."""
        full = len(self.journal) >= LOG_ENTRIES_MAX
        for change in changes:
            try:
                if full:
                    raise Refused("overload", NO_ROOM)
                self.proposals.begin(change, told)
            except (Refused, UsageError) as error:
                told(change, error)
        try:
            self.proposals.propose()
        except Exception:
            if not self._driver.is_closed:
                raise  # else the driver ends this voter with it, and all that wait are told

    async def _read(self, operation: Operation, *, deadline: float) -> Result:
        index = await self.reads.confirm(deadline=deadline)
        with self._clock.move_on_at(deadline):
            while self.core.applied_index < index:
                await self._applied.wait()
        if self.core.applied_index < index or not self.is_running:
            raise Refused("not-leader", "this voter did not come to it in time")
        return self.replica.read(operation)

    async def serve_raft(self, connection: PeerConnection) -> None:
        """A voter dialled. Errors: RemoteError."""
        await self.adopt(self.links.accept, connection)

    async def serve_snapshot(self, connection: PeerConnection) -> None:
        """A follower wants a snapshot. Errors: RemoteError."""

        async def serve(accepted: PeerConnection) -> None:
            await serve_snapshot(accepted, self._store, self.journal, self._offload)

        await self.adopt(serve, connection)

    async def adopt(
        self, serve: Callable[[PeerConnection], Awaitable[None]], connection: PeerConnection
    ) -> None:
        """Serve an accepted stream as a task of this voter. Errors: RemoteError."""
        await adopt(self._nursery, serve, connection, cause="voter-stream")

    def transfer_leadership(self, avoid: tuple[NodeId, ...] = ()) -> None:
        """Hand over to the most caught-up follower that is none of these, if we lead."""
        self._driver.complete(TransferLeadership(avoid))

    def reconfigure(self, wanted: Configuration) -> None:
        """Propose this electorate; the guard must allow it (`RaftGuard.why_not_change`)."""
        self._driver.complete(ProposeElectorate(wanted))

    def suspend_voting(self, reason: str) -> None:
        """This identity is alive elsewhere too."""
        if not self.core.guard.suspended:
            self._driver.complete(SuspendVoting(reason))

    # --- durability ---------------------------------------------------------------------------

    async def _commit_loop(self) -> None:
        while True:
            with self._clock.move_on_after(MARK_AFTER_S) as waiting:
                await self._dirty.wait()
            if waiting.cancelled_caught:
                await self.journal.close_batch(self._offload)
                await self._dirty.wait()
            self._dirty = trio.Event()
            while self.journal.is_dirty:
                began = self._clock.now()
                await self.journal.commit(self._offload)
                self.sync_seconds.observe(self._clock.now() - began)
                journal = self.journal
                self._driver.complete(LogDurable(journal.durable_lsn, journal.durable_index))
                if journal.is_bloated and not self._image_under_way:
                    assert self._nursery is not None
                    self._image_under_way = True
                    self._nursery.start_soon(self._make_image)

    # --- effects ------------------------------------------------------------------------------

    def _perform(self, effect: Effect) -> None:
        if isinstance(effect, SendFrame):
            self.links.send(effect.peer, effect.frame)
        elif isinstance(effect, Claim):
            self._around.trace.claim(effect)
        elif isinstance(effect, Notify):
            self._around.notify(effect)
        elif isinstance(effect, FetchSnapshot):
            assert self._nursery is not None
            self._nursery.start_soon(self._install_snapshot, effect.peer, effect.manifest)
        elif isinstance(effect, ProposalRefused):
            self._refused = effect.command
        elif isinstance(effect, ReadsConfirmed):
            self.reads.settle(effect.ticket, effect.index)
        elif isinstance(effect, ReadsRefused):
            self.reads.settle(effect.ticket, None)
        elif isinstance(effect, SafetyViolated):
            raise SafetyViolation(f"Raft safety violated: {effect.reason}")
        else:
            raise LocalError(f"the voter cannot perform {type(effect).__name__}")

    def _propose(self, data: bytes) -> bool:
        self._refused = None
        if self.core.role is not Role.LEADER:
            return False
        return self._driver.complete(Propose(data)) and self._refused is None

    def _on_applied(self, origin: str, number: int, results: Sequence[Result], index: int) -> None:
        if self.proposals.applied(origin, number, results):
            self._around.trace.claim(Claim(ClaimKind.REPLY, self.core.term, index))
        if index % EVERY == 0:
            self._tell_state(index)
        if self.compaction.is_due(index) and not self._snapshot_under_way:
            assert self._nursery is not None
            self._snapshot_under_way = True
            self._nursery.start_soon(self._take_snapshot)

    # --- do all have the same state? ----------------------------------------------------------

    def _take(self, event: Any) -> bool:
        """From the links: all of it is Raft's, but for what others say of their state."""
        if isinstance(event, FrameReceived) and isinstance(event.frame, StateAt):
            self._has_state(event.peer, event.frame.index, event.frame.fingerprint)
            return True
        return self._driver.complete(event)

    def _tell_state(self, index: int) -> None:
        told = StateAt(index, self.replica.registry.fingerprint())
        for peer in self.core.guard.peers.followers():
            self.links.send(peer, told)
        self._has_state(self.me, index, told.fingerprint)

    def _has_state(self, node: NodeId, index: int, fingerprint: bytes) -> None:
        for found in self.divergence.has(node, index, fingerprint):
            fields = {"index": found.index, "nodes": list(found.who)}
            self._around.notify(Notify("raft.state.diverged", Severity.ERROR, fields))

    # --- snapshots ----------------------------------------------------------------------------

    async def _take_snapshot(self) -> None:
        try:
            async with self._store_in_use:
                manifest = await self._offload.run(self.compaction.begin(), kind="snapshot")
                remove = self.compaction.end(manifest)
                self.transfer.overtaken(manifest.last.index)
                if remove is not None:
                    await self._offload.run(remove, kind="snapshot")
        finally:
            self._snapshot_under_way = False

    async def _make_image(self) -> None:
        try:
            async with self._store_in_use:
                work = self.compaction.begin_image()
                if work is not None:
                    image = await self._offload.run(work, kind="snapshot")
                    await self._offload.run(self.compaction.end_image(image), kind="snapshot")
        finally:
            self._image_under_way = False

    async def _install_snapshot(self, peer: NodeId, manifest: Manifest) -> None:
        """Fetch what the leader offered, make it durable, and start behind it."""
        try:
            address = self._around.address_of(peer)
            if address is None:
                raise RemoteError("snapshot", "the leader's address is not known")
            streams, clock, transfer = self._around.streams, self._clock, self.transfer
            await fetch_snapshot(streams, clock, peer, address, manifest, transfer)
            async with self._store_in_use:
                await self._install(manifest, transfer.release())
        except (
            RemoteError,
            OSError,
            trio.BrokenResourceError,
            trio.ClosedResourceError,
        ) as error:
            self._driver.complete(SnapshotFailed(str(error)))

    async def _install(self, manifest: Manifest, data: bytearray) -> None:
        """Make a fetched snapshot durable, start behind it. Errors: RemoteError, StorageError."""
        compaction = self.compaction
        registry = await self._offload.run(lambda: compaction.save(manifest, data), kind="snapshot")
        if self._driver.is_closed:
            return  # what is on the disk is found by the next start
        compaction.put_in_force(manifest, registry)
        self._driver.complete(SnapshotInstalled(manifest))
        await self._offload.run(compaction.clean_up(manifest), kind="snapshot")
