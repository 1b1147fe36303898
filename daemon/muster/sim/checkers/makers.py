"""Who made the revisions that no answered change made? Decides what `revisions` has to leave open.

Replies tell the revisions, and those the order of all that was answered. What is searched is one
change of unknown outcome for each missing revision, another for each, such that everybody found
what he was told. Those that are left over never took effect. Revisions are walked upwards; at each
missing one the changes are tried that may have made it, and what was answered up to the next one is
replayed, of each key only at which revision it stands. What keeps it small:

- A revision at which somebody found a key was made by a put of that key and value.
- What was called in time for one revision is in time for all later ones, so of equal changes the
  first called goes first. Equal are also puts whose values nobody was told.
- A change after which the next one who is told of its key could not be right is not tried; what
  makes him right goes first, the most urgent of them at the head. When more keys have to change
  before a revision than there are missing ones up to it, the way ends.
- A way that failed is remembered: the place, how many of each kind were used, where keys stand.

It expects a history with which the replay of `revisions` found nothing wrong: what does not depend
on unknown outcomes is compared there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from muster.sim.checkers.models import ABSENT
from muster.sim.checkers.open_revisions import Kind, OpenRevisions, fits
from muster.sim.checkers.vocabulary import Budget, Verdict
from muster.sim.history import Op


@dataclass(frozen=True, slots=True)
class Makers:
    """`by`: if linearizable, who made each missing revision. Else what no way got past: the reply
    that is `stuck`, or if it is None the `missing` revision, which nothing can have made."""

    verdict: Verdict
    by: dict[int, Op]
    missing: int = 0
    stuck: Op | None = None
    steps: int = 0


@dataclass(slots=True)
class _Frame:
    """One place of the way: what is left to try, what is tried, and where keys had stood."""

    choices: Iterator[Kind]
    kind: Kind | None = None
    stood: dict[str, int] = field(default_factory=dict)


def find_makers(
    operations: Iterable[Op], missing: Sequence[int], *, budget: Budget | None = None
) -> Makers:
    """`missing`: as `check_revisions` reports them."""
    return _Search(OpenRevisions(operations, missing), budget or Budget()).run()


class _Search:
    def __init__(self, asked: OpenRevisions, budget: Budget) -> None:
        self._asked, self._budget, self._steps = asked, budget, 0
        self._last = len(asked.missing) - 1
        self._used = dict.fromkeys(asked.made, 0)
        self._stands = dict.fromkeys(asked.keys, ABSENT)
        self._wanted = Counter(pin for pin in asked.pins.values() if pin[1] is not None)
        """Of each put that somebody was told: how many revisions it still has to make."""
        self._supply: Counter[tuple[str, str | None]] = Counter()
        for kind, made in asked.made.items():
            self._supply[kind.key, kind.value] += len(made)
        self._stack: list[_Frame] = []
        self._furthest = (0, -1)
        """Place, and which of its needs was not met; -1: nothing can have made it."""

    def run(self) -> Makers:
        """Search all ways."""
        start = _Frame(iter(()))
        if not self._pass(0, start):
            return self._told(Verdict.NOT_LINEARIZABLE)
        if not self._last:
            return self._told(Verdict.LINEARIZABLE)
        failed: set[object] = set()
        self._stack.append(_Frame(iter(self._choices(1))))
        while self._stack:
            if self._steps > self._budget.steps or self._budget.is_over():
                return self._told(Verdict.UNKNOWN)
            place, frame = len(self._stack), self._stack[-1]
            self._undo(place, frame)
            frame.kind = next(frame.choices, None)
            if frame.kind is None:
                failed.add(self._way(place))
                self._stack.pop()
                continue
            self._make(place, frame.kind, frame)
            if not self._pass(place, frame):
                continue
            if place == self._last:
                return self._told(Verdict.LINEARIZABLE)
            if not failed or self._way(place + 1) not in failed:
                self._stack.append(_Frame(iter(self._choices(place + 1))))
        return self._told(Verdict.NOT_LINEARIZABLE)

    def _told(self, verdict: Verdict) -> Makers:
        by: dict[int, Op] = {}
        if verdict is Verdict.LINEARIZABLE:
            used = dict.fromkeys(self._used, 0)
            for revision, frame in zip(self._asked.missing[1:], self._stack, strict=True):
                assert frame.kind is not None
                by[revision] = self._asked.made[frame.kind][used[frame.kind]]
                used[frame.kind] += 1
        place, number = self._furthest
        stuck = self._asked.needs[place][number].operation if number >= 0 else None
        missing = self._asked.missing[min(place, self._last)]
        return Makers(verdict, by, missing, stuck, self._steps)

    # --- what may have made one revision ----------------------------------------------------------

    def _choices(self, place: int) -> list[Kind]:
        """The most promising first."""
        pin = self._asked.pins.get(self._asked.missing[place])
        if pin is None and not self._is_time_left(place):
            return []
        self._steps += len(self._used)
        found = []
        for number, kind in enumerate(self._used):
            if kind.fits_pin(pin) if pin is not None else self._is_spare(kind):
                urgency = self._urgency(place, kind)
                if urgency is not None:
                    found.append((urgency, number, kind))
        return [kind for *_, kind in sorted(found)]

    def _is_spare(self, kind: Kind) -> bool:
        """Is it not the last one that can have made what somebody was told?"""
        pin = kind.key, kind.value
        return kind.value is None or self._supply[pin] > self._wanted[pin]

    def _urgency(self, place: int, kind: Kind) -> int | None:
        """None: it cannot have made this revision. Else the lower, the sooner it should have."""
        asked, stands = self._asked, self._stands[kind.key]
        made, used = asked.made[kind], self._used[kind]
        if used == len(made) or made[used].call > asked.until[place]:
            return None
        if kind.expected not in (None, stands) or (kind.action == "delete" and stands == ABSENT):
            return None
        after = asked.missing[place] if kind.action == "put" else ABSENT
        until, wanted = asked.next_need(place, kind.key)
        if fits(wanted, after):
            return self._last + 1 if fits(wanted, stands) else until
        may_change_again = until > place and not 0 < wanted <= asked.missing[place]
        return self._last + 2 if may_change_again else None

    def _is_time_left(self, place: int) -> bool:
        """Are there as many missing revisions as keys that have to change before them?"""
        self._steps += len(self._stands)
        late = []
        for key, stands in self._stands.items():
            until, wanted = self._asked.next_need(place, key)
            if wanted <= ABSENT and not fits(wanted, stands):
                late.append(until)
        free = self._asked.free
        return all(free[u] - free[place - 1] >= n for n, u in enumerate(sorted(late), start=1))

    # --- forwards and back ------------------------------------------------------------------------

    def _make(self, place: int, kind: Kind, frame: _Frame) -> None:
        revision = self._asked.missing[place]
        frame.stood[kind.key] = self._stands[kind.key]
        self._stands[kind.key] = revision if kind.action == "put" else ABSENT
        self._count(revision, kind, 1)

    def _pass(self, place: int, frame: _Frame) -> bool:
        """Replay what was answered up to the next missing revision."""
        needs = self._asked.needs[place]
        self._steps += len(needs)
        for number, (key, before, after, _) in enumerate(needs):
            stands = self._stands[key]
            if not fits(before, stands):
                self._furthest = max(self._furthest, (place, number))
                return False
            if after is not None:
                frame.stood.setdefault(key, stands)
                self._stands[key] = after
        self._furthest = max(self._furthest, (place + 1, -1))
        return True

    def _undo(self, place: int, frame: _Frame) -> None:
        if frame.kind is not None:
            self._stands.update(frame.stood)
            frame.stood.clear()
            self._count(self._asked.missing[place], frame.kind, -1)

    def _count(self, revision: int, kind: Kind, by: int) -> None:
        """One more was used, or one less."""
        self._used[kind] += by
        self._supply[kind.key, kind.value] -= by
        pin = self._asked.pins.get(revision)
        if pin is not None and pin in self._wanted:
            self._wanted[pin] -= by

    def _way(self, place: int) -> object:
        as_told = self._asked.as_told
        stands = tuple(as_told(key, stands) for key, stands in self._stands.items())
        return place, tuple(self._used.values()), stands
