"""`muster simulate`: a whole cluster in one process, on virtual time, under faults."""

from __future__ import annotations

import contextlib
import functools
import re
import shlex
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from muster.cli import render
from muster.cli.exit import Exit
from muster.cli.parser import count
from muster_protocol.errors import UsageError

if TYPE_CHECKING:
    import argparse

    from muster.cli.context import Context
    from muster.cli.parser import Parser
    from muster.sim.simulation import Moment, Plan, Report

ASKS_DAEMON = False

EXAMPLES = """
muster simulate                                   # faults drawn from a seed
muster simulate --seed 51 --nodes 5 --for 10m
muster simulate configs/scenarios/switch-reboot.toml
muster simulate my-faults.toml --config /etc/muster/muster.toml
muster simulate --runs 100 --json                 # seeds 1 to 100, a line of JSON each
muster simulate --history run.jsonl               # for muster check-history run.jsonl
"""

SECONDS_MAX = 366 * 86_400.0
UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}


def arguments(parser: Parser) -> None:
    parser.add_argument("scenario", nargs="?", metavar="SCENARIO", help="a file; else: swarm")
    parser.add_argument("--nodes", type=count, metavar="N", help="how many (of the scenario)")
    parser.add_argument("--seed", default="1", metavar="S", help="decides all chance (1)")
    parser.add_argument("--for", dest="for_s", type=_duration, metavar="T", help="such as 10m")
    parser.add_argument("--config", metavar="FILE", help="a muster.toml for every node")
    parser.add_argument("--runs", type=count, default=1, metavar="K", help="so many seeds (1)")
    parser.add_argument("--log", metavar="FILE", help="write every event of the run here")
    parser.add_argument("--history", metavar="FILE", help="write what clients saw here")


def run(args: argparse.Namespace, context: Context) -> int:
    from muster.sim.cluster import check_configuration

    if args.runs < 1:
        raise UsageError("--runs counts from 1")
    if not args.seed.isprintable():
        raise UsageError("--seed: any text that can be printed")
    if args.runs > 1 and not (args.seed.isdecimal() and args.seed.isascii()):
        raise UsageError("--runs counts seeds up: --seed must be a number")
    check_configuration(args.config)
    code = Exit.OK
    for number in range(args.runs):
        seed = str(int(args.seed) + number) if args.runs > 1 else args.seed
        report = _simulate(_plan(args, seed), args, context)
        if report.verdict != "ok":
            code = Exit.FAILED
            context.terminal.note(f"again with: {_command(args, seed)}")
    return code


def _plan(args: argparse.Namespace, seed: str) -> Plan:
    from msgspec.structs import replace

    from muster.sim.cluster import SIZE_MAX
    from muster.sim.scenario import check_plan, load_plan
    from muster.sim.swarm import draw

    if args.nodes is not None and not 1 <= args.nodes <= SIZE_MAX:
        raise UsageError(f"--nodes {args.nodes}: 1 to {SIZE_MAX}")
    if args.scenario is None:
        plan = draw(seed, nodes=args.nodes, for_s=args.for_s or 60.0)
    else:
        plan = load_plan(args.scenario, seed=seed)
        plan = replace(plan, nodes=args.nodes or plan.nodes, for_s=args.for_s or plan.for_s)
        check_plan(plan, args.scenario)
    return replace(plan, config_file=args.config)


def _simulate(plan: Plan, args: argparse.Namespace, context: Context) -> Report:
    """One run, told as it goes."""
    from muster.sim.faults import describe
    from muster.sim.simulation import Simulation

    terminal, is_told = context.terminal, args.runs == 1 and not context.as_json
    if is_told:
        terminal.draw(render.simulation_plan(plan, describe))

    def on_moment(moment: Moment) -> None:
        if is_told:
            terminal.progress("")
            terminal.draw(render.moment(moment))

    def on_progress(now_s: float) -> None:
        terminal.progress(f"seed {plan.seed}: {now_s:.0f} s of about {plan.for_s:.0f} s")

    with contextlib.ExitStack() as stack:
        write_line = None
        if args.log is not None:
            handle = stack.enter_context(_to_write(args.log))
            write_line = functools.partial(print, file=handle)
        history = stack.enter_context(_to_write(args.history)) if args.history else None
        stack.callback(terminal.progress, "")
        simulation = Simulation(
            plan, write_line=write_line, on_moment=on_moment, on_progress=on_progress
        )
        report = simulation.run()
        if history is not None:
            history.writelines(f"{line}\n" for line in simulation.history.to_lines())
    if simulation.crash is not None:
        terminal.error("".join(traceback.format_exception(simulation.crash)))
    if args.runs > 1:
        context.show_item(report, render.simulation_line)
    else:
        context.show(report, render.simulation)
    return report


def _to_write(path: str) -> TextIO:
    """Errors: UsageError, before the run and not after it."""
    try:
        return Path(path).open("w", encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error


def _command(args: argparse.Namespace, seed: str) -> str:
    """What repeats this run."""
    parts = ["muster", "simulate"]
    if args.scenario is not None:
        parts.append(args.scenario)
    parts += ["--seed", seed]
    if args.nodes is not None:
        parts += ["--nodes", str(args.nodes)]
    if args.for_s is not None:
        parts += ["--for", f"{args.for_s:.3f}".rstrip("0").rstrip(".") + "s"]
    if args.config is not None:
        parts += ["--config", args.config]
    return shlex.join(parts)


def _duration(text: str) -> float:
    """Seconds, or a number with s, m, h or d."""
    import argparse

    found = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,3})?)([smhd]?)", text)
    if found is None or not float(found[1]):
        raise argparse.ArgumentTypeError(f"{text!r} is no duration: such as 90s, 10m, 2h")
    value = float(found[1]) * UNITS[found[2]]
    if value > SECONDS_MAX:
        raise argparse.ArgumentTypeError(f"{text!r} is more than a year")
    return value
