"""Failover: what a fault about the leader costs those who write.

Whole nodes under one fault each, which begins at an instant that the seed draws, so that it falls
anywhere between two heartbeats, and ends long after the cluster had to get over it. Measured are

    failover     from the fault to the first moment in which another node leads
    unavailable  the longest time between two writes that end well, of those that touch the fault

Many clients write seldom: one that waits for an answer that never comes asks nothing meanwhile, so
a few would all be waiting when the cluster already serves again, and the measure would be theirs.
Without any fault the longest gap is some 0.15 s, by chance; "a follower is killed" shows that.

A leadership counts that a colliding candidate ends at once, so no write may come out of it for
another election: then the two measures are far apart. Under loss, failover is when the leader was
first deposed, not how long that took.

A leader that is split from all others is one that is isolated; so "split" is not repeated here.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from muster.sim.experiments.experiment import Experiment, Options, Panel, Scalar, Series
from muster.sim.experiments.statistics import quantile
from muster.sim.faults import (
    AnyFault,
    Clog,
    Crash,
    Cut,
    HungDisk,
    Isolate,
    Lossy,
    Pause,
    PowerOff,
    SlowDisk,
    Stop,
)
from muster.sim.history import HistoryRecorder
from muster.sim.simulation import Moment, Plan, Report, Simulation, Timed
from muster.sim.workload import Workload
from muster_protocol.errors import LocalError, UsageError
from muster_protocol.limits import VOTERS_MAX

MEMBERS: Final = (3,)
SIZE_MIN: Final = 3
SIZE_MAX: Final = VOTERS_MAX
"""All of them vote."""

SEEDS: Final = 20

BEGINS_S: Final = 3.0
"""After the founding: the clients write since then, and some heartbeats went by."""

PHASE_S: Final = 1.0
"""Within so much of it: some heartbeats, and a round of the failure detector."""

LASTS_S: Final = 6.0
"""Twice as long as a silent cut may stay unnoticed: what is not over by then waits for the end."""

AFTER_S: Final = 3.0
"""After its end, for the write that ends the last gap."""

WORKLOAD: Final = Workload(
    clients=100, rate_per_s=40, keys=200, put=1.0, get=0.0, cas=0.0, delete=0.0
)
"""On so many keys that hardly two writes of one are under way, which would be slow to judge."""

FAULTS: Final[dict[str, Callable[[float], AnyFault]]] = {
    "leader is killed": lambda for_s: Crash(node="leader", for_s=for_s),
    "leader loses power": lambda for_s: PowerOff(nodes=("leader",), for_s=for_s),
    "leader is stopped": lambda for_s: Stop(node="leader", for_s=for_s),
    "leader is paused": lambda for_s: Pause(node="leader", for_s=for_s),
    "leader is isolated": lambda for_s: Isolate(node="leader", for_s=for_s),
    "leader hears nobody": lambda for_s: Isolate(node="leader", way="in", for_s=for_s),
    "nobody hears leader": lambda for_s: Isolate(node="leader", way="out", for_s=for_s),
    "cut: leader, follower": lambda for_s: Cut(a="leader", b="follower", for_s=for_s),
    "cut: leader to follower": lambda for_s: Cut(
        a="leader", b="follower", one_way=True, for_s=for_s
    ),
    "cut: follower to leader": lambda for_s: Cut(
        a="follower", b="leader", one_way=True, for_s=for_s
    ),
    "clog: leader to follower": lambda for_s: Clog(a="leader", b="follower", for_s=for_s),
    "20 % loss everywhere": lambda for_s: Lossy(loss=0.2, for_s=for_s),
    "leader's disk is slow": lambda for_s: SlowDisk(node="leader", for_s=for_s),
    "leader's disk hangs": lambda for_s: HungDisk(node="leader", for_s=for_s),
    "a follower is killed": lambda for_s: Crash(node="follower", for_s=for_s),
}
"""The last one is the control."""

COLUMNS: Final = (
    "members", "fault", "runs", "leader changed",
    "failover p50 s", "failover p99 s", "failover worst s", "failover worst seed",
    "unavailable p50 s", "unavailable p99 s", "unavailable worst s", "unavailable worst seed",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What determines a run."""

    fault: str
    members: int = 3
    seed: int = 1

    @property
    def begins_s(self) -> float:
        """After the founding; the same for all faults of a seed."""
        phase = random.Random(f"{self.seed}/phase").random()
        return round(BEGINS_S + PHASE_S * phase, 3)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What was measured, in seconds."""

    failover_s: float | None
    """None: the leader stayed."""

    unavailable_s: float


Measured = Sequence[tuple[Setup, Outcome]]


def measure(setup: Setup) -> Outcome:
    """Run it. Errors: LocalError if anything that is checked does not hold: then the figures are
    those of a broken cluster."""
    fault = FAULTS[setup.fault](LASTS_S)
    plan = Plan(
        seed=str(setup.seed),
        name=setup.fault,
        nodes=setup.members,
        for_s=setup.begins_s + LASTS_S + AFTER_S,
        workload=WORKLOAD,
        faults=(Timed(at_s=setup.begins_s, fault=fault),),
    )
    simulation = Simulation(plan)
    report = simulation.run()
    if report.verdict != "ok":
        raise LocalError(f"{setup}: {report.verdict}: {report.checker}: {report.what}")
    began_s = _began_s(report, setup)
    return Outcome(
        failover_s=_failover_s(report.timeline, began_s),
        unavailable_s=_unavailable_s(simulation.history, began_s, began_s + LASTS_S),
    )


def _began_s(report: Report, setup: Setup) -> float:
    """On the clock of the run. A plan begins with the founding, which takes as long as it does, and
    a fault that stops a node is told of when that has ended."""
    founded = next(moment for moment in report.timeline if moment.what.startswith("founded"))
    return founded.at_s + setup.begins_s


def _failover_s(timeline: Sequence[Moment], began_s: float) -> float | None:
    """A moment has milliseconds, so one that is as old as the fault is before it."""
    led = [moment for moment in timeline if "raft.role.changed role=leader" in moment.what]
    before = [moment.where for moment in led if moment.at_s <= began_s]
    after = [m.at_s for m in led if m.at_s > began_s and m.where != before[-1]]
    return round(after[0] - began_s, 3) if after else None


def _unavailable_s(history: HistoryRecorder, began_s: float, ended_s: float) -> float:
    """Errors: LocalError if nothing was written after the fault: then the last gap has no end."""
    written = sorted(op.ret for op in history.operations() if op.output is not None)
    gaps = [(a, b) for a, b in pairwise(written) if b > began_s and a < ended_s]
    if not gaps or gaps[-1][1] < ended_s:
        raise LocalError(f"no write ended well after {ended_s:.3f} s")
    return round(max(b - a for a, b in gaps), 3)


def _setups(options: Options) -> list[Setup]:
    """Errors: UsageError for a cluster that cannot lose one, or is larger than any."""
    sizes = options.members or MEMBERS
    if not all(SIZE_MIN <= members <= SIZE_MAX for members in sizes):
        raise UsageError(f"--members: of failover, {SIZE_MIN} to {SIZE_MAX} whole nodes")
    return [
        Setup(fault=fault, members=members, seed=seed)
        for members in sizes
        for fault in FAULTS
        for seed in range(1, (options.seeds or SEEDS) + 1)
    ]


def _describe(setups: list[Setup]) -> str:
    return (
        f"one fault of {LASTS_S:g} s each, {BEGINS_S:g}-{BEGINS_S + PHASE_S:g} s after the "
        f"founding; {WORKLOAD.clients} clients, {WORKLOAD.rate_per_s:g} writes/s, which ask "
        f"another node after 3 s; seeds 1 to {max(setup.seed for setup in setups)}"
    )


def _rows(measured: Measured) -> list[tuple[Scalar, ...]]:
    return [
        (
            *(members, fault, len(cell), len(_failovers(cell))),
            *_spread(_failovers(cell)),
            *_spread(_outages(cell)),
        )
        for (members, fault), cell in _cells(measured).items()
    ]


def _cells(measured: Measured) -> dict[tuple[int, str], Measured]:
    """By members and fault, in the order of the setups."""
    cells: dict[tuple[int, str], list[tuple[Setup, Outcome]]] = {}
    for setup, outcome in measured:
        cells.setdefault((setup.members, setup.fault), []).append((setup, outcome))
    return {key: tuple(cell) for key, cell in cells.items()}


def _failovers(cell: Measured) -> dict[int, float]:
    """By seed; without those in which the leader stayed."""
    return {s.seed: o.failover_s for s, o in cell if o.failover_s is not None}


def _outages(cell: Measured) -> dict[int, float]:
    return {setup.seed: outcome.unavailable_s for setup, outcome in cell}


def _spread(seconds: dict[int, float]) -> tuple[Scalar, ...]:
    """Median, 99th percentile, worst, and the first seed that had it."""
    values = list(seconds.values())
    worst = max(values, default=None)
    seed = next((seed for seed, value in seconds.items() if value == worst), None)
    return quantile(values, 0.5), quantile(values, 0.99), worst, seed


def _panels(measured: Measured) -> list[Panel]:
    cells = _cells(measured)
    return [
        _panel(
            f"{members} members: {title}",
            {
                fault: of(cell)
                for (of_members, fault), cell in cells.items()
                if of_members == members
            },
        )
        for members in dict.fromkeys(members for members, _ in cells)
        for title, of in (("until another node leads", _failovers), ("no write", _outages))
    ]


def _panel(title: str, cells: dict[str, dict[int, float]]) -> Panel:
    places = tuple(float(place) for place in range(len(cells)))
    of_cell = [list(seconds.values()) for seconds in cells.values()]
    shares = {"median": 0.5, "p99": 0.99, "worst": 1.0}
    return Panel(
        title=title,
        series=tuple(
            Series(name, places, tuple(quantile(values, share) for values in of_cell))
            for name, share in shares.items()
        ),
        x_label="fault",
        y_label="seconds",
        ticks=tuple(cells),
    )


EXPERIMENT: Final = Experiment(
    name="failover",
    question="how long is there no leader, and no write, after which fault?",
    setups=_setups,
    measure=measure,
    cost=lambda setup: setup.members**2,
    describe=_describe,
    columns=COLUMNS,
    rows=_rows,
    panels=_panels,
)
