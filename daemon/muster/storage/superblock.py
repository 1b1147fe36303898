"""Who this directory belongs to: node, cluster and journal generation, in one record.

An identity without its journal is a new member: the superblock is written together with the
journal's first segment, and every segment repeats the three, so that files from another node or
an older life of this one are never mixed in (D23).
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from muster.storage.files import Files, write_atomically
from muster.storage.records import encode_record, scan_records
from muster_protocol.errors import RemoteError, StorageCorrupt
from muster_protocol.types import ClusterId, HexId, NodeId, UInt
from muster_protocol.wire.codec import Decoder, encode
from muster_protocol.wire.raft import Generation

SUPERBLOCK_NAME: Final = "superblock"
SUPERBLOCK_FORMAT: Final = 2
"""2: the key of the journal's marks."""
MARK_KEY_BYTES: Final = 16
_KIND: Final = 0x10


class Superblock(msgspec.Struct, frozen=True, array_like=True):
    """The three names that everything in the directory must agree with, and the key with which the
    journal's marks are made (`segments`)."""

    format: int
    node: HexId
    cluster: HexId
    generation: Generation
    mark_key: Annotated[bytes, msgspec.Meta(min_length=MARK_KEY_BYTES, max_length=MARK_KEY_BYTES)]
    told_index: UInt = 0
    """Of the electorate that this journal was made under, and which did not know it yet."""

    is_retired: bool = False
    """There is no seat for this journal any more: what is left of it is to be removed."""

    @property
    def node_id(self) -> NodeId:
        return NodeId(self.node)

    @property
    def cluster_id(self) -> ClusterId:
        return ClusterId(self.cluster)


_DECODER: Decoder[Superblock] = Decoder(Superblock)


def read_superblock(files: Files) -> Superblock | None:
    """The superblock, or None for a node that is a voter of no cluster. Blocks.

    Errors: StorageCorrupt naming the file.
    """
    data = files.read(SUPERBLOCK_NAME)
    if data is None:
        return None
    path = files.describe(SUPERBLOCK_NAME)
    records = scan_records(data, path=path)
    try:
        (kind, payload) = records[0]
        block = _DECODER.decode(payload)
    except (IndexError, RemoteError) as error:
        raise StorageCorrupt(f"{path}: not a superblock") from error
    if kind != _KIND or block.format != SUPERBLOCK_FORMAT:
        raise StorageCorrupt(
            f"{path}: superblock of format {block.format}, this version knows {SUPERBLOCK_FORMAT}"
        )
    return block


def write_superblock(files: Files, block: Superblock) -> None:
    """Make it durable. Blocks. Errors: StorageError."""
    write_atomically(files, SUPERBLOCK_NAME, encode_record(_KIND, encode(block)))
