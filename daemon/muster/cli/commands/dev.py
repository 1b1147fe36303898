"""`muster dev`: a cluster on this machine, to try and to learn. It stands in `muster.cli.dev`."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from muster.cli.parser import count

if TYPE_CHECKING:
    import argparse

    from muster.cli.context import Context
    from muster.cli.parser import Parser

EXAMPLES = """
muster dev                 # three nodes on loopback, until Ctrl-C
muster dev -n 5 --dir /tmp/five
muster dev --tour          # a guided walk through founding, a failure and a split
"""


def arguments(parser: Parser) -> None:
    parser.add_argument("-n", "--nodes", type=count, default=3, metavar="N", help="how many (3)")
    parser.add_argument("--dir", metavar="DIR", help="keep the nodes' state here")
    parser.add_argument("--tour", action="store_true", help="a guided walk")
    parser.add_argument("--sabotage", metavar="STEP", help=argparse_suppress())


def run(args: argparse.Namespace, context: Context) -> int:
    del context
    result: int = importlib.import_module("muster.cli.dev").run(args)
    return result


def argparse_suppress() -> str:
    """The help text of an option that help does not name: for the tour's own tests."""
    import argparse

    return argparse.SUPPRESS
