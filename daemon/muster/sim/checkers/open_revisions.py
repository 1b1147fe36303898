"""What replies tell of the revisions that no answered change made: the question of `makers`.

The missing revisions have places, from 1; place 0 is what comes before the first of them. What was
answered is a list of *needs* for each place: where a key had to stand there, in the order of
revisions. A missing revision at which somebody found a key is *pinned*: it was made by a put of
that key, and of that value if he was told one.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Final, NamedTuple

from muster.sim.checkers.models import ABSENT
from muster.sim.checkers.revision_order import answered, is_change, revision_of, tellers
from muster.sim.history import Op

ANY: Final = -2
PRESENT: Final = -1


class Need(NamedTuple):
    """An answered operation: where its key had to stand before it (a revision, `ABSENT`, `PRESENT`
    or `ANY`), and where it stands after it (None: as before)."""

    key: str
    before: int
    after: int | None
    operation: Op


class Kind(NamedTuple):
    """Changes that may stand for each other. `value` None: a delete, or nobody was told it."""

    key: str
    action: str
    value: str | None
    expected: int | str | None

    def fits_pin(self, pin: tuple[str, str | None]) -> bool:
        """May it have made what was found there?"""
        key, value = pin
        return self.key == key and self.action == "put" and value in (None, self.value)


class OpenRevisions:
    """`missing`, `until`, `needs` and `free` by place; `pins` by revision."""

    def __init__(self, operations: Iterable[Op], missing: Sequence[int]) -> None:
        operations = list(operations)
        known = answered(operations)
        unknown = [op for op in operations if op.output is None and is_change(op)]
        self.missing = [0, *missing]
        self.until = [0.0, *(teller.ret for _, teller in tellers(missing, known))]
        """What made it was called by then."""
        self.keys = list(dict.fromkeys(operation.input.key for operation in unknown))
        self.needs: list[list[Need]] = [[] for _ in self.missing]
        self.pins: dict[int, tuple[str, str | None]] = {}
        self._of_key: dict[str, list[tuple[int, Need]]] = {key: [] for key in self.keys}
        self._told: dict[str, dict[int, None]] = {key: {} for key in self.keys}
        for need in (_need(operation) for operation in known):
            if need.key in self._of_key:
                self._add(need)
        self.free = list(accumulate(revision not in self.pins for revision in self.missing))
        """How many up to it have no pin."""
        self.made: dict[Kind, list[Op]] = {}
        """Changes of unknown outcome, in the order of their calls."""
        values = set(self.pins.values())
        for operation in sorted(unknown, key=lambda op: op.call):
            request = operation.input
            key, expected = request.key, request.expected
            value = request.value if (key, request.value) in values else None
            kind = Kind(key, request.action, value, expected)
            self.made.setdefault(kind, []).append(operation)
            if isinstance(expected, int):
                self._told[key][expected] = None

    def _add(self, need: Need) -> None:
        last = revision_of(need.operation) - is_change(need.operation)
        place = bisect.bisect_right(self.missing, last) - 1
        self.needs[place].append(need)
        self._of_key[need.key].append((place, need))
        self._told[need.key][need.before] = None
        at = bisect.bisect_left(self.missing, need.before)
        if need.before > 0 and at < len(self.missing) and self.missing[at] == need.before:
            reply = need.operation.output
            value = reply.value if reply is not None else None
            key, told = self.pins.get(need.before, (need.key, None))
            self.pins[need.before] = (key, value if told is None else told)

    def next_need(self, place: int, key: str) -> tuple[int, int]:
        """From a place on: until which one a key may change, and where it has to stand then."""
        following = self._of_key[key]
        at = bisect.bisect_left(following, place, key=lambda each: each[0])
        return (following[at][0], following[at][1].before) if at < len(following) else (place, ANY)

    def as_told(self, key: str, stands: int) -> int:
        """Where a key stands, as far as it matters for what follows."""
        return stands if stands == ABSENT or stands in self._told[key] else PRESENT


def fits(wanted: int, stands: int) -> bool:
    """Does a key stand where it has to?"""
    return wanted in (ANY, stands) or (wanted == PRESENT and stands > 0)


def _need(operation: Op) -> Need:
    request, reply = operation.input, operation.output
    assert reply is not None
    if not is_change(operation):
        return Need(request.key, reply.entry or ABSENT, None, operation)
    before = request.expected if isinstance(request.expected, int) else ANY
    if request.action == "put":
        return Need(request.key, before, revision_of(operation), operation)
    return Need(request.key, PRESENT if before == ANY else before, ABSENT, operation)
