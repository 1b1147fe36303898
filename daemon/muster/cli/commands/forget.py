"""`muster forget`: drop a member that will not come back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from muster.cli import render

if TYPE_CHECKING:
    import argparse

    from muster.cli.context import Context
    from muster.cli.parser import Parser

EXAMPLES = """
muster forget web3         # failed or stopped, and gone for good: it is then shown as left
"""


def arguments(parser: Parser) -> None:
    parser.add_argument("node", metavar="NODE", help="name or id of a failed or left member")


def run(args: argparse.Namespace, context: Context) -> int:
    context.show(context.ask("forget", node=args.node), render.done)
    return 0
