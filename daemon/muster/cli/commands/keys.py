"""`muster keys`: the cluster secret. Works on files alone; no daemon is asked."""

from __future__ import annotations

import os
import stat
import sys
from typing import TYPE_CHECKING

import msgspec

from muster.cli import render
from muster.cli.parser import Verbs
from muster_protocol.errors import IdentityError, UsageError

if TYPE_CHECKING:
    import argparse

    from muster.cli.context import Context
    from muster.cli.parser import Parser

EXAMPLES = """
muster keys generate /etc/muster/secret     # once; copy it to every host, mode 0600
muster keys generate - | ssh root@web2 'umask 077; cat > /etc/muster/secret'
muster keys list                            # ids only, of the file that the daemon uses
"""


class KeyId(msgspec.Struct, frozen=True, kw_only=True):
    """One secret, by name."""

    id: str
    primary: bool


class KeysResult(msgspec.Struct, frozen=True, kw_only=True):
    """The secrets of a file, by name."""

    schema: str = "muster.keys/1"
    file: str
    label: str
    keys: list[KeyId]


def arguments(parser: Parser) -> None:
    verbs = Verbs(parser)
    generate = verbs.add("generate", "make a cluster secret")
    generate.add_argument("file", metavar="FILE", help="made with mode 0600; - writes it out")
    listing = verbs.add("list", "name the secrets in a file; they are never shown")
    listing.add_argument("file", nargs="?", metavar="FILE", help="the configured one by default")
    listing.add_argument("--label", metavar="LABEL", help="the cluster's label, which is in the id")
    for verb in (generate, listing):
        verb.add_argument("--config", metavar="FILE", help="configuration with file and label")


def run(args: argparse.Namespace, context: Context) -> int:
    if args.verb == "generate":
        _generate(args, context)
    else:
        _list(args, context)
    return 0


def _generate(args: argparse.Namespace, context: Context) -> None:
    from muster.config.secret_file import write_secret_file
    from muster.entropy import SystemEntropy
    from muster_protocol.crypto.derive import SECRET_BYTES
    from muster_protocol.crypto.keyring import format_secrets

    secret = SystemEntropy().token_bytes(SECRET_BYTES)
    text = format_secrets([secret], comment="muster cluster secret: the same file on every host")
    if args.file == "-":
        _narrow_output()
        context.terminal.write_data(text)
        return
    write_secret_file(args.file, text)
    context.terminal.note(f"{args.file} made; copy it to every host, mode 0600")


def _narrow_output() -> None:
    """`> file` makes the file as wide as the umask lets it; a secret's is closed to others first.

    Errors: IdentityError where that cannot be done.
    """
    try:
        descriptor = sys.stdout.fileno()
    except (OSError, ValueError):
        return  # not a file: a program that runs us in its own process
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        try:
            os.fchmod(descriptor, 0o600)
        except OSError as error:
            raise IdentityError("the output file cannot be closed to others") from error


def _list(args: argparse.Namespace, context: Context) -> None:
    from muster.config.load import Host, load_config
    from muster.config.secret_file import read_secret_file
    from muster_protocol.crypto.keyring import Keyring

    file, label = args.file, args.label
    if file is None or label is None:
        host = Host(context.environ, os.geteuid(), os.uname().nodename)
        cluster = load_config(args.config, host=host).config.cluster
        file, label = file or cluster.secret_file, label or cluster.label
    if not file:
        raise UsageError("no secret file is configured: name one")
    secrets = read_secret_file(file, environ=context.environ, uid=os.geteuid())
    ring = Keyring(secrets, label=label)
    keys = [KeyId(id=key.id, primary=key is ring.primary) for key in ring.keys]
    context.show(KeysResult(file=file, label=label, keys=keys), render.keys)
