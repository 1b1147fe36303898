"""`muster join`: tell the daemon where other members are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from muster.cli import render
from muster_protocol.types import parse_address

if TYPE_CHECKING:
    import argparse

    from muster.cli.context import Context
    from muster.cli.parser import Parser

EXAMPLES = """
muster join 10.0.0.7
muster join 10.0.0.7:7411 [fd00::7]:7411
"""


def arguments(parser: Parser) -> None:
    parser.add_argument("addresses", nargs="+", metavar="ADDRESS", help="IP address, maybe :port")


def run(args: argparse.Namespace, context: Context) -> int:
    for text in args.addresses:
        parse_address(text, default_port=0)  # a typo is told even where no daemon runs
    context.show(context.ask("join", addresses=args.addresses), render.join)
    return 0
