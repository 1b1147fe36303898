"""Which format a history has is told by its first line."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from muster.sim import history
from muster.sim.histories import edn_maps, jepsen_log
from muster.sim.history import History
from muster_protocol.errors import UsageError

FORMATS: Final[
    tuple[tuple[Callable[[str], object], Callable[[Sequence[str], str], History]], ...]
] = (
    (lambda first: first.lstrip().startswith('{"'), history.parse),
    (jepsen_log.FIRST.match, jepsen_log.parse),
    (edn_maps.FIRST.match, edn_maps.parse),
)


FILE_BYTES_MAX: Final = 64 * 1024 * 1024
"""300,000 operations with small values: they take 0.5 GiB and 3.6 s to be parsed. What is larger,
or has no end, is not read to learn that."""


def read_history(path: str) -> History:
    """Errors: UsageError, one line with the file and the line; OSError if it cannot be read."""
    with open(path, "rb") as handle:  # noqa: PTH123 - as everywhere in the command line
        data = handle.read(FILE_BYTES_MAX + 1)
    if len(data) > FILE_BYTES_MAX:
        raise UsageError(f"{path}: too large to be judged: more than {FILE_BYTES_MAX} bytes")
    try:
        lines = data.decode().split("\n")
    except UnicodeDecodeError as error:
        place = data.count(b"\n", 0, error.start) + 1
        raise UsageError(f"{path}:{place}: a history is UTF-8 text") from error
    first = next((line for line in lines if line.strip()), "")
    for is_meant, parse in FORMATS:
        if is_meant(first):
            return parse(lines, path)
    raise UsageError(f"{path}:1: neither a muster.history/1, nor a log of Jepsen, nor EDN maps")
