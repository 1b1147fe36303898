"""Results as JSON: exactly the fields of the result, in the result's order.

The one translation is that of bytes, which JSON has not: a field `value` that holds UTF-8 stays
`value`, any other becomes `value_base64`.
"""

from __future__ import annotations

import binascii
from typing import Any

import msgspec

_ESCAPED = {code: f"\\u{code:04x}" for code in range(0x7F, 0xA0)}
"""JSON escapes the C0 control characters; these are left, and terminals obey some of them. They
can stand in strings only."""


def to_json(result: Any, *, one_line: bool = False) -> str:
    """`result` (a struct or plain values), with a line feed at the end."""
    plain = _without_bytes(msgspec.to_builtins(result, builtin_types=(bytes,), str_keys=True))
    encoded = msgspec.json.encode(plain)
    if not one_line:
        encoded = msgspec.json.format(encoded, indent=2)
    return encoded.decode().translate(_ESCAPED) + "\n"


def _without_bytes(value: Any) -> Any:
    if isinstance(value, dict):
        return dict(_field(name, field) for name, field in value.items())
    if isinstance(value, list | tuple):
        return [_without_bytes(item) for item in value]
    if isinstance(value, bytes):
        text = _text(value)
        return _base64(value) if text is None else text
    return value


def _field(name: str, value: Any) -> tuple[str, Any]:
    if not isinstance(value, bytes):
        return name, _without_bytes(value)
    text = _text(value)
    if text is not None:
        return name, text
    return f"{name}_base64", _base64(value)


def _text(data: bytes) -> str | None:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None


def _base64(data: bytes) -> str:
    return binascii.b2a_base64(data, newline=False).decode()
