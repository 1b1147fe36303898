"""Rapid's two half-faults, at which gossip membership is known to be weak (ATC 2018, section 7).

One member in a hundred either hears nothing for 20 s, then everything for 20 s, and so on; or most
of its packets are lost, on the way in or on the way out. It is neither dead nor well. What can be
asked of a membership: that all others see the same, that they see it stay, and that nobody who is
well is taken for dead.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from muster.sim.experiments.experiment import Experiment, Options, Panel, Scalar, Series
from muster.sim.experiments.members import FAILED, SUSPECTED, VARIANTS
from muster.sim.machines.gossip import GossipMembers, Happened
from muster_protocol.types import Address

MEMBERS: Final = (128,)
SEEDS: Final = 5
RIVALS: Final = ("Lifeguard, alpha 4", "muster")
RETURNED: Final = "cluster.node.recovered"

BEGINS_S: Final = 20.0
SETTLED_S: Final = 80.0
"""From then on it is asked whether views agree: a minute is enough for any suspicion here."""

FLIP_S: Final = 20.0
LOST: Final = 0.8

Fault = Literal["deaf every other 20 s", "80 % lost on the way in", "80 % lost on the way out"]
FAULTS: Final[tuple[Fault, ...]] = (
    "deaf every other 20 s", "80 % lost on the way in", "80 % lost on the way out",
)  # fmt: skip

COLUMNS: Final = (
    "members", "faulty", "fault", "variant", "runs", "views agree, % of time",
    "exactly the faulty are out, %", "faulty seen out, %", "comings and goings a minute",
    "failed though well", "recovers after s",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What determines a run."""

    variant: str
    members: int
    fault: Fault
    seed: int
    for_s: float = 320.0
    """Until the fault ends; the members have a minute more to be whole again."""

    @property
    def faulty(self) -> int:
        return max(1, self.members // 100)


@dataclass
class Outcome:
    """Views of those who are well, once a second: how many members each takes for failed."""

    least: list[int] = field(default_factory=list)
    mean: list[float] = field(default_factory=list)
    most: list[int] = field(default_factory=list)
    agree: int = 0
    """Seconds after `SETTLED_S` in which all views were the same."""

    exact: int = 0
    """Of these, seconds in which they held the faulty, all of them and nobody else."""

    out: float = 0.0
    """Share of the faulty that was taken for failed, over views and time."""

    changes: int = 0
    """How often somebody well changed its mind about who is failed."""

    well_failed: int = 0
    """Reports by anybody of a member as failed which is well."""

    recovered_s: float | None = None
    """After the end of the fault: when nobody took anybody for failed any more."""


def measure(setup: Setup) -> Outcome:
    """Run it."""
    return _Run(setup).run()


class _Run:
    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._outcome = Outcome()
        self._cluster = GossipMembers(
            seed=setup.seed, config=VARIANTS[setup.variant], on_signal=self._take
        )
        self._faulty: dict[str, Address] = {}
        self._views: dict[str, set[str]] = {}

    def run(self) -> Outcome:
        setup, cluster = self._setup, self._cluster
        cluster.found(setup.members)
        rng = random.Random(f"{setup.seed}/who")
        chosen = rng.sample(cluster.members, setup.faulty)
        self._faulty = {member.id: member.address for member in chosen}
        self._views = {m.id: set() for m in cluster.members if m.id not in self._faulty}
        cluster.run(BEGINS_S)
        cluster.network.loss_of = self._loss_of
        while cluster.now < setup.for_s:
            cluster.run(1.0)
            self._look()
        cluster.network.heal()
        self._recover()
        return self._outcome

    def _loss_of(self, source: Address, to: Address) -> float:
        addresses = self._faulty.values()
        if self._setup.fault == "80 % lost on the way out":
            return LOST if source in addresses else 0.0
        if to not in addresses:
            return 0.0
        if self._setup.fault == "80 % lost on the way in":
            return LOST
        return 1.0 - (self._cluster.now - BEGINS_S) // FLIP_S % 2

    def _look(self) -> None:
        outcome, views = self._outcome, list(self._views.values())
        sizes = [len(view) for view in views]
        outcome.least.append(min(sizes))
        outcome.mean.append(sum(sizes) / len(sizes))
        outcome.most.append(max(sizes))
        if self._cluster.now < SETTLED_S:
            return
        is_same = all(view == views[0] for view in views)
        outcome.agree += is_same
        outcome.exact += is_same and views[0] == self._faulty.keys()
        out = sum(len(view & self._faulty.keys()) for view in views)
        looks = self._setup.for_s - SETTLED_S + 1
        outcome.out += out / (len(views) * len(self._faulty)) / looks

    def _recover(self) -> None:
        healed = self._cluster.now
        is_whole = lambda: not any(self._views.values())  # noqa: E731
        if self._cluster.wait_for(is_whole, 60.0, step_s=0.1):
            self._outcome.recovered_s = self._cluster.now - healed

    def _take(self, signal: Happened) -> None:
        if signal.type not in (FAILED, SUSPECTED, RETURNED):
            return
        subject = signal.data["node"]
        if signal.type == FAILED and subject not in self._faulty:
            self._outcome.well_failed += 1
        view = self._views.get(signal.node)
        if view is None:
            return
        is_out = signal.type == FAILED
        self._outcome.changes += (subject in view) != is_out
        (view.add if is_out else view.discard)(subject)


Measured = Sequence[tuple[Setup, Outcome]]


def _setups(options: Options) -> list[Setup]:
    return [
        Setup(variant=variant, members=members, fault=fault, seed=seed)
        for members in options.members or MEMBERS
        for fault in FAULTS
        for variant in RIVALS
        for seed in range(1, (options.seeds or SEEDS) + 1)
    ]


def _describe(setups: list[Setup]) -> str:
    seeds = max(setup.seed for setup in setups)
    return (
        f"the fault lasts from {BEGINS_S:g} s to {setups[0].for_s:g} s; views of those who are "
        f"well, once a second from {SETTLED_S:g} s on; seeds 1 to {seeds}"
    )


def _rows(measured: Measured) -> list[tuple[Scalar, ...]]:
    cells: dict[tuple[int, int, str, str], list[Outcome]] = {}
    for setup, outcome in measured:
        key = (setup.members, setup.faulty, setup.fault, setup.variant)
        cells.setdefault(key, []).append(outcome)
    setup = measured[0][0]
    looks = setup.for_s - SETTLED_S + 1
    minutes = (setup.for_s - BEGINS_S) / 60
    return [(*key, *_row(cell, looks, minutes, key[0] - key[1])) for key, cell in cells.items()]


def _row(cell: list[Outcome], looks: float, minutes: float, observers: int) -> tuple[Scalar, ...]:
    runs = len(cell)
    recovered_s = [outcome.recovered_s for outcome in cell if outcome.recovered_s is not None]
    return (
        runs,
        round(100 * sum(outcome.agree for outcome in cell) / runs / looks, 1),
        round(100 * sum(outcome.exact for outcome in cell) / runs / looks, 1),
        round(100 * sum(outcome.out for outcome in cell) / runs, 1),
        round(sum(outcome.changes for outcome in cell) / runs / minutes / observers, 2),
        sum(outcome.well_failed for outcome in cell),
        round(max(recovered_s), 1) if len(recovered_s) == runs else None,
    )


def _panels(measured: Measured) -> list[Panel]:
    """The first seed of each: what those who are well see over time."""
    sizes = dict.fromkeys(setup.members for setup, _ in measured)
    return [
        Panel(
            title=f"{fault}, {members} members",
            series=tuple(
                _series(setup, outcome)
                for setup, outcome in measured
                if (setup.fault, setup.members, setup.seed) == (fault, members, 1)
            ),
            x_label="seconds",
            y_label="members taken for failed",
        )
        for members in sizes
        for fault in FAULTS
    ]


def _series(setup: Setup, outcome: Outcome) -> Series:
    return Series(
        setup.variant,
        tuple(BEGINS_S + 1 + second for second in range(len(outcome.mean))),
        tuple(outcome.mean),
        tuple(outcome.least),
        tuple(outcome.most),
    )


EXPERIMENT: Final = Experiment(
    name="rapid",
    question="do all agree, and for long, about a member that is half dead?",
    setups=_setups,
    measure=measure,
    cost=lambda setup: setup.members,
    describe=_describe,
    columns=COLUMNS,
    rows=_rows,
    panels=_panels,
)
