"""`musterd`: the daemon's process.

Reads the configuration, builds the real world, runs one node, and turns what ends it into one
line and an exit code (`docs/exit-codes.md`). SIGTERM and SIGINT stop it in order; SIGHUP reads
secrets and configuration again, applies what can be applied, and says what cannot.
"""

from __future__ import annotations

import argparse
import errno
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import trio

from muster import __version__, interpreter
from muster.clock import TrioClock
from muster.config.load import Loaded, load_config
from muster.config.secret_file import read_secret_file
from muster.entropy import SystemEntropy
from muster.identity import read_machine_id
from muster.logs import Logger, log_notify, make_logger
from muster.net.network import RealNetwork
from muster.node import Node
from muster.offload import ThreadOffload
from muster.service import serve_host
from muster.status import status_of
from muster.storage.files import DiskFiles
from muster.systemd import Notifier
from muster.vitals import HostVitals
from muster.world import World
from muster_protocol.crypto.keyring import Keyring
from muster_protocol.effects import Notify
from muster_protocol.errors import (
    ConfigError,
    IdentityError,
    LocalError,
    MusterError,
    SafetyViolation,
    StorageCorrupt,
    StorageError,
)

EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
EXIT_INTERNAL: Final = 70
EXIT_DISK: Final = 74
EXIT_TEMPORARY: Final = 75
EXIT_STATE: Final = 78

EXIT_CODES: Final[tuple[tuple[type[BaseException], int], ...]] = (
    (ConfigError, EXIT_USAGE),
    (IdentityError, EXIT_STATE),
    (StorageCorrupt, EXIT_STATE),
    (SafetyViolation, EXIT_STATE),
    (StorageError, EXIT_DISK),
    (LocalError, EXIT_TEMPORARY),
    (MusterError, EXIT_FAILED),
)
"""First match wins. See docs/exit-codes.md."""

STATUS_PERIOD_S: Final = 5.0

FLAGS: Final = {
    "name": "node.name",
    "bind": "node.bind",
    "port": "node.port",
    "advertise": "node.advertise",
    "state_dir": "node.state_dir",
    "label": "cluster.label",
    "secret_file": "cluster.secret_file",
    "bootstrap_expect": "cluster.bootstrap_expect",
    "socket": "control.socket",
    "log_level": "log.level",
}
"""Options that are short for `--set`."""


def main(argv: Sequence[str] | None = None) -> int:
    """The process. Returns its exit code."""
    arguments = _parser().parse_args(argv)
    try:
        loaded = load_config(arguments.config, flags=_flags(arguments))
        keyring = _read_keyring(loaded)
    except (ConfigError, IdentityError) as error:
        return _explain(error)
    logger = make_logger(
        level=loaded.config.log.level,
        format=loaded.config.log.format,
        wall=TrioClock().wall,
        node=loaded.config.node.name,
    )
    interpreter.set_up()
    try:
        trio.run(_Daemon(arguments, loaded, keyring, logger).run)
    except BaseException as error:  # noqa: BLE001 (the last place: whatever it is gets one line)
        return _explain(_telling(error), logger)
    return EXIT_OK


class _Daemon:
    """One run of the daemon in one trio run."""

    def __init__(
        self,
        arguments: argparse.Namespace,
        loaded: Loaded,
        keyring: Keyring | None,
        logger: Logger,
    ) -> None:
        self._arguments = arguments
        self._loaded = loaded
        self._keyring = keyring
        self._logger = logger
        self._notifier = Notifier.from_environment(os.environ)
        self._stops = 0

    async def run(self) -> None:
        """Until the node has ended."""
        with _opened_files(self._loaded) as files:
            clock = TrioClock()
            world = World(
                clock=clock,
                entropy=SystemEntropy(),
                network=RealNetwork(clock),
                files=files,
                offload=ThreadOffload(),
                vitals=HostVitals(),
            )
            node = Node(
                loaded=self._loaded,
                world=world,
                keyring=self._keyring,
                machine_id=read_machine_id(),
                log=self._log,
            )
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._take_signals, node)
                await nursery.start(node_runner, node, nursery.cancel_scope)
                await nursery.start(serve_host, node)
                self._logger.info("daemon.ready", build=__version__)
                self._notifier.ready("ready")
                nursery.start_soon(self._report, node, clock)

    def _log(self, part: str, notice: Notify) -> None:
        log_notify(self._logger.bind(part=part), notice)

    async def _report(self, node: Node, clock: TrioClock) -> None:
        """STATUS= and the watchdog. That this task runs shows that the loop turns; that the
        status could be computed, that every agent's statistics can be read."""
        period_s = self._notifier.watchdog_period_s or STATUS_PERIOD_S
        while True:
            status = status_of(node)
            leader = f"leader {status.leader_name or 'none'}"
            voters = f"{status.voters_reachable}/{status.voters_total} voters"
            self._notifier.status(f"{status.verdict}: {leader}, {voters}")
            if self._notifier.watchdog_period_s is not None:
                self._notifier.watchdog()
            await clock.sleep(min(period_s, STATUS_PERIOD_S))

    async def _take_signals(self, node: Node) -> None:
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
            async for number in signals:
                if number == signal.SIGHUP:
                    self._reload(node)
                    continue
                self._stops += 1
                if self._stops > 1:
                    raise LocalError("stopped at once, by a second signal")
                self._logger.info("daemon.stopping", signal=signal.Signals(number).name)
                self._notifier.stopping("stopping")
                node.request_stop()

    def _reload(self, node: Node) -> None:
        """Errors are told and leave everything as it was."""
        self._notifier.reloading()
        try:
            loaded = load_config(self._arguments.config, flags=_flags(self._arguments))
            keyring = _read_keyring(loaded)
        except (ConfigError, IdentityError) as error:
            self._logger.error("daemon.reload.refused", reason=str(error))
        else:
            for notice in node.reload(loaded, keyring):
                self._log("node", notice)
        self._notifier.ready()


