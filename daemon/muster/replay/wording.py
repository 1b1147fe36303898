"""Events and effects in few words, for a timeline. What came from other machines is in them; who
shows them cleans them (`cli.terminal`)."""

from __future__ import annotations

import dataclasses
import enum
import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from muster_protocol.types import Address

WIDTH: Final = 160
"""Of one event or effect: two lines of a usual terminal."""

ITEMS_SHOWN: Final = 4
DEPTH_WHOLE: Final = 2
"""A message in a packet's list is shown whole; what is in it, by its name and first field."""

DEPTH_MAX: Final = 6
TEXT_SHOWN: Final = 60
ID_SHOWN: Final = 8

_ID = re.compile(r"[0-9a-f]{32}")


def in_short(value: Any, kind: str = "") -> str:
    """One line of `WIDTH` at most; `kind` stands before what has no type of its own any more."""
    text = _words(value, 0)
    if kind and not text.startswith(kind):
        text = f"{kind} {text}"
    return text if len(text) <= WIDTH else f"{text[: WIDTH - 1]}…"


def _words(value: Any, depth: int) -> str:
    if depth > DEPTH_MAX:
        return "…"
    if isinstance(value, Address):
        return str(value)
    if isinstance(value, enum.Enum):
        return value.name.lower()
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    if isinstance(value, float):
        return f"{value:.3f}".rstrip("0").rstrip(".")
    if isinstance(value, tuple | list):
        return _several([_words(each, depth + 1) for each in value[:ITEMS_SHOWN]], len(value))
    if isinstance(value, Mapping):
        shown = list(value.items())[:ITEMS_SHOWN]
        pairs = [f"{_words(k, depth + 1)}={_words(v, depth + 1)}" for k, v in shown]
        return _several(pairs, len(value))
    return _structure(value, depth)


def _text(value: str) -> str:
    if _ID.fullmatch(value):
        return value[:ID_SHOWN]
    shown = value if len(value) <= TEXT_SHOWN else f"{value[: TEXT_SHOWN - 1]}…"
    return shown if shown.isascii() and shown.isidentifier() else repr(shown)


def _several(words: list[str], count: int) -> str:
    rest = [f"… {count - len(words)} more"] if count > len(words) else []
    return f"[{', '.join([*words, *rest])}]"


def _structure(value: Any, depth: int) -> str:
    """`Name field=words ...`; fields that say nothing are left out."""
    names = _names(value)
    if names is None:
        return str(value)
    fields = [(name, getattr(value, name, None)) for name in names]
    told = [
        f"{name}={_words(field, depth + 1)}"
        for name, field in fields
        if field is not None and field != "" and field != () and field != {}
    ]
    name = type(value).__name__
    if not told:
        return name
    if depth > DEPTH_WHOLE:
        return f"{name}({told[0]}{' …' if len(told) > 1 else ''})"
    return f"{name} {' '.join(told)}" if depth == 0 else f"{name}({' '.join(told)})"


def _names(value: Any) -> list[str] | None:
    if dataclasses.is_dataclass(value):
        return [each.name for each in dataclasses.fields(value)]
    return list(value.__struct_fields__) if isinstance(value, msgspec.Struct) else None
