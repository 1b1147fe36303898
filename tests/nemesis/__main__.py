"""`make nemesis FOR=10m SEED=1`: run it, judge it, report. Exit code 0 if all holds."""

from __future__ import annotations

import argparse
import collections
import itertools
import random
import re
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from muster.cli.local_cluster import LocalNode, wait_for
from muster.sim.checkers.judgement import judge
from muster.sim.checkers.vocabulary import Budget, Verdict
from muster.sim.checkers.wording import timeline
from muster.sim.history import History
from muster_protocol.errors import LocalError
from nemesis.faults import Nemesis
from nemesis.hosts import Hosts, hosts
from nemesis.load import Load
from testkit.namespaces import can_make_namespaces

GAP_S: Final = (0.5, 4.0)
"""Between the end of a fault and the next one: sometimes too short to recover in."""

BOTH: Final = 0.3
"""How often a second fault begins while the first one lasts."""

RECOVER_S: Final = 60.0
AFTER_S: Final = 3.0
"""Behind the end of a fault, for the answer that ends what it caused."""

JUDGE_S: Final = 120.0
BAD_WORDS: Final = ("Traceback", "SafetyViolation", "agent.failed", "agent.parked")
UNITS: Final = {"s": 1.0, "m": 60.0, "h": 3_600.0}


@dataclass(frozen=True, slots=True)
class Done:
    """A fault that was done."""

    kind: str
    began: float
    ended: float


def main() -> int:
    parser = argparse.ArgumentParser(prog="nemesis", description=__doc__)
    parser.add_argument("--for", dest="for_s", type=_duration, default=60.0, metavar="T")
    parser.add_argument("--seed", default=str(time.time_ns() % 1_000_000))
    parser.add_argument("--clients", type=int, default=10)
    parser.add_argument("--rate", type=float, default=200.0, help="operations a second together")
    parser.add_argument("--history", default="nemesis.jsonl", metavar="FILE")
    args = parser.parse_args()
    if not can_make_namespaces():
        print("nemesis: needs root, iproute2, nftables and network namespaces", file=sys.stderr)
        return 2
    print(f"nemesis, seed {args.seed}, {args.for_s:g} s: make nemesis FOR={args.for_s:g}s "
          f"SEED={args.seed}", flush=True)  # fmt: skip
    with (
        tempfile.TemporaryDirectory(prefix="muster-nemesis-") as directory,
        hosts(Path(directory)) as made,
    ):
        load, faults, wrong = _run(made, args)
        wrong += _said(made)
        elections = _elections(made)
    lines = "".join(f"{line}\n" for line in load.history.to_lines())
    Path(args.history).write_text(lines, encoding="utf-8")
    wrong += load.bugs + _judged(load, args.history)
    _report(load, faults, elections)
    for line in wrong:
        print(f"WRONG: {line}")
    print("ok: all that was checked holds" if not wrong else f"{len(wrong)} things are wrong")
    return 1 if wrong else 0


def _run(made: Hosts, args: argparse.Namespace) -> tuple[Load, list[Done], list[str]]:
    """Found it, hurt it, heal it. Also: what did not come back."""
    for node in made.nodes:
        made.start(node)
    made.cluster.wait_for_leader()
    nemesis = Nemesis(made, random.Random(f"{args.seed}/faults"))
    load = Load(made.nodes, clients=args.clients, rate_per_s=args.rate, seed=args.seed)
    with load:
        faults = _faults(nemesis, random.Random(f"{args.seed}/gaps"), args.for_s)
        nemesis.heal()
        print("  all faults end", flush=True)
        wrong = _recovered(made, load)
    return load, faults, wrong


def _faults(nemesis: Nemesis, rng: random.Random, for_s: float) -> list[Done]:
    began, done = time.monotonic(), list[Done]()
    while time.monotonic() - began < for_s:
        _pause(rng.uniform(*GAP_S))
        drawn = [nemesis.draw() for _ in range(1 + (rng.random() < BOTH))]
        undos = []
        for fault in drawn:
            at = time.monotonic()
            print(f"  {at - began:7.1f} s  {fault.kind} {fault.whom} for {fault.lasts_s:.1f} s",
                  flush=True)  # fmt: skip
            undos.append((at + fault.lasts_s, at, fault.kind, fault.begin()))
        for until, at, kind, undo in sorted(undos, key=lambda each: each[0]):
            _pause(until - time.monotonic())
            undo()
            done.append(Done(kind, at, time.monotonic()))
    return done


def _recovered(made: Hosts, load: Load) -> list[str]:
    """One leader, and every node answers. What is missing, one line each."""
    try:
        wait_for(made.cluster.leader, RECOVER_S, "no leader after the heal")
    except LocalError as error:
        return [str(error)]
    return [line for node in made.nodes if (line := _served(load, node))]


def _served(load: Load, node: LocalNode) -> str:
    deadline = time.monotonic() + RECOVER_S
    while time.monotonic() < deadline:
        if load.ask_once(node, f"proof {node.name}"):
            return ""
        _pause(0.2)
    return f"{node.name} does not answer {RECOVER_S:.0f} s after the heal"


def _said(made: Hosts) -> list[str]:
    """What no daemon may log."""
    return [
        f"{node.name} logged: {line[:200]}"
        for node in made.nodes
        for line in node.log().splitlines()
        if any(word in line for word in BAD_WORDS)
    ]


def _elections(made: Hosts) -> int:
    """How many terms had a leader."""
    became = re.compile(r"raft\.role\.changed.*role=leader.*term=(\d+)|"
                        r'"role": ?"leader".*"term": ?(\d+)')  # fmt: skip
    terms = {found[1] or found[2] for node in made.nodes for found in became.finditer(node.log())}
    return len(terms)


def _judged(load: Load, path: str) -> list[str]:
    deadline = time.monotonic() + JUDGE_S
    budget = Budget(is_over=lambda: time.monotonic() > deadline)
    judgement = judge(History("registry", load.history.operations()), budget=budget)
    if judgement.verdict is Verdict.LINEARIZABLE:
        return []
    if judgement.explanation is None:
        return [f"the history was not judged: {judgement.why_unknown}"]
    why = judgement.explanation
    told = "; ".join(line.strip() for line in timeline(why.operations))
    return [f"not linearizable: key {why.key}: {why.why} {told}; muster check-history {path}"]


def _report(load: Load, faults: Sequence[Done], elections: int) -> None:
    told = load.told
    print(f"{told.ok + told.failed + told.unknown} operations: {told.ok} answered, "
          f"{told.failed} refused, {told.unknown} unknown; {elections} elections")  # fmt: skip
    gaps: dict[str, list[float]] = collections.defaultdict(list)
    for fault in faults:
        gaps[fault.kind].append(_gap_s(load.answered_at, fault.began, fault.ended + AFTER_S))
    print(f"{'fault':14} {'times':>5}  longest time without an answer, s: median, worst")
    for kind, seconds in sorted(gaps.items()):
        print(f"{kind:14} {len(seconds):5}  {statistics.median(seconds):6.2f} {max(seconds):6.2f}")


def _gap_s(answered_at: Sequence[float], began: float, ended: float) -> float:
    inside = [at for at in answered_at if began < at < ended]
    instants = [began, *inside, ended]
    return max(late - early for early, late in itertools.pairwise(instants))


def _pause(seconds: float) -> None:
    threading.Event().wait(max(0.0, seconds))


def _duration(text: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r}: such as 60s or 10m")
    return float(found[1]) * UNITS.get(found[2], 1.0)


if __name__ == "__main__":
    sys.exit(main())