async def node_runner(
    node: Node,
    scope: trio.CancelScope,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run the node, and end what runs beside it when it has ended."""
    await node.run(task_status=task_status)
    scope.cancel()


class _opened_files:  # noqa: N801 (used like a function)
    """The state directory, locked while the daemon runs."""

    def __init__(self, loaded: Loaded) -> None:
        self._directory = Path(loaded.config.node.state_dir)

    def __enter__(self) -> DiskFiles:
        self._files = DiskFiles(self._directory)
        return self._files

    def __exit__(self, *_: object) -> None:
        self._files.close()


def _read_keyring(loaded: Loaded) -> Keyring | None:
    path = loaded.config.cluster.secret_file
    if not path:
        return None
    secrets = read_secret_file(path, environ=os.environ, uid=os.geteuid())
    return Keyring(secrets, label=loaded.config.cluster.label)


def _flags(arguments: argparse.Namespace) -> Mapping[str, Any]:
    flags: dict[str, Any] = {
        key: getattr(arguments, name)
        for name, key in FLAGS.items()
        if getattr(arguments, name) is not None
    }
    if arguments.insecure:
        flags["cluster.insecure"] = True
    if arguments.join:
        flags["cluster.join"] = list(arguments.join)
    for assignment in arguments.set:
        key, _, value = assignment.partition("=")
        flags[key] = value
    return flags


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="musterd",
        description="The muster cluster daemon. Every setting: configs/example.toml.",
        epilog="Example: musterd --config /etc/muster/muster.toml",
    )
    parser.add_argument("-c", "--config", metavar="FILE", help="configuration file (TOML)")
    for name, key in FLAGS.items():
        parser.add_argument(f"--{name.replace('_', '-')}", metavar="VALUE", help=f"sets {key}")
    parser.add_argument("--join", action="append", metavar="ADDRESS", help="adds to cluster.join")
    parser.add_argument("--insecure", action="store_true", help="sets cluster.insecure")
    parser.add_argument(
        "--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="sets any key"
    )
    parser.add_argument("--version", action="version", version=f"musterd {__version__}")
    return parser


def _telling(error: BaseException) -> BaseException:
    """Of several errors at once, the one whose kind stands first in `EXIT_CODES`: what others say
    at the end of a process is often only that it ends."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    alone = [_telling(inner) for inner in error.exceptions]
    for kind, _ in EXIT_CODES:
        for one in alone:
            if isinstance(one, kind):
                return one
    return alone[0]


def _explain(error: BaseException, logger: Logger | None = None) -> int:
    """One line for whoever started us, and the exit code."""
    if isinstance(error, OSError):
        reason = os.strerror(error.errno) if error.errno else str(error)
        code = EXIT_DISK if error.errno in (errno.EIO, errno.ENOSPC) else EXIT_TEMPORARY
        print(f"musterd: {reason}", file=sys.stderr)
        return code
    for kind, code in EXIT_CODES:
        if isinstance(error, kind):
            print(f"musterd: {error}", file=sys.stderr)
            return code
    if isinstance(error, KeyboardInterrupt):
        return EXIT_OK
    if logger is not None:
        logger.error("daemon.crashed", exc_info=error)
    return EXIT_INTERNAL


if __name__ == "__main__":
    sys.exit(main())
