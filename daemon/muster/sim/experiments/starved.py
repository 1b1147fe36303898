"""The grid of kinship's replication of Lifeguard: starved members and lost packets.

50 members of which some read every packet 0.5-2.5 s late, memberlist's LAN timings (alpha 4, K 3),
120 s, one healthy member dies at 60 s. Asked is in how many runs anybody is taken for dead who
lives. kinship found 62 % of its starved runs of SWIM (2,220 and 2,253 of 3,600, without and with a
fallback to streams) and 3 % of Lifeguard; a SWIM that had none would be no honest baseline.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from muster.sim.experiments.experiment import Experiment, Options, Panel, Scalar, Series
from muster.sim.experiments.members import Outcome, Setup, measure
from muster.sim.experiments.statistics import quantile, wilson

MEMBERS: Final = 50
STARVED_PERCENT: Final = (0, 1, 5, 10)
LOSS: Final = (0.01, 0.03, 0.05)
SEEDS: Final = 20
RIVALS: Final = ("SWIM, alpha 4", "Lifeguard, alpha 4", "muster")

COLUMNS: Final = (
    "starved", "loss %", "variant", "runs", "with false deaths", "% of runs", "95 % interval",
    "false deaths", "suspicions", "detected p50 s", "p99 s", "missed", "MB",
)  # fmt: skip

Measured = Sequence[tuple[Setup, Outcome]]
Cell = tuple[int, float, str]


def _setups(options: Options) -> list[Setup]:
    return [
        Setup(
            variant=variant,
            members=members,
            sick=sick,
            loss=loss,
            seed=seed,
        )
        for members in options.members or (MEMBERS,)
        for sick in dict.fromkeys(math.ceil(members * each / 100) for each in STARVED_PERCENT)
        for loss in LOSS
        for variant in RIVALS
        for seed in range(1, (options.seeds or SEEDS) + 1)
    ]


def _describe(setups: list[Setup]) -> str:
    sizes = ", ".join(map(str, dict.fromkeys(setup.members for setup in setups)))
    return (
        f"{sizes} members, of which 0, 1, 5 and 10 % (rounded up) are starved; each run "
        f"{setups[0].for_s:g} s, a healthy member dies at "
        f"{setups[0].dies_at_s:g} s; seeds 1 to {max(setup.seed for setup in setups)}; a starved "
        "member reads every packet 0.5-2.5 s late; intervals are Wilson's"
    )


def _cells(measured: Measured) -> dict[Cell, list[Outcome]]:
    cells: dict[Cell, list[Outcome]] = {}
    for setup, outcome in measured:
        cells.setdefault((setup.sick, setup.loss, setup.variant), []).append(outcome)
    return cells


def _rows(measured: Measured) -> list[tuple[Scalar, ...]]:
    cells = _cells(measured)
    rows = [
        (starved, round(100 * loss), variant, *_row(cell))
        for (starved, loss, variant), cell in cells.items()
    ]
    for variant in RIVALS:
        of_starved = [
            outcome
            for (starved, _, name), cell in cells.items()
            if name == variant and starved
            for outcome in cell
        ]
        rows.append(("any", "all", variant, *_row(of_starved)))
    return rows


def _row(cell: list[Outcome]) -> tuple[Scalar, ...]:
    hits = sum(_false_deaths(outcome) > 0 for outcome in cell)
    low, high = wilson(hits, len(cell))
    detected_s = [seconds for outcome in cell for seconds in outcome.detected_s]
    p50, p99 = quantile(detected_s, 0.5), quantile(detected_s, 0.99)
    return (
        len(cell),
        hits,
        round(100 * hits / len(cell)) if cell else None,
        f"{100 * low:.0f}-{100 * high:.0f}",
        sum(map(_false_deaths, cell)),
        sum(outcome.suspicions for outcome in cell),
        None if p50 is None else round(p50, 1),
        None if p99 is None else round(p99, 1),
        sum(outcome.missed for outcome in cell),
        round(sum(outcome.bytes for outcome in cell) / 1e6, 1),
    )


def _false_deaths(outcome: Outcome) -> int:
    return outcome.fp + outcome.fp_sick


def _panels(measured: Measured) -> list[Panel]:
    cells = _cells(measured)
    return [
        Panel(
            title=f"{100 * loss:.0f} % of packets lost",
            series=tuple(_series(variant, loss, cells) for variant in RIVALS),
            x_label="starved members",
            y_label="runs with a false death, %",
        )
        for loss in LOSS
    ]


def _series(variant: str, loss: float, cells: dict[Cell, list[Outcome]]) -> Series:
    points = {
        starved: cell
        for (starved, lost, name), cell in cells.items()
        if (lost, name) == (loss, variant)
    }
    hits = [(sum(_false_deaths(o) > 0 for o in cell), len(cell)) for cell in points.values()]
    intervals = [wilson(*of) for of in hits]
    return Series(
        variant,
        tuple(points),
        tuple(100 * count / of for count, of in hits),
        tuple(100 * low for low, _ in intervals),
        tuple(100 * high for _, high in intervals),
    )


EXPERIMENT: Final = Experiment(
    name="starved",
    question="in how many runs is anybody taken for dead who lives?",
    setups=_setups,
    measure=measure,
    cost=lambda setup: setup.members * (4 + setup.sick),
    describe=_describe,
    columns=COLUMNS,
    rows=_rows,
    panels=_panels,
)
