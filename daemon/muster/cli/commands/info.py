"""`muster info`: everything about one member."""

from __future__ import annotations

from typing import TYPE_CHECKING

from muster.cli import render

if TYPE_CHECKING:
    import argparse

    from muster.cli.context import Context
    from muster.cli.parser import Parser

EXAMPLES = """
muster info                # the daemon on this host, with its statistics
muster info web2
muster info 3f9a --json
"""


def arguments(parser: Parser) -> None:
    parser.add_argument("node", nargs="?", default="", metavar="NODE", help="name, id or its start")


def run(args: argparse.Namespace, context: Context) -> int:
    context.show(context.ask("info", node=args.node), render.info)
    return 0
