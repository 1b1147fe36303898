"""Requests on their way to the leader, from any node.

One stream to the node that is taken for the leader, requests matched to replies by number. Who
leads is known to a voter, and a node without a seat asks any voter that it can reach; a wrong
address is corrected by the answer. Whether a request may have been proposed decides what its
failure means: from the moment that it was handed to the stream, `OutcomeUnknown`; before, a plain
retry.

Requests that are made in one turn of the loop leave in one frame, and so do replies; a frame costs
more than what it holds. Who waits is no task: he is told by a call, and one alarm looks after all
deadlines.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

import trio

from muster.agents.consistency.proposals import Change, Outcome, Told
from muster.alarm import Alarm
from muster_protocol.consistency.commands import (
    Command,
    Result,
    answers,
    check_operation,
    checked_command,
    is_read,
)
from muster_protocol.consistency.forward import (
    AskConfiguration,
    ChangeSeats,
    Committed,
    ConfigurationIs,
    Declined,
    Forward,
    ForwardMessage,
    NotLeader,
    SeatsChanged,
    Unknown,
    decode_forward,
    encode_forward,
    frames_of,
)
from muster_protocol.errors import OutcomeUnknown, Refused, RemoteError, UsageError
from muster_protocol.limits import WAITING_BYTES_MAX, WAITING_COMMANDS_MAX
from muster_protocol.types import Address, NodeId
from muster_protocol.wire.codec import encode
from muster_protocol.wire.hello import Purpose
from muster_protocol.wire.raft import Configuration
from muster_protocol.wire.seats import SeatRequest

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


class ChangesSeats(Protocol):
    """`Stewardship.change`."""

    async def __call__(self, request: SeatRequest, *, deadline: float) -> None: ...


@dataclass(slots=True, eq=False)
class _Call:
    """`answered` is told the reply, once; None if there will be none."""

    answered: Callable[[ForwardMessage | None], None]
    deadline: float
    ends_with_leader: bool
    """Not worth waiting for once another node leads."""


class _Channel:
    """One open stream to a voter, with the calls that wait on it."""

    def __init__(self, connection: PeerConnection, clock: Clock) -> None:
        self._connection = connection
        self._clock = clock
        self._calls: dict[int, _Call] = {}
        self._number = 0
        self._unanswered_since: float | None = None
        self._outbox: list[bytes] = []
        self._wake = trio.Event()
        self.is_open = True

    @property
    def is_silent(self) -> bool:
        """Was something asked, and nothing at all answered for `SILENCE_S`?"""
        since = self._unanswered_since
        return since is not None and self._clock.now() >= since + SILENCE_S

    @property
    def is_waited_for(self) -> bool:
        """Is there a call without a reply?"""
        return bool(self._calls)

    def retire(self) -> None:
        """Take no more calls. Those that wait may still be answered; the last one closes it."""
        self.is_open = False
        self._wake.set()

    async def run(self) -> None:
        """Send calls, and match replies to them, until the stream ends or the last call of one that
        was retired; then all calls end without a reply."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write, nursery.cancel_scope)
                await self._read()
                nursery.cancel_scope.cancel()
        except* (RemoteError, trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # whoever waits is told below
        finally:
            self.is_open = False
            calls, self._calls = self._calls, {}
            for call in calls.values():
                call.answered(None)
            with trio.CancelScope(shield=True):
                await self._connection.aclose()

    async def _read(self) -> None:
        while data := await self._connection.receive():
            for reply in decode_forward(data):
                self._unanswered_since = None
                call = self._calls.pop(reply.number, None)
                if call is not None:
                    call.answered(reply)
            if not self.is_open:
                self._wake.set()

    async def _write(self, scope: trio.CancelScope) -> None:
        """Errors: of `PeerConnection.send`; RemoteError if the other side does not read."""
        while self.is_open or self._calls:
            outbox, self._outbox = self._outbox, []
            for frame in frames_of(outbox):
                with self._clock.move_on_after(SILENCE_S) as sending:
                    await self._connection.send(frame)
                if sending.cancelled_caught:
                    raise RemoteError("forward", "requests are not read")
            if not self._outbox and (self.is_open or self._calls):
                self._wake = trio.Event()
                await self._wake.wait()
                await self._clock.sleep(0)  # let everything that is ready in this turn arrive
        scope.cancel()

    def call(self, make: Callable[[int], bytes], call: _Call) -> None:
        """Send what `make(number)` gives, as soon as the stream takes it."""
        self._number += 1
        self._calls[self._number] = call
        if self._unanswered_since is None:
            self._unanswered_since = self._clock.now()
        self._outbox.append(make(self._number))
        self._wake.set()

    def look(self, now: float, *, is_outdated: bool) -> float:
        """End the calls whose time is up, or for whom this is the wrong node to ask. The earliest
        deadline of the others."""
        earliest = math.inf
        over = []
        for number, call in self._calls.items():
            if call.deadline <= now or (is_outdated and call.ends_with_leader):
                over.append(number)
            else:
                earliest = min(earliest, call.deadline)
        for number in over:
            self._calls.pop(number).answered(None)
        if over and not self.is_open:
            self._wake.set()
        return earliest


class Forwarder:
    """The client side: brings commands to whoever leads."""

    def __init__(
        self,
        *,
        me: NodeId,
        streams: PeerStreams,
        clock: Clock,
        leader: Callable[[], NodeId | None],
        learned: Callable[[NodeId], None],
        voters_in_reach: Callable[[], tuple[NodeId, ...]],
        address_of: Callable[[NodeId], Address | None],
    ) -> None:
        self._me = me
        self._streams = streams
        self._clock = clock
        self._leader = leader
        self._learned = learned
        self._voters_in_reach = voters_in_reach
        self._address_of = address_of
        self._channels: dict[NodeId, _Channel] = {}
        self._retired: list[tuple[NodeId, _Channel]] = []
        """Silent ones on which somebody still waits."""
        self._dialling = trio.Lock()
        self._hint: NodeId | None = None
        self._nursery: trio.Nursery | None = None
        self._alarm = Alarm(clock, self._look)
        self.forwarded = self.waiting = self.waiting_bytes = 0

    async def run(self) -> None:
        """Owns the streams, until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            try:
                await self._alarm.run()
            finally:
                self._nursery = None  # before it is closed to new streams

    def begin(
        self, changes: Sequence[Change], told: Callable[[Change, Told | None], None]
    ) -> Sequence[Change]:
        """One attempt for changes that came together: `told(change, outcome)` later, once for each;
        None as `submit` gives it, and its errors as outcomes. Those that are returned could not be
        sent at once, and are for `submit`, which dials."""
        target = self._target()
        channel = None if target is None else self._channels.get(target)
        if channel is None or not channel.is_open or channel.is_silent:
            return changes
        for change in changes:
            try:
                change.command, data = checked_command(change.command)
                self._take(len(data))
            except (Refused, UsageError) as error:
                told(change, error)
                continue
            change.told = told
            self._send(channel, change.command, data, change.deadline, change)
        return ()

    def _send(
        self, channel: _Channel, command: Command, data: bytes, deadline: float, change: Change
    ) -> None:
        def answered(reply: ForwardMessage | None) -> None:
            self._release(len(data))
            told, change.told = change.told, None
            if told is not None:
                told(change, self._outcome(reply, command))

        self.forwarded += 1
        within_s = deadline - self._clock.now()
        call = _Call(answered, deadline, ends_with_leader=True)
        channel.call(lambda number: encode_forward(number, within_s, data), call)
        self._alarm.at(min(deadline, self._clock.now() + LOOK_S))

    async def submit(self, command: Command, *, deadline: float) -> Result | None:
        """One attempt. None: nothing was proposed, try again (with the leader that is known by
        then). Errors: OutcomeUnknown, if the command changes anything; Refused for what asking
        again does not help, "overload" where too many wait here already."""
        target = self._target()
        if target is None:
            return None
        command, data = checked_command(command)
        self._take(len(data))
        channel: _Channel | None = None
        done = trio.Event()
        heard: list[Told | None] = []

        def told(_: Change, outcome: Told | None) -> None:
            heard.append(outcome)
            done.set()

        change = Change(command, deadline, _never, told=told)
        try:
            with self._clock.move_on_at(deadline):
                channel = await self._channel(target)
        finally:
            if channel is None:
                self._release(len(data))
        if channel is None:
            self._hint = None
            return None
        self._send(channel, command, data, deadline, change)
        try:
            await done.wait()  # the alarm sees to the deadline
        finally:
            change.told = None
        if isinstance(heard[0], Exception):
            raise heard[0]
        return heard[0]

    def _take(self, size_bytes: int) -> None:
        """Errors: Refused("overload")."""
        full = self.waiting_bytes + size_bytes > WAITING_BYTES_MAX
        if full or self.waiting >= WAITING_COMMANDS_MAX:
            raise Refused("overload", "too many requests are waiting for the leader's answers")
        self.waiting += 1
        self.waiting_bytes += size_bytes

    def _release(self, size_bytes: int) -> None:
        self.waiting -= 1
        self.waiting_bytes -= size_bytes

    def _look(self, now: float) -> float:
        leader = self._leader()
        earliest = math.inf
        self._retired = [
            (node, channel) for node, channel in self._retired if channel.is_waited_for
        ]
        for node, channel in [*self._channels.items(), *self._retired]:
            is_outdated = leader not in (node, None)
            earliest = min(earliest, channel.look(now, is_outdated=is_outdated))
        return min(earliest, now + LOOK_S) if earliest < math.inf else math.inf

    @property
    def channels(self) -> int:
        """Streams to voters, open or just closed."""
        return len(self._channels)

    async def ask_configuration(self, voter: NodeId) -> ConfigurationIs | None:
        """Who has a seat, as `voter` knows it; None if it does not answer in time."""
        deadline = self._clock.now() + 2 * DIAL_S
        reply = await self._ask(voter, lambda number: encode(AskConfiguration(number)), deadline)
        return reply if isinstance(reply, ConfigurationIs) else None

    async def change_seats(self, request: SeatRequest, *, deadline: float) -> bool | None:
        """One attempt at whoever leads. None: nothing was done; False: that is not known.

        Errors: Refused; UsageError.
        """
        target = self._target()
        if target is None:
            return None
        within_s = deadline - self._clock.now()
        reply = await self._ask(
            target,
            lambda number: encode(ChangeSeats(number, within_s, request)),
            deadline,
            ends_with_leader=True,
        )
        if isinstance(reply, Declined):
            error = UsageError(reply.message) if reply.reason == "usage" else None
            raise error or Refused(reply.reason, reply.message)
        if isinstance(reply, NotLeader):
            self._redirected(reply)
            return None
        if reply is None:
            self._hint = None
        return isinstance(reply, SeatsChanged)

    async def _ask(
        self,
        voter: NodeId,
        make: Callable[[int], bytes],
        deadline: float,
        *,
        ends_with_leader: bool = False,
    ) -> ForwardMessage | None:
        """One question, and its answer; None if none comes in time, or, if it is for a leader, once
        another one leads."""
        done = trio.Event()
        heard: list[ForwardMessage | None] = []

        def answered(reply: ForwardMessage | None) -> None:
            heard.append(reply)
            done.set()

        with self._clock.move_on_at(deadline):
            channel = await self._channel(voter)
            if channel is None:
                return None
            channel.call(make, _Call(answered, deadline, ends_with_leader))
            self._alarm.at(min(deadline, self._clock.now() + LOOK_S))
            await done.wait()
        return heard[0] if heard else None

    def _outcome(self, reply: ForwardMessage | None, command: Command) -> Told | None:
        if isinstance(reply, Committed) and answers(reply.result, command.operation):
            return reply.result
        if isinstance(reply, NotLeader):
            self._redirected(reply)
            return None
        if isinstance(reply, Declined):
            return Refused(reply.reason, reply.message)
        if is_read(command.operation):
            return None
        return OutcomeUnknown("the leader was lost before it answered; a retry will tell")

    def _redirected(self, reply: NotLeader) -> None:
        self._hint = NodeId(reply.leader) if reply.leader else None
        if self._hint is not None:
            self._learned(self._hint)

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
                channel.retire()
                self._retired.append((target, channel))
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
        self._nursery.start_soon(channel.run)
        return True


class ForwardServer:
    """The other side: takes forwarded requests at a voter."""

    def __init__(
        self,
        *,
        clock: Clock,
        configuration: Callable[[], Configuration],
        leader: Callable[[], NodeId | None],
        submit: Submit,
        begin: Callable[[Sequence[Change]], None],
        change_seats: ChangesSeats,
    ) -> None:
        """`submit` answers reads, `begin` proposes changes: see `Voter`. What it settles them with
        is a result or an error. `configuration`: the committed one."""
        self._clock = clock
        self._configuration = configuration
        self._leader = leader
        self._submit = submit
        self._begin = begin
        self._change_seats = change_seats

    async def serve(self, connection: PeerConnection) -> None:
        """Answer one stream until it ends. Errors: RemoteError for what is no request."""
        replies = _Replies(connection, self._clock)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(replies.run)
            while data := await connection.receive():
                changes = []
                for message in decode_forward(data):
                    replies.expected += 1
                    if isinstance(message, AskConfiguration):
                        leader = self._leader() or ""
                        replies.add(ConfigurationIs(message.number, self._configuration(), leader))
                    elif isinstance(message, ChangeSeats):
                        nursery.start_soon(self._answer_change, replies, message)
                    elif not isinstance(message, Forward):
                        raise RemoteError("forward", "a reply where a request was expected")
                    elif is_read(_checked(message).operation):
                        nursery.start_soon(self._answer_read, replies, message)
                    else:
                        changes.append(self._change(replies, message))
                if changes:
                    self._begin(changes)
                await replies.wait_for_room()
            nursery.cancel_scope.cancel()

    async def _answer_change(self, replies: _Replies, message: ChangeSeats) -> None:
        within_s = message.within_s if math.isfinite(message.within_s) else 0.0
        try:
            await self._change_seats(message.request, deadline=self._deadline(within_s))
        except (Refused, UsageError, OutcomeUnknown) as error:
            replies.add(self._reply(message.number, error))
        else:
            replies.add(SeatsChanged(message.number))

    def _change(self, replies: _Replies, message: Forward) -> Change:
        def settle(_: Change, outcome: Outcome) -> None:
            assert not callable(outcome), "what was forwarded is not forwarded again"
            replies.add(self._reply(message.number, outcome))

        return Change(message.command, self._deadline(message.within_s), settle)

    def _deadline(self, within_s: float) -> float:
        return self._clock.now() + min(max(within_s, 0.0), WITHIN_S_MAX)

    async def _answer_read(self, replies: _Replies, message: Forward) -> None:
        told: Told
        try:
            told = await self._submit(message.command, deadline=self._deadline(message.within_s))
        except (Refused, UsageError, OutcomeUnknown) as error:
            told = error
        replies.add(self._reply(message.number, told))

    def _reply(self, number: int, told: Told) -> ForwardMessage:
        if isinstance(told, Refused):
            if told.reason != "not-leader":
                return Declined(number, told.reason, str(told))
            return NotLeader(number, self._leader() or "")
        if isinstance(told, UsageError):
            return Declined(number, "usage", str(told))
        if isinstance(told, Exception):
            assert isinstance(told, OutcomeUnknown), told
            return Unknown(number)
        return Committed(number, told)


class _Replies:
    """What one stream is still to be answered."""

    def __init__(self, connection: PeerConnection, clock: Clock) -> None:
        self._connection = connection
        self._clock = clock
        self._outbox: list[bytes] = []
        self._filled = trio.Event()
        self._sent = trio.Event()
        self.expected = 0
        """Requests that were taken, and whose replies have not left."""

    def add(self, reply: ForwardMessage) -> None:
        self._outbox.append(encode(reply))
        self._filled.set()

    async def wait_for_room(self) -> None:
        while self.expected >= SERVED_AT_ONCE_MAX:
            await self._sent.wait()

    async def run(self) -> None:
        """Send what is added, until cancelled. What is added in one turn of the loop leaves
        together. Errors: RemoteError if the other side does not read, trio's if it is gone."""
        while True:
            await self._filled.wait()
            self._filled = trio.Event()
            outbox, self._outbox = self._outbox, []
            for frame in frames_of(outbox):
                with self._clock.move_on_after(UNREAD_S) as scope:
                    await self._connection.send(frame)
                if scope.cancelled_caught:
                    raise RemoteError("forward", "replies are not read")
            self.expected -= len(outbox)
            self._sent.set()
            self._sent = trio.Event()


def _checked(message: Forward) -> Command:
    """Errors: RemoteError for what no forwarder of ours sends."""
    if not math.isfinite(message.within_s):
        raise RemoteError("forward", "a request without an end")
    try:
        check_operation(message.command.operation)
    except UsageError as error:
        raise RemoteError("forward", str(error)) from error
    return message.command


def _never(_change: Change, _outcome: Outcome) -> None:
    raise AssertionError("a change that is submitted has nobody else to tell")
