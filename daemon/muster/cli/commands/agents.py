"""`muster agents`: what runs inside the daemon, and how it is doing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from muster.cli import render
from muster.cli.parser import Verbs

if TYPE_CHECKING:
    import argparse

    from muster.cli.context import Context
    from muster.cli.parser import Parser

EXAMPLES = """
muster agents
muster agents unpark failure     # start one again that failed too often
"""


def arguments(parser: Parser) -> None:
    unpark = Verbs(parser, required=False).add("unpark", "start a parked agent again")
    unpark.add_argument("name", metavar="NAME", help="the agent")


def run(args: argparse.Namespace, context: Context) -> int:
    if args.verb == "unpark":
        context.show(context.ask("agents.unpark", name=args.name), render.done)
    else:
        context.show(context.ask("agents"), render.agents)
    return 0
