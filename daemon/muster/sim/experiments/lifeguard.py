"""Lifeguard's false positives: what each of its parts is worth (arXiv 1707.00788, section V).

SWIM, each part of Lifeguard alone, all of them, and this daemon's own settings; some members whose
network stands still again and again, which is how the paper's anomalies act on a member: what it
sends and what it should read waits, its timers do not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from muster.sim.experiments.experiment import Experiment, Options, Panel, Scalar, Series
from muster.sim.experiments.members import Outcome, Setup, measure
from muster.sim.experiments.statistics import quantile

MEMBERS: Final = (50, 128)
SICK: Final = (1, 4, 8, 16, 32)
SEEDS: Final = 1
BASELINE: Final = "SWIM"
RIVALS: Final = (BASELINE, "LHA-Probe", "LHA-Suspicion", "Buddy", "Lifeguard", "muster")

COLUMNS: Final = (
    "members", "sick", "variant", "FP", "% of SWIM", "FP-", "FP- % of SWIM",
    "detected p50 s", "p99 s", "missed", "packets", "MB",
)  # fmt: skip

Measured = Sequence[tuple[Setup, Outcome]]


def _setups(options: Options) -> list[Setup]:
    return [
        Setup(variant=variant, members=members, sick=sick, sickness="stalls", seed=seed)
        for members in options.members or MEMBERS
        for sick in SICK
        if sick + 2 <= members
        for variant in RIVALS
        for seed in range(1, (options.seeds or SEEDS) + 1)
    ]


def _describe(setups: list[Setup]) -> str:
    seeds = max(setup.seed for setup in setups)
    return (
        f"alpha 5, beta 6, K 3; each run {setups[0].for_s:g} s, a healthy member dies at "
        f"{setups[0].dies_at_s:g} s; seeds 1 to {seeds}; the network of a sick member stands still "
        "for 1-32 s, flows for 0.1-10 s, and so on; counts are of all seeds"
    )


def _rows(measured: Measured) -> list[tuple[Scalar, ...]]:
    rows: list[tuple[Scalar, ...]] = []
    sizes = list(dict.fromkeys(setup.members for setup, _ in measured))
    for members in sizes:
        counts = list(dict.fromkeys(s.sick for s, _ in measured if s.members == members))
        for sick in (*counts, None):
            cells = {
                variant: [
                    outcome
                    for setup, outcome in measured
                    if (setup.variant, setup.members) == (variant, members)
                    and sick in (None, setup.sick)
                ]
                for variant in RIVALS
            }
            base = cells[BASELINE]
            rows += [
                (members, "all" if sick is None else sick, variant, *_row(cell, base))
                for variant, cell in cells.items()
            ]
    return rows


def _row(cell: list[Outcome], base: list[Outcome]) -> tuple[Scalar, ...]:
    fp, fp_healthy = sum(o.fp for o in cell), sum(o.fp_healthy for o in cell)
    detected_s = [seconds for outcome in cell for seconds in outcome.detected_s]
    return (
        fp,
        _percent(fp, sum(o.fp for o in base)),
        fp_healthy,
        _percent(fp_healthy, sum(o.fp_healthy for o in base)),
        _rounded(quantile(detected_s, 0.5)),
        _rounded(quantile(detected_s, 0.99)),
        sum(o.missed for o in cell),
        sum(o.packets for o in cell),
        round(sum(o.bytes for o in cell) / 1e6, 1),
    )


def _percent(count: int, of: int) -> float | None:
    return round(100 * count / of, 2) if of else None


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 1)


def _panels(measured: Measured) -> list[Panel]:
    sizes = dict.fromkeys(setup.members for setup, _ in measured)
    return [
        Panel(
            title=f"{members} members",
            series=tuple(_series(variant, members, measured) for variant in RIVALS),
            x_label="sick members",
            y_label="false positives in a run (mean)",
            is_logarithmic=True,
        )
        for members in sizes
    ]


def _series(variant: str, members: int, measured: Measured) -> Series:
    counts: dict[int, list[int]] = {}
    for setup, outcome in measured:
        if (setup.variant, setup.members) == (variant, members):
            counts.setdefault(setup.sick, []).append(outcome.fp)
    return Series(
        variant,
        tuple(counts),
        tuple(sum(of_seeds) / len(of_seeds) for of_seeds in counts.values()),
    )


EXPERIMENT: Final = Experiment(
    name="lifeguard",
    question="how often is a healthy member taken for dead while others are sick?",
    setups=_setups,
    measure=measure,
    cost=lambda setup: setup.members**2 * (4 + setup.sick),
    describe=_describe,
    columns=COLUMNS,
    rows=_rows,
    panels=_panels,
)
