"""`make nemesis FOR=10m SEED=1`: run it, judge it, report. Exit code 0 if all holds."""

from __future__ import annotations

import argparse
import collections
import itertools
import random
import re
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from muster.cli.local_cluster import LocalNode, ask, wait_for
from muster.sim.checkers.judgement import judge
from muster.sim.checkers.vocabulary import Budget, Verdict
from muster.sim.checkers.wording import timeline
from muster.sim.history import History
from muster_protocol.errors import LocalError
from nemesis.faults import SILENT, Drawn, Nemesis
from nemesis.hosts import SHAPES, Hosts, hosts
from nemesis.load import Load
from nemesis.logs import Logs
from testkit.namespaces import can_make_namespaces
from testkit.wall_clock import PACKAGE, WallClock, is_stepped, library

GAP_S: Final = (0.5, 4.0)
"""Between the end of a fault and the next one: sometimes too short to recover in."""

BOTH: Final = 0.3
"""How often a second fault begins while the first one lasts."""

RECOVER_S: Final = 60.0
AFTER_S: Final = 3.0
"""Behind the end of a fault, for the answer that ends what it caused."""

JUDGE_S: Final = 120.0
UNITS: Final = {"s": 1.0, "m": 60.0, "h": 3_600.0}


@dataclass(slots=True)
class Done:
    """A fault that was done."""

    kind: str
    began: float
    until: float = 0.0
    """What it caused has ended by then, or another one begins."""

    is_alone: bool = True
    elections: int = 0
    """From its beginning to that of the next one."""

    was_voter: bool = False
    lost_seat: bool = False
    """While it lasted."""

    @property
    def seat(self) -> str:
        if not self.was_voter:
            return "had no seat"
        return "lost its seat" if self.lost_seat else "kept its seat"


