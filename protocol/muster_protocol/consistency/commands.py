"""What can be done to the replicated state: commands, their results, and the batch in one entry.

Everything that applying a command needs stands in the command: the session and request id that
make a retry harmless, and the wall time of the node that proposed it. So every replica computes
the same result (Patroni puts its time stamps into the command for the same reason).
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from muster_protocol.errors import RemoteError, UsageError
from muster_protocol.limits import KEY_BYTES_MAX, LIST_KEYS_MAX, VALUE_BYTES_MAX
from muster_protocol.types import UInt
from muster_protocol.wire.codec import Decoder, encode

BATCH_COMMANDS_MAX = 10_000
BATCH_TAG: Final = 1

Key = Annotated[str, msgspec.Meta(min_length=1, max_length=KEY_BYTES_MAX)]
Value = Annotated[bytes, msgspec.Meta(max_length=VALUE_BYTES_MAX)]
SessionId = Annotated[str, msgspec.Meta(min_length=32, max_length=32)]
"""A `HexId`. That it is one is checked where a client says it (`session.methods`): a pattern
takes longer than all else of a command, and each command is decoded by every voter."""


class Put(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=1):
    """Set a key. With `expected`, only if its revision is that (0: only if it does not exist)."""

    key: Key
    value: Value
    expected: UInt | None = None


class Get(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=2):
    """Read a key. In the log it is a linearizable read."""

    key: Key


class Delete(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=3):
    """Remove a key. With `expected`, only if its revision is that."""

    key: Key
    expected: UInt | None = None


class List(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=4):
    """Keys that start with `prefix` and come after `after`, in order."""

    prefix: Annotated[str, msgspec.Meta(max_length=KEY_BYTES_MAX)] = ""
    after: Annotated[str, msgspec.Meta(max_length=KEY_BYTES_MAX)] = ""
    limit: Annotated[int, msgspec.Meta(ge=1, le=LIST_KEYS_MAX)] = LIST_KEYS_MAX


Operation = Put | Get | Delete | List


class Command(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An operation with what makes it exactly-once. `since`: a revision that the store had
    reached before this request was first proposed, the same one in each repetition."""

    session: SessionId
    request: UInt
    since: UInt
    wall: float
    operation: Operation


class Batch(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=BATCH_TAG):
    """One log entry: all commands that arrived in one turn of the loop.

    `origin` and `number` name the proposal, so that the node which proposed it finds the waiting
    requests when the entry is applied.
    """

    origin: str
    number: UInt
    commands: Annotated[tuple[Command, ...], msgspec.Meta(max_length=BATCH_COMMANDS_MAX)]


class KeyValue(msgspec.Struct, frozen=True, gc=False):
    """A key as it stands. `revision` is that of its last change, `created` of its creation, both
    from one counter for the whole store; `version` counts the changes of this key."""

    key: str
    value: bytes
    revision: int
    created: int
    version: int
    wall: float


class Done(msgspec.Struct, frozen=True, gc=False, tag="done"):
    """It took effect, or the read is answered. `revision` is the store's after the command."""

    revision: int
    entry: KeyValue | None = None
    entries: tuple[KeyValue, ...] = ()
    more: bool = False
    repeated: bool = False


class Conflict(msgspec.Struct, frozen=True, gc=False, tag="conflict"):
    """A comparison failed; nothing changed. `entry` is what is there."""

    revision: int
    entry: KeyValue | None = None


class NotFound(msgspec.Struct, frozen=True, gc=False, tag="not-found"):
    """There is no such key; nothing changed."""

    revision: int


class Expired(msgspec.Struct, frozen=True, tag="expired"):
    """Nothing changed now, but this may repeat a request that is no longer remembered."""

    revision: int


class Rejected(msgspec.Struct, frozen=True, tag="rejected"):
    """The command cannot be carried out; nothing changed."""

    revision: int
    reason: str
    is_unknown: bool = False
    """It may have taken effect earlier: what became of it is no longer remembered."""

    is_full: bool = False
    """The command makes sense, but there is no room for it."""


Result = Done | Conflict | NotFound | Expired | Rejected


class _Heading(msgspec.Struct, frozen=True, array_like=True):
    """What a batch begins with."""

    format: UInt
    origin: str
    number: UInt


_BATCHES: Decoder[Batch] = Decoder(Batch)
_HEADINGS: Decoder[_Heading] = Decoder(_Heading)
_COMMANDS: Decoder[Command] = Decoder(Command)


def decode_batch(data: bytes) -> Batch:
    """Errors: RemoteError("garbage")."""
    return _BATCHES.decode(data)


def batch_name(data: bytes) -> tuple[str, int]:
    """Origin and number of a batch, whose commands are looked at no further. Errors: as
    `decode_batch`."""
    heading = _HEADINGS.decode(data)
    return heading.origin, heading.number


def check_operation(operation: Operation) -> None:
    """Reject what is too large before it is proposed. Errors: UsageError, one line."""
    if isinstance(operation, List):
        if max(len(operation.prefix.encode()), len(operation.after.encode())) > KEY_BYTES_MAX:
            raise UsageError(f"the prefix is longer than {KEY_BYTES_MAX} bytes")
        return
    if not operation.key:
        raise UsageError("the key is empty")
    if len(operation.key.encode()) > KEY_BYTES_MAX:
        raise UsageError(f"the key is longer than {KEY_BYTES_MAX} bytes")
    if isinstance(operation, Put) and len(operation.value) > VALUE_BYTES_MAX:
        raise UsageError(f"the value is larger than {VALUE_BYTES_MAX} bytes")


def answers(result: Result, operation: Operation) -> bool:
    """Can this be what `operation` gave? A result that was committed elsewhere may be of a version
    that we do not know."""
    return not isinstance(result, Done) or (result.entry is None) == isinstance(operation, List)


def is_read(operation: Operation) -> bool:
    """True if it changes nothing: repeating it is harmless."""
    return isinstance(operation, Get | List)


def checked_command(command: Command) -> tuple[Command, bytes]:
    """A command as every replica decodes it, and as it stands in a batch. What every replica would
    skip must not get into one: it would take the commands beside it along.

    Errors: UsageError for a command that does not decode as it was encoded.
    """
    data = encode(command)
    try:
        return _COMMANDS.decode(data), data
    except RemoteError as error:
        raise UsageError(f"the command does not hold: {error}") from error
