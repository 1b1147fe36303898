"""`muster raft`: the consensus, as this node has it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from muster.cli import render
from muster.cli.parser import Verbs

if TYPE_CHECKING:
    import argparse

    from muster.cli.context import Context
    from muster.cli.parser import Parser

EXAMPLES = """
muster raft                # works without a leader too
muster raft transfer       # on the leader: let another one lead, before maintenance
"""


def arguments(parser: Parser) -> None:
    Verbs(parser, required=False).add("transfer", "hand the leadership over")


def run(args: argparse.Namespace, context: Context) -> int:
    if args.verb == "transfer":
        context.show(context.ask("raft.transfer"), render.done)
    else:
        context.show(context.ask("raft"), render.raft)
    return 0
