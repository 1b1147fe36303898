"""Streams between voters, and to learners: strict order, one connection per peer, no decisions.

Of two nodes the one with the lower id dials, and keeps dialling; so there is one connection, and
an older one that still delivers is told apart by its epoch (PySyncObj's issue 189). The other one
dials too if nothing comes for `PATIENCE_S`: the lower one may not know yet that it has a seat. A
witness dials nobody. Whom a voter dials is said by its electorate; whom it accepts, is not: any
node of the cluster with a journal, because its own electorate may be the older one
(`raftguard/peers`). Each link has a bounded queue of frames. A peer that does not read gets its
link closed when the queue is full: to the engine that is a disconnected node, the only
back-pressure it knows (D31). Over an idle link a frame leaves in the turn of the loop in which it
was made, and no task is woken for it.

A link over which nothing was sent for `KEEP_ALIVE_S` sends an empty frame, and one over which
nothing came for `SILENCE_S` is closed: after a cut the kernel would retransmit into the void with
ever longer pauses and find out minutes later that the path is back.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import trio

from muster_protocol.errors import RemoteError, first_of
from muster_protocol.limits import FRAME_BYTES_MAX
from muster_protocol.raftguard.events import FrameReceived, PeerDown, PeerUp
from muster_protocol.types import Address, NodeId, Rng
from muster_protocol.wire.codec import encode
from muster_protocol.wire.hello import Purpose
from muster_protocol.wire.raft import Configuration, RaftFrame, decode_frame

if TYPE_CHECKING:
    from muster.clock import Clock
    from muster.net.peers import PeerConnection, PeerStreams

KEEP_ALIVE_S: Final = 1.0
SILENCE_S: Final = 3.0
"""Three keep-alives: longer than a stall of the other side's loop that anybody tolerates, and
shorter than two failovers."""

REDIAL_MIN_S: Final = 0.1
REDIAL_MAX_S: Final = 1.0
"""A refused connection on a LAN costs nothing; a restarted voter should be back within a second."""

PATIENCE_S: Final = 3.0
"""Before a node dials one with a lower id: longer than a restart, so that two seldom dial each
other at once."""

DIAL_S: Final = 2.0
QUEUE_BYTES_MAX: Final = 16 * FRAME_BYTES_MAX
QUEUE_FRAMES_MAX: Final = 4_096
"""A second of the highest rate measured; past it the peer is taken for disconnected."""

KEEP_ALIVE: Final = b"\xc0"
"""MessagePack nil: no Raft frame looks like it."""


@dataclass(slots=True)
class _Link:
    connection: PeerConnection
    scope: trio.CancelScope
    queue: collections.deque[bytes]
    queued_bytes: int
    wake: trio.Event
    ended: trio.Event
    heard_at: float
    sent_at: float


class VoterLinks:
    """The links of one voter to the others."""

    def __init__(
        self,
        *,
        me: NodeId,
        configuration: Callable[[], Configuration],
        streams: PeerStreams,
        clock: Clock,
        rng: Rng,
        address_of: Callable[[NodeId], Address | None],
        take: Callable[[Any], object],
    ) -> None:
        """`configuration` says who has a seat; `reconfigured` follows when that changes. `take`
        handles a connection's ups and downs and its frames at once, so a link reads no faster than
        its frames are handled."""
        self._me = me
        self._configuration = configuration
        self._streams = streams
        self._clock = clock
        self._rng = rng
        self._address_of = address_of
        self._take = take
        self._links: dict[NodeId, _Link] = {}
        self._redial: dict[NodeId, trio.Event] = {}
        self._dialling: dict[NodeId, trio.CancelScope] = {}
        self._changed = trio.Event()
        self.lost_at: dict[NodeId, float] = {}
        """When the newest link to a voter ended; the voter is missing where there was none."""

    async def run(self) -> None:
        """Dial whoever has a seat, again and again, until cancelled."""
        async with trio.open_nursery() as nursery:
            while True:
                wanted = self._wanted()
                for peer in [peer for peer in self._dialling if peer not in wanted]:
                    if peer not in self._links:  # else its end is waited for
                        self._dialling.pop(peer).cancel()
                for peer in wanted:
                    if peer not in self._dialling:
                        scope = self._dialling[peer] = trio.CancelScope()
                        nursery.start_soon(self._keep_dialling, peer, scope)
                self._changed = trio.Event()
                await self._changed.wait()

    def reconfigured(self) -> None:
        """Another electorate is in force. Open links stay, whoever they are to: they end when the
        other side has nothing to say any more, and until then its answers do not count."""
        self._changed.set()

    def _wanted(self) -> tuple[NodeId, ...]:
        """A voter dials all others, a learner the voters: learners have nothing to say to each
        other."""
        configuration = self._configuration()
        is_voter = configuration.is_voter(self._me)
        wanted = configuration.seats if is_voter else configuration.voters
        return tuple(NodeId(seat.node) for seat in wanted if seat.node != self._me)

    async def accept(self, connection: PeerConnection) -> None:
        """A node dialled. Runs as long as the link lives.

        Errors: RemoteError if it has no journal (D23), or is connected from another process.
        """
        await self._serve(_checked_peer(connection), connection)

    def send(self, peer: NodeId, frame: RaftFrame) -> None:
        """Send a frame, or queue it; closes the link of a peer that does not read."""
        link = self._links.get(peer)
        if link is None:
            return
        data = encode(frame)
        if not link.queue and self._send_at_once(link, data):
            return
        link.queue.append(data)
        link.queued_bytes += len(data)
        link.wake.set()
        if len(link.queue) > QUEUE_FRAMES_MAX or link.queued_bytes > QUEUE_BYTES_MAX:
            self._drop(peer, link)

    def _send_at_once(self, link: _Link, data: bytes) -> bool:
        try:
            is_sent = link.connection.send_nowait(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return False  # the task that writes will see it too, and end the link
        if is_sent:
            link.sent_at = self._clock.now()
            if link.connection.has_unsent:
                link.wake.set()
        return is_sent

    def queued(self) -> Iterator[tuple[NodeId, int, int]]:
        """For each link: to whom, frames and bytes that wait."""
        for peer, link in self._links.items():
            yield peer, len(link.queue), link.queued_bytes

    def retry_now(self, peer: NodeId) -> None:
        """The peer was just seen alive: do not wait to dial it again."""
        event = self._redial.get(peer)
        if event is not None:
            event.set()

    # --- one link ---------------------------------------------------------------------------

    async def _keep_dialling(self, peer: NodeId, scope: trio.CancelScope) -> None:
        with scope:
            pause_s = REDIAL_MIN_S
            while True:
                if peer < self._me and peer != self._configuration().witness:
                    await self._be_dialled(peer)
                elif peer in self._links:  # it did not wait for us, and why should we break it?
                    await self._links[peer].ended.wait()
                if peer not in self._wanted():
                    self._dialling.pop(peer, None)
                    return
                address = self._address_of(peer)
                if address is not None and await self._dial_once(peer, address):
                    pause_s = REDIAL_MIN_S
                self._redial[peer] = trio.Event()
                with self._clock.move_on_after(pause_s * self._rng.uniform(0.7, 1.3)):
                    await self._redial[peer].wait()
                pause_s = min(2 * pause_s, REDIAL_MAX_S)

    async def _be_dialled(self, peer: NodeId) -> None:
        """Return when there has been no link to `peer` for `PATIENCE_S`."""
        while True:
            await self._clock.sleep(PATIENCE_S)
            if peer not in self._links:
                return
            await self._links[peer].ended.wait()

    async def _dial_once(self, peer: NodeId, address: Address) -> bool:
        """True if there was a connection for a while."""
        try:
            with self._clock.move_on_after(DIAL_S) as scope:
                connection = await self._streams.dial(peer, address, Purpose.RAFT)
            if scope.cancelled_caught:
                return False
        except (RemoteError, OSError, trio.BrokenResourceError):
            return False  # counted by the streams
        try:
            _checked_peer(connection)
            await self._serve(peer, connection)
        except RemoteError:
            return False
        finally:
            await connection.aclose()
        return True

    async def _serve(self, peer: NodeId, connection: PeerConnection) -> None:
        previous = self._links.get(peer)
        if previous is not None:
            if previous.connection.peer.boot != connection.peer.boot:
                # A process that ended took its streams with it, so this is a second one with the
                # same identity (or the host is gone, which silence will show): the first stays.
                raise RemoteError("duplicate-id", f"{peer} is connected from another process")
            self._drop(peer, previous)
        refused: list[RemoteError] = []
        with trio.CancelScope() as scope:
            link = self._links[peer] = _Link(
                connection=connection,
                scope=scope,
                queue=collections.deque(),
                queued_bytes=0,
                wake=trio.Event(),
                ended=trio.Event(),
                heard_at=self._clock.now(),
                sent_at=self._clock.now(),
            )
            self._take(PeerUp(peer, connection.epoch, connection.peer.generation))
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._write, link)
                    nursery.start_soon(self._watch, link)
                    await self._read(peer, link)
                    nursery.cancel_scope.cancel()
            except* RemoteError as group:
                refused.append(RemoteError("raft-frame", str(first_of(group))))
            except* (trio.BrokenResourceError, trio.ClosedResourceError):
                pass  # the peer went away; PeerDown tells
            finally:
                self._drop(peer, link)
        if refused:
            raise refused[0]

    async def _read(self, peer: NodeId, link: _Link) -> None:
        while True:
            data = await link.connection.receive()
            if not data:
                return
            link.heard_at = self._clock.now()
            if data != KEEP_ALIVE:
                self._take(FrameReceived(peer, link.connection.epoch, decode_frame(data)))

    async def _write(self, link: _Link) -> None:
        while True:
            link.wake = trio.Event()
            if link.queue:
                data = link.queue.popleft()
                link.queued_bytes -= len(data)
                await link.connection.send(data)
            elif link.connection.has_unsent:
                await link.connection.flush()
            elif self._clock.now() >= link.sent_at + KEEP_ALIVE_S:
                await link.connection.send(KEEP_ALIVE)
            else:
                with self._clock.move_on_at(link.sent_at + KEEP_ALIVE_S):
                    await link.wake.wait()
                continue
            link.sent_at = self._clock.now()

    async def _watch(self, link: _Link) -> None:
        """Close a link over which nothing comes any more."""
        # One sum for both: with a difference here, rounding let it be early for ever.
        while (silent_at := link.heard_at + SILENCE_S) > self._clock.now():
            await self._clock.sleep_until(silent_at)
        link.scope.cancel()

    def _drop(self, peer: NodeId, link: _Link) -> None:
        link.scope.cancel()
        link.ended.set()
        if self._links.get(peer) is link:
            del self._links[peer]
            self.lost_at[peer] = self._clock.now()
            self._take(PeerDown(peer, link.connection.epoch))


def _checked_peer(connection: PeerConnection) -> NodeId:
    """Errors: RemoteError for a node that has no journal: it cannot have promised anything."""
    hello = connection.peer
    if not hello.generation:
        raise RemoteError("not-a-voter", f"{hello.name} has no journal")
    return NodeId(hello.node_id)
