"""`muster signals`: what happens, as it happens."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from muster.cli import render
from muster.cli.parser import Verbs

if TYPE_CHECKING:
    import argparse

    from muster.cli.context import Context
    from muster.cli.parser import Parser

EXAMPLES = """
muster signals tail
muster signals tail 'cluster.node.*'
muster signals tail --json | jq -c '{type, subject}'
"""


def arguments(parser: Parser) -> None:
    tail = Verbs(parser).add("tail", "show signals until Ctrl-C")
    tail.add_argument(
        "pattern",
        nargs="?",
        default="**",
        metavar="PATTERN",
        help="signal type; * is one segment, ** any",
    )


def run(args: argparse.Namespace, context: Context) -> int:
    with closing(context.client.stream("signals.tail", pattern=args.pattern)) as items:
        for item in items:
            context.show_item(item, render.signal)
    return 0
