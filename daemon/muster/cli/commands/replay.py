"""`muster replay`: a flight recorder's file through the machines again. Files only, no daemon.

0 means that all decisions are as they were then, 1 that one differs, and nothing else; whatever
keeps it from that answer has another code, and so has a record in which there is no decision.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from muster.cli import render
from muster.cli.exit import Exit
from muster.cli.exit import exit_of as usual_exit_of
from muster_protocol.errors import UsageError

if TYPE_CHECKING:
    import argparse

    from muster.cli.context import Context
    from muster.cli.parser import Parser
    from muster.flight.records import FlightFile
    from muster.replay.replaying import Step, Tally

ASKS_DAEMON = False

EXAMPLES = """
muster replay /var/lib/muster                        # both files of the ring
muster replay DIR/n1/state                           # a node of muster dev --dir DIR
muster replay flight-0.rec flight-1.rec --machine failure
muster replay /var/lib/muster --from 120 --to 180    # seconds of the node's clock
muster replay flight-0.rec --json | jq -c 'select(.outcome == "differs")'
"""

HELP = """
FILE is a flight recorder's file, or a node's state directory with both of them. Shown is what went
into each machine, and indented what this version decides upon it. All of the record is replayed;
--from and --to choose what is shown of it, and what differs is shown in any case.

Exit codes: 0 all decisions are as they were then, 1 one differs, 2 usage, no flight record, or none
in which a decision could be compared, 5 there is no such file, 6 it may not be read. See
docs/exit-codes.md.
"""

FILE_BYTES_MAX = 64 * 1024 * 1024
"""Above what a recorder writes, several times; what is larger is not read to learn that."""


STATES_SHOWN = 9
"""In the line that asks for one of them."""


class ReplayStep(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the timeline. `outcome`: same, differs, not compared, not replayed (of events);
    begins, goes on, lost (of machines). `data` and `effects` have all that is known."""

    schema: str = "muster.replay/1"
    machine: str
    at_s: float
    outcome: str
    event: str = ""
    why: str = ""
    data: Any = None
    effects: list[dict[str, Any]] = []
    shown: list[str] = []
    """The event and each effect in few words."""


class ReplayVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """What is said of one machine in the end."""

    schema: str = "muster.replay-verdict/1"
    machine: str
    is_machine: bool
    """False for an agent: only what went into it is on the record."""
    same: int
    differing: int
    not_compared: int
    not_replayed: int
    why_not_replayed: str
    first_difference: ReplayStep | None


def arguments(parser: Parser) -> None:
    parser.epilog = HELP
    parser.add_argument("files", nargs="+", metavar="FILE", help="a record, or a state directory")
    parser.add_argument("--machine", metavar="NAME", help="only this one, such as failure or raft")
    parser.add_argument("--from", dest="from_s", type=_instant, metavar="S", help="show from here")
    parser.add_argument("--to", dest="to_s", type=_instant, metavar="S", help="show up to here")


def run(args: argparse.Namespace, context: Context) -> int:
    from muster.replay.replaying import Outcome, Replay, in_order

    files = dict(_read(args.files, context))
    _check_machine(args.machine, files)
    _tell_builds(files, context)
    try:
        ordered = in_order(files)
    except ValueError as error:
        raise UsageError(str(error)) from error
    replay = Replay(only=args.machine)
    first, last = _bounds(args)
    for step in replay.steps(ordered):
        if first <= step.at <= last or step.outcome is Outcome.DIFFERS:
            context.show_item(_shown(step), render.replay_step)
    for tally in replay.tallies.values():
        context.show_item(_verdict(tally), render.replay_verdict)
    return _exit_for(replay.tallies.values())


def _exit_for(tallies: Collection[Tally]) -> Exit:
    """Errors: UsageError if there is nothing to answer with."""
    if not any(tally.same + tally.differing for tally in tallies):
        why = "no decision could be compared" if tallies else "there is no record in it"
        raise UsageError(f"nothing was replayed: {why}")
    return Exit.FAILED if any(tally.differing for tally in tallies) else Exit.OK


def exit_of(error: BaseException) -> Exit:
    """Never 1, which is a verdict."""
    if isinstance(error, FileNotFoundError):
        return Exit.NOT_FOUND
    code = usual_exit_of(error)
    return Exit.USAGE if code is Exit.FAILED else code


