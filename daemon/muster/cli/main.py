"""The way in: find the word, load its command, run it, and turn what went wrong into a line and an
exit code.

`muster status` is typed a hundred times a day and run by every monitoring check, so nothing is
imported that it does not need: each command is a module that is loaded when it is used, and only
its part of the grammar is built. `tests/unit/daemon/cli/test_startup.py` keeps trio, structlog and
rich out.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from muster.cli.context import Context
from muster.cli.exit import Exit, exit_of
from muster.cli.parser import VALUE_OPTIONS, HelpWanted, Misused, Parser, add_global_options
from muster.cli.terminal import Terminal, standard_terminal
from muster_protocol.errors import MusterError

if TYPE_CHECKING:
    import argparse

COMMANDS = {
    "status": "the verdict, its reason, and what to do next",
    "members": "who is here",
    "info": "everything about one member",
    "join": "tell the daemon where other members are",
    "leave": "give up this node's place, and stop",
    "forget": "drop a member that will not come back",
    "kv": "the strongly consistent store",
    "raft": "the consensus",
    "partition": "which side of a split this is",
    "agents": "what runs inside the daemon",
    "signals": "what happens, as it happens",
    "keys": "the cluster secret (offline)",
    "config": "check and show settings",
    "bootstrap": "a founding that did not come about",
    "dev": "a cluster on this machine, to try and to learn",
    "simulate": "a cluster in one process, on virtual time, under faults",
    "experiment": "many such runs, and the table that they make together",
    "replay": "what the machines decided, from a flight record (offline)",
    "check-history": "is what clients saw of a store linearizable? (offline)",
    "completion": "completion for the shell",
    "version": "this program, and the daemon",
}
"""Word -> what it is; the module of that name (`-` is `_`) in `muster.cli.commands` does it."""

EXAMPLES = """
muster status                    # how is it, why, and what to do
muster members --watch
muster kv put app/colour blue
muster signals tail 'cluster.node.*'
"""

_EXIT_CODES = (
    "Exit codes: 0 ok, 1 failed, 2 usage, 3 daemon unreachable, 4 not quorate, 5 not found,\n"
    "6 permission, 7 timed out, 8 conflict, 9 outcome unknown, 10 degraded (status --strict).\n"
    "check-history has its own: see its --help. replay: 1 means that a decision differs."
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns its exit code."""
    terminal = standard_terminal(os.environ)
    try:
        return run(sys.argv[1:] if argv is None else argv, terminal)
    except BrokenPipeError:
        # The reader is gone. What is still buffered would raise again when Python exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.BROKEN_PIPE


def run(argv: Sequence[str], terminal: Terminal, **surroundings: Any) -> int:
    """`main` with its surroundings as arguments (`environ` and `stdin`, as `Context`'s)."""
    context: Context | None = None
    code_of = exit_of
    try:
        place = _command_place(argv)
        word = argv[place] if place < len(argv) else ""
        if word not in COMMANDS:
            return _without_command(word, terminal)
        module = _command_module(word)
        code_of = getattr(module, "exit_of", exit_of)
        args = _parse(word, module, [*argv[:place], *argv[place + 1 :]])
        context = Context(
            terminal=terminal,
            as_json=args.json,
            socket=args.socket,
            timeout_s=args.timeout,
            **surroundings,
        )
        return int(module.run(args, context))
    except HelpWanted as wanted:
        terminal.write_data(str(wanted))
        return Exit.OK
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except BrokenPipeError:
        raise
    except (MusterError, OSError) as error:
        terminal.error(_message(error), getattr(error, "hint", ""))
        return code_of(error)
    finally:
        if context is not None:
            context.close()


def complete_parser() -> Parser:
    """The whole grammar in one parser, for completion scripts."""
    parser = Parser(prog="muster", summary="Ask the muster daemon on this host.")
    add_global_options(parser)
    words = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=Parser)
    for word, summary in COMMANDS.items():
        module = _command_module(word)
        command = words.add_parser(word, help=summary, summary=summary, prog=f"muster {word}")
        module.arguments(command)
        add_global_options(command, asks_daemon=_asks_daemon(module))
    return parser


def _command_module(word: str) -> Any:
    """What does `word`: `arguments`, `run` and `EXAMPLES`, an `exit_of` of its own where the
    general exit codes mean something else, and `ASKS_DAEMON`, false where no daemon is asked."""
    return importlib.import_module(f"muster.cli.commands.{word.replace('-', '_')}")


def _asks_daemon(module: Any) -> bool:
    return bool(getattr(module, "ASKS_DAEMON", True))


def _command_place(argv: Sequence[str]) -> int:
    """Where the first word stands that is neither a global option nor its value."""
    skip = False
    for place, word in enumerate(argv):
        if skip:
            skip = False
        elif word in VALUE_OPTIONS:
            skip = True
        elif word != "--json" and not word.startswith(tuple(f"{o}=" for o in VALUE_OPTIONS)):
            return place
    return len(argv)


def _parse(word: str, module: Any, rest: list[str]) -> argparse.Namespace:
    import argparse

    parser = Parser(prog=f"muster {word}", summary=COMMANDS[word], examples=module.EXAMPLES)
    module.arguments(parser)
    add_global_options(parser, asks_daemon=_asks_daemon(module))
    return parser.parse_args(rest, argparse.Namespace(json=False, socket=None, timeout=None))


def _without_command(word: str, terminal: Terminal) -> int:
    """Help, or what was probably meant. Errors: Misused."""
    if word in ("-h", "--help", "help"):
        terminal.write_data(_overview())
        return Exit.OK
    if word == "--version":
        return run(["version"], terminal)
    if not word:
        terminal.error("say what to do", "muster --help")
        return Exit.USAGE
    if word.startswith("-"):
        raise Misused(f"there is no option {word} before a command", "muster --help")
    import difflib

    close = difflib.get_close_matches(word, COMMANDS, n=1)
    raise Misused(
        f"there is no command {word!r}",
        f"did you mean: muster {close[0]}" if close else "muster --help",
    )


def _overview() -> str:
    examples = "\n".join(f"  {line}" for line in EXAMPLES.strip().splitlines())
    commands = "\n".join(f"  {word:15}{summary}" for word, summary in COMMANDS.items())
    return (
        "Ask the muster daemon on this host.\n\n"
        f"Examples:\n{examples}\n\n"
        f"Commands (each has --help, and examples in it):\n{commands}\n\n"
        "Everywhere: --json; where a daemon is asked: --socket PATH, --timeout S.\n"
        f"{_EXIT_CODES}\n"
    )


def _message(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)


if __name__ == "__main__":
    sys.exit(main())
