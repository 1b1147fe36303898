"""Moving a snapshot from a leader to a follower, on a stream of purpose `snapshot`.

The follower names the manifest that it was offered and how much of its data it has; the leader says
whether it still has that snapshot, and sends the rest of its slices in frames. The follower checks
length and digest over the whole before anything of it is used. A transfer that broke goes on with
the leader's next offer where it ended (`raftguard/transfer`), if the offer is the same snapshot.

The leader opens the file and reads each piece when it sends it: a large one is never in memory as
a whole. A newer snapshot, which removes the file's name meanwhile, does not end a transfer (D27).
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Final

from muster.storage.snapshots import SNAPSHOT_BYTES_MAX
from muster_protocol.errors import RemoteError
from muster_protocol.limits import FRAME_BYTES_MAX
from muster_protocol.types import Address, NodeId
from muster_protocol.wire.codec import Decoder, encode
from muster_protocol.wire.hello import Purpose
from muster_protocol.wire.raft import Manifest, SnapshotWanted

if TYPE_CHECKING:
    from muster.clock import Clock
    from muster.net.peers import PeerConnection, PeerStreams
    from muster.offload import Offload
    from muster.storage.journal import Journal
    from muster.storage.snapshots import SnapshotStore
    from muster_protocol.raftguard.transfer import Transfer

CHUNK_BYTES: Final = FRAME_BYTES_MAX // 4
FRAME_TIMEOUT_S: Final = 10.0
"""For one chunk of a megabyte: a tenth of a bad wireless link's rate."""

_HERE: Final = b"\xc3"
"""The data follows."""

_GONE: Final = b"\xc0"
"""The snapshot is no longer there: a newer one took its place and will be offered."""

_REQUESTS: Decoder[SnapshotWanted] = Decoder(SnapshotWanted)


async def serve_snapshot(
    connection: PeerConnection, store: SnapshotStore, journal: Journal, offload: Offload
) -> None:
    """The leader's side. Errors: RemoteError for what is no request."""
    wanted = _REQUESTS.decode(await connection.receive())
    file, size = None, wanted.manifest.size_bytes
    if journal.manifest == wanted.manifest and wanted.offset < size:
        file = await offload.run(lambda: store.open_data(wanted.manifest), kind="snapshot")
    if file is None:
        await connection.send(_GONE)
        return
    try:
        await connection.send(_HERE)
        for start in range(wanted.offset, size, CHUNK_BYTES):
            read = functools.partial(file.read_at, start, min(CHUNK_BYTES, size - start))
            await connection.send(await offload.run(read, kind="snapshot"))
    finally:
        file.close()


async def fetch_snapshot(
    streams: PeerStreams,
    clock: Clock,
    peer: NodeId,
    address: Address,
    manifest: Manifest,
    transfer: Transfer,
) -> None:
    """The follower's side: `transfer` is whole afterwards, and keeps what came before an error.

    Errors: RemoteError, OSError, trio.BrokenResourceError, trio.ClosedResourceError.
    """
    if manifest.size_bytes > SNAPSHOT_BYTES_MAX:
        raise RemoteError("snapshot", f"a snapshot of {manifest.size_bytes} bytes is too large")
    offset = transfer.begin(manifest)
    if transfer.is_whole:
        return
    with clock.move_on_after(FRAME_TIMEOUT_S) as dialling:
        connection = await streams.dial(peer, address, Purpose.SNAPSHOT)
    if dialling.cancelled_caught:
        raise RemoteError("snapshot", "the leader did not answer in time")
    try:
        await connection.send(encode(SnapshotWanted(manifest, offset)))
        if await _frame(connection, clock) != _HERE:
            raise RemoteError("snapshot", "the leader has another snapshot by now")
        while not transfer.is_whole:
            transfer.take(await _frame(connection, clock))
    finally:
        await connection.aclose()


async def _frame(connection: PeerConnection, clock: Clock) -> bytes:
    """Errors: RemoteError where none comes."""
    with clock.move_on_after(FRAME_TIMEOUT_S) as waiting:
        frame = await connection.receive()
    if waiting.cancelled_caught or not frame:
        raise RemoteError("snapshot", "the leader did not send the snapshot")
    return frame
