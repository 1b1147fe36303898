"""Streams between nodes: secured, introduced, counted, and dispatched by purpose.

A stream becomes a `PeerConnection` in three steps, all of them within one time-out each and before
anything else is read: security (`tls`), the dialler's hello, the acceptor's hello or refusal
(`wire.hello`). Where TLS proved a node id, the hello must name the same one.

Until then a stream costs a slot of its own small number, so strangers who connect and wait cannot
keep members out; and no host may hold more than its share. A connection that misbehaves is dropped,
alone, and counted by cause.

Whoever refuses keeps the stream open for a moment until the other side has closed it: closing with
unread input resets the connection, and the refusal could be lost with it.
"""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec
import trio

from muster.net.frames import READ_BYTES, FrameStream
from muster.net.refusals import Refusals
from muster.net.tls import SecuredStream, StreamSecurity, explain
from muster_protocol.effects import Notify
from muster_protocol.errors import RemoteError, first_of
from muster_protocol.limits import FRAME_BYTES_MAX, HELLO_FRAME_BYTES_MAX
from muster_protocol.types import Address, ClusterId, NodeId
from muster_protocol.wire.hello import (
    RECOVERED,
    Hello,
    HelloRefused,
    Purpose,
    check_ancestry,
    check_hello,
    decode_hello,
    encode_hello,
    refusal,
)

if TYPE_CHECKING:
    from muster.clock import Clock
    from muster.net.endpoints import ByteStream, Network, StreamListener
    from muster_protocol.crypto.keyring import KeyId

DIAL_S: Final = 3.0
"""For the connection itself: one lost SYN is repeated after 1 s, a second one after 3 s."""

HELLO_S: Final = 5.0
"""From the end of the handshake to the other side's hello."""

LINGER_S: Final = 1.0
LINGER_BYTES_MAX: Final = 256 * 1024
"""How long, and over how much, one who refuses waits for the other side to close."""


@dataclass(frozen=True, slots=True)
class PeerLimits:
    """Accepted streams at a time."""

    total: int = 768
    """Seven purposes from each of a hundred members, and below the listener's own limit."""
    pending: int = 128
    """Not yet introduced; a hundred members that come back at once need that many."""
    per_host: int = 256
    """From one address: half a dozen nodes of a development cluster share one."""
    pending_per_host: int = 32


@dataclass(frozen=True, slots=True)
class PeerStatistics:
    """Streams now and since start. `refused`: (cause, count), both directions."""

    open: int
    slots: int
    """Of `PeerLimits.total` that are taken: accepted ones, introduced or not."""
    pending: int
    accepted: int
    dialled: int
    turned_away: int
    refused: tuple[tuple[str, int], ...]


class PeerConnection:
    """A stream to a peer that is known. `epoch` is unique in this process."""

    def __init__(
        self,
        frames: FrameStream,
        *,
        peer: Hello,
        remote: Address,
        epoch: int,
        key_id: KeyId | None,
        on_close: Callable[[PeerConnection], None],
    ) -> None:
        self.peer = peer
        self.remote = remote
        self.epoch = epoch
        self.key_id = key_id
        self._frames = frames
        self._on_close = on_close

    @property
    def is_cut(self) -> bool:
        """See `FrameStream.is_cut`."""
        return self._frames.is_cut

    async def send(self, payload: bytes) -> None:
        """One frame of at most `FRAME_BYTES_MAX`; see `FrameStream.send`."""
        await self._frames.send(payload)

    def send_nowait(self, payload: bytes) -> bool:
        """One frame in this turn of the loop; see `FrameStream.send_nowait`."""
        return self._frames.send_nowait(payload)

    @property
    def has_unsent(self) -> bool:
        """Is there anything that `flush` would send?"""
        return self._frames.has_unsent

    async def flush(self) -> None:
        """Send what `send_nowait` left behind; see `FrameStream.flush`."""
        await self._frames.flush()

    async def receive(self) -> bytes:
        """The next frame, or b"" at the end of the stream; see `FrameStream.receive`."""
        return await self._frames.receive()

    async def aclose(self) -> None:
        """Close at once. A task that is waiting in `receive` gets trio.ClosedResourceError."""
        self._on_close(self)
        await self._frames.aclose()


Handler = Callable[[PeerConnection], Awaitable[None]]
"""Serves one accepted connection until it returns; the connection is then closed."""


