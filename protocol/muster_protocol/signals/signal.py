"""A signal: a fact, in the shape of a CloudEvent.

Facts are published; a command that wants an answer is a typed call. So the type of a signal is a
dotted name that ends in the past tense (`cluster.node.failed`): what has happened can be told to
anybody, in any number, and nobody has to answer. We are strict in what we emit (`check_type`) and
tolerant in what we accept: a signal of a newer member, or one written by a Jido program, need only
be a well-formed dotted name.

Two forms. Between members a signal is a MessagePack array (`encode`, `decode`). For people and
other programs it is a CloudEvents 1.0 JSON object (`to_json`, `from_json`) with these extension
attributes, which by CloudEvents' rule are lower case without separators and hold no maps:

    scope  priority  metadata (JSON text)  causationid  traceid  originsequence

`specversion` is "1.0"; "1.0.2", which Jido writes, is accepted. Attributes that we do not know are
kept in `metadata`. `data` is always an object here; CloudEvents would allow any value.

Ids are UUIDs of version 7 (RFC 9562), so that a sorted log is nearly in the order of time. They
are made from arguments: nothing here draws a random number or reads a clock.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

import msgspec

from muster_protocol.effects import Emit
from muster_protocol.errors import RemoteError, UsageError
from muster_protocol.limits import SIGNAL_BYTES_MAX
from muster_protocol.types import Priority, Scope, UInt
from muster_protocol.wire.codec import Decoder
from muster_protocol.wire.codec import encode as encode_value

TYPE_CHARS_MAX: Final = 128
"""A type is read by people and stands in log lines and metric labels."""

TYPE_SEGMENTS_MAX: Final = 16
"""Bounds the router's walk; the longest type of our own has three."""

DATA_DEPTH_MAX: Final = 32
"""Nesting of `data`: facts, not documents; far below where a recursive reader would fail."""

WALL_S_MAX: Final = 253_402_300_800.0
"""The year 10000, past which there is no RFC 3339 text for an instant."""

SPECVERSION: Final = "1.0"

TypeText = Annotated[
    str,
    msgspec.Meta(
        pattern=rf"^(?=.{{1,{TYPE_CHARS_MAX}}}\Z)[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)"
        rf"{{0,{TYPE_SEGMENTS_MAX - 1}}}\Z"
    ),
]
"""What is accepted as a type: a well-formed dotted name, whatever its grammar."""

IdText = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
OptionalIdText = Annotated[str, msgspec.Meta(max_length=128)]
SourceText = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
SubjectText = Annotated[str, msgspec.Meta(max_length=1_024)]
WallSeconds = Annotated[float, msgspec.Meta(ge=0.0, lt=WALL_S_MAX)]

_OWN_TYPE: Final = re.compile(r"[a-z][a-z0-9_]*(\.[a-z0-9][a-z0-9_]*)+")

_IRREGULAR: Final = """
    become begun born bound broken brought built caught chosen cut done drawn driven fallen
    felt fought found frozen given gone grown heard held hidden hit hurt kept known laid
    lain led left lent lost made meant met paid put read risen run rung said seen sent set
    shown shrunk shut slept spent split spoken spread stolen stood struck stuck sworn taken
    taught thought thrown told torn understood won written
"""
_IRREGULAR_PAST: Final = frozenset(_IRREGULAR.split())
"""Past participles without -ed, as far as something that happens to a machine could need them."""

_PREFIX: Final = re.compile(r"^(re|un|mis|out|over|with)(?=.{3})")
"""What an irregular verb may carry in front: reset, rebuilt, undone, overwritten."""


