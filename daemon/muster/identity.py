"""Who this node is: a random id made at first start, and what it was made on.

`identity` in the state directory holds the 128-bit node id with the host's machine id beside it. A
difference is told, not acted upon: a copied state directory and a host that was cloned look the
same from here, and so does a legitimate move of the disk to a new host.
"""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Annotated, Final

import msgspec

from muster.entropy import Entropy
from muster.storage.files import Files, write_atomically
from muster.storage.records import encode_record, scan_records
from muster_protocol.effects import Notify
from muster_protocol.errors import RemoteError, StorageCorrupt
from muster_protocol.types import HexId, NodeId, Severity
from muster_protocol.wire.codec import Decoder, encode

IDENTITY_NAME: Final = "identity"
MACHINE_ID_PATH: Final = Path("/etc/machine-id")
_KIND: Final = 0x30


class Identity(msgspec.Struct, frozen=True, array_like=True):
    """The stored record. `machine` is "" where the host has no machine id."""

    format: int
    node: HexId
    machine: Annotated[str, msgspec.Meta(max_length=64)]

    @property
    def node_id(self) -> NodeId:
        return NodeId(self.node)


_DECODER: Decoder[Identity] = Decoder(Identity)


def load_or_create(
    files: Files, entropy: Entropy, *, machine: str
) -> tuple[Identity, tuple[Notify, ...]]:
    """This node's identity, made if there is none. Blocks.

    Errors: StorageCorrupt naming the file; StorageError.
    """
    data = files.read(IDENTITY_NAME)
    if data is None:
        identity = Identity(1, entropy.token_bytes(16).hex(), machine)
        write_atomically(files, IDENTITY_NAME, encode_record(_KIND, encode(identity)))
        return identity, (Notify("identity.created", fields={"node": identity.node}),)
    path = files.describe(IDENTITY_NAME)
    try:
        identity = _DECODER.decode(scan_records(data, path=path)[0][1])
    except (RemoteError, IndexError) as error:
        raise StorageCorrupt(f"{path}: not an identity") from error
    if identity.machine == machine:
        return identity, ()
    moved = Notify(
        "identity.machine.changed",
        Severity.WARNING,
        {
            "path": path,
            "hint": "if this directory was copied from another host, stop this daemon and move the "
            "directory away: it then joins as a new member",
        },
    )
    return identity, (moved,)


def read_machine_id(path: Path = MACHINE_ID_PATH) -> str:
    """The host's machine id; "" where there is none."""
    try:
        return path.read_text(encoding="ascii").strip()[:64]
    except (OSError, UnicodeDecodeError):
        return ""


def default_name() -> str:
    """The host's short name, as a node name."""
    name = socket.gethostname().split(".")[0]
    kept = "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "-" for c in name)
    return kept.strip("-_")[:63] or "node"
