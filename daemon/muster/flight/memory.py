"""What a machine remembers, as plain values, and back into a machine that was built anew.

A machine is made of *parts* (objects of its package that hold each other: `Swim` holds `Probing`
holds `Table`) and of *data* in their attributes. Its constructor makes the parts and wires them;
so only data is kept, by the path of the part that has it, and `recall` lays it over a machine that
the constructor has just built. Wiring (functions, tables of handlers, the journal) is never kept:
it is the code's. One generator of random numbers is kept by its state, wherever it is shared.

Identity is kept: a table entry that two dictionaries share is shared again. Data may be plain
values, containers, enums, and frozen or mutable values (dataclasses, structs) of the protocol. All
else in a part is an error when it is taken, so a machine that cannot be remembered is found by its
first test, not by its first incident.

Rejected: `pickle` (banned: it runs what it reads), and a snapshot method in each of some fifteen
parts (the field that somebody forgets is the one that mattered). An attribute that this code's
machine has and the memory has not keeps its first value; one that only the memory has is left out:
a memory that an older version wrote is the best that can be had of it.
"""

from __future__ import annotations

import collections
import dataclasses
import enum
import importlib
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from muster_protocol.errors import RemoteError

PARTS_OF: Final = ("muster_protocol.", "muster.agents.consistency.raft.")
"""The packages whose objects are parts of machines."""

VALUES_OF: Final = "muster_protocol."
"""The package whose values a memory may hold. A name of any other in a file is not followed."""

INT_MAX: Final = 2**64 - 1

Memory = dict[str, Any]
"""Path of a part -> attribute -> data; "rng" -> the generator's state."""

_RNG: Final = "rng"
_PLAIN: Final = (type(None), bool, float, str, bytes)


@dataclass(frozen=True, slots=True)
class Codec:
    """How a class that is none of ours becomes plain data and back."""

    to_plain: Callable[[Any], Any]
    from_plain: Callable[[Any], Any]


Codecs = Mapping[type[Any], Codec]


def remember(machine: Any, codecs: Codecs | None = None) -> Memory:
    """What `machine` would have to know to go on from here. Errors: TypeError for what cannot be
    kept."""
    codecs = codecs or {}
    parts = dict(_parts(machine, codecs))
    writer = _Writer(parts, codecs)
    memory: Memory = {}
    for path, part in parts.items():
        kept: dict[str, Any] = {}
        for name, value in vars(part).items():
            if _is_rng(value):
                memory[_RNG] = _rng_state(value)
            elif not _is_wiring(value) and not _is_part(value, codecs):
                _keep(kept, name, value, writer, is_ours=_is_ours(part))
        memory["." + path] = kept
    return memory


def recall(machine: Any, memory: Memory, codecs: Codecs | None = None) -> None:
    """Make `machine`, just built, remember. Errors: RemoteError for what is no memory of it; the
    machine is of no use then."""
    codecs = codecs or {}
    parts = dict(_parts(machine, codecs))
    reader = _Reader(parts, codecs)
    try:
        for path, part in parts.items():
            had = vars(part)
            for name, data in memory.get("." + path, {}).items():
                if name in had:
                    _lay(part, name, reader.read(data))
            if _RNG in memory:
                for value in filter(_is_rng, had.values()):
                    version, numbers, gauss = memory[_RNG]
                    value.setstate((version, tuple(numbers), gauss))
    except (TypeError, ValueError, KeyError, IndexError, AttributeError, RecursionError) as error:
        raise RemoteError("memory", f"what is recorded is no memory of it: {error}") from error


def _keep(kept: Memory, name: str, value: Any, writer: _Writer, *, is_ours: bool) -> None:
    mark = writer.mark()
    try:
        kept[name] = writer.write(value)
    except TypeError:
        if is_ours:  # of the engine's attributes those are kept that are data
            raise
        writer.forget_since(mark)


def _lay(part: Any, name: str, value: Any) -> None:
    """A set that the constructor made alike stays: the order in which a set is gone through depends
    on how it came about."""
    if not isinstance(value, set) or value != getattr(part, name):
        setattr(part, name, value)


def _parts(machine: Any, codecs: Codecs) -> Iterator[tuple[str, Any]]:
    """Each part once, by the first path that leads to it."""
    seen: dict[int, None] = {}
    waiting = collections.deque([("", machine)])
    while waiting:
        path, part = waiting.popleft()
        if id(part) in seen:
            continue
        seen[id(part)] = None
        yield path, part
        for name, value in vars(part).items():
            if _is_part(value, codecs):
                waiting.append((f"{path}.{name}" if path else name, value))


def _is_part(value: Any, codecs: Codecs) -> bool:
    kind = type(value)
    return (
        kind.__module__.startswith(PARTS_OF)
        and hasattr(value, "__dict__")
        and not isinstance(value, type | enum.Enum | msgspec.Struct)
        and not dataclasses.is_dataclass(value)
        and not callable(value)
        and kind not in codecs
    )


def _is_ours(part: Any) -> bool:
    return all(base.__module__.startswith((*PARTS_OF, "builtins")) for base in type(part).__mro__)


def _is_wiring(value: Any) -> bool:
    if isinstance(value, Mapping) and value:
        return callable(next(iter(value.values())))
    return callable(value) or type(value).__module__.startswith("muster.storage.")


def _is_rng(value: Any) -> bool:
    return hasattr(value, "getstate") and hasattr(value, "setstate")


def _rng_state(rng: Any) -> list[Any]:
    version, numbers, gauss = rng.getstate()
    return [version, list(numbers), gauss]


