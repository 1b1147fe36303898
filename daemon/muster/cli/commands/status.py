"""`muster status`: the verdict, its reason, and what to do next."""

from __future__ import annotations

from typing import TYPE_CHECKING

from muster.cli import render
from muster.cli.exit import Exit

if TYPE_CHECKING:
    import argparse

    from muster.cli.context import Context
    from muster.cli.parser import Parser

EXAMPLES = """
muster status
muster status --strict && deploy     # only where everything is well
muster status --json | jq -r .verdict
"""

_EXITS = {"NOT QUORATE": Exit.NOT_QUORATE}
_STRICT_EXITS = {**_EXITS, "FOUNDING": Exit.NOT_QUORATE, "DEGRADED": Exit.DEGRADED}


def arguments(parser: Parser) -> None:
    parser.add_argument(
        "--strict", action="store_true", help="exit 10 if degraded, 4 if not founded yet"
    )
    parser.add_argument("--watch", action="store_true", help="ask again every 2 s")


def run(args: argparse.Namespace, context: Context) -> int:
    if args.watch:
        from muster.cli.watch import watch

        watch(context, lambda: context.ask("status"), render.status)
    result = context.ask("status")
    context.show(result, render.status)
    return (_STRICT_EXITS if args.strict else _EXITS).get(result.verdict, Exit.OK)
