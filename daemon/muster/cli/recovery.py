"""`muster raft recover`: a quorum that is lost for good. Works on files alone; no daemon is asked.

The decisions are `raftguard.survivors`', the work on the disk `agents.consistency.recovering`'s.
Here is who is asked what, before anything is done.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from muster.cli import recovery_views as views
from muster.cli.exit import Exit
from muster_protocol.errors import LocalError, StorageError, UsageError

if TYPE_CHECKING:
    import argparse

    from muster.agents.consistency.recovering import Held
    from muster.cli.context import Context
    from muster.cli.parser import Parser
    from muster.storage.files import DiskFiles
    from muster_protocol.raftguard.survivors import Ranking, Survey

SUMMARY = "the majority of the voters is gone for good: go on without it (offline)"

EXAMPLES = """
muster raft recover --inspect --json > web1.json   # on each survivor, its daemon stopped
muster raft recover --inspect web1.json web2.json  # which has most, what may be lost
muster raft recover web2.json                      # on the best one: shows all that, asks, does it
muster raft recover --yes --as-of 7/1204 web2.json # the same in a script
muster raft recover --rejoin CLUSTER               # on all others, also on the dead that come back
"""

HELP = """
Writes that only the dead had acknowledged are lost. Recover only if they will not come back.

Nothing is deleted: what was before stays in the state directory as aside-*. The runbook is
docs/recovery.md.

