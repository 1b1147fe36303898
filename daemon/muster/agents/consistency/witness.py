"""The shell of a witness: its record on the disk, and the streams of those who ask it.

A node that is configured as a witness (`cluster.witness`) keeps no log and no store, whatever
becomes of it: it has this instead of a voter. It dials nobody; the voters keep dialling it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

import trio

from muster.agents.consistency.adopting import adopt
from muster.agents.consistency.links import VoterLinks
from muster.driver import Driver
from muster.flight.births import WitnessBirth
from muster.flight.tape import Tape
from muster.storage.succession import WITNESS_NAME
from muster_protocol.effects import Effect, Persist
from muster_protocol.errors import LocalError
from muster_protocol.raftguard.events import SendFrame
from muster_protocol.raftguard.witness import Promises, Witness
from muster_protocol.types import NodeId
from muster_protocol.wire.raft import Configuration

if TYPE_CHECKING:
    from muster.flight.tape import FlightLog
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
        recorder: FlightLog | None,
        save: Callable[[Persist], Awaitable[None]],
    ) -> None:
        """`promises` are on the disk; `save` makes later ones durable."""
        self._tape = Tape.begin(
            "witness", WitnessBirth(promises=promises, now=world.clock.now()), recorder
        )
        self._driver = Driver(
            self, name="witness", clock=world.clock, perform=self._perform, persist=save
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

    @property
    def machine(self) -> Witness:
        """What it has promised, and to whom it listens."""
        return self._tape.machine

    # --- the machine that the driver drives ---------------------------------------------------

    @property
    def deadline(self) -> float | None:
        return self.machine.deadline

    def handle(self, event: Any, *, now: float) -> tuple[Effect, ...]:
        return self._tape.handle(event, now=now)

    # --- running ------------------------------------------------------------------------------

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

    def _take(self, event: Any) -> bool:
        return self._driver.complete(event)

    def _perform(self, effect: Effect) -> None:
        if not isinstance(effect, SendFrame):
            raise LocalError(f"a witness cannot perform {type(effect).__name__}")
        self.links.send(effect.peer, effect.frame)
