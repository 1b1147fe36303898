"""A witness's shell: nothing leaves before what it promises is on the disk."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any

import trio

from muster.agents.consistency.witness import WitnessSeat
from muster.clock import TrioClock
from muster_protocol.effects import Persist
from muster_protocol.raftguard.witness import Promises, load_promises
from muster_protocol.types import NodeId
from muster_protocol.wire.codec import encode
from muster_protocol.wire.raft import Ack, Mark, RaftFrame, Vote, VoteRequest, decode_frame

A, WITNESS = NodeId("a" * 32), NodeId("f" * 32)


class Connection:
    """A stream from A, on which A says what the test says."""

    epoch = 1
    has_unsent = False

    def __init__(self) -> None:
        self.peer = SimpleNamespace(node_id=A, generation="0" * 16, boot="b", name="a")
        self.said, self.says = trio.open_memory_channel[bytes](10)
        self.heard: list[RaftFrame] = []

    async def receive(self) -> bytes:
        return await self.says.receive()

    def send_nowait(self, data: bytes) -> bool:
        self.heard.append(decode_frame(data))
        return True

    async def send(self, data: bytes) -> None:
        del data  # a keep-alive

    async def aclose(self) -> None:
        return


async def test_a_vote_and_an_answer_wait_for_the_disk(autojump_clock: object) -> None:
    room, saved = trio.Semaphore(0), list[Promises | None]()

    async def save(record: Persist) -> None:
        await room.acquire()
        saved.append(load_promises(record.data, path=""))

    world: Any = SimpleNamespace(
        clock=TrioClock(), entropy=SimpleNamespace(stream=lambda _: random.Random(1))
    )
    promises = Promises(1, WITNESS, "c" * 32, "1" * 16, term=5)
    streams: Any = None
    seat = WitnessSeat(promises, world=world, streams=streams, save=save, notify=print)
    connection: Any = Connection()
    async with trio.open_nursery() as nursery:
        await nursery.start(seat.run)
        nursery.start_soon(seat.serve_raft, connection)
        await connection.said.send(encode(Mark(5, 7, 5)))
        await connection.said.send(encode(VoteRequest(6, 7, 5)))
        await trio.sleep(1.0)
        assert connection.heard == []
        room.release()
        await trio.sleep(0.1)
        assert connection.heard == [Ack(5, 8, success=True, reset=False)]
        assert [each.mark_index for each in saved if each] == [7]
        room.release()
        room.release()
        await trio.sleep(0.1)
        assert connection.heard[1:] == [Vote(6)]
        assert saved[-1] == seat.machine.promises
        nursery.cancel_scope.cancel()