def main() -> int:
    parser = argparse.ArgumentParser(prog="nemesis", description=__doc__)
    parser.add_argument("--for", dest="for_s", type=_duration, default=60.0, metavar="T")
    parser.add_argument("--seed", default=str(time.time_ns() % 1_000_000))
    parser.add_argument("--clients", type=int, default=10)
    parser.add_argument("--rate", type=float, default=200.0, help="operations a second together")
    parser.add_argument("--only", default="", metavar="WORD", help="in the names of the faults")
    parser.add_argument("--history", default="nemesis.jsonl", metavar="FILE")
    args = parser.parse_args()
    if missing := _missing():
        print(f"nemesis: {missing}", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # not without clean-up
    shape = random.Random(f"{args.seed}/shape").choice(SHAPES)
    only = f" ONLY={args.only!r}" if args.only else ""
    print(f"nemesis, seed {args.seed}, {args.for_s:g} s: make nemesis FOR={args.for_s:g}s "
          f"SEED={args.seed}{only}\n{shape}", flush=True)  # fmt: skip
    with (
        tempfile.TemporaryDirectory(prefix="muster-nemesis-") as directory,
        hosts(Path(directory), shape) as made,
    ):
        logs = Logs(made.nodes)
        try:
            load, faults, wrong = _run(made, logs, args)
        except LocalError as error:
            print(f"nemesis: {error}", file=sys.stderr)
            return 1
    lines = "".join(f"{line}\n" for line in load.history.to_lines())
    Path(args.history).write_text(lines, encoding="utf-8")
    wrong += logs.bad + load.bugs + _judged(load, args.history)
    _report(load, faults, logs)
    for line in wrong:
        print(f"WRONG: {line}")
    print("ok: all that was checked holds" if not wrong else f"{len(wrong)} things are wrong")
    return 1 if wrong else 0


def _missing() -> str:
    """What this machine lacks; "" if nothing."""
    if not can_make_namespaces():
        return "needs root, iproute2, nftables and network namespaces"
    if library() is None:
        return f"steps of wall clocks need Debian's {PACKAGE}: apt-get install {PACKAGE}"
    with tempfile.TemporaryDirectory() as directory:
        if not is_stepped(WallClock(Path(directory) / "clock")):
            return f"{PACKAGE} does not step the clock of a process here"
    return ""


def _run(made: Hosts, logs: Logs, args: argparse.Namespace) -> tuple[Load, list[Done], list[str]]:
    """Found it, hurt it, heal it. Also: what did not come back."""
    for node in made.nodes:
        made.start(node)
    made.cluster.wait_for_leader()
    nemesis = Nemesis(made, random.Random(f"{args.seed}/faults"), args.only)
    load = Load(made.nodes, clients=args.clients, rate_per_s=args.rate, seed=args.seed)
    with load:
        run = _Run(made, logs, nemesis, random.Random(f"{args.seed}/gaps"))
        run.hurt(args.for_s)
        nemesis.heal()
        print("  all faults end", flush=True)
        wrong = _recovered(made, load)
    logs.read()
    run.count()
    return load, run.done, wrong


class _Run:
    """One fault or two at a time, until time is up."""

    def __init__(self, made: Hosts, logs: Logs, nemesis: Nemesis, rng: random.Random) -> None:
        self._logs = logs
        self._nemesis = nemesis
        self._rng = rng
        self._ids = {node.name: ask(node, "status").node for node in made.nodes}
        self._elections = 0
        self._last: list[Done] = []
        self.done: list[Done] = []

    def hurt(self, for_s: float) -> None:
        began = time.monotonic()
        while time.monotonic() - began < for_s:
            _pause(self._rng.uniform(*GAP_S))
            self._logs.read()
            self.count()
            self._do([self._nemesis.draw() for _ in range(1 + (self._rng.random() < BOTH))], began)

    def count(self) -> None:
        """What has happened since the last count is for what was done then."""
        for done in self._last:
            done.until = min(done.until, time.monotonic())
            done.elections = self._logs.elections - self._elections
        self._elections = self._logs.elections

    def _do(self, drawn: Sequence[Drawn], began: float) -> None:
        self._last = []
        undos = []
        for fault in drawn:
            at = time.monotonic()
            print(f"  {at - began:7.1f} s  {fault.kind} {fault.whom} for {fault.lasts_s:.1f} s",
                  flush=True)  # fmt: skip
            done = Done(fault.kind, at, is_alone=len(drawn) == 1)
            done.was_voter = self._ids[fault.whom] in self._logs.voters
            self._last.append(done)
            undos.append((at + fault.lasts_s, done, fault, fault.begin()))
        for until, done, fault, undo in sorted(undos, key=lambda each: each[0]):
            _pause(until - time.monotonic())
            self._logs.read()
            done.lost_seat = done.was_voter and self._ids[fault.whom] not in self._logs.voters
            if fault.kind.startswith(SILENT):
                print(f"{'':12} {fault.whom} {done.seat}", flush=True)
            undo()
            done.until = time.monotonic() + AFTER_S
        self.done += self._last


def _recovered(made: Hosts, load: Load) -> list[str]:
    """One leader, and every node answers. What is missing, one line each."""
    try:
        wait_for(made.cluster.leader, RECOVER_S, "no leader after the heal")
    except LocalError as error:
        return [str(error)]
    return [line for node in made.nodes if (line := _served(load, node))] + _seated(made)


def _seated(made: Hosts) -> list[str]:
    """As many vote as should, and each node knows whether it does: also who came back."""
    said: list[str] = []

    def settled() -> bool:
        told = [ask(node, "raft") for node in made.nodes]
        leader = next((each for each in told if each and each.role == "leader"), None)
        if leader is None or any(each is None for each in told):
            return False
        voters = {row.id for row in leader.voters if row.role in ("leader", "voter")}
        vote = {each.node for each in told if each.is_voter}
        said[:] = [f"{len(voters)} vote, {len(leader.voters)} have seats, {len(vote)} say so"]
        return voters == vote and len(leader.voters) == made.shape.voters

    try:
        wait_for(settled, RECOVER_S, f"not {made.shape.voters} voters after the heal")
    except LocalError as error:
        return [f"{error}: {' '.join(said)}"]
    return []


def _served(load: Load, node: LocalNode) -> str:
    deadline = time.monotonic() + RECOVER_S
    while time.monotonic() < deadline:
        if load.ask_once(node, f"proof {node.name}"):
            return ""
        _pause(0.2)
    return f"{node.name} does not answer {RECOVER_S:.0f} s after the heal"


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


def _report(load: Load, faults: Sequence[Done], logs: Logs) -> None:
    told = load.told
    print(f"{told.ok + told.failed + told.unknown} operations: {told.ok} answered, {told.failed} "
          f"refused, {told.unknown} unknown; {logs.elections} elections")  # fmt: skip
    silent = [fault for fault in faults if fault.kind.startswith(SILENT) and fault.was_voter]
    alone = [fault for fault in silent if fault.is_alone]
    print(f"voters silent for long: {len(silent)}, replaced: {_replaced(silent)}; "
          f"as the only fault: {len(alone)}, replaced: {_replaced(alone)}")  # fmt: skip
    print("wall clocks as logged: {:+,.0f} s to {:+,.0f} s".format(*logs.ahead_s))
    by_kind: dict[str, list[Done]] = collections.defaultdict(list)
    for fault in faults:
        by_kind[fault.kind].append(fault)
    print("longest time without an answer, in seconds; elections while it was the only fault")
    print(f"{'fault':16} {'times':>5} {'median':>7} {'worst':>6} {'alone':>6} {'elections':>9}")
    for kind, those in sorted(by_kind.items()):
        gaps = [_gap_s(load.answered_at, each.began, each.until) for each in those]
        elections = [each.elections for each in those if each.is_alone]
        print(f"{kind:16} {len(those):5} {statistics.median(gaps):7.2f} {max(gaps):6.2f} "
              f"{len(elections):6} {sum(elections):9}")  # fmt: skip


def _replaced(faults: Sequence[Done]) -> int:
    return sum(fault.lost_seat for fault in faults)


def _gap_s(answered_at: Sequence[float], began: float, until: float) -> float:
    """The longest one whose middle is in that time: one at whose end the next fault has begun
    already is due to this one, and one that begins with that is not."""
    gaps = (
        late - max(early, began)
        for early, late in itertools.pairwise(answered_at)
        if began < (early + late) / 2 < until
    )
    return max(gaps, default=0.0)


def _pause(seconds: float) -> None:
    threading.Event().wait(max(0.0, seconds))


def _duration(text: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r}: such as 60s or 10m")
    return float(found[1]) * UNITS.get(found[2], 1.0)


if __name__ == "__main__":
    sys.exit(main())
