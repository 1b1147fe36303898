"""Histories that are right because they happened: a real store, asked by clients that overlap."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from muster.sim.checkers.vocabulary import Operation
from muster.sim.history import Op, Outcome, Reply, Request, reply_of
from muster_protocol.consistency.commands import (
    Command,
    Conflict,
    Delete,
    Done,
    Get,
    NotFound,
    Put,
    Result,
)
from muster_protocol.consistency.registry import Registry


@dataclass(frozen=True)
class Step:
    """A request of a client: how long it thinks, how long until it takes effect, and until it is
    answered. `is_lost`: it takes effect, and nobody hears of it. `is_dropped`: not even that."""

    client: int
    request: Request
    think: float = 1
    until_effect: float = 1
    until_answer: float = 1
    is_lost: bool = False
    is_dropped: bool = False


def execute(steps: Sequence[Step], kind: str) -> list[Op]:
    """What the clients saw, each doing its steps one after the other."""
    stores = {"register": _Values(), "text": _Values(empty=""), "registry": _Registry()}
    clocks: dict[int, float] = {}
    planned = []
    for step in steps:
        call = clocks.get(step.client, 0.0) + step.think
        effect = call + step.until_effect
        clocks[step.client] = ret = effect + step.until_answer
        planned.append((effect, step, call, ret))
    history = []
    for _, step, call, ret in sorted(planned, key=lambda plan: plan[0]):
        reply = None if step.is_dropped else stores[kind].ask(step.request)
        client = f"c{step.client}"
        if not step.is_dropped and not step.is_lost:
            history.append(Operation(client, step.request, reply, call, ret))
        elif step.request.action != "get":
            history.append(Operation(client, step.request, None, call))
    return history


def random_steps(
    rng: random.Random, kind: str, *, clients: int, count: int, keys: int = 1, lost: float = 0.02
) -> list[Step]:
    """Steps of clients that are busy all the time."""
    actions = {
        "register": ("get", "put", "cas"),
        "text": ("get", "append"),
        "registry": ("get", "put", "delete"),
    }[kind]
    steps = []
    for number in range(count):
        action = rng.choice(actions)
        value = None if action in ("get", "delete") else f"{number};"
        if kind == "register" and value is not None:
            value = str(rng.randrange(5))
        expected = str(rng.randrange(5)) if action == "cas" else None
        request = Request(action, f"k{rng.randrange(keys)}", value, expected)
        times = rng.random() / 10, rng.random(), rng.random()
        fate = rng.random()
        is_lost, is_dropped = fate < lost / 2, lost / 2 <= fate < lost
        steps.append(Step(rng.randrange(clients), request, *times, is_lost, is_dropped))
    return steps


class _Values:
    """Registers or texts."""

    def __init__(self, empty: str | None = None) -> None:
        self._empty = empty
        self._values: dict[str, str | None] = {}

    def ask(self, request: Request) -> Reply:
        held = self._values.get(request.key, self._empty)
        if request.action == "get":
            return Reply(value=held)
        if request.action == "cas" and held != request.expected:
            return Reply(Outcome.CONFLICT)
        is_longer = request.action == "append"
        self._values[request.key] = (
            (held or "") + (request.value or "") if is_longer else request.value
        )
        return Reply()


class _Registry:
    """muster's own, one session."""

    def __init__(self) -> None:
        self._registry = Registry()
        self._requests = 0

    def ask(self, request: Request) -> Reply:
        assert not isinstance(request.expected, str)
        self._requests += 1
        if request.action == "put":
            result = self._apply(Put(request.key, (request.value or "").encode(), request.expected))
        elif request.action == "delete":
            result = self._apply(Delete(request.key, request.expected))
        else:
            result = self._registry.read(Get(request.key))
        assert isinstance(result, Done | Conflict | NotFound)
        return reply_of(result, request)

    def _apply(self, change: Put | Delete) -> Result:
        revision = self._registry.revision
        return self._registry.apply(Command("5" * 32, self._requests, revision, 0.0, change))
