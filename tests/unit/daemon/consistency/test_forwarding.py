"""Forwarded requests: hostile ones are the sender's fault, a stuck stream is not used again."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from muster.agents.consistency.forwarding import (
    SERVED_AT_ONCE_MAX,
    SILENCE_S,
    UNREAD_S,
    Forwarder,
    ForwardServer,
    Submit,
    _Call,
    _Channel,
)
from muster.agents.consistency.proposals import Change, Told
from muster.clock import TrioClock
from muster.net.frames import FrameStream
from muster_protocol.consistency.commands import Command, Done, Get, NotFound, Put, Result
from muster_protocol.consistency.forward import (
    AskConfiguration,
    Committed,
    Declined,
    Forward,
    ForwardMessage,
    NotLeader,
    Unknown,
    decode_forward,
    encode_forward,
    frames_of,
)
from muster_protocol.errors import OutcomeUnknown, Refused, RemoteError, UsageError
from muster_protocol.types import Address, NodeId
from muster_protocol.wire.codec import encode
from muster_protocol.wire.raft import Configuration
from muster_protocol.wire.seats import SeatRequest


class Requests:
    """A connection that brings these frames and then nothing."""

    def __init__(self, *frames: bytes) -> None:
        self._frames = list(frames)
        self.sent: list[bytes] = []

    async def receive(self) -> bytes:
        await trio.lowlevel.checkpoint()
        if not self._frames:
            await trio.sleep_forever()
        return self._frames.pop(0)

    async def send(self, data: bytes) -> None:
        await trio.lowlevel.checkpoint()
        self.sent.append(data)


COMMAND = Command("a" * 32, 1, 0, 0.0, Put("k", b"v"))
RESULT = NotFound(7)


async def never_asked(command: Command, *, deadline: float) -> Result:
    raise AssertionError("reads are submitted, and there are none")


async def serve(connection: Requests, outcome: Told = RESULT, submit: Submit = never_asked) -> None:
    """`outcome` is what becomes of every change."""

    def begin(changes: Sequence[Change]) -> None:
        for change in changes:
            change.settle(change, outcome)

    async def change_seats(request: SeatRequest, *, deadline: float) -> None:
        del request, deadline
        if isinstance(outcome, Exception):
            raise outcome

    server = ForwardServer(
        clock=TrioClock(),
        configuration=lambda: Configuration(()),
        leader=lambda: None,
        submit=submit,
        begin=begin,
        change_seats=change_seats,
    )
    await server.serve(connection)  # type: ignore[arg-type]  # as much of one as is used


def heard(sent: Sequence[bytes]) -> list[ForwardMessage]:
    return [message for frame in sent for message in decode_forward(frame)]


@pytest.mark.parametrize("within_s", [math.nan, math.inf])
async def test_a_request_without_an_end_is_the_senders_fault(
    autojump_clock: object, within_s: float
) -> None:
    with trio.fail_after(10), pytest.RaisesGroup(RemoteError, flatten_subgroups=True):
        await serve(Requests(encode(Forward(1, within_s, COMMAND))))


async def test_requests_of_one_number_are_each_answered(autojump_clock: object) -> None:
    request = encode(Forward(1, 1.0, COMMAND))
    connection = Requests(request, request)
    with trio.move_on_after(10):
        await serve(connection)
    assert heard(connection.sent) == [Committed(1, RESULT)] * 2


async def test_what_came_in_one_frame_is_answered_in_one(autojump_clock: object) -> None:
    requests = [encode_forward(number, 1.0, encode(COMMAND)) for number in range(1, 6)]
    (frame,) = frames_of(requests)
    connection = Requests(frame)
    with trio.move_on_after(10):
        await serve(connection)
    (reply,) = connection.sent
    assert decode_forward(reply) == tuple(Committed(number, RESULT) for number in range(1, 6))


async def test_reads_are_answered_beside_changes(autojump_clock: object) -> None:
    async def reads(command: Command, *, deadline: float) -> Result:
        await trio.sleep(0.1)
        return Done(8)

    read = Command("a" * 32, 0, 0, 0.0, Get("k"))
    connection = Requests(encode(Forward(1, 1.0, read)), encode(Forward(2, 1.0, COMMAND)))
    with trio.move_on_after(10):
        await serve(connection, submit=reads)
    assert heard(connection.sent) == [Committed(2, RESULT), Committed(1, Done(8))]


@pytest.mark.parametrize(
    ("error", "reply"),
    [
        (Refused("not-leader", "no"), NotLeader(1, "")),
        (Refused("overload", "busy"), Declined(1, "overload", "busy")),
        (UsageError("odd"), Declined(1, "usage", "odd")),
        (OutcomeUnknown("?"), Unknown(1)),
    ],
    ids=["not-leader", "overload", "usage", "unknown"],
)
async def test_why_a_request_failed_is_answered(
    autojump_clock: object, error: Exception, reply: ForwardMessage
) -> None:
    connection = Requests(encode(Forward(1, 1.0, COMMAND)))
    with trio.move_on_after(10):
        await serve(connection, error)
    assert heard(connection.sent) == [reply]


async def test_who_does_not_read_its_replies_is_served_no_more(autojump_clock: object) -> None:
    class NeverRead(Requests):
        taken = 0

        async def receive(self) -> bytes:
            await trio.lowlevel.checkpoint()
            self.taken += 1
            return encode(Forward(self.taken, 1.0, COMMAND))

        async def send(self, data: bytes) -> None:
            await trio.sleep_forever()

    connection = NeverRead()
    started = trio.current_time()
    with pytest.RaisesGroup(RemoteError, flatten_subgroups=True):
        await serve(connection)
    assert connection.taken <= SERVED_AT_ONCE_MAX + 1
    assert trio.current_time() - started < UNREAD_S + 1.0


class StuckStream:
    """Takes no data while it is stuck."""

    is_stuck = True
    sent = 0

    async def send_all(self, data: bytes) -> None:
        if self.is_stuck:
            await trio.sleep_forever()
        self.sent += 1

    async def receive_some(self, bytes_max: int | None = None) -> bytes:
        await trio.sleep_forever()
        raise AssertionError

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


class StuckConnection:
    def __init__(self) -> None:
        self.stream = StuckStream()
        self._frames = FrameStream(self.stream, bytes_max=1000)  # type: ignore[arg-type]

    @property
    def is_cut(self) -> bool:
        return self._frames.is_cut

    async def send(self, data: bytes) -> None:
        await self._frames.send(data)

    async def receive(self) -> bytes | None:
        return await self._frames.receive()

    async def aclose(self) -> None:
        await self.stream.aclose()


async def test_a_channel_whose_frames_are_not_read_ends_and_tells_all(
    autojump_clock: object,
) -> None:
    connection = StuckConnection()
    channel = _Channel(connection, TrioClock())  # type: ignore[arg-type]
    told: list[ForwardMessage | None] = []
    ask = _Call(told.append, math.inf, ends_with_leader=False)
    channel.call(lambda number: encode(AskConfiguration(number)), ask)
    started = trio.current_time()
    await channel.run()
    assert (channel.is_open, told) == (False, [None])
    assert trio.current_time() == started + SILENCE_S


async def test_who_gives_up_leaves_the_channel_as_it_is(autojump_clock: object) -> None:
    connection = StuckConnection()
    channel = _Channel(connection, TrioClock())  # type: ignore[arg-type]
    told: list[ForwardMessage | None] = []
    now = trio.current_time()
    for deadline in (now + 0.1, math.inf):
        ask = _Call(told.append, deadline, ends_with_leader=False)
        channel.call(lambda number: encode(AskConfiguration(number)), ask)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(channel.run)
        await trio.sleep(0.2)
        assert channel.look(trio.current_time(), is_outdated=False) == math.inf
        assert told == [None]
        assert channel.is_open
        nursery.cancel_scope.cancel()


class Line:
    """A voter that answers every request with `make_reply(number)`; dialling takes `dial_s`."""

    def __init__(self, make_reply: Callable[[int], ForwardMessage], *, dial_s: float = 0.0) -> None:
        self._make_reply = make_reply
        self._dial_s = dial_s
        self._send, self._receive = trio.open_memory_channel[bytes](math.inf)
        self.asked: list[ForwardMessage] = []
        self.is_cut = False

    async def dial(self, *_: object) -> Line:
        await trio.sleep(self._dial_s)
        return self

    async def send(self, data: bytes) -> None:
        await trio.lowlevel.checkpoint()
        for message in decode_forward(data):
            self.asked.append(message)
            self._send.send_nowait(encode(self._make_reply(message.number)))

    async def receive(self) -> bytes:
        return await self._receive.receive()

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


@asynccontextmanager
async def forwarding_over(line: Line) -> AsyncIterator[Forwarder]:
    forwarder = Forwarder(
        me=NodeId("0" * 32),
        streams=line,  # type: ignore[arg-type]
        clock=TrioClock(),
        leader=lambda: NodeId("1" * 32),
        learned=lambda _: None,
        voters_in_reach=lambda: (),
        address_of=lambda _: Address("127.0.0.1", 7411),
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(forwarder.run)
        await trio.lowlevel.checkpoint()
        yield forwarder
        nursery.cancel_scope.cancel()


async def test_what_was_committed_is_the_result(autojump_clock: object) -> None:
    async with forwarding_over(Line(lambda number: Committed(number, RESULT))) as forwarder:
        assert await forwarder.submit(COMMAND, deadline=trio.current_time() + 1) == RESULT


async def test_a_time_out_before_the_request_was_sent_is_no_doubt(autojump_clock: object) -> None:
    line = Line(lambda number: Committed(number, RESULT), dial_s=5.0)
    async with forwarding_over(line) as forwarder:
        assert await forwarder.submit(COMMAND, deadline=trio.current_time() + 0.5) is None
    assert not line.asked


async def test_what_is_declined_is_refused_with_its_reason(autojump_clock: object) -> None:
    async with forwarding_over(Line(lambda n: Declined(n, "overload", "busy"))) as forwarder:
        with pytest.raises(Refused, match="busy"):
            await forwarder.submit(COMMAND, deadline=trio.current_time() + 1)


async def test_a_result_that_does_not_fit_the_request_says_nothing(autojump_clock: object) -> None:
    async with forwarding_over(Line(lambda n: Committed(n, Done(7)))) as forwarder:
        with pytest.raises(OutcomeUnknown):
            await forwarder.submit(COMMAND, deadline=trio.current_time() + 1)


async def test_a_forwarder_that_has_ended_takes_nothing(autojump_clock: object) -> None:
    line = Line(lambda number: Committed(number, RESULT))
    async with forwarding_over(line) as forwarder:
        pass
    assert await forwarder.submit(COMMAND, deadline=trio.current_time() + 1) is None
    assert not line.asked


class SilentLines:
    """Dials a new line each time; the first one leads nowhere, and nobody says so."""

    def __init__(self) -> None:
        self.dialled: list[Line] = []

    async def dial(self, *_: object) -> Line:
        line = Line(lambda number: Committed(number, RESULT))
        if not self.dialled:
            line.send = self._swallow  # type: ignore[method-assign]
        self.dialled.append(line)
        return line

    async def _swallow(self, data: bytes) -> None:
        await trio.lowlevel.checkpoint()


async def test_what_is_asked_after_a_long_silence_goes_over_a_new_stream(
    autojump_clock: object,
) -> None:
    lines: Any = SilentLines()
    async with forwarding_over(lines) as forwarder:
        for _ in range(2):
            with pytest.raises(OutcomeUnknown):
                await forwarder.submit(COMMAND, deadline=trio.current_time() + SILENCE_S / 2)
        assert len(lines.dialled) == 1
        assert await forwarder.submit(COMMAND, deadline=trio.current_time() + 1) == RESULT
        assert len(lines.dialled) == 2


async def test_call_that_waits_on_a_silent_stream_may_still_be_answered(
    autojump_clock: object,
) -> None:
    lines: Any = SilentLines()
    results: list[Result | None] = []
    async with forwarding_over(lines) as forwarder, trio.open_nursery() as nursery:

        async def ask_early() -> None:
            results.append(await forwarder.submit(COMMAND, deadline=trio.current_time() + 60))

        nursery.start_soon(ask_early)
        await trio.sleep(SILENCE_S)
        assert await forwarder.submit(COMMAND, deadline=trio.current_time() + 1) == RESULT
        lines.dialled[0]._send.send_nowait(encode(Committed(1, RESULT)))
        await trio.sleep(1)
    assert results == [RESULT]


class Silent(Line):
    """A voter that answers nothing."""

    async def send(self, data: bytes) -> None:
        await trio.lowlevel.checkpoint()
        self.asked += decode_forward(data)


async def test_too_many_requests_that_wait_for_the_leader_are_refused(
    autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("muster.agents.consistency.forwarding.WAITING_COMMANDS_MAX", 2)
    async with forwarding_over(Silent(Unknown)) as forwarder, trio.open_nursery() as nursery:
        deadline = trio.current_time() + 1.0

        async def waits() -> None:
            with pytest.raises(OutcomeUnknown):
                await forwarder.submit(COMMAND, deadline=deadline)

        for _ in range(2):
            nursery.start_soon(waits)
        await trio.sleep(0.1)
        with pytest.raises(Refused, match="leader's answers"):
            await forwarder.submit(COMMAND, deadline=deadline)
        await trio.sleep(1.0)
        assert (forwarder.waiting, forwarder.waiting_bytes) == (0, 0)


async def test_changes_of_one_turn_leave_in_one_frame_and_each_is_told(
    autojump_clock: object,
) -> None:
    line = Line(lambda number: Committed(number, RESULT))
    sent = 0

    async def send(data: bytes) -> None:
        nonlocal sent
        sent += 1
        await Line.send(line, data)

    line.send = send  # type: ignore[method-assign]
    told: list[Told | None] = []

    def settle(change: Change, outcome: object) -> None:
        raise AssertionError("the attempt is told first")

    async with forwarding_over(line) as forwarder:
        deadline = trio.current_time() + 5.0
        changes = [Change(COMMAND, deadline, settle) for _ in range(3)]
        too_early = forwarder.begin(changes, lambda change, outcome: told.append(outcome))
        assert too_early == changes  # there is no stream yet
        assert await forwarder.submit(COMMAND, deadline=deadline) == RESULT
        assert not forwarder.begin(changes, lambda change, outcome: told.append(outcome))
        await trio.sleep(0.1)
        assert (told, sent) == ([RESULT] * 3, 2)
        assert (forwarder.waiting, forwarder.waiting_bytes) == (0, 0)


async def test_changes_that_wait_when_the_forwarder_ends_are_told(autojump_clock: object) -> None:
    told: list[Told | None] = []
    change = Change(COMMAND, trio.current_time() + 5.0, lambda change, outcome: None)
    line = Line(lambda number: Committed(number, RESULT))
    async with forwarding_over(line) as forwarder:
        assert await forwarder.submit(COMMAND, deadline=trio.current_time() + 5.0) == RESULT
        line._make_reply = lambda number: Committed(10_000 + number, RESULT)  # to nobody
        assert not forwarder.begin([change], lambda change, outcome: told.append(outcome))
        await trio.sleep(0.1)
    (outcome,) = told
    assert isinstance(outcome, OutcomeUnknown)
