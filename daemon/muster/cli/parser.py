"""The command line's grammar: argparse with examples first, and the options that all verbs have.

Only the parser of the word that is used is built: argparse takes about 0.1 ms per option, and
`muster` has a hundred.
"""

from __future__ import annotations

import argparse
import math
import re
from typing import Any, Final, NoReturn

from muster_protocol.errors import UsageError

VALUE_OPTIONS = ("--socket", "--timeout")
"""The global options that take a value."""

HELP_WIDTH = 96


class Misused(UsageError):
    """The command line is wrong; `hint` names the help that says how it is right."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


class HelpWanted(Exception):
    """`--help` was given; the argument is the text. Whoever runs the command shows it."""


class Formatter(argparse.RawDescriptionHelpFormatter):
    """Help of one width. argparse makes a formatter for each option that is declared, and asks for
    the terminal's width each time, which loads `shutil`: 3 ms that help alone needs."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=28, width=HELP_WIDTH)


class Parser(argparse.ArgumentParser):
    """An `ArgumentParser` whose help leads with examples and whose errors are exceptions."""

    def __init__(self, *args: Any, summary: str = "", examples: str = "", **kwargs: Any) -> None:
        kwargs.setdefault("formatter_class", Formatter)
        kwargs.setdefault("description", summary)
        kwargs.setdefault("allow_abbrev", False)
        super().__init__(*args, **kwargs)
        self.examples = examples

    def format_help(self) -> str:
        """Summary, examples, and then what argparse makes."""
        usage, _, rest = super().format_help().partition(f"\n\n{self.description}\n")
        examples = "".join(f"  {line}\n" for line in self.examples.strip().splitlines())
        lead = f"\nExamples:\n{examples}\n" if examples else "\n"
        return f"{self.description}\n{lead}{usage}\n{rest}"

    def print_help(self, file: Any = None) -> NoReturn:
        """Instead of printing and leaving. Errors: HelpWanted."""
        del file
        raise HelpWanted(self.format_help())

    def error(self, message: str) -> NoReturn:
        """Instead of printing and leaving. Errors: Misused."""
        choice = re.search(r"invalid choice: '(.*)' \(choose from (.*)\)", message)
        if choice is None:
            raise Misused(message, f"{self.prog} --help")
        import difflib

        choices = re.findall(r"'([^']*)'", choice[2])
        close = difflib.get_close_matches(choice[1], choices, n=1)
        hint = f"did you mean {close[0]}?" if close else f"one of {', '.join(choices)}"
        raise Misused(f"{self.prog}: {choice[1]!r} is not understood", hint)


class Verbs:
    """The second words of a noun, each with a parser of its own."""

    def __init__(self, parser: Parser, *, required: bool = True) -> None:
        self._prog = parser.prog
        self._actions = parser.add_subparsers(
            dest="verb", metavar="VERB", required=required, parser_class=Parser
        )

    def add(self, name: str, summary: str, examples: str = "") -> Parser:
        """A verb; the global options may stand after it too."""
        parser: Parser = self._actions.add_parser(
            name, help=summary, summary=summary, examples=examples, prog=f"{self._prog} {name}"
        )
        add_global_options(parser)
        return parser


def add_global_options(parser: argparse.ArgumentParser, *, asks_daemon: bool = True) -> None:
    """Defaults are suppressed: one option may be given to the noun's parser or to the verb's, and
    the one that has nothing to say must not undo the other's. Who asks no daemon takes them too, as
    a script may give them to all commands, and does not list them."""
    group = parser.add_argument_group("everywhere")
    group.add_argument(
        "--json", action="store_true", default=argparse.SUPPRESS, help="answer as JSON"
    )
    group.add_argument(
        "--socket",
        metavar="PATH",
        default=argparse.SUPPRESS,
        help="the daemon's control socket ($MUSTER_SOCKET)" if asks_daemon else argparse.SUPPRESS,
    )
    group.add_argument(
        "--timeout",
        metavar="S",
        type=seconds,
        default=argparse.SUPPRESS,
        help="seconds to wait for the answer (15)" if asks_daemon else argparse.SUPPRESS,
    )


SECONDS_MAX: Final = 86_400.0
COUNT_MAX: Final = 2**62
"""As `muster_protocol.types.UInt`."""


def seconds(text: str) -> float:
    """A positive number of seconds."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value <= SECONDS_MAX:
        raise argparse.ArgumentTypeError(f"{text!r} is no time in seconds: above 0, up to a day")
    return value


def count(text: str) -> int:
    """A whole number from 0."""
    if not (text.isascii() and text.isdecimal()) or len(text) > len(str(COUNT_MAX)):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0")
    if int(text) > COUNT_MAX:
        raise argparse.ArgumentTypeError(f"{text} is too large")
    return int(text)
