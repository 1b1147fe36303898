"""How fast simulations run: virtual seconds in a second of CPU time, on one core.

Run by `make bench-sim`; a few minutes. Of whole nodes, the whole run is counted, from the founding
to the judgement of the history; of bare members, what follows their founding.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable

from msgspec.structs import replace

from muster.sim.machines.gossip import GossipMembers
from muster.sim.simulation import Plan, Simulation
from muster.sim.swarm import draw
from muster.sim.workload import Workload

NODES = 5
FOR_S = 120.0


def nodes_idle(seed: int) -> float:
    """Five whole nodes; nobody asks for anything."""
    plan = Plan(seed=str(seed), nodes=NODES, for_s=FOR_S, workload=Workload(clients=0))
    return _nodes(plan)


def nodes_under_load(seed: int) -> float:
    """The same with ten requests a second, and drawn faults."""
    plan = draw(str(seed), nodes=NODES, for_s=FOR_S)
    return _nodes(replace(plan, workload=Workload(rate_per_s=10.0)))


def members_128(seed: int) -> float:
    return _members(128, seed, for_s=60.0)


def members_1000(seed: int) -> float:
    return _members(1_000, seed, for_s=20.0)


def _nodes(plan: Plan) -> float:
    began = time.process_time()
    report = Simulation(plan).run()
    assert report.verdict == "ok", f"seed {plan.seed}: {report.checker}: {report.what}"
    return report.virtual_s / (time.process_time() - began)


def _members(count: int, seed: int, *, for_s: float) -> float:
    cluster = GossipMembers(seed=seed, on_signal=lambda _: None)
    cluster.found(count)
    cluster.run(5.0)
    began = time.process_time()
    cluster.run(for_s)
    return for_s / (time.process_time() - began)


BENCHMARKS: tuple[tuple[str, int, Callable[[int], float]], ...] = (
    ("5 whole nodes, idle", 60, nodes_idle),
    ("5 whole nodes, 10 requests/s, drawn faults", 15, nodes_under_load),
    ("128 members, idle", 20, members_128),
    ("1,000 members, idle", 3, members_1000),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    seeds = parser.parse_args().seeds
    figures: dict[str, list[float]] = {what: [] for what, _, _ in BENCHMARKS}
    for seed in range(1, seeds + 1):  # by turns: what disturbs the machine disturbs all
        for what, _, run in BENCHMARKS:
            figures[what].append(run(seed))
    for what, goal, _ in BENCHMARKS:
        times = figures[what]
        median = statistics.median(times)
        print(f"{what:44} {median:5.0f} x  ({min(times):.0f} to {max(times):.0f}; goal {goal})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
