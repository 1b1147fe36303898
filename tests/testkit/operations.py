"""Operations in short words, and a judge that tries every order."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

from muster.sim.checkers.vocabulary import Operation
from muster.sim.history import Op, Outcome, Reply, Request


def op(
    client: str,
    words: str,
    call: float,
    ret: float = math.inf,
    *,
    expected: int | None = None,
    revision: int | None = None,
    entry: int | None = None,
) -> Op:
    """`put x`, `append x`, `get x` (what it found; `get -`: nothing), `cas a b`,
    `cas a b conflict`, `delete`, `delete conflict`, `get not-found`.
    Without `ret` the outcome is unknown."""
    action, *rest = words.split()
    outcome = Outcome(rest.pop()) if rest and rest[-1] in list(Outcome) else Outcome.DONE
    values = [None if word == "-" else word for word in rest]
    found = values[0] if action == "get" and values else None
    if action == "cas":
        request = Request(action, "k", values[1], values[0])
    else:
        value = values[0] if action in ("put", "append") else None
        request = Request(action, "k", value, expected)
    reply = None if ret == math.inf else Reply(outcome, found, revision, entry)
    return Operation(client, request, reply, call, ret)


def has_an_order(model: Any, operations: Sequence[Op]) -> bool:
    """Every order of every choice of the unknown ones, as the definition has it."""
    known = [each for each in operations if each.output is not None]
    unknown = [each for each in operations if each.output is None]
    return any(
        _fits(model, order)
        for size in range(len(unknown) + 1)
        for taken in itertools.combinations(unknown, size)
        for order in itertools.permutations([*known, *taken])
    )


def _fits(model: Any, order: Sequence[Op]) -> bool:
    for earlier, later in itertools.combinations(order, 2):
        if later.ret < earlier.call:
            return False
    states = list(model.initial())
    for each in order:
        states = [s for state in states for s in model.step(state, each.input, each.output)]
    return bool(states)
