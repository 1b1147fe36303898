"""The signal relay: brings signals of scope cluster to every member, by streams.

The machine is `muster_protocol.signals.relay`, which says what is promised. This shell keeps one
stream to each live member: of two the one with the lower id dials. It may not know that it has to:
where the other host lost power, nothing tells it that its old stream leads nowhere. So the other
one dials, too, when it has waited for `PATIENCE_S`, and the newer stream replaces the older one.
Messages to a peer that does not read close its stream, as the machine's contract demands.
"""

from __future__ import annotations

import collections
import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec
import trio

from muster.runtime.actions import ActionContext, action
from muster.runtime.agent import Agent
from muster_protocol.effects import Effect
from muster_protocol.errors import RemoteError, first_of
from muster_protocol.signals.relay import (
    Deliver,
    LocalSignal,
    PeerDown,
    PeerForgotten,
    PeerUp,
    Relay,
    RelayReceived,
    SendRelay,
)
from muster_protocol.signals.signal import Signal
from muster_protocol.types import Address, NodeId
from muster_protocol.wire.codec import Decoder, encode
from muster_protocol.wire.hello import Purpose
from muster_protocol.wire.relay import RelayMessage

if TYPE_CHECKING:
    from muster.clock import Clock
    from muster.flight.tape import Tape
    from muster.net.peers import PeerConnection, PeerStreams

REDIAL_S: Final = 2.0
"""Signals wait in the ring meanwhile; nothing is lost by two seconds."""

DIAL_S: Final = 2.0
PATIENCE_S: Final = 10.0
"""Time for a few dials of the member with the lower id, which is usually there by then."""

QUEUE_MESSAGES_MAX: Final = 256
"""Messages waiting for one peer: a window of signals, acknowledgements and room."""


_MESSAGES: Final[Decoder[RelayMessage]] = Decoder(RelayMessage)


class NodeParams(msgspec.Struct, frozen=True):
    """Which member a `cluster.node.*` signal is about."""

    node: str


@dataclass(slots=True)
class _Stream:
    connection: PeerConnection
    scope: trio.CancelScope
    queue: collections.deque[bytes]
    wake: trio.Event