class PeerStreams:
    """Dials and accepts streams between nodes. `serve` in a nursery, `dial` from anywhere.

    `handlers` maps a purpose to its handler; a stream of another purpose is refused. A handler
    that raises RemoteError, or lets the stream's end come out, ends its connection and nothing
    else. Everything else that it raises comes out of `serve`.
    """

    def __init__(
        self,
        *,
        network: Network,
        clock: Clock,
        security: StreamSecurity,
        hello: Callable[[Purpose], Hello],
        notify: Callable[[Notify], None],
        limits: PeerLimits | None = None,
    ) -> None:
        """`hello` makes this node's hello of the moment for a stream of a given purpose."""
        self.handlers: dict[Purpose, Handler] = {}
        self.ancestors: tuple[ClusterId, ...] = ()
        """Clusters that ours was recovered from: whoever is still of one is told so."""
        self.superseded = ""
        """What we were told if the same is true of our cluster."""
        self.security = security
        self._network = network
        self._clock = clock
        self._hello = hello
        self._limits = limits or PeerLimits()
        self._refusals = Refusals("streams.refused", clock=clock, notify=notify)
        self._epochs = itertools.count(1)
        self._connections: dict[int, PeerConnection] = {}
        self._slots = _Slots(self._limits)
        self._accepted = self._dialled = 0

    @property
    def limits(self) -> PeerLimits:
        return self._limits

    def statistics(self) -> PeerStatistics:
        return PeerStatistics(
            open=len(self._connections),
            slots=self._slots.total,
            pending=self._slots.pending,
            accepted=self._accepted,
            dialled=self._dialled,
            turned_away=self._slots.turned_away,
            refused=self._refusals.totals(),
        )

    async def close_key(self, key_id: KeyId) -> None:
        """Close the streams of peers that came under a secret which was removed."""
        for connection in list(self._connections.values()):
            if connection.key_id == key_id:
                await connection.aclose()

    # --- dialling --------------------------------------------------------------------------

    async def dial(self, peer: NodeId | None, to: Address, purpose: Purpose) -> PeerConnection:
        """A connection to `peer` at `to`, or to whoever is there if `peer` is None.

        Errors: OSError when there is nobody; RemoteError when whoever is there is not one of us,
        not `peer`, or refuses us (its reason is the cause). Counted. The caller closes it.
        """
        stream = await self._connect(to)
        try:
            return await self._introduce_us(stream, peer, purpose)
        except RemoteError as error:
            await stream.aclose()
            self._refusals.count(error, to)
            if error.cause == RECOVERED:
                self.superseded = str(error)
            raise
        except BaseException:
            await stream.aclose()
            raise

    async def _connect(self, to: Address) -> ByteStream:
        with self._clock.move_on_after(DIAL_S):
            return await self._network.dial(to)
        raise TimeoutError(f"no connection to {to} within {DIAL_S:.0f} s")

    async def _introduce_us(
        self, stream: ByteStream, peer: NodeId | None, purpose: Purpose
    ) -> PeerConnection:
        secured = await self.security.secure(stream, is_server=False)
        mine = msgspec.structs.replace(self._hello(purpose), expects=peer or "")
        frames = FrameStream(secured.stream, bytes_max=HELLO_FRAME_BYTES_MAX)
        with self._clock.move_on_after(HELLO_S) as scope:
            try:
                await frames.send(encode_hello(mine))
                theirs = await _receive_hello(frames)
            except trio.BrokenResourceError as error:
                raise explain(error) from error
        if scope.cancelled_caught:
            raise RemoteError("timeout", f"no hello within {HELLO_S:.0f} s")
        if isinstance(theirs, HelloRefused):
            raise RemoteError(theirs.reason, f"refused by the peer: {theirs.message}")
        _check_identity(secured, theirs)
        check_hello(mine, theirs)
        if peer is not None and theirs.node_id != peer:
            raise RemoteError("wrong-peer", f"that is {theirs.node_id}, not {peer}")
        self._dialled += 1
        return self._connection(frames, secured, theirs)

    # --- accepting -------------------------------------------------------------------------

    async def serve(
        self,
        listener: StreamListener,
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Accept until cancelled, or until `listener` is closed and its connections have ended."""
        async with trio.open_nursery() as nursery:
            task_status.started()
            while True:
                try:
                    stream = await listener.accept()
                except trio.ClosedResourceError:
                    return
                if self._slots.take(stream.remote.host):
                    nursery.start_soon(self._serve_stream, stream)
                else:
                    await stream.aclose()

    async def _serve_stream(self, stream: ByteStream) -> None:
        host = stream.remote.host
        try:
            try:
                connection = await self._introduce_them(stream)
            finally:
                self._slots.introduced(host)
            self._accepted += 1
            try:
                await self._handler(connection)(connection)
            finally:
                await connection.aclose()
        except* RemoteError as group:
            self._refusals.count(first_of(group), stream.remote)
        except* (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # the stream has ended, by either side
        finally:
            self._slots.release(host)
            await stream.aclose()

    def _handler(self, connection: PeerConnection) -> Handler:
        """Errors: RemoteError where its agent ended while the hellos were exchanged."""
        handler = self.handlers.get(Purpose(connection.peer.purpose))
        if handler is None:
            raise RemoteError("purpose", f"{connection.peer.purpose} is no longer served here")
        return handler

    async def _introduce_them(self, stream: ByteStream) -> PeerConnection:
        """Secure, take their hello, answer. Errors: RemoteError, told to the other side."""
        try:
            secured = await self.security.secure(stream, is_server=True)
        except RemoteError:
            await self._linger(stream)
            raise
        frames = FrameStream(secured.stream, bytes_max=HELLO_FRAME_BYTES_MAX)
        try:
            with self._clock.move_on_after(HELLO_S) as scope:
                theirs = await self._exchange_hellos(frames, secured)
            if scope.cancelled_caught:
                raise RemoteError("timeout", f"no hello within {HELLO_S:.0f} s")
        except RemoteError as error:
            await self._refuse(frames, secured.stream, error)
            raise
        return self._connection(frames, secured, theirs)

    async def _exchange_hellos(self, frames: FrameStream, secured: SecuredStream) -> Hello:
        try:
            theirs = await _receive_hello(frames)
        except trio.BrokenResourceError as error:
            raise explain(error) from error
        if isinstance(theirs, HelloRefused):
            raise RemoteError("garbage", "a refusal where a hello was expected")
        _check_identity(secured, theirs)
        if theirs.purpose not in self.handlers:
            raise RemoteError("purpose", f"no streams for {theirs.purpose!r} here")
        mine = self._hello(Purpose(theirs.purpose))
        check_ancestry(mine, theirs, self.ancestors)
        check_hello(mine, theirs)
        await frames.send(encode_hello(mine))
        return theirs

    async def _refuse(self, frames: FrameStream, stream: ByteStream, error: RemoteError) -> None:
        with self._clock.move_on_after(LINGER_S):
            try:
                await frames.send(encode_hello(refusal(error)))
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return
        await self._linger(stream)

    async def _linger(self, stream: ByteStream) -> None:
        """Wait a moment for the other side to read what it was told and to close."""
        with self._clock.move_on_after(LINGER_S):
            for _ in range(LINGER_BYTES_MAX // READ_BYTES):
                try:
                    if not await stream.receive_some(READ_BYTES):
                        return
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    return

    def _connection(
        self, frames: FrameStream, secured: SecuredStream, peer: Hello
    ) -> PeerConnection:
        frames.raise_limit(FRAME_BYTES_MAX)
        connection = PeerConnection(
            frames,
            peer=peer,
            remote=secured.stream.remote,
            epoch=next(self._epochs),
            key_id=secured.key_id,
            on_close=self._forget,
        )
        self._connections[connection.epoch] = connection
        return connection

    def _forget(self, connection: PeerConnection) -> None:
        self._connections.pop(connection.epoch, None)


class _Slots:
    """How many accepted streams there are, in all and per host."""

    def __init__(self, limits: PeerLimits) -> None:
        self._limits = limits
        self.total = 0
        self._of_host: dict[str, int] = {}
        self._pending_of_host: dict[str, int] = {}
        self.pending = 0
        self.turned_away = 0

    def take(self, host: str) -> bool:
        """A slot for a stream that is not yet introduced; False, and counted, if there is none."""
        limits = self._limits
        if (
            self.total >= limits.total
            or self.pending >= limits.pending
            or self._of_host.get(host, 0) >= limits.per_host
            or self._pending_of_host.get(host, 0) >= limits.pending_per_host
        ):
            self.turned_away += 1
            return False
        self.total += 1
        self.pending += 1
        self._of_host[host] = self._of_host.get(host, 0) + 1
        self._pending_of_host[host] = self._pending_of_host.get(host, 0) + 1
        return True

    def introduced(self, host: str) -> None:
        """It is pending no more, whether it succeeded or not."""
        self.pending -= 1
        _decrement(self._pending_of_host, host)

    def release(self, host: str) -> None:
        """It has ended."""
        self.total -= 1
        _decrement(self._of_host, host)


def _decrement(counts: dict[str, int], host: str) -> None:
    counts[host] -= 1
    if not counts[host]:
        del counts[host]


async def _receive_hello(frames: FrameStream) -> Hello | HelloRefused:
    data = await frames.receive()
    if not data:
        raise RemoteError("broken", "the stream ended before a hello came")
    return decode_hello(data)


def _check_identity(secured: SecuredStream, hello: Hello) -> None:
    if secured.node_id is not None and secured.node_id != hello.node_id:
        raise RemoteError(
            "identity", f"certificate of {secured.node_id}, but a hello of {hello.node_id}"
        )
