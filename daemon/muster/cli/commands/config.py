"""`muster config`: check a configuration file, and show what a daemon makes of it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import msgspec

from muster.cli import render
from muster.cli.exit import Exit
from muster.cli.parser import Verbs
from muster_protocol.errors import IdentityError, UsageError
from muster_protocol.session.methods import ConfigItem, ConfigResult

if TYPE_CHECKING:
    import argparse

    from muster.cli.context import Context
    from muster.cli.parser import Parser
    from muster.config.load import Host, Loaded

EXAMPLES = """
muster config check /etc/muster/muster.toml
muster config show                       # what the file and the environment set
muster config show --effective           # every setting, and where it comes from
muster config show --running             # what the daemon runs with
"""


class CheckFault(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is wrong."""

    where: str
    key: str
    what: str
    hint: str


class CheckResult(msgspec.Struct, frozen=True, kw_only=True):
    """What is wrong with a file; nothing, if it is valid."""

    schema: str = "muster.config-check/1"
    path: str
    valid: bool
    faults: list[CheckFault]


def arguments(parser: Parser) -> None:
    verbs = Verbs(parser)
    check = verbs.add("check", "say all that is wrong with a file, as musterd here would see it")
    check.add_argument("file", metavar="FILE")
    show = verbs.add("show", "show settings")
    show.add_argument("file", nargs="?", metavar="FILE", help="musterd's by default")
    show.add_argument("--effective", action="store_true", help="the defaults too")
    show.add_argument("--running", action="store_true", help="ask the daemon instead")


def run(args: argparse.Namespace, context: Context) -> int:
    if args.verb == "check":
        return _check(args, context)
    if args.running:
        if args.file is not None:
            raise UsageError("--running shows the daemon's settings: name no file")
        context.show(context.ask("config"), render.config)
        return Exit.OK
    from muster.config.load import DEFAULT, load_config

    loaded = load_config(args.file, host=_host(context))
    items = [
        ConfigItem(key=item.key, value=item.value, origin=item.origin)
        for item in loaded.items
        if args.effective or not item.origin.startswith((DEFAULT, "profile "))
    ]
    context.show(ConfigResult(path=loaded.path, items=items), render.config)
    return Exit.OK


def _check(args: argparse.Namespace, context: Context) -> int:
    from muster.config.load import ConfigInvalid, load_config

    try:
        _check_secret_file(load_config(args.file, host=_host(context)), context)
    except ConfigInvalid as error:
        if not context.as_json:
            raise
        faults = [
            CheckFault(where=fault.where, key=fault.key, what=fault.what, hint=fault.hint)
            for fault in error.faults
        ]
        context.show(CheckResult(path=args.file, valid=False, faults=faults), render.config_check)
        return Exit.USAGE
    context.show(CheckResult(path=args.file, valid=True, faults=[]), render.config_check)
    return Exit.OK


def _check_secret_file(loaded: Loaded, context: Context) -> None:
    """musterd would refuse to start without it. Errors: ConfigInvalid."""
    from muster.config.load import ConfigInvalid, Fault
    from muster.config.secret_file import read_secret_file

    if not loaded.config.cluster.secret_file:
        return
    (item,) = (item for item in loaded.items if item.key == "cluster.secret_file")
    try:
        read_secret_file(item.value, environ=context.environ, uid=os.geteuid())
    except IdentityError as error:
        raise ConfigInvalid((Fault(item.origin, str(error), item.key),)) from error


def _host(context: Context) -> Host:
    from muster.config.load import Host

    return Host(context.environ, os.geteuid(), os.uname().nodename)