_CONTAINERS: Final[Mapping[str, type[Any]]] = {
    "list": list,
    "tuple": tuple,
    "set": set,
    "frozenset": frozenset,
    "deque": collections.deque,
}
_MAPPINGS: Final[Mapping[str, type[Any]]] = {
    "dict": dict,
    "Counter": collections.Counter,
    "OrderedDict": collections.OrderedDict,
}
_KEPT_AS: Final = {kind: word for word, kind in {**_CONTAINERS, **_MAPPINGS}.items()}


class _Writer:
    def __init__(self, parts: Mapping[str, Any], codecs: Codecs) -> None:
        self._paths = {id(part): path for path, part in parts.items()}
        self._codecs = codecs
        self._numbers: dict[int, int] = {}
        self._alive: list[Any] = []

    def mark(self) -> int:
        """For `forget_since`."""
        return len(self._numbers)

    def forget_since(self, mark: int) -> None:
        """What was written since then was not kept: nothing may refer to it."""
        self._numbers = {key: n for key, n in self._numbers.items() if n < mark}

    def write(self, value: Any) -> Any:
        kind = type(value)
        if kind in _PLAIN:
            return value
        if kind is int:
            return value if -(2**63) <= value <= INT_MAX else ["int", hex(value)]
        if isinstance(value, enum.Enum):
            return ["enum", _name(kind), value.value]
        if id(value) in self._paths:
            return ["part", self._paths[id(value)]]
        if id(value) in self._numbers:
            return ["same", self._numbers[id(value)]]
        number = self._numbers[id(value)] = len(self._numbers)
        self._alive.append(value)  # or another could get its id
        return [*self._write_new(value, kind), number]

    def _write_new(self, value: Any, kind: type[Any]) -> list[Any]:
        word = _KEPT_AS.get(kind)
        if kind in self._codecs:
            return ["codec", kind.__name__, self._codecs[kind].to_plain(value)]
        if word in _CONTAINERS:
            return [word, [self.write(each) for each in _ordered(value)]]
        if word in _MAPPINGS:
            return [word, [[self.write(k), self.write(v)] for k, v in value.items()]]
        if kind.__module__.startswith(VALUES_OF) and (names := _fields(kind)) is not None:
            return [
                "value",
                _name(kind),
                {name: self.write(getattr(value, name)) for name in names},
            ]
        raise TypeError(f"a {kind.__module__}.{kind.__qualname__} cannot be remembered")


def _ordered(values: Any) -> list[Any]:
    """In an order of their own; of a set, in one that does not depend on the process."""
    if isinstance(values, set | frozenset):
        try:
            return sorted(values)
        except TypeError:
            pass  # of the engine's nodes, whose hash comes from their id
    return list(values)


class _Reader:
    def __init__(self, parts: Mapping[str, Any], codecs: Codecs) -> None:
        self._parts = parts
        self._codecs = {kind.__name__: codec for kind, codec in codecs.items()}
        self._made: dict[int, Any] = {}

    def read(self, data: Any) -> Any:
        if not isinstance(data, list | tuple):
            return data
        word = data[0]
        if word == "int":
            return int(data[1], 16)
        if word == "enum":
            return _class_named(data[1])(data[2])
        if word == "part":
            return self._parts[data[1]]
        if word == "same":
            return self._made[data[1]]
        return self._read_new(word, data)

    def _read_new(self, word: str, data: Any) -> Any:
        number = data[-1]
        if word == "codec":
            made = self._codecs[data[1]].from_plain(data[2])
        elif word in _CONTAINERS:
            made = _CONTAINERS[word](self.read(each) for each in data[1])
        elif word in _MAPPINGS:
            made = _MAPPINGS[word]()
            for key, value in data[1]:
                read_key = self.read(key)  # first: the value may refer to it
                made[read_key] = self.read(value)
        elif word == "value":
            made = _revived(_class_named(data[1]), {k: self.read(v) for k, v in data[2].items()})
        else:
            raise ValueError(f"{word!r} is nothing that is remembered")
        self._made[number] = made
        return made


def _name(kind: type[Any]) -> str:
    return f"{kind.__module__}:{kind.__qualname__}"


def _fields(kind: type[Any]) -> list[str] | None:
    if dataclasses.is_dataclass(kind):
        return [each.name for each in dataclasses.fields(kind)]
    return list(kind.__struct_fields__) if issubclass(kind, msgspec.Struct) else None


def _class_named(name: str) -> Any:
    """A value's class. Errors: ValueError for a name that is none of the protocol's."""
    module_name, _, qualified = name.partition(":")
    if not module_name.startswith(VALUES_OF):
        raise ValueError(f"{module_name!r} holds no values of machines")
    try:
        module = sys.modules.get(module_name) or importlib.import_module(module_name)
    except ImportError as error:
        raise ValueError(str(error)) from error
    found = vars(module).get(qualified)
    is_value = isinstance(found, type) and (
        issubclass(found, enum.Enum) or _fields(found) is not None
    )
    if not is_value:
        raise ValueError(f"there is no value {name!r}")
    return found


def _revived(kind: type[Any], fields: dict[str, Any]) -> Any:
    """A value with these fields; one that its class has got since has its default."""
    known = _fields(kind) or []
    fields = {name: value for name, value in fields.items() if name in known}
    if issubclass(kind, msgspec.Struct):
        return kind(**fields)
    made = object.__new__(kind)
    for each in dataclasses.fields(kind):
        if each.name in fields:
            object.__setattr__(made, each.name, fields[each.name])
        elif each.default is not dataclasses.MISSING:
            object.__setattr__(made, each.name, each.default)
        elif each.default_factory is not dataclasses.MISSING:
            object.__setattr__(made, each.name, each.default_factory())
    return made
