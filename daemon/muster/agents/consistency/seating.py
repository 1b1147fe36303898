"""How a node gets a journal after the founding, and how it forgets one that has no seat any more.

A leader that wants another learner asks a member over a stream of its own. The member makes a
journal of a new generation, durably, and says so; only then the leader proposes the electorate with
that seat. Asked again, it gives the same answer as long as nothing is in the journal. One that has
a journal with anything in it refuses, whoever asks, unless the electorate with which it is asked
dismisses that journal: its seat may be in one that the asker has not heard of.

**Retirement.** Who has no seat in an electorate that is committed, and newer than all it knows,
will never get one with this journal again. It says in the superblock that the journal is retired,
and removes journal, snapshots and superblock in that order; a start goes on where a crash has
interrupted that. It stays a member, and forwards requests as others without a seat do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import msgspec
import trio

from muster.agents.consistency.raft.engine import FIRST_ENTRY
from muster.storage.files import Files, write_atomically
from muster.storage.journal import is_segment
from muster.storage.recovery import create_journal
from muster.storage.snapshots import is_snapshot
from muster.storage.succession import CLUSTER_NAME
from muster.storage.superblock import (
    MARK_KEY_BYTES,
    SUPERBLOCK_FORMAT,
    SUPERBLOCK_NAME,
    Superblock,
    write_superblock,
)
from muster_protocol.errors import RemoteError
from muster_protocol.types import Address, ClusterId, NodeId
from muster_protocol.wire.codec import encode
from muster_protocol.wire.hello import Purpose
from muster_protocol.wire.raft import Configuration
from muster_protocol.wire.seats import Enlisted, EnlistRequest, NotEnlisted, decode_enlist

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from muster.agents.consistency.voter import Voter
    from muster.net.peers import PeerConnection, PeerStreams
    from muster.world import World

ENLIST_S: Final = 3.0
"""For the question and the answer, which waits for some syncs."""

GENERATION_BYTES: Final = 8


async def make_journal(world: World, block: Superblock, configuration: Configuration) -> None:
    """Create the journal, then the superblock: from then on this node has what a seat needs.

    Errors: StorageError, StorageCorrupt.
    """
    files, offload = world.files, world.offload
    journal = await offload.run(
        lambda: create_journal(files, block, configuration, FIRST_ENTRY), kind="fsync"
    )
    try:
        await journal.commit(offload)
    finally:
        journal.close()
    await offload.run(lambda: write_superblock(files, block), kind="fsync")


def fresh_block(
    world: World, me: NodeId, cluster: ClusterId, *, generation: str = "", told_index: int = 0
) -> Superblock:
    """A superblock for a journal that is to be made."""
    token = world.entropy.token_bytes
    made = generation or token(GENERATION_BYTES).hex()
    return Superblock(SUPERBLOCK_FORMAT, me, cluster, made, token(MARK_KEY_BYTES), told_index)


async def ask_to_enlist(
    streams: PeerStreams, peer: NodeId, address: Address, request: EnlistRequest
) -> str:
    """The generation of what `peer` has made; "" if it did not."""
    try:
        connection = await streams.dial(peer, address, Purpose.ENLIST)
    except (RemoteError, OSError, trio.BrokenResourceError):
        return ""  # counted by the streams
    try:
        await connection.send(encode(request))
        data = await connection.receive()
        answer = decode_enlist(data) if data else None
        return answer.generation if isinstance(answer, Enlisted) else ""
    except (RemoteError, trio.BrokenResourceError, trio.ClosedResourceError):
        return ""
    finally:
        await connection.aclose()


async def enlist_request(connection: PeerConnection) -> EnlistRequest:
    """What a leader asks. Errors: RemoteError."""
    request = decode_enlist(await connection.receive())
    if not isinstance(request, EnlistRequest):
        raise RemoteError("enlist", "an answer where a question was expected")
    return request


async def answer_enlisting(
    connection: PeerConnection,
    voter: Voter | None,
    told: Configuration,
    make: Callable[[Configuration], Awaitable[Superblock]],
) -> None:
    """Answer a leader that asks. `make` gives this node a seat's journal. Errors: RemoteError."""
    if voter is None:
        block = await make(told)
        await connection.send(encode(Enlisted(block.generation)))
    elif voter.journal.last_index == FIRST_ENTRY[1]:
        await connection.send(encode(Enlisted(voter.journal.generation)))
    else:
        await connection.send(encode(NotEnlisted("this node has a journal")))


def is_dismissed(voter: Voter, told: Configuration) -> bool:
    """Does this committed electorate say, as the newest that this voter has heard of, that there is
    no seat for its journal?"""
    seat = told.seat(voter.me)
    known = max(voter.configuration.index, voter.journal.superblock.told_index)
    is_seated = seat is not None and seat.generation == voter.journal.generation
    return told.index > known and not is_seated


def retire(files: Files, block: Superblock) -> None:
    """Forget the journal; the node stays a member. Blocks. Errors: StorageError."""
    write_atomically(files, CLUSTER_NAME, block.cluster.encode("ascii"))
    write_superblock(files, msgspec.structs.replace(block, is_retired=True))
    forget(files)


def forget(files: Files) -> None:
    """What is left of a journal that is retired. Blocks. Errors: StorageError."""
    for name in files.names():
        if is_segment(name) or is_snapshot(name):
            files.remove(name)
    files.sync_directory()
    files.remove(SUPERBLOCK_NAME)
    files.sync_directory()
