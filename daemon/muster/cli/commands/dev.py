"""`muster dev`: a cluster on this machine, to try and to learn. It stands in `muster.cli.dev`."""

from __future__ import annotations

import importlib
import re
from typing import TYPE_CHECKING

from muster.cli.parser import count
from muster_protocol.errors import UsageError
from muster_protocol.limits import VOTERS_MAX

if TYPE_CHECKING:
    import argparse

    from muster.cli.context import Context
    from muster.cli.parser import Parser

ASKS_DAEMON = False

EXAMPLES = """
muster dev                 # three nodes on loopback, until Ctrl-C
muster dev -n 5 --dir /tmp/five
muster dev --tour          # a guided walk through founding, a failure and a split
"""


def arguments(parser: Parser) -> None:
    parser.add_argument("-n", type=count, default=3, metavar="N", help="how many nodes (3)")
    parser.add_argument("--dir", metavar="DIR", help="keep the nodes' state here")
    parser.add_argument(
        "--network",
        default="127.0.0",
        metavar="A.B.C",
        help="the first three parts of the nodes' addresses, for two clusters at once (127.0.0)",
    )
    parser.add_argument("--tour", action="store_true", help="a guided walk")
    parser.add_argument("--sabotage", metavar="STEP", help=argparse_suppress())


def run(args: argparse.Namespace, context: Context) -> int:
    del context
    if not 1 <= args.n <= VOTERS_MAX:
        raise UsageError(f"-n {args.n}: a cluster is founded by 1 to {VOTERS_MAX} nodes")
    if not re.fullmatch(r"127\.\d{1,3}\.\d{1,3}", args.network):
        raise UsageError(f"--network {args.network}: expected 127.B.C, on loopback")
    result: int = importlib.import_module("muster.cli.dev").run(args)
    return result


def argparse_suppress() -> str:
    """The help text of an option that help does not name: for the tour's own tests."""
    import argparse

    return argparse.SUPPRESS
