"""This node's seat: its journal with the voter that runs on it, from the first day to the last.

A seat comes by founding or by enlisting, survives restarts, and goes when an electorate says that
it is gone (`seating` has what that does to the disk).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from muster.agents.consistency.evidence import HEARD_WITHIN_S
from muster.agents.consistency.seating import (
    ENLIST_S,
    answer_enlisting,
    ask_to_enlist,
    enlist_request,
    forget,
    fresh_block,
    is_dismissed,
    make_journal,
    retire,
)
from muster.agents.consistency.stewardship import Stewardship
from muster.agents.consistency.voter import Surroundings, Voter, load_state
from muster.agents.consistency.witness import WitnessDuty
from muster.storage.superblock import Superblock, read_superblock
from muster_protocol.effects import Notify
from muster_protocol.errors import RemoteError
from muster_protocol.raftguard.events import Role
from muster_protocol.types import ClusterId, NodeId
from muster_protocol.wire.codec import encode
from muster_protocol.wire.raft import Configuration
from muster_protocol.wire.seats import Enlisted, EnlistRequest, NotEnlisted

if TYPE_CHECKING:
    from muster.agents.consistency.forwarding import Forwarder
    from muster.agents.consistency.ports import Ports
    from muster.net.peers import PeerConnection


class Seat:
    """Or the lack of one, of this node."""

    def __init__(
        self,
        ports: Ports,
        *,
        forwarder: Forwarder,
        size: int,
        replace_after_s: float,
        is_witness: bool,
    ) -> None:
        """`size`, `replace_after_s`: see `Steward`. `is_witness`: this node is to be one, and
        nothing else."""
        self.witness = WitnessDuty(ports, is_wanted=is_witness)
        self._ports = ports
        self._forwarder = forwarder
        self._size = size
        self._replace_after_s = replace_after_s
        self._changing = trio.Lock()
        self._scope = trio.CancelScope()
        self._has_ended = trio.Event()
        self._nursery: trio.Nursery | None = None
        self._voter: Voter | None = None
        self._stewardship: Stewardship | None = None
        self.superblock: Superblock | None = None
        self.configuration: Configuration | None = None
        """What others told of the electorate while there was no seat."""

    @property
    def voter(self) -> Voter | None:
        """This node's voter, while it runs. One that has ended says what was true then."""
        return self._voter if self._voter is not None and self._voter.is_running else None

    @property
    def leads(self) -> bool:
        """Is this node the leader, as far as it knows?"""
        return self.voter is not None and self.voter.core.role is Role.LEADER

    @property
    def suspended(self) -> str:
        """Why it takes no more part, as a voter or a witness; "" if it does."""
        if self.voter is not None:
            return self.voter.core.guard.suspended
        return self.witness.suspended

    def suspend_voting(self, reason: str) -> None:
        """This identity is alive elsewhere too: take no more part."""
        if self.voter is not None:
            self.voter.suspend_voting(reason)
        self.witness.suspend_voting(reason)

    @property
    def committed_configuration(self) -> Configuration | None:
        """The committed electorate, as far as this node knows it."""
        voter = self.voter
        return voter.committed_configuration if voter is not None else self.configuration

    @property
    def is_voter(self) -> bool:
        """Does this node's vote count? Not that of a learner, nor of a journal without a seat."""
        return self.voter is not None and self.voter.is_voter

    @property
    def stewardship(self) -> Stewardship | None:
        """As `voter`."""
        return self._stewardship if self.voter is not None else None

    def told(self, configuration: Configuration) -> None:
        """Somebody says who votes; one that lags behind may know less than we do."""
        if self.configuration is None or configuration.index >= self.configuration.index:
            self.configuration = configuration

    async def recover(self) -> None:
        """Read what an earlier start left behind. Errors: StorageError, StorageCorrupt."""
        files, offload = self._ports.world.files, self._ports.world.offload
        self.superblock = await offload.run(lambda: read_superblock(files), kind="read")
        if self.superblock is not None and self.superblock.is_retired:
            await offload.run(lambda: forget(files), kind="fsync")
            self.superblock = None

    async def take(self, block: Superblock, nursery: trio.Nursery) -> None:
        """Run the voter of this journal, which is on the disk, in `nursery`.

        Errors: StorageError, StorageCorrupt.
        """
        ports = self._ports
        self.superblock, self._nursery = block, nursery
        journal, registry, applied, store = await ports.world.offload.run(
            lambda: load_state(ports.world, block, ports.notify), kind="read"
        )
        voter = self._voter = Voter(
            superblock=block,
            journal=journal,
            registry=registry,
            applied_index=applied,
            store=store,
            around=Surroundings(
                world=ports.world,
                streams=ports.streams,
                address_of=ports.address_of,
                notify=ports.notify,
                trace=ports.trace,
                recorder=ports.recorder,
                boot=ports.boot,
            ),
        )
        self._stewardship = Stewardship(
            voter=voter,
            clock=ports.world.clock,
            size=self._size,
            replace_after_s=self._replace_after_s,
            members=ports.members,
            enlist=self._enlist,
            notify=ports.notify,
        )
        ports.joined(block.cluster_id, block.generation)
        self._scope, self._has_ended = trio.CancelScope(), trio.Event()
        await nursery.start(self._run, voter, self._stewardship)

    async def _run(
        self,
        voter: Voter,
        stewardship: Stewardship,
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    await nursery.start(voter.run)
                    nursery.start_soon(stewardship.run)
                    task_status.started()
        finally:
            self._has_ended.set()

    # --- how it comes -------------------------------------------------------------------------

    async def _enlist(self, node: NodeId, request: EnlistRequest) -> str:
        """As leader: the generation of what a member has made for us, or ""."""
        address = self._ports.address_of(node)
        answer = ""
        if address is not None:
            with self._ports.world.clock.move_on_after(ENLIST_S):
                answer = await ask_to_enlist(self._ports.streams, node, address, request)
        return answer

    async def answer_enlisting(
        self, connection: PeerConnection, cluster: ClusterId, nursery: trio.Nursery
    ) -> None:
        """A leader wants us to have a seat. Errors: RemoteError."""
        if not cluster:
            raise RemoteError("enlist", "this node belongs to no cluster")
        request = await enlist_request(connection)
        is_witness = self.witness.is_wanted
        if request.as_witness != is_witness:
            what = "a witness, and keeps no data" if is_witness else "no witness"
            await connection.send(encode(NotEnlisted(f"this node is {what}")))
        elif is_witness:
            generation = await self.witness.enlist(cluster, nursery)
            await connection.send(encode(Enlisted(generation)))
        else:
            await self._enlist_replica(connection, request.configuration, cluster, nursery)

    async def serve_raft(self, connection: PeerConnection) -> None:
        """A voter dialled. Errors: RemoteError."""
        if self.witness.is_wanted:
            await self.witness.serve_raft(connection)
        elif self.voter is not None:
            await self.voter.serve_raft(connection)

    async def _enlist_replica(
        self,
        connection: PeerConnection,
        told: Configuration,
        cluster: ClusterId,
        nursery: trio.Nursery,
    ) -> None:

        async def make(told: Configuration) -> Superblock:
            world, me = self._ports.world, self._ports.me
            block = fresh_block(world, me, cluster, told_index=told.index)
            await make_journal(world, block, told)
            await self.take(block, nursery)
            return block

        async with self._changing:
            if self.voter is not None and is_dismissed(self.voter, told):
                await self._give_up(told)
            await answer_enlisting(connection, self.voter, told, make)

    # --- how it goes --------------------------------------------------------------------------

    async def look_after(self) -> None:
        """If there is reason to doubt that the voter still has its seat, ask the others. A learner
        is not told that it lost its seat, and has no election to find out by."""
        voter = self.voter
        if voter is None:
            return
        hears = voter.core.guard.hears_quorum(self._ports.world.clock.now(), HEARD_WITHIN_S)
        if hears and voter.configuration.seat(voter.me) is not None:
            return
        for other in self._ports.live_replicas():
            answer = await self._forwarder.ask_configuration(other)
            if answer is None or not is_dismissed(voter, answer.configuration):
                continue
            async with self._changing:
                if self.voter is voter and is_dismissed(voter, answer.configuration):
                    await self._give_up(answer.configuration)
            return

    async def _give_up(self, told: Configuration) -> None:
        """There is no seat for this journal any more: forget it, and stay a member."""
        assert self.superblock is not None
        block, self._voter, self._stewardship = self.superblock, None, None
        self._scope.cancel()
        await self._has_ended.wait()
        world = self._ports.world
        await world.offload.run(lambda: retire(world.files, block), kind="fsync")
        self.superblock, self.configuration = None, told
        self._ports.joined(block.cluster_id, "")
        self._ports.notify(Notify("raft.seat.lost", fields={"index": told.index}))
