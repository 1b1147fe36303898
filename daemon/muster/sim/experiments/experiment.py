"""What an experiment is: setups, a measurement of each, and what all outcomes say together.

A measurement is a function of its setup alone (the seed is part of it), so setups are measured in
any number of processes and the table is the same.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

import msgspec

S = TypeVar("S")
O = TypeVar("O")  # noqa: E741 (an outcome; a letter as for any type variable)

Scalar = str | int | float | None

MEMBERS_MAX: Final = 1_000
"""Of one run: above it, a run takes many minutes."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the user chose; None is the experiment's own choice."""

    members: tuple[int, ...] | None = None
    seeds: int | None = None


@dataclass(frozen=True, slots=True)
class Series:
    """One line of a plot. `low` and `high` are bounds of each point, where there are any."""

    name: str
    x: tuple[float, ...]
    y: tuple[float | None, ...]
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Panel:
    """One diagram of a plot. `ticks` name the x values 0, 1, 2 ... where these are categories."""

    title: str
    series: tuple[Series, ...]
    x_label: str
    y_label: str
    ticks: tuple[str, ...] = ()
    is_logarithmic: bool = False
    """Of y; zero is shown too."""


class Findings(msgspec.Struct, frozen=True, kw_only=True):
    """The table. Nothing in it is of real time."""

    schema: str = "muster.experiment/1"
    name: str
    question: str
    setup: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Scalar, ...], ...]
    runs: int
    """How many were measured."""


@dataclass(frozen=True, slots=True)
class Experiment(Generic[S, O]):
    """See the module. `measure` must be a function of a module: it runs in other processes."""

    name: str
    question: str
    setups: Callable[[Options], list[S]]
    measure: Callable[[S], O]
    cost: Callable[[S], float]
    """How long a setup takes compared with others: the longest begin first."""

    describe: Callable[[list[S]], str]
    """What all setups share, in one line."""

    columns: tuple[str, ...]
    rows: Callable[[Sequence[tuple[S, O]]], list[tuple[Scalar, ...]]]
    panels: Callable[[Sequence[tuple[S, O]]], list[Panel]]

    def findings(self, measured: Sequence[tuple[S, O]]) -> Findings:
        """What all say together."""
        return Findings(
            name=self.name,
            question=self.question,
            setup=self.describe([setup for setup, _ in measured]),
            columns=self.columns,
            rows=tuple(self.rows(measured)),
            runs=len(measured),
        )


def measure_all(
    experiment: Experiment[S, O],
    setups: Sequence[S],
    *,
    processes: int,
    on_done: Callable[[int], object],
) -> list[tuple[S, O]]:
    """Each setup with its outcome, in the order of the setups. `on_done` is told how many are. An
    interrupt ends it at once."""
    order = sorted(range(len(setups)), key=lambda place: -experiment.cost(setups[place]))
    outcomes: dict[int, O] = {}
    fresh = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, fresh, _leave_interrupts_to_the_parent) as pool:
        try:
            under_way: dict[int, Any] = {
                place: pool.submit(experiment.measure, setups[place]) for place in order
            }
            for place in order:
                outcomes[place] = under_way[place].result()
                on_done(len(outcomes))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for worker in multiprocessing.active_children():
                worker.terminate()
            raise
    return [(setup, outcomes[place]) for place, setup in enumerate(setups)]


def _leave_interrupts_to_the_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
