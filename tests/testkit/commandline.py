"""Runs `muster` in this process, with its surroundings as arguments."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from muster.cli.main import run
from muster.cli.terminal import Terminal


@dataclass(frozen=True)
class Outcome:
    """What a command left behind."""

    code: int
    stdout: bytes
    stderr: str

    @property
    def out(self) -> str:
        return self.stdout.decode()

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.stdout)


class _Output(io.TextIOWrapper):
    def __init__(self, *, tty: bool) -> None:
        super().__init__(io.BytesIO(), encoding="utf-8", errors="replace", write_through=True)
        self._tty = tty

    def isatty(self) -> bool:
        return self._tty


class _Input(io.BytesIO):
    def __init__(self, data: bytes, *, tty: bool) -> None:
        super().__init__(data)
        self._tty = tty

    def isatty(self) -> bool:
        return self._tty


def muster(
    *argv: str,
    stdin: bytes = b"",
    tty: bool = False,
    stdin_tty: bool = False,
    environ: Mapping[str, str] | None = None,
) -> Outcome:
    """`muster ARGV...`, without a terminal unless told otherwise."""
    environ = {"COLUMNS": "120", **(environ or {})}
    stdout, stderr = _Output(tty=tty), _Output(tty=False)
    terminal = Terminal(stdout=stdout, stderr=stderr, environ=environ)
    code = run(argv, terminal, environ=environ, stdin=_Input(stdin, tty=stdin_tty))
    buffers = [stream.detach() for stream in (stdout, stderr)]
    out, err = (buffer.getvalue() for buffer in buffers)  # type: ignore[attr-defined]
    return Outcome(int(code), out, err.decode())
