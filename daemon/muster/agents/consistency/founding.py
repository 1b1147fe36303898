"""The shell of the bootstrap machine: questions over streams, and the act of founding."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import trio

from muster.agents.consistency.seating import fresh_block, make_journal
from muster_protocol.consistency.bootstrap import Answer, Answered, Ask, Asked, Found
from muster_protocol.errors import RemoteError
from muster_protocol.types import Address, NodeId
from muster_protocol.wire.bootstrap import decode_bootstrap
from muster_protocol.wire.codec import encode
from muster_protocol.wire.hello import Purpose

if TYPE_CHECKING:
    from muster.net.peers import PeerConnection, PeerStreams
    from muster.storage.superblock import Superblock
    from muster.world import World

QUESTION_S: Final = 2.0
"""For one question and its answer, which waits for a sync or two."""


class Founding:
    """Carries out the effects of one bootstrap machine."""

    def __init__(
        self,
        *,
        me: NodeId,
        world: World,
        streams: PeerStreams,
        address_of: Callable[[NodeId], Address | None],
        post: Callable[[Any], object],
        nursery: trio.Nursery,
    ) -> None:
        self._me = me
        self._world = world
        self._streams = streams
        self._address_of = address_of
        self._post = post
        self._nursery = nursery
        self._tokens = itertools.count(1)
        self._answers: dict[int, tuple[trio.Event, list[bytes]]] = {}

    def ask(self, effect: Ask) -> None:
        """Ask in the background; an answer is posted, silence is not."""
        self._nursery.start_soon(self._ask, effect)

    def answer(self, effect: Answer) -> None:
        """Hand an answer to the stream that waits for it."""
        waiting = self._answers.get(effect.token)
        if waiting is not None:
            waiting[1].append(encode(effect.message))
            waiting[0].set()

    async def serve(self, connection: PeerConnection) -> None:
        """One question from another candidate. Errors: RemoteError."""
        message = decode_bootstrap(await connection.receive())
        token = next(self._tokens)
        arrived, answer = self._answers[token] = (trio.Event(), [])
        try:
            self._post(Asked(NodeId(connection.peer.node_id), message, token))
            with self._world.clock.move_on_after(QUESTION_S):
                await arrived.wait()
                await connection.send(answer[0])
        finally:
            del self._answers[token]

    async def found(self, effect: Found) -> Superblock:
        """Make journal and superblock: from then on this node is a voter.

        Errors: StorageError, StorageCorrupt.
        """
        block = fresh_block(self._world, self._me, effect.cluster, generation=effect.generation)
        await make_journal(self._world, block, effect.configuration)
        return block

    async def _ask(self, effect: Ask) -> None:
        address = self._address_of(effect.peer)
        if address is None:
            return
        with self._world.clock.move_on_after(QUESTION_S):
            try:
                connection = await self._streams.dial(effect.peer, address, Purpose.BOOTSTRAP)
            except (RemoteError, OSError, trio.BrokenResourceError):
                return  # counted by the streams; the machine asks again
            try:
                await connection.send(encode(effect.message))
                data = await connection.receive()
                if data:
                    self._post(Answered(effect.peer, decode_bootstrap(data)))
            except (RemoteError, trio.BrokenResourceError, trio.ClosedResourceError):
                return
            finally:
                await connection.aclose()
