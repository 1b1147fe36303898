"""What has arrived of a snapshot, so that a transfer that broke goes on where it ended (D27).

A follower says from where on it wants a snapshot's data. What it has counts for one manifest only,
which holds the digest of the whole: an offer of another snapshot begins anew, and so does one whose
data turned out not to have its digest. A leader that comes to offer the very same manifest may send
the rest.

Kept in memory, at most one snapshot: what a process that ended had fetched is fetched again.
Rejected: to keep it on the disk, where it would have to be synced or doubted.
"""

from __future__ import annotations

from muster_protocol.errors import RemoteError
from muster_protocol.wire.raft import Manifest


class Transfer:
    """One follower's transfers, one after the other."""

    def __init__(self) -> None:
        self._manifest: Manifest | None = None
        self._data = bytearray()

    @property
    def received_bytes(self) -> int:
        return len(self._data)

    @property
    def is_whole(self) -> bool:
        """Has all of the snapshot that was begun arrived? It is not verified."""
        return self._manifest is not None and len(self._data) == self._manifest.size_bytes

    def begin(self, manifest: Manifest) -> int:
        """This snapshot is wanted: from which byte on."""
        if manifest != self._manifest:
            self._manifest, self._data = manifest, bytearray()
        return len(self._data)

    def take(self, piece: bytes) -> None:
        """The next piece. Errors: RemoteError("snapshot") if it goes beyond the end: then nothing
        that came can be trusted, and the next transfer begins anew."""
        assert self._manifest is not None, "no transfer was begun"
        if not piece or len(self._data) + len(piece) > self._manifest.size_bytes:
            self.forget()
            raise RemoteError("snapshot", "the leader sent something else than the rest")
        self._data += piece

    def release(self) -> bytearray:
        """Hand over what arrived, and keep nothing. Not a copy of it: that of a large store would
        take the loop some 50 ms."""
        data = self._data
        self.forget()
        return data

    def overtaken(self, index: int) -> None:
        """The log has been applied up to here: a snapshot that is no newer is not wanted."""
        if self._manifest is not None and self._manifest.last.index <= index:
            self.forget()

    def forget(self) -> None:
        """The next transfer begins anew."""
        self._manifest, self._data = None, bytearray()
