"""Is there an order of the operations, each at one moment between its call and its return, in which
each gives the result that it gave?

The search is that of Wing and Gong (1993) with Lowe's memory of configurations (2017), on a linked
list of calls and returns, as Porcupine does it: walk the list from its head; an operation whose
call is met and whose result fits the state is placed: taken out of the list, and the walk begins
again. Whoever meets a return has waited too long with that operation: the last one placed is put
back, and the walk goes on behind it. It is NP-complete; the cost grows with how much overlaps. What
keeps it small, beside one search for each key (P-compositionality, Horn and Kroening 2015):

- An *unknown* operation (`output` None, `ret` infinite) may have taken effect at any time from its
  call on, or never. It is in nobody's way, so the search ends when all others are placed. It is
  placed only where it changes the state and where whoever is placed next notices; otherwise the
  same is found without it. Of equal ones the first called goes first.
- An operation that changes nothing and fits is placed at once, and never has to be tried later
  instead: everything behind it would be the same.
- Where replies tell an order (`Model.rank`), nothing else is tried.
- A configuration is (how many operations from the first are all placed, a window of bits behind
  them, the unknown ones that are placed, the state). The unknown ones have bits of their own; they
  would hold the window's start for ever. One int over all was as fast on 6,000 operations (0.7 s
  each), but every configuration then takes memory by the length of the history.

Rejected: recursion, for a history is deeper than Python's stack.

Time is an argument: a budget that has run out gives UNKNOWN, never LINEARIZABLE.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, Final

from muster.sim.checkers.vocabulary import Budget, I, Model, O, Operation, Report, S, Verdict

STEPS_PER_LOOK: Final = 2_048
"""Between two looks at the time: about a millisecond."""


def partition(
    operations: Iterable[Operation[I, O]], key: Callable[[I], Hashable]
) -> dict[Hashable, list[Operation[I, O]]]:
    """Of each key, shortest list first: a hard key must not use up the time."""
    parts: dict[Hashable, list[Operation[I, O]]] = {}
    for operation in operations:
        parts.setdefault(key(operation.input), []).append(operation)
    return dict(sorted(parts.items(), key=lambda item: len(item[1])))


def check(
    model: Model[S, I, O],
    operations: Iterable[Operation[I, O]],
    *,
    key: Callable[[I], Hashable],
    budget: Budget | None = None,
) -> Report[I, O]:
    """Of the first key that is not linearizable; else of the first unknown one; else of one."""
    report: Report[I, O] = Report(Verdict.LINEARIZABLE, ())
    for part in partition(operations, key).values():
        found = check_key(model, part, budget=budget)
        if found.verdict is Verdict.NOT_LINEARIZABLE:
            return found
        if report.verdict is Verdict.LINEARIZABLE:
            report = found
    return report


def check_key(
    model: Model[S, I, O], operations: Sequence[Operation[I, O]], *, budget: Budget | None = None
) -> Report[I, O]:
    """Judge operations that all belong to one key."""
    search = _Search(model, operations, budget or Budget())
    verdict = Verdict.NOT_LINEARIZABLE
    for state in model.initial():
        verdict = search.run(state)
        if verdict is not Verdict.NOT_LINEARIZABLE:
            break
    ordered = tuple(search.ordered)
    is_wrong = verdict is Verdict.NOT_LINEARIZABLE
    longest = tuple(ordered[index] for index in search.longest)
    return Report(verdict, ordered, longest, search.stuck if is_wrong else None, search.steps)


class _Search:
    """The list of calls and returns of one key, and the walk on it. Entry 0 is its head. `index` of
    an entry is its operation's; of a return it is negative (`~index`)."""

    def __init__(
        self, model: Model[Any, Any, Any], operations: Sequence[Operation[Any, Any]], budget: Budget
    ) -> None:
        self.ordered = sorted(operations, key=lambda operation: (operation.call, operation.ret))
        self.longest: list[int] = []
        self.steps = self._most = 0
        self._model, self._budget = model, budget
        self._index: list[int] = [0, *_events(self.ordered)]
        self._return_of: dict[int, int] = {
            ~i: entry for entry, i in enumerate(self._index) if i < 0
        }
        self._furthest = 0
        self._number_bits()

    def _number_bits(self) -> None:
        """Number the known operations; give each unknown one a bit, and that of the last equal one
        before it (0: there is none)."""
        ranks = [(self._model.rank(op), n) for n, op in enumerate(self.ordered)]
        ranked = [index for rank, index in sorted(ranks) if rank]
        self._turn_of = {index: turn for turn, index in enumerate(ranked)}
        self._is_pure = [not self._model.changes(operation) for operation in self.ordered]
        self._number: list[int] = []
        self._twin: list[int] = []
        twins: dict[Any, int] = {}
        unknown = 0
        for operation in self.ordered:
            if operation.output is not None:
                self._number.append(len(self._number) - unknown)
                self._twin.append(0)
            else:
                self._number.append(1 << unknown)
                self._twin.append(twins.get(operation.input, 0))
                twins[operation.input] = 1 << unknown
                unknown += 1

    @property
    def stuck(self) -> Operation[Any, Any]:
        """Whose return was the furthest that the walk met."""
        return self.ordered[~self._index[self._furthest]]

    def run(self, state: Any) -> Verdict:
        """Search from one initial state."""
        size = len(self._index)
        self._next: list[int] = [*range(1, size), 0]
        self._previous: list[int] = [size - 1, *range(size - 1)]
        self._state, self._offset, self._window, self._unknown = state, 0, 0, 0
        self._left, self._turn = len(self._return_of), 0
        self._seen: set[Any] = set()
        self._stack: list[tuple[Any, ...]] = []
        entry = self._next[0]
        while self._left:
            self.steps += 1
            if self._is_spent():
                return Verdict.UNKNOWN
            index = self._index[entry]
            if index >= 0:
                entry = self._take(entry, self._choices(index))
                continue
            self._furthest = max(self._furthest, entry)
            self._remember_longest()
            back = self._put_back()
            if back is None:
                return Verdict.NOT_LINEARIZABLE
            entry = self._take(*back)
        self._remember_longest()
        return Verdict.LINEARIZABLE

    def _is_spent(self) -> bool:
        if self.steps > self._budget.steps:
            return True
        return self.steps % STEPS_PER_LOOK == 1 and self._budget.is_over()

    def _remember_longest(self) -> None:
        placed = len(self._return_of) - self._left
        if placed > self._most:
            self._most = placed
            self.longest = [self._index[frame[0]] for frame in self._stack]

    def _choices(self, index: int) -> tuple[Any, ...]:
        """The states to which an operation may lead from here."""
        if self._turn_of.get(index, self._turn) != self._turn:
            return ()
        operation = self.ordered[index]
        covers = self._model.covers
        after: tuple[Any, ...] = self._model.step(self._state, operation.input, operation.output)
        if operation.output is None:
            twin = self._twin[index]
            if twin and not self._unknown & twin:
                return ()
            after = tuple(state for state in after if not covers(self._state, state))
        if after and self._stack:
            entry, before, *_ = self._stack[-1]
            if self.ordered[self._index[entry]].output is None:  # who comes next must notice it
                without = self._model.step(before[0], operation.input, operation.output)
                after = tuple(s for s in after if not any(covers(o, s) for o in without))
        return after

    def _take(self, entry: int, choices: tuple[Any, ...]) -> int:
        """Place an operation, if one of its `choices` is new. Returns the entry to look at next."""
        if not choices:
            return self._next[entry]
        index = self._index[entry]
        offset, window, unknown = self._offset, self._window, self._unknown
        is_known = index in self._return_of
        if is_known:
            window |= 1 << self._number[index] - offset
            while window & 1:
                window >>= 1
                offset += 1
        else:
            unknown |= self._number[index]
        for place, after in enumerate(choices):
            is_same = after == self._state and self._is_pure[index]
            rest = choices[place + 1 :]
            configuration = (offset, window, unknown, after)
            if configuration in self._seen:
                if is_same and not rest:  # it led nowhere, and so does everything behind it
                    return self._return_of[index]
                continue
            self._seen.add(configuration)
            before = (self._state, self._offset, self._window, self._unknown)
            self._stack.append((entry, before, rest, is_same and not rest))
            self._state, self._offset, self._window, self._unknown = after, offset, window, unknown
            self._left -= is_known
            self._turn += index in self._turn_of
            self._unlink(entry)
            return self._next[0]
        return self._next[entry]

    def _put_back(self) -> tuple[int, tuple[Any, ...]] | None:
        """Undo what was placed, up to and with the first that may be placed otherwise or later.
        Returns its entry and the choices that are left."""
        while self._stack:
            entry, before, choices, is_settled = self._stack.pop()
            self._state, self._offset, self._window, self._unknown = before
            self._left += self._relink(entry)
            self._turn -= self._index[entry] in self._turn_of
            if not is_settled:
                return entry, choices
        return None

    def _unlink(self, entry: int) -> None:
        nxt, previous = self._next, self._previous
        for each in (entry, self._return_of.get(self._index[entry], 0)):
            if each:
                nxt[previous[each]], previous[nxt[each]] = nxt[each], previous[each]

    def _relink(self, entry: int) -> bool:
        """Exactly backwards. Returns whether the operation is a known one."""
        nxt, previous = self._next, self._previous
        ret = self._return_of.get(self._index[entry], 0)
        for each in (ret, entry):
            if each:
                nxt[previous[each]] = previous[nxt[each]] = each
        return bool(ret)


def _events(ordered: Sequence[Operation[Any, Any]]) -> list[int]:
    """Calls (`index`) and returns (`~index`) in the order of time, calls first at one instant."""
    events = [(operation.call, 0, index) for index, operation in enumerate(ordered)]
    events += [(op.ret, 1, ~index) for index, op in enumerate(ordered) if op.ret < math.inf]
    return [index for *_, index in sorted(events, key=lambda event: event[:2])]