class Signal(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """One fact. Fields that a later version appends have defaults.

    `time` is wall seconds since 1970 at the origin. `source` is "node/agent". `causation` is the
    id of the signal that led to this one, `trace` names the whole chain; both may be "".
    `sequence` counts the cluster-scope signals of one life of their origin, from 1; 0 means that
    the signal did not come over the relay.
    """

    specversion: Literal["1.0", "1.0.2"] = SPECVERSION
    id: IdText
    source: SourceText
    type: TypeText
    time: WallSeconds
    subject: SubjectText = ""
    data: dict[str, Any] = {}
    scope: Scope = Scope.NODE
    priority: Priority = Priority.NORMAL
    metadata: dict[str, Any] = {}
    causation: OptionalIdText = ""
    trace: OptionalIdText = ""
    sequence: UInt = 0


_DECODER: Final[Decoder[Signal]] = Decoder(Signal)
_JSON_ENCODER: Final = msgspec.json.Encoder()
_JSON_DECODER: Final = msgspec.json.Decoder(dict[str, Any])


def check_type(signal_type: str) -> str:
    """`signal_type`, if it may be emitted: lower case, two or more segments, past tense.

    The last segment must hold a past participle (`failed`, `rolled_back`, `left`).
    Errors: UsageError that says which rule is broken.
    """
    if len(signal_type) > TYPE_CHARS_MAX or signal_type.count(".") >= TYPE_SEGMENTS_MAX:
        raise UsageError(
            f"signal type {signal_type[:TYPE_CHARS_MAX]!r}: at most {TYPE_CHARS_MAX} characters "
            f"and {TYPE_SEGMENTS_MAX} segments"
        )
    if _OWN_TYPE.fullmatch(signal_type) is None:
        raise UsageError(
            f"signal type {signal_type!r}: expected lower-case words joined by dots, "
            "for example cluster.node.failed"
        )
    words = signal_type.rpartition(".")[2].split("_")
    if not any(word.endswith("ed") or _PREFIX.sub("", word) in _IRREGULAR_PAST for word in words):
        raise UsageError(
            f"signal type {signal_type!r}: a signal is a fact; its last word must be in the past "
            "tense, for example cluster.node.failed"
        )
    return signal_type


def make_id(wall_s: float, random_bytes: bytes) -> str:
    """A UUID of version 7 from an instant and ten random bytes."""
    assert len(random_bytes) == 10, "a UUIDv7 takes 74 random bits"
    milliseconds = max(0, int(wall_s * 1_000)) & (2**48 - 1)
    number = (milliseconds << 80) | int.from_bytes(random_bytes, "big")
    number = number & ~(0xF << 76) | (7 << 76)
    number = number & ~(0b11 << 62) | (0b10 << 62)
    text = f"{number:032x}"
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


def build(
    emit: Emit,
    *,
    id: str,  # noqa: A002 (the attribute's CloudEvents name)
    source: str,
    time: float,
    causation: str = "",
    trace: str = "",
) -> Signal:
    """The signal that `emit` asks for.

    Errors: UsageError when the type is not one that may be emitted.
    """
    return Signal(
        id=id,
        source=source,
        type=check_type(emit.type),
        time=time,
        subject=emit.subject,
        data=dict(emit.data),
        scope=emit.scope,
        priority=emit.priority,
        metadata=dict(emit.metadata),
        causation=causation,
        trace=trace,
    )


def encode(signal: Signal) -> bytes:
    """As it goes to other members.

    Errors: UsageError when the data is not plain, or too large for a signal.
    """
    try:
        encoded = encode_value(signal)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise UsageError(f"signal {signal.type}: its data cannot be sent: {error}") from error
    if len(encoded) > SIGNAL_BYTES_MAX:
        raise UsageError(
            f"signal {signal.type}: {len(encoded)} bytes, at most {SIGNAL_BYTES_MAX}: "
            "signals carry facts, not bulk data"
        )
    return encoded


def decode(data: bytes | memoryview) -> Signal:
    """What `encode` made. Errors: RemoteError "oversized" or "garbage"."""
    _check_size(data)
    signal = _DECODER.decode(data)
    _check_plain(signal.data, signal.metadata)
    return signal


def to_json(signal: Signal) -> bytes:
    """As a CloudEvents 1.0 JSON object; attributes that say nothing are left out.

    Binary values in the data become base64 text, which is what JSON has for them.
    Errors: UsageError when the data is not plain.
    """
    moment = datetime.datetime.fromtimestamp(signal.time, tz=datetime.UTC)
    attributes: dict[str, Any] = {
        "specversion": SPECVERSION,
        "id": signal.id,
        "source": signal.source,
        "type": signal.type,
        "time": moment.isoformat().replace("+00:00", "Z"),
        "scope": signal.scope.value,
        "priority": signal.priority.name.lower(),
    }
    optional = {
        "subject": signal.subject,
        "causationid": signal.causation,
        "traceid": signal.trace,
        "originsequence": signal.sequence,
    }
    attributes.update({name: value for name, value in optional.items() if value})
    try:
        if signal.metadata:
            attributes["metadata"] = _JSON_ENCODER.encode(signal.metadata).decode()
        attributes |= {"datacontenttype": "application/json", "data": signal.data}
        return _JSON_ENCODER.encode(attributes)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise UsageError(f"signal {signal.type}: its data is not plain: {error}") from error


def from_json(text: bytes, *, received_wall_s: float) -> Signal:
    """A CloudEvents JSON object, ours or Jido's. `received_wall_s` stands in for a missing time.

    Errors: RemoteError "oversized" or "garbage".
    """
    _check_size(text)
    try:
        attributes = _JSON_DECODER.decode(text)
        signal = _from_attributes(attributes, received_wall_s)
        encode(signal)  # JSON's numbers may be larger than those in which signals travel
        return signal
    except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError, UsageError) as error:
        raise RemoteError("garbage", f"not a CloudEvent: {error}") from error


