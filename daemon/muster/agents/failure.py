"""The failure detector: the SWIM machine with its packets, its push-pull streams, and its clock.

The seed names this agent and says nothing more of it. Here it is the owner of membership: every
other agent learns from its signals (`cluster.node.*`) who is there. Its sensor is the packet
channel itself, which the driver asks once more before it lets a probe time out.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

import msgspec
import trio

from muster.runtime.actions import ActionContext, action
from muster.runtime.agent import Agent
from muster.runtime.sensors import Sensor
from muster_protocol.discovery.peers import DISCOVERED
from muster_protocol.effects import Effect, SendPacket
from muster_protocol.errors import Refused, RemoteError, UsageError
from muster_protocol.membership.effects import ProbeByStream, StartSync
from muster_protocol.membership.events import (
    ForgetRequested,
    JoinHint,
    LoopLagged,
    PacketReceived,
    StreamProbeFailed,
    StreamProbeSucceeded,
    SyncReceived,
)
from muster_protocol.membership.swim import Swim
from muster_protocol.types import Address, NodeId
from muster_protocol.wire.codec import encode
from muster_protocol.wire.hello import Purpose
from muster_protocol.wire.membership import JoinRequest, MembershipMessage, decode_sync_table

if TYPE_CHECKING:
    from muster.clock import Clock
    from muster.flight.tape import Tape
    from muster.net.packets import Inbound, PacketChannel
    from muster.net.peers import PeerConnection, PeerStreams

SYNC_S: Final = 10.0
"""For a whole push-pull: ten thousand members over a bad link."""

PROBE_S: Final = 1.0
"""For a stream probe: the probe interval."""

STREAMS_AT_ONCE_MAX: Final = 16
"""Streams of this agent under way; memberlist allows 128, with whole tables in each."""


class JoinParams(msgspec.Struct, frozen=True):
    """[host, port] pairs at which members may be found."""

    addresses: list[tuple[str, int]]


class PacketSensor(Sensor):
    """Turns the packets that arrive into events."""

    name = "NetworkConnectivitySensor"

    def __init__(self, channel: PacketChannel[MembershipMessage]) -> None:
        self._channel = channel

    async def next(self) -> Any:
        return _event_of(await self._channel.next())

    def next_nowait(self) -> Any | None:
        inbound = self._channel.next_nowait()
        return None if inbound is None else _event_of(inbound)


def _event_of(inbound: Inbound[MembershipMessage]) -> PacketReceived:
    """A packet that was sealed for anybody may have been redirected: of what is in it, only a
    request to be introduced is believed."""
    messages = inbound.messages
    if not inbound.is_bound:
        messages = tuple(m for m in messages if isinstance(m, JoinRequest))
    return PacketReceived(inbound.sender, inbound.source, messages)


class FailureDetector(Agent):
    """See the module."""

    name = "failure"
    sensor_names = (PacketSensor.name,)
    keeps_tape = True

    def __init__(
        self,
        *,
        tape: Tape[Swim],
        channel: PacketChannel[MembershipMessage],
        streams: PeerStreams,
        clock: Clock,
    ) -> None:
        join = action(name="ValidateNodes", params=JoinParams)(self._join)
        self.actions = (join,)
        self.routes = {DISCOVERED: join}
        self.sensors = (lambda _surroundings: PacketSensor(channel),)
        super().__init__()
        self.lag_event = LoopLagged
        self.swim = tape.machine
        self._tape = tape
        self._channel = channel
        self._streams = streams
        self._clock = clock
        self._nursery: trio.Nursery | None = None
        self._under_way = 0
        self.streams_skipped = 0

    # --- the machine ------------------------------------------------------------------------

    @property
    def deadline(self) -> float | None:
        return self.swim.deadline

    def handle_event(self, event: Any, *, now: float) -> tuple[Effect, ...]:
        return self._tape.handle(event, now=now)

    def effect_handlers(self) -> Mapping[type[Effect], Callable[[Any], None]]:
        return {
            SendPacket: self._send,
            StartSync: lambda effect: self._in_background(self._sync, effect),
            ProbeByStream: lambda effect: self._in_background(self._probe, effect),
        }

    def _send(self, effect: SendPacket) -> None:
        self._channel.send(effect.to, effect.messages, effect.receiver)  # it counts failures

    def statistics(self) -> Mapping[str, Any]:
        return {
            **asdict(self.swim.statistics()),
            "packets": asdict(self._channel.statistics()),
            "streams_skipped": self.streams_skipped,
        }

    def _join(
        self, state: Any, params: JoinParams, context: ActionContext
    ) -> tuple[Any, tuple[Effect, ...]]:
        """Ask at addresses where members may be."""
        hint = JoinHint(tuple(Address(host, port) for host, port in params.addresses))
        return state, self._tape.handle(hint, now=context.now)

    # --- the shell --------------------------------------------------------------------------

    async def serve(self) -> None:
        """Owns the streams of this agent, until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            with self._registered():
                await trio.sleep_forever()

    @contextlib.contextmanager
    def _registered(self) -> Iterator[None]:
        handlers = {Purpose.SYNC: self._serve_sync, Purpose.PROBE: self._serve_probe}
        self._streams.handlers.update(handlers)
        try:
            yield
        finally:
            for purpose in handlers:
                self._streams.handlers.pop(purpose, None)

    def _in_background(self, work: Callable[[Any], Any], effect: Any) -> None:
        if self._nursery is None or self._under_way >= STREAMS_AT_ONCE_MAX:
            self.streams_skipped += 1
            return
        self._under_way += 1
        self._nursery.start_soon(self._counted, work, effect)

    async def _counted(self, work: Callable[[Any], Any], effect: Any) -> None:
        try:
            await work(effect)
        finally:
            self._under_way -= 1

    async def _sync(self, effect: StartSync) -> None:
        """Exchange tables with a peer that we dial. Failing needs no event (see `StartSync`)."""
        with self._clock.move_on_after(SYNC_S):
            try:
                connection = await self._streams.dial(effect.peer, effect.address, Purpose.SYNC)
            except (RemoteError, OSError):
                return  # counted by the streams
            try:
                await self._exchange(connection)
            except (RemoteError, trio.BrokenResourceError, trio.ClosedResourceError):
                return
            finally:
                await connection.aclose()

    async def _serve_sync(self, connection: PeerConnection) -> None:
        with self._clock.move_on_after(SYNC_S):
            await self._exchange(connection)

    async def _exchange(self, connection: PeerConnection) -> None:
        await connection.send(encode(self.swim.table_for_sync()))
        data = await connection.receive()
        if data:
            self._post(SyncReceived(NodeId(connection.peer.node_id), decode_sync_table(data)))

    async def _probe(self, effect: ProbeByStream) -> None:
        """Is the peer reached by a stream, where packets do not get through?"""
        refused = False
        with self._clock.move_on_after(PROBE_S):
            try:
                connection = await self._streams.dial(effect.peer, effect.address, Purpose.PROBE)
                await connection.aclose()
                self._post(StreamProbeSucceeded(effect.sequence))
                return
            except ConnectionRefusedError:
                refused = True
            except (RemoteError, OSError):
                pass  # counted by the streams
        self._post(StreamProbeFailed(effect.sequence, refused))

    async def _serve_probe(self, connection: PeerConnection) -> None:
        """The hello was the answer; wait for the other side to close."""
        with self._clock.move_on_after(PROBE_S):
            await connection.receive()

    def _post(self, event: Any) -> None:
        assert self.surroundings is not None
        self.surroundings.post(event)

    # --- the port -----------------------------------------------------------------------------

    def post(self, event: Any) -> None:
        """Give the machine a command: `UpdateMeta`, `StopRequested`, `LeaveRequested`, ..."""
        self._post(event)

    def address_of(self, node: NodeId) -> Address | None:
        """Where a member is now."""
        member = self.swim.member(node)
        return None if member is None else member.address

    def find(self, text: str) -> NodeId:
        """The member with this id, id prefix or name. Errors: Refused("not-found"), UsageError."""
        if not text:
            raise UsageError("which member? Its name, id, or the beginning of its id")
        found = [m for m in self.swim.members() if m.name == text or m.id.startswith(text)]
        exact = [m for m in found if text in (m.id, m.name)]
        if len(exact) == 1:
            return exact[0].id
        if not found:
            raise Refused("not-found", f"there is no member {text!r}")
        if len(found) > 1:
            ids = ", ".join(m.id[:12] for m in found)
            raise UsageError(f"{text!r} means several members: {ids}; use an id")
        return found[0].id

    def forget(self, node: NodeId) -> None:
        """An operator gives up on a member."""
        self._post(ForgetRequested(node))