Exit codes: 0 done, 1 failed or not wanted (a daemon runs; the disk), 2 usage (no survey; surveys of
two clusters), 5 no state, or no seat, in the directory, 6 permission, 8 refused, and nothing was
changed: the survivors are a majority, another one has more, or --as-of is not how it is.
"""

SURVEY_BYTES_MAX = 1024 * 1024
"""Far above what a thousand voters fill."""

ID_CHARACTERS = 8
"""What has to be typed: the short id, as everywhere."""


class RankingResult(msgspec.Struct, frozen=True, kw_only=True):
    """The survivors, the best first."""

    schema: str = "muster.raft-ranking/1"
    cluster: str
    best: str
    survivors: list[Survey]
    voters: int
    majority: int
    has_quorum: bool
    missing: list[str]
    """Node ids of voters of whom there is no survey."""
    may_lose_acknowledged: bool
    certain_index: int
    witness: Survey | None = None
    """If it was surveyed: what it was asked for."""
    lacks_marked: bool = False
    """The best one lacks that."""


class RecoverResult(msgspec.Struct, frozen=True, kw_only=True):
    """What was done."""

    schema: str = "muster.raft-recover/1"
    node: str
    cluster: str
    was: str
    last_term: int
    last_index: int
    revision: int
    """From here revisions go on."""
    keys: int
    may_lose_acknowledged: bool
    fenced: list[str]
    """Node ids whose seats are gone."""


class RejoinResult(msgspec.Struct, frozen=True, kw_only=True):
    """What was done."""

    schema: str = "muster.raft-rejoin/1"
    cluster: str
    was: str
    had_seat: bool


class AsOf(NamedTuple):
    """The end of a log."""

    last_term: int
    last_index: int


def as_of(text: str) -> AsOf:
    """TERM/INDEX. Errors: ArgumentTypeError."""
    import argparse

    found = re.fullmatch(r"(\d{1,18})/(\d{1,18})", text, re.ASCII)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not TERM/INDEX, such as 7/1204")
    return AsOf(int(found[1]), int(found[2]))


def cluster_id(text: str) -> str:
    """Errors: ArgumentTypeError."""
    import argparse

    if re.fullmatch(r"[0-9a-f]{32}", text) is None:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no cluster id: 32 hexadecimal digits, as `muster status --json` has them"
        )
    return text


def arguments(parser: Parser) -> None:
    parser.epilog = HELP
    parser.add_argument(
        "surveys", nargs="*", metavar="FILE", help="other survivors, from --inspect --json there"
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--inspect", action="store_true", help="only look: at this node, or at the FILEs"
    )
    what.add_argument(
        "--rejoin",
        metavar="CLUSTER",
        type=cluster_id,
        help="give up this node's seat and belong to the recovered cluster with this id",
    )
    parser.add_argument("--state-dir", metavar="DIR", help="the configured one by default")
    parser.add_argument("--config", metavar="FILE", help="configuration that names it")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument(
        "--as-of",
        metavar="TERM/INDEX",
        type=as_of,
        help="with --yes: where this node's log ends, as --inspect has shown it",
    )


def run(args: argparse.Namespace, context: Context) -> int:
    if args.rejoin is not None:
        return _rejoin(args, context)
    others = [_read_survey(path) for path in args.surveys]
    if args.inspect:
        return _inspect(args, others, context)
    if args.yes and args.as_of is None:
        raise UsageError("--yes needs --as-of TERM/INDEX: where this node's log ends")
    if context.as_json and not args.yes:
        raise UsageError("--json needs --yes: there is no question in JSON")
    return _recover(args, others, context)


# --- looking --------------------------------------------------------------------------------------


def _inspect(args: argparse.Namespace, others: list[Survey], context: Context) -> int:
    from muster_protocol.raftguard.survivors import rank

    if others:
        context.show(_ranking_result(rank(others)), views.ranking)
        return Exit.OK
    directory, name = _place(args, context)
    with _state(directory) as files:
        found = _witness(files, name)
        survey = _held(files).survey(name) if found is None else found
    context.show(survey, views.survey)
    return Exit.OK


def _ranking_result(ranking: Ranking) -> RankingResult:
    return RankingResult(
        cluster=ranking.best.cluster,
        best=ranking.best.node,
        survivors=list(ranking.surveys),
        voters=ranking.voters,
        majority=ranking.majority,
        has_quorum=ranking.has_quorum,
        missing=[voter.node for voter in ranking.missing],
        may_lose_acknowledged=ranking.may_lose_acknowledged,
        certain_index=ranking.certain_index,
        witness=ranking.witness,
        lacks_marked=ranking.lacks_marked,
    )


def _read_survey(path: str) -> Survey:
    """Errors: UsageError for what is none, OSError."""
    from muster_protocol.raftguard.survivors import Survey

    with Path(path).open("rb") as file:
        data = file.read(SURVEY_BYTES_MAX + 1)
    try:
        if len(data) > SURVEY_BYTES_MAX:
            raise msgspec.ValidationError("it is too large")
        return msgspec.json.decode(data, type=Survey)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        hint = "make one with: muster raft recover --inspect --json"
        raise UsageError(f"{path} is no survey of a node ({error}); {hint}") from error


# --- doing ----------------------------------------------------------------------------------------


def _recover(args: argparse.Namespace, others: list[Survey], context: Context) -> int:
    from muster.agents.consistency.recovering import recover
    from muster.entropy import SystemEntropy
    from muster_protocol.raftguard.survivors import rank

    directory, name = _place(args, context)
    with _state(directory) as files:
        if _witness(files, name) is not None:
            raise NoSeat("this node is a witness, and has no data: recover one that has")
        found = _held(files)
        mine = found.survey(name)
        ranking = rank([mine, *(each for each in others if each != mine)])
        if not args.yes:
            context.terminal.draw(views.ranking(_ranking_result(ranking)))
        why = _why_not(ranking, mine, args.as_of)
        if why:
            context.terminal.error(f"{why[0]}; nothing was changed", why[1])
            return Exit.CONFLICT
        if not args.yes and not _is_confirmed(mine, context):
            context.terminal.note("nothing was changed")
            return Exit.FAILED
        block = recover(files, found, SystemEntropy())
    result = RecoverResult(
        node=mine.node,
        cluster=block.cluster,
        was=mine.cluster,
        last_term=mine.last_term,
        last_index=mine.last_index,
        revision=found.registry.revision,
        keys=mine.keys,
        may_lose_acknowledged=ranking.may_lose_acknowledged,
        fenced=[voter.node for voter in mine.voters if voter.node != mine.node],
    )
    context.show(result, views.recovered)
    return Exit.OK


def _why_not(ranking: Ranking, mine: Survey, wanted: AsOf | None) -> tuple[str, str] | None:
    """Why this node is not to be recovered, and what to do; None if it may be."""
    if ranking.has_quorum:
        here = f"{ranking.surviving} of {ranking.voters} voters are here"
        return (f"{here}, which is a majority: no quorum is lost", "start their daemons")
    if ranking.best.rank > mine.rank:
        return (
            f"{ranking.best.name} has more of the log than this node",
            "recover there, and let this node rejoin",
        )
    if wanted is not None and wanted != mine.rank:
        there = f"not at {wanted.last_term}/{wanted.last_index}"
        return (
            f"this node's log ends at {mine.last_term}/{mine.last_index}, {there}",
            "muster raft recover --inspect",
        )
    return None


def _is_confirmed(mine: Survey, context: Context) -> bool:
    """Errors: UsageError where there is nobody to ask."""
    if not context.may_prompt:
        raise UsageError("there is nobody to ask: say --yes --as-of TERM/INDEX")
    context.terminal.ask(
        f"Type the first {ID_CHARACTERS} characters of the cluster's id to go on: "
    )
    return context.stdin.readline(100).strip() == mine.cluster[:ID_CHARACTERS].encode()


def _rejoin(args: argparse.Namespace, context: Context) -> int:
    from muster.entropy import SystemEntropy
    from muster.storage.succession import CLUSTER_NAME, rejoin
    from muster.storage.superblock import read_superblock
    from muster_protocol.types import NO_CLUSTER, ClusterId

    if args.surveys or args.as_of is not None:
        raise UsageError("--rejoin takes no FILE and no --as-of")
    directory, _ = _place(args, context)
    with _state(directory) as files:
        block = read_superblock(files)
        recorded = (files.read(CLUSTER_NAME) or b"").decode("ascii")
        old = block.cluster_id if block is not None else ClusterId(recorded)
        if old == args.rejoin and block is not None and not block.is_retired:
            context.terminal.error(
                f"this node has a seat in cluster {old[:ID_CHARACTERS]}; nothing was changed",
                "give the id of the recovered cluster: muster status --json, there",
            )
            return Exit.CONFLICT
        if not args.yes and not _gives_up(old, block is not None, context):
            context.terminal.note("nothing was changed")
            return Exit.FAILED
        token = SystemEntropy().token_bytes(8).hex()
        rejoin(files, ClusterId(args.rejoin), token=token, old=old or NO_CLUSTER)
    result = RejoinResult(cluster=args.rejoin, was=old, had_seat=block is not None)
    context.show(result, views.rejoined)
    return Exit.OK


def _gives_up(old: str, has_seat: bool, context: Context) -> bool:
    """Errors: UsageError where there is nobody to ask."""
    if not context.may_prompt:
        raise UsageError("there is nobody to ask: say --yes")
    what = "seat and log in" if has_seat else "place in"
    whose = f"cluster {old[:ID_CHARACTERS]}" if old else "any cluster"
    context.terminal.ask(f"This node gives up its {what} {whose}. Go on? [y/N] ")
    return context.stdin.readline(100).strip().lower() in (b"y", b"yes")


# --- the state directory --------------------------------------------------------------------------


def _place(args: argparse.Namespace, context: Context) -> tuple[Path, str]:
    """The state directory, and what people call this node. Errors: ConfigError."""
    if args.state_dir is not None:
        return Path(args.state_dir), args.state_dir
    from muster.config.load import Host, load_config
    from muster.identity import default_name

    host = Host(context.environ, os.geteuid(), os.uname().nodename)
    node = load_config(args.config, host=host).config.node
    return Path(node.state_dir), node.name or default_name()


@contextlib.contextmanager
def _state(directory: Path) -> Iterator[DiskFiles]:
    """The directory, locked, and as its owner: what root makes in it the daemon could not read.

    Errors: LocalError while a daemon runs; StorageError, OSError.
    """
    from muster.identity import IDENTITY_NAME
    from muster.storage.files import DiskFiles

    if not (directory / IDENTITY_NAME).is_file():
        raise FileNotFoundError(errno.ENOENT, "there is no node's state here", str(directory))
    with _as_owner(directory):
        try:
            files = DiskFiles(directory)
        except StorageError:
            raise
        except LocalError as error:
            raise LocalError(f"{directory} is in use: stop this node's daemon first") from error
        try:
            yield files
        finally:
            files.close()


@contextlib.contextmanager
def _as_owner(directory: Path) -> Iterator[None]:
    """Errors: PermissionError for whom this is not, and who is not root."""
    me, owner = os.geteuid(), directory.stat()
    if me not in (0, owner.st_uid):
        raise PermissionError(errno.EACCES, "this is another user's", str(directory))
    if me == owner.st_uid:
        yield
        return
    group = os.getegid()
    os.setegid(owner.st_gid)
    os.seteuid(owner.st_uid)
    try:
        yield
    finally:
        os.seteuid(me)
        os.setegid(group)


def _witness(files: DiskFiles, name: str) -> Survey | None:
    """Errors: StorageError."""
    from muster.agents.consistency.recovering import witness_survey

    return witness_survey(files, name)


def _held(files: DiskFiles) -> Held:
    """Errors: NoSeat; StorageError."""
    from muster.agents.consistency.recovering import held

    found = held(files)
    if found is None:
        raise NoSeat(f"this node has no seat: there is no log in {files.directory}")
    return found


class NoSeat(LocalError):
    """There is nothing that could be recovered."""


def exit_of(error: BaseException) -> Exit:
    """What is not there has its own code."""
    from muster.cli.exit import exit_of as usual

    return Exit.NOT_FOUND if isinstance(error, NoSeat | FileNotFoundError) else usual(error)
