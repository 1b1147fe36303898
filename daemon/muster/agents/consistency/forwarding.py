"""Requests on their way to the leader, from any node.

One stream to the node that is taken for the leader, requests matched to replies by number. Who
leads is known to a voter, and a node without a seat asks any voter that it can reach; a wrong
address is corrected by the answer. Whether a request may have been proposed decides what its
failure means: from the moment that it was handed to the stream, `OutcomeUnknown`; before, a plain
retry.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

import trio

from muster_protocol.consistency.commands import (
    Command,
    Result,
    answers,
    check_operation,
    checked_size,
    is_read,
)
from muster_protocol.consistency.forward import (
    AskConfiguration,
    Committed,
    ConfigurationIs,
    Declined,
    Forward,
    ForwardMessage,
    NotLeader,
    Unknown,
    decode_forward,
)
from muster_protocol.errors import OutcomeUnknown, Refused, RemoteError, UsageError
from muster_protocol.limits import WAITING_BYTES_MAX, WAITING_COMMANDS_MAX
from muster_protocol.types import Address, NodeId
from muster_protocol.wire.codec import encode
from muster_protocol.wire.hello import Purpose
from muster_protocol.wire.raft import Configuration

if TYPE_CHECKING:
    from muster.clock import Clock
    from muster.net.peers import PeerConnection, PeerStreams

RETRY_S: Final = 0.05
"""Between two attempts while there is no leader: a fraction of a failover (1.3 s)."""

DIAL_S: Final = 1.0
SILENCE_S: Final = 3.0
"""Without any reply for so long, what is asked next goes over a new stream, as it is with the links
between voters (`links`). Nobody is told of a cut or of a leader's lost power, and what is sent into
it comes minutes later, if at all."""

LOOK_S: Final = 0.25
"""How often who waits for a reply looks whether another node leads by now: as often as a leader
speaks. The old one may be gone without a word, and the next one can be asked: it is the same
request, and made once."""

SERVED_AT_ONCE_MAX: Final = 256
"""Forwarded requests that one stream may have under way here, until their replies have left; more
wait unread."""

UNREAD_S: Final = 10.0
"""How long a reply may stay unread before the stream is closed."""

WITHIN_S_MAX: Final = 300.0
"""How long a forwarded request may wait at most, whatever its sender says."""


class Submit(Protocol):
    """`Proposals.submit`."""

    async def __call__(self, command: Command, *, deadline: float) -> Result: ...


def _never() -> bool:
    return False


@dataclass(slots=True)
class _Call:
    done: trio.Event = field(default_factory=trio.Event)
    reply: ForwardMessage | None = None


class _Channel:
    """One open stream to a voter, with the calls that wait on it."""

    def __init__(self, connection: PeerConnection, clock: Clock) -> None:
        self._connection = connection
        self._clock = clock
        self._calls: dict[int, _Call] = {}
        self._number = 0
        self._unanswered_since: float | None = None
        self.is_open = True

    @property
    def is_silent(self) -> bool:
        """Was something asked, and nothing at all answered for `SILENCE_S`?"""
        since = self._unanswered_since
        return since is not None and self._clock.now() >= since + SILENCE_S

    async def retire(self) -> None:
        """Take no more calls. Those that wait may still be answered; the last one closes it."""
        self.is_open = False
        if not self._calls:
            await self._connection.aclose()

    async def read(self) -> None:
        """Match replies to calls until the stream ends; then all calls end without one."""
        try:
            while data := await self._connection.receive():
                reply = decode_forward(data)
                self._unanswered_since = None
                call = self._calls.pop(reply.number, None)
                if call is not None:
                    call.reply = reply
                    call.done.set()
        except (RemoteError, trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # whoever waits is told below
        finally:
            self.is_open = False
            for call in self._calls.values():
                call.done.set()
            with trio.CancelScope(shield=True):
                await self._connection.aclose()

    async def call(
        self, make: Callable[[int], ForwardMessage], *, is_outdated: Callable[[], bool] = _never
    ) -> ForwardMessage | None:
        """Send a request and wait for its reply; None if the stream ended first, or if it has
        become the wrong one to ask, which is looked at every `LOOK_S`."""
        self._number += 1
        number, call = self._number, _Call()
        self._calls[number] = call
        if self._unanswered_since is None:
            self._unanswered_since = self._clock.now()
        try:
            if not await self._send(encode(make(number))):
                return None
            while not call.done.is_set() and not is_outdated():
                with self._clock.move_on_after(LOOK_S):
                    await call.done.wait()
        finally:
            self._calls.pop(number, None)
            if not self.is_open:
                with trio.CancelScope(shield=True):
                    await self.retire()
        return call.reply

    async def _send(self, data: bytes) -> bool:
        """False if the stream is gone. A frame that is cut short, by an error or by the deadline of
        its caller, ends the stream for everybody."""
        try:
            await self._connection.send(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return False
        finally:
            if self._connection.is_cut:
                self.is_open = False
                with trio.CancelScope(shield=True):
                    await self._connection.aclose()
        return True


class Forwarder:
    """The client side: brings commands to whoever leads."""

    def __init__(
        self,
        *,
        me: NodeId,
        streams: PeerStreams,
        clock: Clock,
        leader: Callable[[], NodeId | None],
        voters_in_reach: Callable[[], tuple[NodeId, ...]],
        address_of: Callable[[NodeId], Address | None],
    ) -> None:
        self._me = me
        self._streams = streams
        self._clock = clock
        self._leader = leader
        self._voters_in_reach = voters_in_reach
        self._address_of = address_of
        self._channels: dict[NodeId, _Channel] = {}
        self._dialling = trio.Lock()
        self._hint: NodeId | None = None
        self._nursery: trio.Nursery | None = None
        self.forwarded = self.waiting = self.waiting_bytes = 0

    async def run(self) -> None:
        """Owns the streams' readers, until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            try:
                await trio.sleep_forever()
            finally:
                self._nursery = None  # before it is closed to new readers

    async def submit(self, command: Command, *, deadline: float) -> Result | None:
        """One attempt. None: nothing was proposed, try again (with the leader that is known by
        then). Errors: OutcomeUnknown, if the command changes anything; Refused for what asking
        again does not help, "overload" where too many wait here already."""
        target = self._target()
        if target is None:
            return None
        size_bytes = checked_size(command)
        full = self.waiting_bytes + size_bytes > WAITING_BYTES_MAX
        if full or self.waiting >= WAITING_COMMANDS_MAX:
            raise Refused("overload", "too many requests are waiting for the leader's answers")
        self.waiting += 1
        self.waiting_bytes += size_bytes
        try:
            return await self._ask(target, command, deadline)
        finally:
            self.waiting -= 1
            self.waiting_bytes -= size_bytes

    async def _ask(self, target: NodeId, command: Command, deadline: float) -> Result | None:
        channel: _Channel | None = None
        reply: ForwardMessage | None = None
        with self._clock.move_on_at(deadline):
            channel = await self._channel(target)
            if channel is not None:
                within_s = deadline - self._clock.now()
                self.forwarded += 1
                reply = await channel.call(
                    lambda number: Forward(number, within_s, command),
                    is_outdated=lambda: self._leader() not in (target, None),
                )
        if channel is None:
            self._hint = None
            return None
        return self._outcome(reply, command)

    @property
    def channels(self) -> int:
        """Streams to voters, open or just closed."""
        return len(self._channels)

    async def ask_configuration(self, voter: NodeId) -> ConfigurationIs | None:
        """Who has a seat, as `voter` knows it; None if it does not answer in time."""
        with self._clock.move_on_after(2 * DIAL_S):
            channel = await self._channel(voter)
            if channel is not None:
                reply = await channel.call(AskConfiguration)
                return reply if isinstance(reply, ConfigurationIs) else None
        return None

    def _outcome(self, reply: ForwardMessage | None, command: Command) -> Result | None:
        if isinstance(reply, Committed) and answers(reply.result, command.operation):
            return reply.result
        if isinstance(reply, NotLeader):
            self._hint = NodeId(reply.leader) if reply.leader else None
            return None
        if isinstance(reply, Declined):
            raise Refused(reply.reason, reply.message)
        if is_read(command.operation):
            return None
        raise OutcomeUnknown("the leader was lost before it answered; a retry will tell")

    def _target(self) -> NodeId | None:
        leader = self._leader() or self._hint
        if leader is not None and leader != self._me:
            return leader
        in_reach = [voter for voter in self._voters_in_reach() if voter != self._me]
        return in_reach[0] if in_reach and self._leader() is None else None

    async def _channel(self, target: NodeId) -> _Channel | None:
        async with self._dialling:
            channel = self._channels.get(target)
            if channel is not None and channel.is_open:
                if not channel.is_silent:
                    return channel
                await channel.retire()
            address = self._address_of(target)
            if address is None or self._nursery is None:
                return None
            try:
                with self._clock.move_on_after(DIAL_S) as scope:
                    connection = await self._streams.dial(target, address, Purpose.PROPOSE)
                if scope.cancelled_caught:
                    return None
            except (RemoteError, OSError, trio.BrokenResourceError):
                return None  # counted by the streams
            self._channels = {node: held for node, held in self._channels.items() if held.is_open}
            channel = _Channel(connection, self._clock)
            if not self._start_reading(channel):
                await connection.aclose()
                return None
            self._channels[target] = channel
            return channel

    def _start_reading(self, channel: _Channel) -> bool:
        """False if the forwarder ended while the stream was dialled."""
        if self._nursery is None:
            return False
        self._nursery.start_soon(channel.read)
        return True