_PLAIN_ATTRIBUTES: Final = {
    "specversion": "specversion",
    "id": "id",
    "source": "source",
    "type": "type",
    "subject": "subject",
    "scope": "scope",
    "causationid": "causation",
    "causation_id": "causation",
    "traceid": "trace",
    "trace_id": "trace",
    "originsequence": "sequence",
}
"""Attribute name -> field, where the value is taken as it is. The underscores are Jido's."""


def _from_attributes(attributes: dict[str, Any], received_wall_s: float) -> Signal:
    fields: dict[str, Any] = {"time": received_wall_s}
    metadata: dict[str, Any] = {}
    for name, value in attributes.items():
        if value is None:
            continue
        if name in _PLAIN_ATTRIBUTES:
            fields[_PLAIN_ATTRIBUTES[name]] = value
        elif name == "metadata":
            metadata.update(_metadata(value))
        elif name == "time":
            fields["time"] = _instant(value)
        elif name == "priority":
            fields["priority"] = _priority(value)
        elif name == "data":
            fields["data"] = value
        elif name == "datacontenttype":
            if not str(value).split(";")[0].strip().endswith("json"):
                raise ValueError(f"datacontenttype {value!r}: only JSON is understood")
        elif name == "data_base64":
            raise ValueError("data_base64: only JSON data is understood")
        else:
            metadata[name] = value
    # The struct is an array on the wire, so it is checked in that form.
    missing = [name for name in ("specversion", "id", "source", "type") if name not in fields]
    if missing:
        raise ValueError(f"attribute {missing[0]!r} is missing")
    fields["metadata"] = metadata
    row = [fields.get(name, default) for name, default in _DEFAULTS.items()]
    signal = msgspec.convert(row, Signal)
    _check_plain(signal.data, signal.metadata)
    return signal


def _defaults() -> dict[str, Any]:
    defaults: dict[str, Any] = {}
    for field in msgspec.structs.fields(Signal):
        if field.default_factory is not msgspec.NODEFAULT:
            defaults[field.encode_name] = field.default_factory()
        else:
            defaults[field.encode_name] = field.default
    return defaults


_DEFAULTS: Final = _defaults()


def _instant(value: Any) -> float:
    if not isinstance(value, str):
        raise ValueError("time: expected RFC 3339 text")
    moment = datetime.datetime.fromisoformat(value)
    if moment.tzinfo is None:
        raise ValueError(f"time {value!r}: the zone is missing")
    return moment.timestamp()


def _metadata(value: Any) -> dict[str, Any]:
    if isinstance(value, str):
        return _JSON_DECODER.decode(value)
    if not isinstance(value, dict):
        raise ValueError("metadata: expected JSON text or an object")
    return value


def _priority(value: Any) -> Priority:
    try:
        return Priority[value.upper()] if isinstance(value, str) else Priority(value)
    except KeyError as error:
        raise ValueError(f"priority {value!r} is not known") from error


def _check_size(data: bytes | memoryview) -> None:
    if len(data) > SIGNAL_BYTES_MAX:
        raise RemoteError("oversized", f"signal of {len(data)} bytes, at most {SIGNAL_BYTES_MAX}")


def _check_plain(*values: Mapping[str, Any]) -> None:
    """MessagePack knows values that JSON does not: extensions, timestamps, keys of any kind."""
    pending: list[tuple[Any, int]] = [(value, 0) for value in values]
    while pending:
        value, depth = pending.pop()
        if depth > DATA_DEPTH_MAX:
            raise RemoteError("garbage", f"signal data nested deeper than {DATA_DEPTH_MAX}")
        if isinstance(value, dict):
            if not all(isinstance(key, str) for key in value):
                raise RemoteError("garbage", "signal data with a key that is not text")
            pending.extend((item, depth + 1) for item in value.values())
        elif isinstance(value, list):
            pending.extend((item, depth + 1) for item in value)
        elif not (value is None or isinstance(value, bool | int | float | str | bytes)):
            raise RemoteError("garbage", f"signal data with a {type(value).__name__}")
