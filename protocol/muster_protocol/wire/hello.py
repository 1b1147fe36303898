"""The first frame on every stream between nodes, in both directions.

    dialler ── Hello ──▶ acceptor            dialler ── Hello ──▶ acceptor
            ◀── Hello ──                             ◀── HelloRefused ── and closes

The dialler speaks first. The acceptor checks and answers with its own hello or with a refusal that
says why; only when a hello came *back* is a peer connected, because in TLS 1.3 a client finishes
its handshake before the server has refused it. What a dialler might object to (it reached somebody
else) it says in its own hello, so the acceptor can refuse that too, and both sides log one cause.

The first two elements, the kind and the major version, stand fixed for ever: a hello of another
major version is refused as such, whatever else it holds. A hello of another minor version is taken
if the ranges overlap; what it appended is skipped.
"""

from __future__ import annotations

import enum
from collections.abc import Collection
from typing import Annotated, Final

import msgspec

from muster_protocol.errors import RemoteError
from muster_protocol.limits import HELLO_FRAME_BYTES_MAX
from muster_protocol.types import ClusterId
from muster_protocol.wire.codec import Decoder, encode
from muster_protocol.wire.datagram import ClusterText, MinorVersion, check_cluster

MAJOR_VERSION: Final = 1
MINOR_MIN: Final = 0
MINOR_MAX: Final = 0
"""The minor versions that this release speaks on streams."""

RECOVERED: Final = "recovered"
"""The cause of a refusal: the other side's cluster goes on without it."""

REASON_BYTES_MAX: Final = 200
"""The text of a refusal: one log line."""

NodeText = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{32}\Z")]
OptionalNodeText = Annotated[str, msgspec.Meta(pattern=r"^([0-9a-f]{32})?\Z")]
NameLike = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}\Z")]
LabelText = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9._-]{0,63}\Z")]
BootText = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{24}\Z")]
GenerationText = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{0,64}\Z")]
Word = Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z-]{0,31}\Z")]
MajorVersion = Annotated[int, msgspec.Meta(ge=0, lt=2**16)]


class Purpose(enum.StrEnum):
    """What a stream is for; the acceptor hands it to the handler of that purpose."""

    SYNC = "sync"
    """Push-pull of the member tables."""
    PROBE = "probe"
    """The failure detector's question over TCP, where packets may be filtered."""
    RAFT = "raft"
    """The consensus between two voters."""
    PROPOSE = "propose"
    """Commands and reads, forwarded to the leader."""
    SNAPSHOT = "snapshot"
    """The data of a snapshot, in chunks."""
    BOOTSTRAP = "bootstrap"
    """The one bootstrap of a cluster's life."""
    ENLIST = "enlist"
    """A leader wants a member to make a journal."""
    SIGNALS = "signals"
    """Signals of scope cluster."""


class Hello(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """Who I am and what this stream is for.

    `boot` is the boot salt at start, which names this run of the process; `generation` the
    generation of the node's journal, "" where there is none; `expects` the node that the dialler
    means to reach, "" where it only knows an address. `purpose` is text so that a purpose that a
    later version added is refused by name and not as garbage.
    """

    major: MajorVersion
    minor_min: MinorVersion
    minor_max: MinorVersion
    node_id: NodeText
    name: NameLike
    cluster_id: ClusterText
    label: LabelText
    boot: BootText
    purpose: Word
    generation: GenerationText = ""
    expects: OptionalNodeText = ""


class HelloRefused(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """No, and why: `reason` is the stable cause, `message` for the log."""

    major: MajorVersion
    reason: Word
    message: Annotated[str, msgspec.Meta(max_length=REASON_BYTES_MAX)]


class _Preamble(msgspec.Struct, frozen=True, array_like=True):
    """What every version of every hello begins with."""

    kind: MajorVersion
    major: MajorVersion


_HELLOS: Final[Decoder[Hello | HelloRefused]] = Decoder(Hello | HelloRefused)
_PREAMBLES: Final[Decoder[_Preamble]] = Decoder(_Preamble)


def encode_hello(hello: Hello | HelloRefused) -> bytes:
    """The frame's payload, at most `HELLO_FRAME_BYTES_MAX` bytes."""
    return encode(hello)


def refusal(error: RemoteError) -> HelloRefused:
    """How `error` is told to the other side."""
    return HelloRefused(MAJOR_VERSION, error.cause, str(error)[:REASON_BYTES_MAX])


def decode_hello(data: bytes) -> Hello | HelloRefused:
    """The first frame of a stream.

    Errors: RemoteError "oversized", "version" (another major version) or "garbage".
    """
    if len(data) > HELLO_FRAME_BYTES_MAX:
        raise RemoteError("oversized", f"hello of {len(data)} bytes")
    preamble = _PREAMBLES.decode(data)
    if preamble.major != MAJOR_VERSION:
        raise RemoteError(
            "version", f"the peer speaks version {preamble.major}, this node {MAJOR_VERSION}"
        )
    return _HELLOS.decode(data)


def check_hello(mine: Hello, theirs: Hello) -> None:
    """Whether these two may talk. Both sides come to the same answer.

    Errors: RemoteError version, foreign-label, foreign-cluster, self (we reached ourselves),
    duplicate-id (another process has our node id), wrong-peer (it expects somebody else).
    """
    if theirs.minor_min > mine.minor_max or theirs.minor_max < mine.minor_min:
        raise RemoteError(
            "version",
            f"{theirs.name} speaks versions {theirs.major}.{theirs.minor_min} to "
            f"{theirs.major}.{theirs.minor_max}, this node {mine.major}.{mine.minor_min} to "
            f"{mine.major}.{mine.minor_max}",
        )
    if theirs.label != mine.label:
        raise RemoteError("foreign-label", f"label {theirs.label!r}, this is {mine.label!r}")
    check_cluster(ClusterId(mine.cluster_id), ClusterId(theirs.cluster_id))
    if theirs.node_id == mine.node_id:
        if theirs.boot == mine.boot:
            raise RemoteError("self", "the stream leads back to this node")
        raise RemoteError("duplicate-id", f"another process has this node's id {mine.node_id}")
    if theirs.expects and theirs.expects != mine.node_id:
        raise RemoteError("wrong-peer", f"this is {mine.node_id}, not {theirs.expects}")


def check_ancestry(mine: Hello, theirs: Hello, ancestors: Collection[ClusterId]) -> None:
    """Is it of a cluster from which ours was recovered (`raftguard.survivors`)? Its voters must go
    on no more, were they a majority of what was: that is what this cause tells them.

    Errors: RemoteError "recovered".
    """
    if theirs.cluster_id in ancestors and theirs.cluster_id != mine.cluster_id:
        raise RemoteError(
            RECOVERED,
            f"cluster {theirs.cluster_id[:8]} was recovered without this node; stop its daemon and "
            f"run: muster raft recover --rejoin {mine.cluster_id}",
        )


def minor_version(mine: Hello, theirs: Hello) -> int:
    """The highest minor version that both speak, once `check_hello` has passed."""
    return min(mine.minor_max, theirs.minor_max)
