"""The shell of a witness: its record on the disk, and the streams of those who ask it.

A node that is configured as a witness (`cluster.witness`) keeps no log and no store, whatever
becomes of it: it has this instead of a voter. It dials nobody; the voters keep dialling it. Nor has
it a flight record: a mark for each commit would be most of what such a device writes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

import trio

from muster.agents.consistency.adopting import adopt
from muster.agents.consistency.links import VoterLinks
from muster.agents.consistency.seating import GENERATION_BYTES
from muster.driver import Driver
from muster.storage.succession import WITNESS_NAME
from muster_protocol.effects import Effect, Notify, Persist
from muster_protocol.errors import LocalError, StorageCorrupt
from muster_protocol.raftguard.events import SendFrame, SuspendVoting
from muster_protocol.raftguard.witness import (
    RECORD_FORMAT,
    WITNESS_RECORD,
    Promises,
    Witness,
    load_promises,
    persist,
)
from muster_protocol.types import ClusterId, NodeId
from muster_protocol.wire.raft import Configuration, Voter

if TYPE_CHECKING:
    from muster.agents.consistency.ports import Ports
    from muster.net.peers import PeerConnection, PeerStreams
    from muster.storage.files import Files
    from muster.world import World

NOBODY: Final = Configuration(())


def check_witness(files: Files, *, wanted: bool, has_journal: bool) -> None:
    """May this directory serve a node that is `wanted` as a witness, or not? Blocks.

    Errors: LocalError that says what to do.
    """
    if wanted and has_journal:
        raise LocalError(
            "cluster.witness is true, and this node has the data of a voter: set it to false, "
            "or `muster leave` first and begin with an empty state directory"
        )
    if not wanted and WITNESS_NAME in files.names():
        raise LocalError(
            "this node has promised something as a witness: set cluster.witness = true, or "
            f"take its seat (`muster raft remove`) and then remove {files.describe(WITNESS_NAME)}"
        )


class WitnessSeat:
    """One witness at work."""

    def __init__(
        self,
        promises: Promises,
        *,
        world: World,
        streams: PeerStreams,
        save: Callable[[Persist], Awaitable[None]],
        notify: Callable[[Notify], None],
    ) -> None:
        """`promises` are on the disk; `save` makes later ones durable."""
        self.machine = Witness(promises)
        self._notify = notify
        self._driver = Driver(
            self.machine, name="witness", clock=world.clock, perform=self._perform, persist=save
        )
        self.links = VoterLinks(
            me=NodeId(promises.node),
            configuration=lambda: NOBODY,
            streams=streams,
            clock=world.clock,
            rng=world.entropy.stream("raft links"),
            address_of=lambda _: None,
            take=self._take,
        )
        self._nursery: trio.Nursery | None = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled. Errors: StorageError when the disk fails: what was promised must not be
        broken, so nothing more is."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            try:
                await nursery.start(self._driver.run)
                task_status.started()
                await trio.sleep_forever()
            finally:
                self._nursery = None
                self._driver.close()

    async def serve_raft(self, connection: PeerConnection) -> None:
        """A voter dialled. Errors: RemoteError."""
        await adopt(self._nursery, self.links.accept, connection, cause="witness-stream")

    def suspend_voting(self, reason: str) -> None:
        """This identity is alive elsewhere too."""
        self._driver.complete(SuspendVoting(reason))

    def _take(self, event: Any) -> bool:
        return self._driver.complete(event)

    def _perform(self, effect: Effect) -> None:
        if isinstance(effect, SendFrame):
            self.links.send(effect.peer, effect.frame)
        elif isinstance(effect, Notify):
            self._notify(effect)
        else:
            raise LocalError(f"a witness cannot perform {type(effect).__name__}")


class WitnessDuty:
    """Of a node that is to be a witness: from its first promise on, through all its starts."""

    def __init__(self, ports: Ports, *, is_wanted: bool) -> None:
        self._ports = ports
        self._beginning = trio.Lock()
        self._seat: WitnessSeat | None = None
        self.is_wanted = is_wanted
        """By the configuration."""

    @property
    def promises(self) -> Promises | None:
        """What it has promised; None before it was asked for a seat."""
        return self._seat.machine.promises if self._seat is not None else None

    @property
    def suspended(self) -> str:
        """Why it takes no more part; "" if it does."""
        return self._seat.machine.suspended if self._seat is not None else ""

    def is_witness_of(self, configuration: Configuration) -> bool:
        """Is it that of this electorate, with the promises that belong to the seat?"""
        held, mine = configuration.seat(configuration.witness), self.promises
        return mine is not None and held == Voter(mine.node, mine.generation)

    async def resume(self, cluster: ClusterId, nursery: trio.Nursery) -> None:
        """Go on with what an earlier start has promised. Errors: StorageError, StorageCorrupt."""
        ports = self._ports
        data = await ports.world.offload.run(lambda: ports.load_record(WITNESS_RECORD), kind="read")
        path = ports.world.files.describe(WITNESS_NAME)
        promises = load_promises(data, path=path)
        if promises is None:
            return
        if promises.cluster != cluster:
            raise StorageCorrupt(f"{path}: of another cluster, {promises.cluster[:8]}")
        await self._begin(promises, nursery)

    async def enlist(self, cluster: ClusterId, nursery: trio.Nursery) -> str:
        """The generation of its promises, the first of which is made now if need be. A seat that
        was lost is no reason to forget any. Errors: StorageError."""
        async with self._beginning:
            if self.promises is None:
                generation = self._ports.world.entropy.token_bytes(GENERATION_BYTES).hex()
                promises = Promises(RECORD_FORMAT, self._ports.me, cluster, generation)
                await self._ports.save_record(persist(promises))
                await self._begin(promises, nursery)
            assert self.promises is not None
            return self.promises.generation

    async def serve_raft(self, connection: PeerConnection) -> None:
        """A voter dialled. Errors: RemoteError."""
        if self._seat is not None:
            await self._seat.serve_raft(connection)

    def suspend_voting(self, reason: str) -> None:
        """This identity is alive elsewhere too: take no more part."""
        if self._seat is not None:
            self._seat.suspend_voting(reason)

    async def _begin(self, promises: Promises, nursery: trio.Nursery) -> None:
        """Run the witness of these promises, which are on the disk, in `nursery`."""
        ports = self._ports
        seat = WitnessSeat(
            promises,
            world=ports.world,
            streams=ports.streams,
            save=ports.save_record,
            notify=ports.notify,
        )
        await nursery.start(seat.run)
        self._seat = seat
        ports.joined(ClusterId(promises.cluster), promises.generation)
