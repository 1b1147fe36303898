"""`muster experiment`: many simulated runs, and the table that they make together. No daemon."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from muster.cli import render
from muster.cli.exit import Exit
from muster.cli.parser import count
from muster_protocol.errors import UsageError

if TYPE_CHECKING:
    import argparse

    from muster.cli.context import Context
    from muster.cli.parser import Parser

ASKS_DAEMON = False

EXAMPLES = """
muster experiment                                       # which there are
muster experiment failover --seeds 5
muster experiment lifeguard --members 50 --plot fp.svg
muster experiment starved --json | jq -r '.rows[] | @tsv'
"""

HELP = """
The tables of docs/experiments.md are made by these, some in seconds and some in hours: --members
and --seeds make them smaller. Chance is decided by the seeds, so the same command gives the same
table, however many processes share the work.
"""


def arguments(parser: Parser) -> None:
    parser.epilog = HELP
    parser.add_argument("name", nargs="?", metavar="NAME", help="without one: a list")
    parser.add_argument("--members", type=_sizes, metavar="N[,N]", help="sizes of clusters")
    parser.add_argument("--seeds", type=count, metavar="K", help="runs of each setup: seeds 1 to K")
    parser.add_argument("--plot", metavar="FILE", help="draw it, as .svg or .png")
    parser.add_argument("--processes", type=count, metavar="P", help="at once (one for each core)")


def run(args: argparse.Namespace, context: Context) -> int:
    from muster.sim.experiments.catalogue import NAMES, experiment_named
    from muster.sim.experiments.experiment import Options, measure_all

    if args.name is None:
        questions = {name: experiment_named(name).question for name in NAMES}
        context.show(questions, render.experiments)
        return Exit.OK
    if args.name not in NAMES:
        raise UsageError(f"there is no experiment {args.name!r}; one of {', '.join(NAMES)}")
    if 0 in (args.seeds, args.processes):
        raise UsageError("--seeds and --processes count from 1")
    if args.plot is not None:
        from muster.sim.experiments import plot

        plot.check(args.plot)
    experiment = experiment_named(args.name)
    setups = experiment.setups(Options(members=args.members, seeds=args.seeds))
    if not setups:
        raise UsageError("--members: too few for this experiment")
    terminal = context.terminal

    def on_done(done: int) -> None:
        terminal.progress(f"{done} of {len(setups)} runs")

    on_done(0)
    try:
        measured = measure_all(
            experiment, setups, processes=args.processes or _cores(), on_done=on_done
        )
    finally:
        terminal.progress("")
    context.show(experiment.findings(measured), render.experiment)
    if args.plot is not None:
        plot.draw(experiment.question, experiment.panels(measured), args.plot)
    return Exit.OK


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def _sizes(text: str) -> tuple[int, ...]:
    import argparse

    from muster.sim.experiments.experiment import MEMBERS_MAX

    sizes = tuple(count(part) for part in text.split(","))
    if not all(1 < size <= MEMBERS_MAX for size in sizes):
        raise argparse.ArgumentTypeError(f"{text!r}: sizes go from 2 to {MEMBERS_MAX}")
    return sizes
