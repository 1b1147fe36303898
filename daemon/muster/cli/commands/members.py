"""`muster members`: who is here, as the daemon on this host sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from muster.cli import render

if TYPE_CHECKING:
    import argparse

    from muster.cli.context import Context
    from muster.cli.parser import Parser

STATES = ("alive", "suspect", "failed", "stopped", "left")
EXAMPLES = """
muster members
muster members --state failed --state suspect
muster members -q --state failed | xargs -n1 muster forget
"""


def arguments(parser: Parser) -> None:
    parser.add_argument("-q", "--quiet", action="store_true", help="ids only")
    parser.add_argument("--state", action="append", choices=STATES, help="only those (repeatable)")
    parser.add_argument("--watch", action="store_true", help="ask again every 2 s")


def run(args: argparse.Namespace, context: Context) -> int:
    view = render.member_ids if args.quiet else render.members
    if args.watch:
        from muster.cli.watch import watch

        watch(context, lambda: _ask(args, context), view)
    context.show(_ask(args, context), view)
    return 0


def _ask(args: argparse.Namespace, context: Context) -> Any:
    result = context.ask("members")
    if not args.state:
        return result
    from msgspec.structs import replace

    return replace(result, members=[row for row in result.members if row.state in args.state])
