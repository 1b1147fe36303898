"""Snapshots: the replicated state at one log index, in one file that is never changed.

`snapshot-<index>-<term>.snap` holds the encoded slices of the state as records and, last, the
manifest with the SHA-256 of everything before it. A snapshot counts from the moment in which its
file has its final name durably; only then may the journal forget what it covers. The newest one
is kept. Everything here blocks: it runs off the loop.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from typing import Final

from muster.storage.files import Files, ReadFile
from muster.storage.records import encode_record, scan_records
from muster_protocol.errors import RemoteError, StorageCorrupt
from muster_protocol.wire.codec import Decoder, encode
from muster_protocol.wire.raft import Configuration, Entry, Manifest

_NAME: Final = re.compile(r"^snapshot-(\d{20})-(\d{20})\.snap$")
_SLICE, _MANIFEST = 0x20, 0x21
_INCOMING: Final = "snapshot.incoming"
_MANIFESTS: Decoder[Manifest] = Decoder(Manifest)

SNAPSHOT_BYTES_MAX: Final = 1024 * 1024 * 1024
"""A gigabyte: sixteen times the state that fits the memory target; past it an offer is refused."""


Data = bytes | bytearray
"""As it arrived. To copy as much at once would hold up whoever waits for the interpreter."""


def is_snapshot(name: str) -> bool:
    """Does a file of this name hold one that counts?"""
    return _NAME.match(name) is not None


class SnapshotStore:
    """The snapshots in a node's state directory."""

    def __init__(self, files: Files) -> None:
        self._files = files

    def newest(self) -> tuple[Manifest, list[bytes]] | None:
        """The newest snapshot's manifest and slices, verified; None where there is none.

        Errors: StorageCorrupt naming the file: what it covers is no longer in the journal, so it
        cannot be skipped.
        """
        names = self._names()
        return self._load(names[-1]) if names else None

    def write(
        self, slices: Iterable[bytes], *, previous: Entry, last: Entry, configuration: Configuration
    ) -> Manifest:
        """Write the state at `last.index` durably. Errors: StorageError; nothing has changed."""
        self._files.remove(_INCOMING)
        handle = self._files.append(_INCOMING)
        digest, size = hashlib.sha256(), 0
        try:
            for part in slices:
                record = encode_record(_SLICE, part)
                digest.update(record)
                size += len(record)
                handle.write(record)
            manifest = Manifest(previous, last, configuration, size, digest.digest())
            handle.write(encode_record(_MANIFEST, encode(manifest)))
            handle.sync()
        finally:
            handle.close()
        self._publish(manifest)
        return manifest

    def open_data(self, manifest: Manifest) -> ReadFile | None:
        """Its file, to be read up to `size_bytes` and closed; None if it is gone. A newer snapshot
        removes the name, and not what is open."""
        return self._files.open(_name(manifest))

    def read_data(self, manifest: Manifest) -> bytes | None:
        """The slices' records as they stand in the file, at once; None if it is gone."""
        data = self._files.read(_name(manifest))
        return None if data is None else data[: manifest.size_bytes]

    def install(self, manifest: Manifest, data: Data) -> None:
        """Make durable what a leader sent and `verified_slices` has accepted. Errors: StorageError.

        From here on it is this node's newest snapshot, so its slices must have been restored once.
        """
        self._files.remove(_INCOMING)
        handle = self._files.append(_INCOMING)
        try:
            handle.write(data)
            handle.write(encode_record(_MANIFEST, encode(manifest)))
            handle.sync()
        finally:
            handle.close()
        self._publish(manifest)

    def remove_older(self, manifest: Manifest) -> None:
        """Forget all snapshots but this one."""
        for name in self._names():
            if name != _name(manifest):
                self._files.remove(name)

    def _publish(self, manifest: Manifest) -> None:
        self._files.rename(_INCOMING, _name(manifest))
        self._files.sync_directory()

    def _names(self) -> list[str]:
        return [name for name in self._files.names() if is_snapshot(name)]

    def _load(self, name: str) -> tuple[Manifest, list[bytes]]:
        path = self._files.describe(name)
        data = self._files.read(name) or b""
        records = scan_records(data, path=path)
        try:
            kind, payload = records[-1]
            manifest = _MANIFESTS.decode(payload)
        except (IndexError, RemoteError) as error:
            raise StorageCorrupt(f"{path}: has no manifest") from error
        digest = hashlib.sha256(memoryview(data)[: manifest.size_bytes]).digest()
        if kind != _MANIFEST or name != _name(manifest) or digest != manifest.sha256:
            raise StorageCorrupt(
                f"{path}: is not what its manifest says. Restore the state directory from a "
                "backup, or move it away and let this node join as a new member"
            )
        return manifest, [payload for _, payload in records[:-1]]


def verified_slices(manifest: Manifest, data: Data) -> list[bytes]:
    """The slices of a snapshot as a leader sent it.

    Errors: RemoteError("snapshot") if it is not what the manifest says.
    """
    if len(data) != manifest.size_bytes or hashlib.sha256(data).digest() != manifest.sha256:
        raise RemoteError("snapshot", "the snapshot's data does not have its digest")
    try:
        records = scan_records(data, path="snapshot from the leader")
    except StorageCorrupt as error:
        raise RemoteError("snapshot", str(error)) from error
    return [payload for _, payload in records]


def _name(manifest: Manifest) -> str:
    return f"snapshot-{manifest.last.index:020d}-{manifest.last.term:020d}.snap"
