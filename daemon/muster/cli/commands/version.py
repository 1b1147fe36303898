"""`muster version`: this program, and the daemon if one answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from muster import __version__
from muster.cli import render
from muster.client.errors import RequestError, Unreachable
from muster_protocol.errors import RemoteError
from muster_protocol.session.messages import PROTOCOL_MAJOR, PROTOCOL_MINOR
from muster_protocol.session.methods import VersionResult

if TYPE_CHECKING:
    import argparse

    from muster.cli.context import Context
    from muster.cli.parser import Parser

EXAMPLES = """
muster version
muster version --json | jq -r .daemon.build
"""


class VersionReport(msgspec.Struct, frozen=True, kw_only=True):
    """`daemon` is None where none answers; that is no error."""

    schema: str = "muster.version-report/1"
    build: str
    control_protocol: str
    daemon: VersionResult | None


def arguments(parser: Parser) -> None:
    del parser


def run(args: argparse.Namespace, context: Context) -> int:
    del args
    try:
        daemon = context.ask("version")
    except (Unreachable, RequestError, RemoteError):
        daemon = None
    report = VersionReport(
        build=__version__, control_protocol=f"{PROTOCOL_MAJOR}.{PROTOCOL_MINOR}", daemon=daemon
    )
    context.show(report, render.version)
    return 0
