"""`muster partition`: which side of a split this node is on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from muster.cli import render
from muster.cli.exit import Exit

if TYPE_CHECKING:
    import argparse

    from muster.cli.context import Context
    from muster.cli.parser import Parser

EXAMPLES = """
muster partition
muster partition >/dev/null && run-the-job     # exit 4 where this side may not write
"""


def arguments(parser: Parser) -> None:
    del parser


def run(args: argparse.Namespace, context: Context) -> int:
    del args
    result = context.ask("partition")
    context.show(result, render.partition)
    return Exit.OK if result.may_write else Exit.NOT_QUORATE
