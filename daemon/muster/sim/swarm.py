"""A plan drawn from a seed: which faults, how often, on what network, under which load.

Swarm testing (Groce et al., ISSTA 2012): a run with some features left out finds more than one with
all of them, because features mask each other: a cluster that loses power every ten seconds never
gets as far as a snapshot. So each kind of fault is in or out of a run by the toss of a coin, and
how often they come is drawn too. All of it is printed before the run; the seed alone repeats it.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final, Literal

from muster.entropy import SeededEntropy
from muster.sim.faults import (
    AnyFault,
    BadLink,
    BitRot,
    Clog,
    Crash,
    Cut,
    DiskError,
    DriftClock,
    Flap,
    FullDisk,
    HungDisk,
    Isolate,
    Lossy,
    OldStreams,
    Pause,
    PowerOff,
    ResetStreams,
    Seats,
    SlowDisk,
    SlowReader,
    Split,
    StepClock,
    Stop,
)
from muster.sim.network import MTU_BYTES, Link
from muster.sim.simulation import Plan, Timed
from muster.sim.workload import Workload

SIZES: Final = (3, 3, 3, 5, 5, 4, 2, 1)
"""Mostly what people run; the even and the small ones have majorities of their own."""

FAULT_S: Final = (0.5, 20.0)
"""How long a fault lasts: from below a heartbeat to well above every time-out."""

GAP_S: Final = (2.0, 20.0)
"""Mean time between two faults: they overlap in some runs and stand alone in others."""

Draw = Callable[[random.Random, int], AnyFault]


def _node(rng: random.Random, nodes: int) -> str:
    """The leader is the most interesting one."""
    return rng.choice(("leader", "follower", f"n{rng.randint(1, nodes)}"))


def _some(rng: random.Random, nodes: int) -> tuple[str, ...]:
    names = [f"n{number}" for number in range(1, nodes + 1)]
    return tuple(sorted(rng.sample(names, rng.randint(1, nodes))))


def _for_s(rng: random.Random) -> float:
    return round(rng.uniform(*FAULT_S), 3)


DRAWS: Final[dict[str, Draw]] = {
    "crash": lambda rng, n: Crash(node=_node(rng, n), for_s=_for_s(rng)),
    "power-off": lambda rng, n: PowerOff(
        nodes=_some(rng, n), tear=rng.random() < 0.7, for_s=_for_s(rng)
    ),
    "power-off-all": lambda rng, _: PowerOff(tear=rng.random() < 0.7, for_s=_for_s(rng)),
    "stop": lambda rng, n: Stop(node=_node(rng, n), for_s=_for_s(rng)),
    "pause": lambda rng, n: Pause(node=_node(rng, n), for_s=_for_s(rng)),
    "isolate": lambda rng, n: Isolate(node=_node(rng, n), for_s=_for_s(rng)),
    "isolate-one-way": lambda rng, n: Isolate(
        node=_node(rng, n), way=rng.choice(("in", "out")), for_s=_for_s(rng)
    ),
    "cut": lambda rng, n: Cut(
        a=_node(rng, n), b=_node(rng, n), one_way=rng.random() < 0.5, for_s=_for_s(rng)
    ),
    "split": lambda rng, n: Split(nodes=_some(rng, n), for_s=_for_s(rng)),
    "flap": lambda rng, n: Flap(
        node=_node(rng, n), period_s=round(rng.uniform(0.3, 4.0), 3), for_s=_for_s(rng)
    ),
    "lossy": lambda rng, _: Lossy(
        loss=round(rng.uniform(0.0, 0.3), 3),
        duplicate=round(rng.uniform(0.0, 0.1), 3),
        delay_s=round(rng.uniform(0.0005, 0.05), 4),
        jitter_s=round(rng.uniform(0.0005, 0.2), 4),
        for_s=_for_s(rng),
    ),
    "slow-disk": lambda rng, n: SlowDisk(
        node=_node(rng, n), fsync_s=round(rng.uniform(0.02, 1.5), 3), for_s=_for_s(rng)
    ),
    "full-disk": lambda rng, n: FullDisk(node=_node(rng, n), for_s=_for_s(rng)),
    "hung-disk": lambda rng, n: HungDisk(node=_node(rng, n), for_s=_for_s(rng)),
    "slow-reader": lambda rng, n: SlowReader(node=_node(rng, n), for_s=_for_s(rng)),
    "clog": lambda rng, n: Clog(a=_node(rng, n), b=_node(rng, n), for_s=_for_s(rng)),
    "reset-streams": lambda rng, n: ResetStreams(a=_node(rng, n), b=_node(rng, n)),
    "step-clock": lambda rng, n: StepClock(
        node=_node(rng, n), by_s=round(rng.uniform(-1e5, 1e5), 1), for_s=_for_s(rng)
    ),
}

LATER_DRAWS: Final[dict[str, Draw]] = {
    "disk-error": lambda rng, n: DiskError(
        node=_node(rng, n), action=rng.choice(("read", "write", "sync", "sync")), for_s=_for_s(rng)
    ),
    "bit-rot": lambda rng, n: BitRot(node=_node(rng, n), for_s=_for_s(rng)),
    "drift-clock": lambda rng, n: DriftClock(
        node=_node(rng, n), by_ppm=round(rng.uniform(-1e5, 1e5)), for_s=_for_s(rng)
    ),
    "old-streams": lambda rng, n: OldStreams(
        a=_node(rng, n),
        b=_node(rng, n),
        broken_after_s=round(rng.uniform(0.05, 2.0), 3),
        for_s=_for_s(rng),
    ),
}
"""Kinds that came later. They are drawn from a stream of their own, so that the other draws of a
seed are what they were."""

CLOCKS_PPM: Final = (0.0, 100.0, 1_000.0)
"""How much monotonic clocks differ: a quartz is some 50 ppm wrong, NTP slews by 500."""

WITNESSES: Final = 0.15
"""Share of runs with a witness, where there are three nodes or more."""

LATER: Final = 0.3
"""Share of runs that have some of these: the other seeds mean what they meant."""


def _bad_link(rng: random.Random, nodes: int) -> BadLink:
    return BadLink(
        a=_node(rng, nodes),
        b=_node(rng, nodes),
        one_way=rng.random() < 0.5,
        delay_s=round(rng.uniform(0.0005, 0.05), 4),
        jitter_s=round(rng.uniform(0.0, 0.1), 4),
        tail_s=rng.choice((0.0, 0.0, 0.01, 0.1)),
        loss=rng.choice((0.0, 0.05, 0.3)),
        duplicate=rng.choice((0.0, 0.1)),
        reorder=rng.choice((0.0, 0.3)),
        reorder_s=round(rng.uniform(0.001, 0.3), 4),
        mtu_bytes=rng.choice((MTU_BYTES, 1_200, 500)),
        bandwidth_bytes_s=rng.choice((0.0, 1e6, 2e4)),
        for_s=_for_s(rng),
    )


def _seats(rng: random.Random, nodes: int) -> Seats:
    change: Literal["size", "add", "remove"] = rng.choice(
        ("size", "add", "add", "remove", "remove")
    )
    return Seats(node=_node(rng, nodes), change=change, size=rng.choice((1, 3, 3, 5)), for_s=5.0)


def draw(seed: str, *, nodes: int | None = None, for_s: float = 60.0) -> Plan:
    """The plan of this seed. `nodes` None: drawn too."""
    rng = SeededEntropy(seed).stream("swarm")
    size = rng.choice(SIZES) if nodes is None else nodes
    kinds = [kind for kind in DRAWS if rng.random() < 0.5] or [rng.choice(list(DRAWS))]
    later, later_kinds = SeededEntropy(seed).stream("kinds that came later"), list[str]()
    if later.random() < LATER:
        later_kinds = [kind for kind in LATER_DRAWS if later.random() < 0.5]
    more = _faults(later, LATER_DRAWS, later_kinds, size, for_s) if later_kinds else ()
    seats = SeededEntropy(seed).stream("seats")
    if seats.random() < LATER and size > 1:
        later_kinds.append("seats")
        more += _faults(seats, {"seats": _seats}, ["seats"], size, for_s)
    witness = SeededEntropy(seed).stream("witness").random() < WITNESSES and size > 2
    if witness:
        later_kinds.append("a witness")
    links, clock_ppm = SeededEntropy(seed).stream("one bad way"), 0.0
    if links.random() < LATER:
        clock_ppm = links.choice(CLOCKS_PPM)
        later_kinds.append("bad-link")
        more += _faults(links, {"bad-link": _bad_link}, ["bad-link"], size, for_s)
    return Plan(
        seed=seed,
        name="swarm: " + ", ".join([*kinds, *later_kinds]),
        clock_ppm=clock_ppm,
        nodes=size,
        witness=witness,
        for_s=for_s,
        link=Link(
            delay_s=round(rng.uniform(0.0001, 0.002), 5),
            jitter_s=round(rng.uniform(0.0001, 0.005), 5),
            loss=rng.choice((0.0, 0.0, 0.01, 0.05)),
            duplicate=rng.choice((0.0, 0.0, 0.01)),
        ),
        workload=Workload(
            clients=rng.randint(1, 5),
            rate_per_s=round(rng.uniform(2.0, 20.0), 1),
            keys=rng.randint(1, 6),
        ),
        faults=_by_time(*_faults(rng, DRAWS, kinds, size, for_s), *more),
    )


def _by_time(*faults: Timed) -> tuple[Timed, ...]:
    return tuple(sorted(faults, key=lambda timed: timed.at_s))


def _faults(
    rng: random.Random, draws: dict[str, Draw], kinds: list[str], nodes: int, for_s: float
) -> tuple[Timed, ...]:
    gap_s, at_s = rng.uniform(*GAP_S), 0.0
    faults: list[Timed] = []
    while (at_s := at_s + rng.expovariate(1.0 / gap_s)) < for_s:
        fault = draws[rng.choice(kinds)](rng, nodes)
        faults.append(Timed(at_s=round(at_s, 3), fault=fault))
    return tuple(faults)