class SignalRelay(Agent):
    """See the module."""

    name = "signals"
    keeps_tape = True

    def __init__(
        self,
        *,
        me: NodeId,
        tape: Tape[Relay],
        streams: PeerStreams,
        clock: Clock,
        live_members: Callable[[], Mapping[NodeId, Address]],
        deliver: Callable[[Signal], object],
    ) -> None:
        """`deliver` publishes a signal of another member on this node's bus, and nowhere else."""
        forget = action(name="ForgetMember", params=NodeParams)(self._forget)
        self.actions = (forget,)
        self.routes = {"cluster.node.left": forget}
        super().__init__()
        self.relay = tape.machine
        self._tape = tape
        self._me = me
        self._streams_of_node = streams
        self._clock = clock
        self._live_members = live_members
        self._deliver = deliver
        self._streams: dict[NodeId, _Stream] = {}
        self.signals_lost = 0

    # --- the machine ------------------------------------------------------------------------

    @property
    def deadline(self) -> float | None:
        return self.relay.deadline

    def handle_event(self, event: Any, *, now: float) -> tuple[Effect, ...]:
        return self._tape.handle(event, now=now)

    def effect_handlers(self) -> Mapping[type[Effect], Callable[[Any], None]]:
        return {
            SendRelay: self._send,
            Deliver: self._deliver_signal,
        }

    def statistics(self) -> Mapping[str, Any]:
        return {**asdict(self.relay.statistics()), "signals_lost": self.signals_lost}

    def queued(self) -> Iterator[tuple[NodeId, int]]:
        """For each stream: to whom, and messages that wait."""
        for node, stream in self._streams.items():
            yield node, len(stream.queue)

    def publish(self, signal: Signal) -> None:
        """The port: the bus hands over each signal of scope cluster that was published here. One
        that a full mailbox does not take is lost for the others, and counted."""
        if not self._post(LocalSignal(signal)):
            self.signals_lost += 1

    def _forget(
        self, state: Any, params: NodeParams, context: ActionContext
    ) -> tuple[Any, tuple[Effect, ...]]:
        forgotten = PeerForgotten(NodeId(params.node))
        return state, self._tape.handle(forgotten, now=context.now)

    # --- the shell --------------------------------------------------------------------------

    async def serve(self) -> None:
        """Keep a stream to every live member, until cancelled."""
        async with trio.open_nursery() as nursery:
            with self._registered():
                dialling: dict[NodeId, None] = {}
                missing_since: dict[NodeId, float] = {}
                while True:
                    missing = self._missing()
                    missing_since = {n: missing_since.get(n, self._clock.now()) for n in missing}
                    for node, address in missing.items():
                        waited_s = self._clock.now() - missing_since[node]
                        is_ours = node > self._me or waited_s >= PATIENCE_S
                        if is_ours and node not in dialling:
                            dialling[node] = None
                            nursery.start_soon(self._dial, node, address, dialling)
                    await self._clock.sleep(REDIAL_S)

    def _missing(self) -> dict[NodeId, Address]:
        """The live members to which there is no stream."""
        live = self._live_members()
        return {node: address for node, address in live.items() if node not in self._streams}

    @contextlib.contextmanager
    def _registered(self) -> Iterator[None]:
        handlers = self._streams_of_node.handlers
        handlers[Purpose.SIGNALS] = self._accept
        try:
            yield
        finally:
            handlers.pop(Purpose.SIGNALS, None)

    async def _dial(self, node: NodeId, address: Address, dialling: dict[NodeId, None]) -> None:
        try:
            with self._clock.move_on_after(DIAL_S) as scope:
                connection = await self._streams_of_node.dial(node, address, Purpose.SIGNALS)
        except (RemoteError, OSError):
            return  # counted by the streams
        finally:
            dialling.pop(node, None)
        if scope.cancelled_caught:
            return
        try:
            await self._serve_stream(node, connection)
        except RemoteError:
            return
        finally:
            await connection.aclose()

    async def _accept(self, connection: PeerConnection) -> None:
        """Errors: RemoteError for what is no relay message."""
        await self._serve_stream(NodeId(connection.peer.node_id), connection)

    async def _serve_stream(self, node: NodeId, connection: PeerConnection) -> None:
        previous = self._streams.get(node)
        if previous is not None:
            previous.scope.cancel()
        failure: RemoteError | None = None
        with trio.CancelScope() as scope:
            stream = _Stream(connection, scope, collections.deque(), trio.Event())
            self._streams[node] = stream
            self._post(PeerUp(node))
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._write, stream)
                    await self._read(node, connection)
                    nursery.cancel_scope.cancel()
            except* RemoteError as group:
                failure = RemoteError("signals", str(first_of(group)))
            except* (trio.BrokenResourceError, trio.ClosedResourceError):
                pass  # the peer went away
            finally:
                if self._streams.get(node) is stream:
                    del self._streams[node]
                    self._post(PeerDown(node))
        if failure is not None:
            raise failure

    async def _read(self, node: NodeId, connection: PeerConnection) -> None:
        while data := await connection.receive():
            if not self._post(RelayReceived(node, _MESSAGES.decode(data))):
                return  # this node is overloaded: the stream starts again where it stood

    async def _write(self, stream: _Stream) -> None:
        while True:
            if not stream.queue:
                stream.wake = trio.Event()
                await stream.wake.wait()
            await stream.connection.send(stream.queue.popleft())

    def _deliver_signal(self, effect: Deliver) -> None:
        self._deliver(effect.signal)

    def _send(self, effect: SendRelay) -> None:
        stream = self._streams.get(effect.peer)
        if stream is None:
            return
        if len(stream.queue) >= QUEUE_MESSAGES_MAX:
            stream.scope.cancel()
            return
        stream.queue.append(encode(effect.message))
        stream.wake.set()

    def _post(self, event: Any) -> bool:
        assert self.surroundings is not None
        return self.surroundings.post(event)
