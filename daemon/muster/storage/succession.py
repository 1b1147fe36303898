"""A state directory begins another life, as a whole or not at all.

A life is a cluster and a journal generation, which superblock and journal repeat. Another one needs
a new journal and another superblock, and a crash between the two would leave a directory that fits
together no more. So what is new is made durable under names that do not count, each with the new
generation behind it (`Staged`); then the superblock is replaced, which is the one step that
decides; and then, now or at the next start, `settle` puts aside what was before and gives what is
new its names. What was staged for a life that did not begin is removed.

Nothing of an older life is deleted: it goes aside, under names with `aside-<generation>.` before
them. Renaming those back, with no daemon running, undoes it all.

`rejoin` ends a life without another: the node is a member of a cluster, without a seat and with
nothing to found. `cluster` counts where there is no superblock, so putting that aside decides.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from muster.storage.files import AppendFile, Files, ReadFile, write_atomically
from muster.storage.journal import is_segment
from muster.storage.records import encode_record, scan_records
from muster.storage.snapshots import is_snapshot
from muster.storage.superblock import SUPERBLOCK_NAME, Superblock, write_superblock
from muster_protocol.errors import RemoteError, StorageCorrupt
from muster_protocol.types import ClusterId, HexId
from muster_protocol.wire.codec import Decoder, encode

CLUSTER_NAME: Final = "cluster"
"""The record of a node without a seat: which cluster it belongs to."""

FOUNDING_NAME: Final = "consistency.bootstrap.rec"
"""What this node promised to the founding of a cluster."""

WITNESS_NAME: Final = "consistency.witness.rec"
"""What this node promised as a witness."""

ANCESTORS_NAME: Final = "ancestors"
ANCESTORS_MAX: Final = 64
"""Recoveries in a row that are remembered; the oldest go."""

_KIND: Final = 0x40
STAGED: Final = 3
"""Files that a life begins with: journal, snapshot, ancestors."""


class Ancestors(msgspec.Struct, frozen=True, array_like=True):
    """The clusters that this node's was recovered from, or that it left for it; newest last."""

    format: int
    clusters: Annotated[tuple[HexId, ...], msgspec.Meta(max_length=ANCESTORS_MAX)]


_ANCESTORS: Decoder[Ancestors] = Decoder(Ancestors)


class Staged:
    """A directory in which what is renamed into place counts only after `settle`.

    Whatever makes a file durable before it gives it its name can be given this.
    """

    def __init__(self, files: Files, generation: str) -> None:
        self._files = files
        self._suffix = _suffix(generation)

    def describe(self, name: str) -> str:
        return self._files.describe(name)

    def names(self) -> list[str]:
        return self._files.names()

    def read(self, name: str) -> bytes | None:
        return self._files.read(name)

    def open(self, name: str) -> ReadFile | None:
        return self._files.open(name)

    def append(self, name: str) -> AppendFile:
        return self._files.append(name)

    def truncate(self, name: str, size: int) -> None:
        self._files.truncate(name, size)

    def rename(self, old: str, new: str) -> None:
        self._files.rename(old, new + self._suffix)

    def remove(self, name: str) -> None:
        self._files.remove(name)

    def sync_directory(self) -> None:
        self._files.sync_directory()

    def free_bytes(self) -> int:
        return self._files.free_bytes()


def begin_life(files: Files, new: Superblock) -> None:
    """The step that decides: `STAGED` files of the new life are durable. Blocks.

    Errors: StorageError; the old life goes on, or the new one has begun.
    """
    kept = files.read(SUPERBLOCK_NAME) or b""
    write_atomically(files, _aside(new.generation, SUPERBLOCK_NAME), kept)
    write_superblock(files, new)
    settle(files, new)


def stage_ancestors(files: Files, generation: str, old: ClusterId) -> None:
    """The new life remembers which cluster it comes from. Blocks."""
    clusters = (*read_ancestors(files), old)[-ANCESTORS_MAX:]
    _write_ancestors(Staged(files, generation), clusters)


def settle(files: Files, superblock: Superblock) -> None:
    """Finish what `begin_life` began, and remove what another attempt left. Before snapshots and
    journal are read; blocks. Errors: StorageError.

    What was before goes aside while all that is staged is still there. Once a staged file has its
    name, that is done, and a name that counts is a new one.
    """
    suffix = _suffix(superblock.generation)
    staged = [name for name in files.names() if name.endswith(suffix)]
    if len(staged) == STAGED:
        _put_aside(files, superblock.generation)
        files.sync_directory()
    for name in staged:
        files.rename(name, name.removesuffix(suffix))
    abandoned = [name for name in files.names() if _SUFFIX in name and name not in staged]
    for name in abandoned:
        files.remove(_aside(name.partition(_SUFFIX)[2], SUPERBLOCK_NAME))
        files.remove(name)
    if staged or abandoned:
        files.sync_directory()


def rejoin(files: Files, cluster: ClusterId, *, token: str, old: ClusterId) -> None:
    """Put journal, snapshots and seat, or a witness's promises, aside; belong to `cluster`.
    `token`: 16 fresh hexadecimal digits for the names. `old`: the cluster until now, or "". Blocks.
    Errors: StorageError.

    A crash leaves the old life or the new one; repeating it puts aside what was left over.
    """
    clusters = [each for each in (*read_ancestors(files), old) if each and each != cluster]
    _write_ancestors(files, tuple(dict.fromkeys(clusters))[-ANCESTORS_MAX:])
    _rename_aside(files, WITNESS_NAME, token)
    write_atomically(files, CLUSTER_NAME, cluster.encode("ascii"))
    _rename_aside(files, FOUNDING_NAME, token)
    files.sync_directory()
    _rename_aside(files, SUPERBLOCK_NAME, token)
    files.sync_directory()
    _put_aside(files, token)
    files.sync_directory()


def read_ancestors(files: Files) -> tuple[ClusterId, ...]:
    """The clusters that are over for this node. Blocks. Errors: StorageCorrupt."""
    data = files.read(ANCESTORS_NAME)
    if data is None:
        return ()
    path = files.describe(ANCESTORS_NAME)
    try:
        ancestors = _ANCESTORS.decode(scan_records(data, path=path)[0][1])
    except (RemoteError, IndexError) as error:
        raise StorageCorrupt(f"{path}: not a list of clusters") from error
    return tuple(ClusterId(cluster) for cluster in ancestors.clusters)


def _write_ancestors(files: Files, clusters: tuple[ClusterId, ...]) -> None:
    data = encode_record(_KIND, encode(Ancestors(1, clusters)))
    write_atomically(files, ANCESTORS_NAME, data)


def _put_aside(files: Files, token: str) -> None:
    _rename_aside(files, FOUNDING_NAME, token)
    for name in files.names():
        if is_segment(name) or is_snapshot(name):
            _rename_aside(files, name, token)


def _rename_aside(files: Files, name: str, token: str) -> None:
    if name in files.names():
        files.rename(name, _aside(token, name))


_SUFFIX: Final = ".life-"


def _suffix(generation: str) -> str:
    return _SUFFIX + generation


def _aside(token: str, name: str) -> str:
    return f"aside-{token}.{name}"
