"""On which line of a TOML file each key stands. tomllib does not tell.

A file that is known to be valid is cut into statements, and each is given to tomllib alone: a
`key = value` that goes on over several lines does not parse until its last line is there, so the
shortest run of lines that parses is the statement. Quoted and dotted keys and inline tables are
thereby read by the same parser as the file.
"""

from __future__ import annotations

import tomllib
from typing import Any


def key_lines(text: str) -> dict[str, int]:
    """Dotted path of each table and key -> number of its line, from 1. `text` is valid TOML."""
    lines = text.replace("\r\n", "\n").split("\n")  # splitlines cuts at U+2028, TOML does not
    found: dict[str, int] = {}
    table: tuple[str, ...] = ()
    start = 0
    while start < len(lines):
        end, parsed = _statement(lines, start)
        if lines[start].lstrip().startswith("["):
            table = _header(parsed)
            found.setdefault(".".join(table), start + 1)
        else:
            for path in _paths(parsed):
                found.setdefault(".".join((*table, *path)), start + 1)
        start = end
    return found


def _statement(lines: list[str], start: int) -> tuple[int, dict[str, Any]]:
    """The line after the statement that begins at `start`, and its value."""
    for end in range(start + 1, len(lines) + 1):
        try:
            return end, tomllib.loads("\n".join(lines[start:end]))
        except tomllib.TOMLDecodeError:
            continue
    raise AssertionError(f"line {start + 1}: not a statement of a valid file")


def _header(parsed: Any) -> tuple[str, ...]:
    """`[a.b]` parses to {"a": {"b": {}}}, `[[a]]` to {"a": [{}]}."""
    path: list[str] = []
    while isinstance(parsed, dict) and parsed:
        (name, parsed) = next(iter(parsed.items()))
        path.append(name)
        if isinstance(parsed, list):
            parsed = parsed[0]
    return tuple(path)


def _paths(parsed: dict[str, Any]) -> list[tuple[str, ...]]:
    """All paths into nested tables, the inner nodes too."""
    paths: list[tuple[str, ...]] = []
    for name, value in parsed.items():
        paths.append((name,))
        if isinstance(value, dict):
            paths.extend((name, *rest) for rest in _paths(value))
    return paths
