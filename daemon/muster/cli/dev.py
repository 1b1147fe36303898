"""`muster dev`: a cluster of real daemons on this machine, for trying things out.

With `--tour` it shows what `make demo` promises. On a terminal it stays up with a live view until
Ctrl-C; otherwise it ends. Everything lives in one directory, a temporary one unless `--dir` names
another, and every process is ended with it.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from muster.cli.local_cluster import LocalCluster, ask
from muster.cli.tour import Tour
from muster_protocol.errors import LocalError

if TYPE_CHECKING:
    import argparse

REFRESH_S: Final = 1.0
TOUR_NODES: Final = 3


def run(args: argparse.Namespace) -> int:
    """The verb. Returns the exit code: 1 when a step of the tour did not happen."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    size = TOUR_NODES if args.tour else args.n
    with _directory(args.dir) as directory:
        cluster = LocalCluster(directory, size, network=args.network)
        with cluster, contextlib.suppress(KeyboardInterrupt):
            if args.tour:
                code = _tour(cluster, args.sabotage or "")
                if code or not sys.stdout.isatty():
                    return code
                for node in cluster.nodes:
                    if not node.is_running:
                        node.start()
            else:
                cluster.start()
                leader = cluster.wait_for_leader()
                print(f"{size} nodes are up, {leader.name} leads")
            _explain(cluster)
            _watch(cluster)
    return 0


def _tour(cluster: LocalCluster, sabotage: str) -> int:
    started = time.monotonic()
    try:
        Tour(cluster, say=lambda line: print(line, flush=True), sabotage=sabotage).run()
    except LocalError as error:
        print(f"muster: {error}", file=sys.stderr)
        return 1
    print(f"all steps happened, in {time.monotonic() - started:.1f} s")
    return 0


def _explain(cluster: LocalCluster) -> None:
    print(f"try:  muster --socket {cluster.nodes[0].socket} status")
    print(f"logs: {cluster.directory}/n*/log        Ctrl-C ends all of it")


def _watch(cluster: LocalCluster) -> None:
    """Until Ctrl-C: a live view on a terminal, else just wait."""
    is_drawn = False
    while True:
        if sys.stdout.isatty():
            width = shutil.get_terminal_size().columns - 1
            lines = [f"\x1b[2K{line[:width]}\n" for line in _view(cluster)]
            sys.stdout.write((f"\x1b[{len(lines)}A" if is_drawn else "") + "".join(lines))
            sys.stdout.flush()
            is_drawn = True
        time.sleep(REFRESH_S)  # the CLI blocks; nothing else is to be done meanwhile


def _view(cluster: LocalCluster) -> Iterator[str]:
    for node in cluster.nodes:
        status = ask(node, "status", 0.5)
        if status is None:
            yield f"{node.name}  {node.host:15}  not running"
        else:
            yield (
                f"{node.name}  {node.host:15}  {status.verdict:12} {status.role:9} "
                f"term {status.term}  index {status.commit_index}  {status.reason}"
            )


@contextlib.contextmanager
def _directory(given: str | None) -> Iterator[Path]:
    if given:
        yield Path(given).absolute()
        return
    with tempfile.TemporaryDirectory(prefix="muster-dev-") as directory:
        yield Path(directory)
