"""Values from the command line, a file or standard input: bytes, never interpreted."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, BinaryIO

from muster_protocol.errors import UsageError
from muster_protocol.limits import VALUE_BYTES_MAX

if TYPE_CHECKING:
    import argparse

    from muster.cli.context import Context


def read_value(args: argparse.Namespace, context: Context) -> bytes:
    """`args.value` as it was typed; the file `args.file`; `-` is standard input for both.

    Errors: UsageError, if there is none or two of them, or it is too large.
    """
    if (args.value is None) == (args.file is None):
        raise UsageError("give one value: as an argument, with --file, or - for standard input")
    if "-" in (args.value, args.file):
        return _bounded(context.stdin, "standard input")
    if args.file is None:
        data = os.fsencode(args.value)
        if len(data) > VALUE_BYTES_MAX:
            raise _too_large("the value")
        return data
    try:
        with open(args.file, "rb") as handle:  # noqa: PTH123 - pathlib costs 4 ms
            return _bounded(handle, args.file)
    except OSError as error:
        raise UsageError(f"{args.file}: {error.strerror}") from error


def key_text(text: str) -> str:
    """A key as it was typed. Errors: UsageError if that is not UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UsageError("a key must be UTF-8 text") from error
    return text


def _bounded(source: BinaryIO, name: str) -> bytes:
    data = source.read(VALUE_BYTES_MAX + 1)
    if len(data) > VALUE_BYTES_MAX:
        raise _too_large(name)
    return data


def _too_large(name: str) -> UsageError:
    return UsageError(f"{name} is larger than the {VALUE_BYTES_MAX} bytes of a value")