# --- reading --------------------------------------------------------------------------------------


def _read(paths: list[str], context: Context) -> Iterator[tuple[str, FlightFile]]:
    """Each file once. Errors: UsageError for what is none, OSError."""
    from muster.flight.records import read_flight_file

    for path in dict.fromkeys(each for named in paths for each in _files_at(named, context)):
        data = _content(path)
        file = read_flight_file(data, path)
        if file.damage:
            context.terminal.note(f"{path}: {file.damage}; what stands before it is replayed")
        yield path, file


def _files_at(named: str, context: Context) -> list[str]:
    """A file itself, or those of a state directory; one that was cut off to nothing is no loss."""
    from muster.flight.records import FILE_NAMES

    if not Path(named).is_dir():
        return [named]
    found = [path for name in FILE_NAMES if (path := Path(named) / name).exists()]
    if not found:
        raise UsageError(f"{named}: there is no flight record in it; {_where_instead(named)}")
    for path in found:
        if not path.stat().st_size:
            context.terminal.note(f"{path}: empty")
    return [str(path) for path in found if path.stat().st_size]


def _where_instead(named: str) -> str:
    """What `muster dev` made holds a directory for each node, and that its state directory."""
    from muster.flight.records import FILE_NAMES

    directory = Path(named)
    found = [
        path
        for name in FILE_NAMES
        for path in [*directory.glob(f"*/{name}"), *directory.glob(f"*/*/{name}")]
    ]
    states = sorted({str(path.parent) for path in found})
    if not states:
        return f"its files are called {' and '.join(FILE_NAMES)}"
    more = f", and {len(states) - STATES_SHOWN} more" if len(states) > STATES_SHOWN else ""
    return f"give one node's state directory: {', '.join(states[:STATES_SHOWN])}{more}"


def _content(path: str) -> bytes:
    with Path(path).open("rb") as handle:
        data = handle.read(FILE_BYTES_MAX + 1)
    if len(data) > FILE_BYTES_MAX:
        raise UsageError(f"{path}: too large to be a flight recorder's file")
    return data


def _check_machine(wanted: str | None, files: Mapping[str, FlightFile]) -> None:
    """Errors: UsageError with the names that there are."""
    names = sorted(dict.fromkeys(r.machine for file in files.values() for r in file.records))
    if wanted is not None and wanted not in names:
        raise UsageError(f"there is no machine {wanted!r} in it; there are: {', '.join(names)}")


def _tell_builds(files: Mapping[str, FlightFile], context: Context) -> None:
    from muster import __version__

    for path, file in files.items():
        if file.build != __version__:
            context.terminal.note(f"{path}: recorded by {file.build}, replayed by {__version__}")


def _bounds(args: argparse.Namespace) -> tuple[float, float]:
    first = 0.0 if args.from_s is None else args.from_s
    last = float("inf") if args.to_s is None else args.to_s
    if first > last:
        raise UsageError(f"--from {first:g} is behind --to {last:g}")
    return first, last


def _instant(text: str) -> float:
    """Seconds of a node's monotonic clock: of any length, and never negative."""
    import argparse

    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no time in seconds, from 0")
    return value


# --- showing --------------------------------------------------------------------------------------


def _shown(step: Step) -> ReplayStep:
    from muster.replay.wording import in_short

    words = [in_short(step.event, step.kind)] if step.kind else []
    return ReplayStep(
        machine=step.machine,
        at_s=step.at,
        outcome=step.outcome.value,
        event=step.kind,
        why=step.why,
        data=_plain(step.event),
        effects=[{"type": type(e).__name__, "data": _plain(e)} for e in step.effects],
        shown=[*words, *(in_short(effect) for effect in step.effects)],
    )


def _plain(value: Any) -> Any:
    return msgspec.to_builtins(value, str_keys=True, enc_hook=_unknown)


def _unknown(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else str(value)


def _verdict(tally: Tally) -> ReplayVerdict:
    first = tally.first_difference
    return ReplayVerdict(
        machine=tally.machine,
        is_machine=tally.is_machine,
        same=tally.same,
        differing=tally.differing,
        not_compared=tally.not_compared,
        not_replayed=tally.not_replayed,
        why_not_replayed=tally.why_not_replayed,
        first_difference=None if first is None else _shown(first),
    )
