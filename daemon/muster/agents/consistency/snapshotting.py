"""Moving a snapshot from a leader to a follower, on a stream of purpose `snapshot`.

The simplest safe way: the follower names the manifest that it was offered, the leader sends the
file's slices in frames, the follower checks length and digest over the whole before anything of it
is used. A broken transfer starts again with the leader's next offer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from muster.storage.snapshots import SNAPSHOT_BYTES_MAX
from muster_protocol.errors import RemoteError
from muster_protocol.limits import FRAME_BYTES_MAX
from muster_protocol.types import Address, NodeId
from muster_protocol.wire.codec import Decoder, encode
from muster_protocol.wire.hello import Purpose
from muster_protocol.wire.raft import Manifest

if TYPE_CHECKING:
    from muster.clock import Clock
    from muster.net.peers import PeerConnection, PeerStreams
    from muster.offload import Offload
    from muster.storage.journal import Journal
    from muster.storage.snapshots import SnapshotStore

CHUNK_BYTES: Final = FRAME_BYTES_MAX // 4
FRAME_TIMEOUT_S: Final = 10.0
"""For one chunk of a megabyte: a tenth of a bad wireless link's rate."""

_GONE: Final = b"\xc0"
"""The snapshot is no longer there: a newer one took its place and will be offered."""

_MANIFESTS: Decoder[Manifest] = Decoder(Manifest)


async def serve_snapshot(
    connection: PeerConnection, store: SnapshotStore, journal: Journal, offload: Offload
) -> None:
    """The leader's side. Errors: RemoteError for what is no request."""
    wanted = _MANIFESTS.decode(await connection.receive())
    data = None
    if journal.manifest == wanted:
        data = await offload.run(lambda: store.read_data(wanted), kind="snapshot")
    if data is None:
        await connection.send(_GONE)
        return
    for start in range(0, len(data), CHUNK_BYTES):
        await connection.send(data[start : start + CHUNK_BYTES])


async def fetch_snapshot(
    streams: PeerStreams, clock: Clock, peer: NodeId, address: Address, manifest: Manifest
) -> bytes:
    """The follower's side: the slices' records, of the right length but not yet verified.

    Errors: RemoteError, OSError, trio.BrokenResourceError.
    """
    if manifest.size_bytes > SNAPSHOT_BYTES_MAX:
        raise RemoteError("snapshot", f"a snapshot of {manifest.size_bytes} bytes is too large")
    with clock.move_on_after(FRAME_TIMEOUT_S) as dialling:
        connection = await streams.dial(peer, address, Purpose.SNAPSHOT)
    if dialling.cancelled_caught:
        raise RemoteError("snapshot", "the leader did not answer in time")
    data = bytearray()
    try:
        await connection.send(encode(manifest))
        while len(data) < manifest.size_bytes:
            with clock.move_on_after(FRAME_TIMEOUT_S) as waiting:
                chunk = await connection.receive()
            if waiting.cancelled_caught or not chunk or chunk == _GONE:
                raise RemoteError("snapshot", "the leader did not send the snapshot")
            data += chunk
    finally:
        await connection.aclose()
    return bytes(data)
