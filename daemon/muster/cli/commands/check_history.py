"""`muster check-history`: is what clients saw of a store linearizable? Files only, no daemon.

The answer is the exit code, so this command has codes of its own: 0, 1 and 2 are verdicts and
nothing else. Whatever kept it from a verdict has one of sysexits.h, as `musterd` has them. All
files are read before the first is judged: no verdict is followed by "no such file".
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any

import msgspec

from muster.cli import render
from muster_protocol.errors import UsageError

if TYPE_CHECKING:
    import argparse

    from muster.cli.context import Context
    from muster.cli.parser import Parser
    from muster.sim.checkers.explanation import Explanation
    from muster.sim.history import History

EXAMPLES = """
muster check-history run.jsonl
muster check-history --timeout 60 histories/*.log
muster check-history run.jsonl --json | jq -r .verdict
"""

TIMEOUT_S = 15.0
"""Of each file, as of each question to the daemon: what `--timeout` says by itself."""

HELP = """
Formats, told by the first line: muster.history/1 (JSON lines), Jepsen's log of an etcd register,
and EDN maps of a store with get, put and append. --timeout is for each file; what is not decided
by then is unknown.

Exit codes: 0 all are linearizable, 1 one is not, 2 one is unknown and none is wrong; 64 the command
line is wrong, 65 a file is no history, 66 a file cannot be read, 70 anything else.
"""


class HistoryExit(enum.IntEnum):
    """Of this command alone. See docs/exit-codes.md."""

    LINEARIZABLE = 0
    NOT_LINEARIZABLE = 1
    UNKNOWN = 2
    USAGE = 64
    NO_HISTORY = 65
    UNREADABLE = 66
    FAILED = 70


class HistoryOperation(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the timeline. `returned` None: it was never answered."""

    client: str
    operation: str
    result: str
    called: float
    returned: float | None


class HistoryVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """What is said of one file. `operations` of `key` show why it is not linearizable; they may not
    be the fewest, but if `is_smallest` no single one of them can be left out. `why` says it, or why
    nobody knows."""

    schema: str = "muster.check-history/1"
    file: str
    verdict: str
    checked: int
    """How many operations took part."""
    key: str = ""
    why: str = ""
    is_smallest: bool = True
    operations: list[HistoryOperation] = []


def arguments(parser: Parser) -> None:
    parser.epilog = HELP
    parser.add_argument("files", nargs="+", metavar="FILE", help="a history")


def run(args: argparse.Namespace, context: Context) -> int:
    from muster.sim.histories.reading import read_history

    worst = HistoryExit.LINEARIZABLE
    for path, history in [(path, read_history(path)) for path in args.files]:
        found = _judged(path, history, args.timeout or TIMEOUT_S)
        context.show_item(found, render.history_verdict)
        code = HistoryExit[found.verdict.upper().replace(" ", "_")]
        worst = min(filter(None, (worst, code)), default=HistoryExit.LINEARIZABLE)
    return worst


def exit_of(error: BaseException) -> HistoryExit:
    """Never a verdict."""
    from muster.cli.parser import Misused

    by_class: tuple[tuple[type[BaseException], HistoryExit], ...] = (
        (Misused, HistoryExit.USAGE),
        (UsageError, HistoryExit.NO_HISTORY),
        (OSError, HistoryExit.UNREADABLE),
    )
    return next((code for kind, code in by_class if isinstance(error, kind)), HistoryExit.FAILED)


def _judged(path: str, history: History, timeout_s: float) -> HistoryVerdict:
    import time

    from muster.sim.checkers.judgement import judge
    from muster.sim.checkers.vocabulary import Budget

    until = time.monotonic() + timeout_s
    judgement = judge(history, budget=Budget(is_over=lambda: time.monotonic() > until))
    told: dict[str, Any] = {"why": judgement.why_unknown}
    if judgement.explanation is not None:
        told = _explained(judgement.explanation)
    checked = len(history.operations)
    return HistoryVerdict(file=path, verdict=judgement.verdict, checked=checked, **told)


def _explained(explanation: Explanation) -> dict[str, Any]:
    import math

    from muster.sim.checkers.wording import asked, told

    operations = [
        HistoryOperation(
            client=operation.client,
            operation=asked(operation),
            result=told(operation),
            called=operation.call,
            returned=None if operation.ret == math.inf else operation.ret,
        )
        for operation in explanation.operations
    ]
    return {
        "key": explanation.key,
        "why": explanation.why,
        "is_smallest": explanation.is_smallest,
        "operations": operations,
    }
