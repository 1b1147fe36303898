"""`muster leave`: give up this node's place in the cluster, and stop the daemon."""

from __future__ import annotations

from typing import TYPE_CHECKING

from muster.cli import render
from muster.cli.exit import Exit
from muster_protocol.errors import UsageError

if TYPE_CHECKING:
    import argparse

    from muster.cli.context import Context
    from muster.cli.parser import Parser

EXAMPLES = """
muster leave               # asks first, at a terminal
muster leave --yes
systemctl stop musterd     # to stop and come back: that is not leaving
"""


def arguments(parser: Parser) -> None:
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument(
        "--force", action="store_true", help="even where the seat cannot be given back first"
    )


def run(args: argparse.Namespace, context: Context) -> int:
    if not args.yes and not _confirmed(context):
        context.terminal.note("nothing was done")
        return Exit.FAILED
    context.show(context.ask("leave", force=args.force), render.done)
    return Exit.OK


def _confirmed(context: Context) -> bool:
    """Errors: UsageError where there is nobody to ask."""
    if not context.may_prompt:
        raise UsageError("leaving gives up this node's seat: say --yes")
    context.terminal.ask("This node gives up its seat and its daemon stops. Leave? [y/N] ")
    answer = context.stdin.readline(100)
    return answer.strip().lower() in (b"y", b"yes")
