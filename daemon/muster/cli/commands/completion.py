"""`muster completion`: a script with all words, for the shell; made by shtab, static."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

    from muster.cli.context import Context
    from muster.cli.parser import Parser

SHELLS = ("bash", "zsh", "tcsh")
ASKS_DAEMON = False

EXAMPLES = """
muster completion bash > /usr/share/bash-completion/completions/muster
muster completion zsh > "${fpath[1]}/_muster"
"""


def arguments(parser: Parser) -> None:
    parser.add_argument("shell", choices=SHELLS)


def run(args: argparse.Namespace, context: Context) -> int:
    import shtab

    from muster.cli.main import complete_parser

    context.terminal.write_data(shtab.complete(complete_parser(), shell=args.shell) + "\n")
    return 0
