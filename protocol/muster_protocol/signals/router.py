"""Routes signal types to targets: a trie over dotted segments, with `*` and `**`.

A pattern is a dotted name in which a whole segment may be `*` (exactly one segment) or `**` (zero
or more). So `cluster.*.failed` matches `cluster.node.failed`, and `cluster.**` matches `cluster`,
`cluster.node` and `cluster.node.failed`. The grammar is Jido's.

Matching walks all branches at once, like a nondeterministic automaton, with the set of trie nodes
reached so far: after each segment every node stands in it at most once, so a type of `s` segments
costs at most `s` times the nodes of the trie, whatever the patterns. The obvious recursion is
exponential in the number of `**`, which a remote subscriber could choose.

Matches come in the order of priority (-100 to 100, high first), then of specificity, then of
insertion. Specificity compares two patterns segment by segment from the left: a literal is more
specific than `*`, `*` more than the end of the pattern, the end more than `**`. Jido's weighted
sum gives the same order on ordinary patterns; this one has no weights to get wrong.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

from muster_protocol.errors import UsageError
from muster_protocol.signals.signal import TYPE_CHARS_MAX, TYPE_SEGMENTS_MAX

T = TypeVar("T")

PRIORITY_MAX: Final = 100
"""As in Jido; the minimum is its negative."""

_SEGMENT: Final = re.compile(r"[A-Za-z0-9_-]+|\*|\*\*")
_RANKS: Final = {"*": 2, "**": 0}
_RANK_LITERAL: Final = 3
_RANK_END: Final = 1


@dataclass(frozen=True, slots=True)
class Route(Generic[T]):
    """One target of one pattern."""

    pattern: str
    target: T
    priority: int
    number: int

    @property
    def order(self) -> tuple[int, tuple[int, ...], int]:
        """Sorts what matches: priority, specificity, then the order in which they were added."""
        return (-self.priority, tuple(-rank for rank in specificity(self.pattern)), self.number)


@dataclass(slots=True, eq=False)
class _Node(Generic[T]):
    """A place in the trie; `children` holds `*` and `**` under their own names."""

    repeats: bool = False
    children: dict[str, _Node[T]] = field(default_factory=dict)
    routes: list[tuple[tuple[int, tuple[int, ...], int], Route[T]]] = field(default_factory=list)


def check_pattern(pattern: str) -> str:
    """`pattern`, if it is one. Errors: UsageError that says what is wrong with it."""
    segments = pattern.split(".")
    if len(pattern) > TYPE_CHARS_MAX or len(segments) > TYPE_SEGMENTS_MAX:
        raise UsageError(
            f"pattern {pattern[:TYPE_CHARS_MAX]!r}: at most {TYPE_CHARS_MAX} characters and "
            f"{TYPE_SEGMENTS_MAX} segments"
        )
    for segment in segments:
        if _SEGMENT.fullmatch(segment) is None:
            raise UsageError(
                f"pattern {pattern!r}: segment {segment!r} is neither a word nor * nor **"
            )
    if any(a == b == "**" for a, b in itertools.pairwise(segments)):
        raise UsageError(f"pattern {pattern!r}: ** directly after ** matches nothing more")
    return pattern


def specificity(pattern: str) -> tuple[int, ...]:
    """A key by which the more specific of two patterns is the greater."""
    ranks = [_RANKS.get(segment, _RANK_LITERAL) for segment in pattern.split(".")]
    return (*ranks, _RANK_END)


class Router(Generic[T]):
    """A mutable set of routes. Targets are compared by equality."""

    def __init__(self) -> None:
        self._root: _Node[T] = _Node()
        self._count = 0
        self._next_number = 0

    def __len__(self) -> int:
        return self._count

    def add(self, pattern: str, target: T, *, priority: int = 0) -> Route[T]:
        """One more target for `pattern`; the same target twice is two routes.

        Errors: UsageError for a bad pattern or a priority outside -100 to 100.
        """
        check_pattern(pattern)
        if not -PRIORITY_MAX <= priority <= PRIORITY_MAX:
            raise UsageError(f"route {pattern!r}: priority {priority} is not within -100 to 100")
        node = self._root
        for segment in pattern.split("."):
            node = node.children.setdefault(segment, _Node(repeats=segment == "**"))
        route = Route(pattern, target, priority, self._next_number)
        self._next_number += 1
        self._count += 1
        node.routes.append((route.order, route))
        return route

    def remove(self, pattern: str, target: T) -> int:
        """Take away every route from `pattern` to `target`; says how many there were.

        Errors: UsageError for a bad pattern.
        """
        path = [self._root]
        segments = check_pattern(pattern).split(".")
        for segment in segments:
            child = path[-1].children.get(segment)
            if child is None:
                return 0
            path.append(child)
        kept = [entry for entry in path[-1].routes if entry[1].target != target]
        removed = len(path[-1].routes) - len(kept)
        path[-1].routes = kept
        self._count -= removed
        for segment, parent, child in zip(
            reversed(segments), reversed(path[:-1]), reversed(path[1:]), strict=True
        ):
            if child.routes or child.children:
                break
            del parent.children[segment]
        return removed

    def match(self, signal_type: str) -> list[T]:
        """The targets of every matching route, in order; a target of two routes comes twice."""
        return [route.target for route in self.matching_routes(signal_type)]

    def matching_routes(self, signal_type: str) -> list[Route[T]]:
        """The routes themselves, in order."""
        reached = _closed([self._root])
        for segment in signal_type.split("."):
            reached = _closed(list(_step(reached, segment)))
            if not reached:
                return []
        found = [entry for node in reached for entry in node.routes]
        found.sort(key=lambda entry: entry[0])
        return [route for _, route in found]

    def routes(self) -> list[Route[T]]:
        """All routes, in the order in which they would be tried."""
        found: list[Route[T]] = []
        pending = [self._root]
        while pending:
            node = pending.pop()
            found.extend(route for _, route in node.routes)
            pending.extend(node.children.values())
        return sorted(found, key=lambda route: route.order)


def _step(reached: list[_Node[T]], segment: str) -> Iterator[_Node[T]]:
    """Where one more segment leads from any of `reached`."""
    names = ("*",) if segment in _RANKS else (segment, "*")
    for node in reached:
        if node.repeats:
            yield node
        for name in names:
            if (child := node.children.get(name)) is not None:
                yield child


def _closed(nodes: list[_Node[T]]) -> list[_Node[T]]:
    """`nodes` without repetition, and what `**` reaches from them with zero segments."""
    found: dict[int, _Node[T]] = {}
    pending = list(reversed(nodes))
    while pending:
        node = pending.pop()
        if id(node) in found:
            continue
        found[id(node)] = node
        if (child := node.children.get("**")) is not None:
            pending.append(child)
    return list(found.values())