class ForwardServer:
    """The other side: takes forwarded requests at a voter."""

    def __init__(
        self,
        *,
        clock: Clock,
        configuration: Configuration,
        leader: Callable[[], NodeId | None],
        submit: Submit,
    ) -> None:
        """`submit` proposes here: see `Proposals.submit`."""
        self._clock = clock
        self._configuration = configuration
        self._leader = leader
        self._submit = submit

    async def serve(self, connection: PeerConnection) -> None:
        """Answer one stream until it ends. Errors: RemoteError for what is no request."""
        limit = trio.CapacityLimiter(SERVED_AT_ONCE_MAX)
        async with trio.open_nursery() as nursery:
            while data := await connection.receive():
                message = decode_forward(data)
                if isinstance(message, AskConfiguration):
                    reply = ConfigurationIs(
                        message.number, self._configuration, self._leader() or ""
                    )
                    await connection.send(encode(reply))
                elif isinstance(message, Forward):
                    _check(message)
                    borrower = object()
                    await limit.acquire_on_behalf_of(borrower)
                    nursery.start_soon(self._answer, connection, message, limit, borrower)
                else:
                    raise RemoteError("forward", "a reply where a request was expected")
            nursery.cancel_scope.cancel()

    async def _answer(
        self,
        connection: PeerConnection,
        message: Forward,
        limit: trio.CapacityLimiter,
        borrower: object,
    ) -> None:
        try:
            reply = await self._reply_to(message)
            with self._clock.move_on_after(UNREAD_S) as scope:
                await connection.send(encode(reply))
            if scope.cancelled_caught:
                raise RemoteError("forward", "replies are not read")
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return  # the other side is told by its broken stream
        finally:
            limit.release_on_behalf_of(borrower)

    async def _reply_to(self, message: Forward) -> ForwardMessage:
        deadline = self._clock.now() + min(max(message.within_s, 0.0), WITHIN_S_MAX)
        try:
            result = await self._submit(message.command, deadline=deadline)
        except Refused as refused:
            if refused.reason != "not-leader":
                return Declined(message.number, refused.reason, str(refused))
            return NotLeader(message.number, self._leader() or "")
        except UsageError as error:
            return Declined(message.number, "usage", str(error))
        except OutcomeUnknown:
            return Unknown(message.number)
        return Committed(message.number, result)


def _check(message: Forward) -> None:
    """Errors: RemoteError for what no forwarder of ours sends."""
    if not math.isfinite(message.within_s):
        raise RemoteError("forward", "a request without an end")
    try:
        check_operation(message.command.operation)
    except UsageError as error:
        raise RemoteError("forward", str(error)) from error
