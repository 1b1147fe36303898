"""Short histories of a whole store, most of them bent at one place, and a judge that tries every
order with the store itself."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace

from muster.sim.checkers.vocabulary import Operation
from muster.sim.history import Op, Outcome, Reply, Request
from testkit.executions import Step, execute

State = tuple[int, Mapping[str, tuple[str, int]]]
"""The store's revision; of each key its value and its own revision."""


def has_a_whole_order(
    operations: Sequence[Op], state: State = (0, {}), seen: set[object] | None = None
) -> bool:
    """Is there an order of all that was answered, and of any of the others, in which a store gives
    exactly these replies? Independent of all checkers: no order is told by revisions."""
    known = [each for each in operations if each.output is not None]
    if not known:
        return True
    seen = set() if seen is None else seen
    configuration = (frozenset(map(id, operations)), state[0], tuple(sorted(state[1].items())))
    if configuration in seen:
        return False
    seen.add(configuration)
    until = min(each.ret for each in known)
    for number, each in enumerate(operations):
        if each.call > until:
            continue
        after, reply = asked(state, each.input)
        if each.output is not None and not is_as_told(reply, each.output, each.input):
            continue
        rest = [*operations[:number], *operations[number + 1 :]]
        if has_a_whole_order(rest, after, seen):
            return True
    return False


def asked(state: State, request: Request) -> tuple[State, Reply]:
    """What a store does and answers."""
    revision, keys = state
    value, entry = keys.get(request.key, (None, 0))
    if request.action == "get":
        if value is None:
            return state, Reply(Outcome.NOT_FOUND, revision=revision)
        return state, Reply(Outcome.DONE, value, revision, entry)
    if request.expected not in (None, entry):
        return state, Reply(Outcome.CONFLICT, revision=revision, entry=entry or None)
    if request.action == "put":
        assert request.value is not None
        made = {**keys, request.key: (request.value, revision + 1)}
        return (revision + 1, made), Reply(revision=revision + 1, entry=revision + 1)
    if value is None:
        return state, Reply(Outcome.NOT_FOUND, revision=revision)
    left = {key: held for key, held in keys.items() if key != request.key}
    return (revision + 1, left), Reply(revision=revision + 1)


def is_as_told(reply: Reply, told: Reply, request: Request) -> bool:
    """Nothing stands for "no such key" where an entry is told; of a put it may be left out."""
    if request.action == "put" and told.outcome is Outcome.DONE and told.entry is None:
        told = replace(told, entry=reply.entry)
    return reply == replace(told, entry=told.entry or None)


def drawn(rng: random.Random) -> list[Op]:
    """What up to nine requests of up to four clients, of which many are lost, were told."""
    steps, lost = [], rng.choice([0.0, 0.3, 0.6])
    for number in range(rng.randint(2, 9)):
        action = rng.choice(["get", "put", "put", "delete"])
        value = rng.choice(["x", "y", f"{number}"]) if action == "put" else None
        is_careful = action != "get" and rng.random() < 0.4
        expected = rng.choice([0, 0, 1, 2, 3]) if is_careful else None
        request = Request(action, rng.choice("ab"), value, expected)
        fate = rng.random()
        times = rng.random(), rng.random() * 3, rng.random()
        is_lost, is_dropped = fate < lost * 0.7, lost * 0.7 <= fate < lost
        steps.append(Step(rng.randrange(4), request, *times, is_lost, is_dropped))
    return execute(steps, "registry")


def bent(rng: random.Random, history: list[Op]) -> list[Op]:
    """One thing of it changed, as a lying or confused store would."""
    if not history:
        return history
    history = list(history)
    number = rng.randrange(len(history))
    one = history[number]
    if one.output is None:
        if rng.random() < 0.2:
            return [*history[:number], *history[number + 1 :]]
        history[number] = replace(one, call=one.call + rng.choice([-2, 1, 3, 9]))
    elif rng.random() < 0.25:
        is_unknown = one.input.action != "get" and rng.random() < 0.5
        by = rng.choice([-3, -1, 1, 3])
        later = Operation(one.client, one.input, one.output, one.call + by, one.ret + by)
        history[number] = replace(one, output=None, ret=math.inf) if is_unknown else later
    else:
        history[number] = replace(one, output=_bent_reply(rng, one.input, one.output))
    return history


def _bent_reply(rng: random.Random, request: Request, reply: Reply) -> Reply:
    """Still one that a file may hold."""
    by = rng.choice([-2, -1, 1, 2, 70])
    what = rng.choice(["revision", "entry", "both", "value", "outcome"])
    is_found = request.action == "get" and reply.outcome is Outcome.DONE
    if what == "value" and is_found:
        return replace(reply, value=rng.choice(["x", "y", "z"]))
    if what == "outcome":
        if is_found or request.action == "delete":
            return Reply(Outcome.NOT_FOUND, revision=reply.revision)
        if request.expected is not None:
            return replace(reply, outcome=Outcome.CONFLICT)
    assert reply.revision is not None
    if what in ("revision", "both"):
        reply = replace(reply, revision=max(0, reply.revision + by))
    if what in ("entry", "both"):
        reply = replace(reply, entry=max(0, (reply.entry or 0) + by))
    return reply
