"""Run drawn simulations, seed after seed: `make sim`.

A seed is a run of Raft voters and one of membership machines on an event heap and, every
`NODES_EVERY` seeds, a run of whole nodes. Two processes share the seeds. The first failure of each
kind is printed with the command that repeats it; with `--json`, the first failure of all is printed
as one line and ends the search, which is what `make sim-mutants` asks for.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import asdict, dataclass
from typing import Any

from muster.sim.checkers.violated import Violated
from muster.sim.machines.gossip_swarm import GossipRun
from muster.sim.machines.gossip_swarm import draw as draw_gossip
from muster.sim.machines.raft_swarm import RaftRun
from muster.sim.machines.raft_swarm import draw as draw_raft
from muster.sim.simulation import Simulation
from muster.sim.swarm import draw as draw_nodes

PROCESSES = 2
NODES_EVERY = 20
"""A run of whole nodes takes about ten times as long: so a third of the time is theirs."""

NODES_S = 40.0


@dataclass(frozen=True)
class Failure:
    """What a seed found."""

    seed: int
    tier: str
    checker: str
    what: str
    drawn: str
    """What the seed decided about the run."""


MACHINES: tuple[tuple[str, Callable[[int], Any], Callable[[Any], Any]], ...] = (
    ("raft", draw_raft, RaftRun),
    ("gossip", draw_gossip, GossipRun),
)


def run_seed(seed: int) -> Failure | None:
    """Everything that belongs to a seed."""
    for tier, draw, run in MACHINES:
        options = draw(seed)
        try:
            run(options).run()
        except Violated as violated:
            return Failure(seed, tier, violated.checker, violated.what, str(options))
        except Exception as error:  # noqa: BLE001 (a bug that the seed found)
            return Failure(seed, tier, type(error).__name__, str(error), str(options))
    if seed % NODES_EVERY:
        return None
    plan = draw_nodes(str(seed), for_s=NODES_S)
    report = Simulation(plan).run()
    if report.verdict == "ok":
        return None
    return Failure(seed, "nodes", report.checker, report.what, str(plan))


def search(start: int, count: int, within_s: float) -> Iterator[tuple[int, Failure | None]]:
    """Seeds as they are done, in no order, until there are so many or time is up."""
    deadline = time.monotonic() + within_s
    seeds = iter(range(start, start + count))
    with ProcessPoolExecutor(PROCESSES) as pool:
        under_way: dict[Future[Failure | None], int] = {}
        try:
            while True:
                while len(under_way) < 2 * PROCESSES and time.monotonic() < deadline:
                    seed = next(seeds, None)
                    if seed is None:
                        break
                    under_way[pool.submit(run_seed, seed)] = seed
                if not under_way:
                    return
                for done in wait(under_way, return_when=FIRST_COMPLETED).done:
                    yield under_way.pop(done), done.result()
        finally:
            pool.shutdown(cancel_futures=True)


def replay(failure: Failure) -> str:
    """The command that repeats it."""
    if failure.tier == "nodes":
        return f"muster simulate --seed {failure.seed} --for {NODES_S:g}s"
    return f"make sim SEEDS=1 START={failure.seed}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=1_000)
    parser.add_argument("--start", type=int, default=1)
    parser.add_argument("--within", type=float, default=float("inf"), metavar="SECONDS")
    parser.add_argument("--json", action="store_true", help="end with the first failure")
    args = parser.parse_args()
    started, runs, failures = time.monotonic(), 0, list[Failure]()
    for _, failure in search(args.start, args.seeds, args.within):
        runs += 1
        if failure is None:
            continue
        failures.append(failure)
        if args.json:
            break
        print(f"seed {failure.seed}, {failure.tier}: {failure.drawn}")
        print(f"  {failure.checker}: {failure.what}")
        print(f"  again with: {replay(failure)}", flush=True)
    took_s = time.monotonic() - started
    if args.json:
        found = asdict(failures[0]) if failures else None
        print(json.dumps({"runs": runs, "seconds": round(took_s, 1), "failure": found}))
    else:
        last = args.start + runs - 1
        print(f"{runs} seeds from {args.start} to {last}: {len(failures)} failed, {took_s:.0f} s")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
