"""What the checkers are told and what they answer: operations, models, budgets, verdicts."""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Final, Generic, Protocol, TypeVar

I = TypeVar("I", covariant=True)  # noqa: E741 - input
O = TypeVar("O", covariant=True)  # noqa: E741 - output
S = TypeVar("S", bound=Hashable)
InputT = TypeVar("InputT", contravariant=True)
OutputT = TypeVar("OutputT", contravariant=True)

STEPS_MAX: Final = 5_000_000
"""Visits of a list entry for each key: 10 s, and 0.6 GiB of configurations (2 million: 3.9 s and
224 MiB, with 30 appends at once). A history of 5,000 operations in which 100 were lost takes 1.7
million."""


class Verdict(enum.StrEnum):
    """What can be said of a history."""

    LINEARIZABLE = "linearizable"
    NOT_LINEARIZABLE = "not linearizable"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Operation(Generic[I, O]):
    """One operation of one client. `call` and `ret` are on one clock, in whatever unit. One with
    `output` None may or may not have taken effect, and has `ret` infinite."""

    client: str
    input: I
    output: O | None
    call: float
    ret: float = math.inf

    def __post_init__(self) -> None:
        assert self.call <= self.ret
        assert (self.output is None) == (self.ret == math.inf)


class Model(Protocol[S, InputT, OutputT]):
    """What the operations on one key should do. Stateless; states are values."""

    def initial(self) -> tuple[S, ...]:
        """The states that it may begin in."""

    def step(self, state: S, request: InputT, reply: OutputT | None) -> tuple[S, ...]:
        """The states that it may be in after `request` took effect and gave `reply`; none if it
        cannot have. `reply` None: it took effect, and what it gave is not known."""

    def changes(self, operation: Operation[InputT, OutputT]) -> bool:
        """May it change the state? If not, `step` only says whether it fits."""

    def covers(self, state: S, other: S) -> bool:
        """Is everything that may follow on `other` possible from `state` too?"""

    def rank(self, operation: Operation[InputT, OutputT]) -> int:
        """Of two operations of different ranks the lower one took effect first; those of one rank
        change nothing, and any order of them will do. 0: nothing is known."""


@dataclass(slots=True)
class Budget:
    """What a search may cost: `steps` for each key, and all of them until `is_over`."""

    steps: int = STEPS_MAX
    is_over: Callable[[], bool] = lambda: False


@dataclass(frozen=True, slots=True)
class Report(Generic[I, O]):
    """What a search found out about the operations of one key."""

    verdict: Verdict
    operations: tuple[Operation[I, O], ...]
    longest: tuple[Operation[I, O], ...] = ()
    """The longest order that was found."""
    stuck: Operation[I, O] | None = None
    """If not linearizable: nothing that was called behind its return matters."""
    steps: int = 0
