"""`muster bootstrap`: the founding of a cluster that did not come about."""

from __future__ import annotations

from typing import TYPE_CHECKING

from muster.cli import render
from muster.cli.parser import Verbs

if TYPE_CHECKING:
    import argparse

    from muster.cli.context import Context
    from muster.cli.parser import Parser

EXAMPLES = """
muster bootstrap reset     # on each node of a founding set that can never be complete
"""


def arguments(parser: Parser) -> None:
    Verbs(parser).add("reset", "take back this node's promise to an unfinished founding")


def run(args: argparse.Namespace, context: Context) -> int:
    del args
    context.show(context.ask("bootstrap.reset"), render.done)
    return 0
