"""A cluster of real daemons on loopback, for `muster dev`, the tests and the benchmarks.

Each node is a `musterd` process with its own address (127.0.0.1, .2, ...), state directory,
configuration file and control socket below one directory, and all share one generated secret. Only
processes that were started here are ever signalled, by their pid.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

from muster.client.blocking import Client
from muster.config.secret_file import write_secret_file
from muster_protocol.crypto.keyring import format_secrets
from muster_protocol.errors import LocalError, MusterError

T = TypeVar("T")

POLL_S: Final = 0.05
STOP_S: Final = 10.0
NODES_MAX: Final = 9
HTTP_PORT: Final = 7412

Settings = Mapping[str, Mapping[str, object]]
"""By section and key, as in a configuration file."""


class LocalNode:
    """One daemon process, or the place where one was."""

    def __init__(
        self,
        cluster: LocalCluster,
        number: int,
        *,
        secret_file: Path,
        settings: Settings | None = None,
    ) -> None:
        self.cluster = cluster
        self.name = f"n{number}"
        self.host = cluster.host(number)
        self.directory = cluster.directory / self.name
        self.socket = self.directory / "muster.sock"
        self.log_path = self.directory / "log"
        self.config_path = self.directory / "muster.toml"
        self.secret_file = secret_file
        self.process: subprocess.Popen[bytes] | None = None
        self.prefix: tuple[str, ...] = ()
        """A command that runs the daemon, `ip netns exec NAME` for one."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self.config_path.write_text(self._config(number, settings or {}), encoding="utf-8")

    def _config(self, number: int, settings: Settings) -> str:
        cluster = self.cluster
        is_loopback = self.host.startswith("127.")
        ours: dict[str, dict[str, object]] = {
            "node": {
                "name": self.name,
                "state_dir": str(self.directory / "state"),
                "bind": self.host,
                "port": cluster.port,
            },
            "cluster": {
                "label": "dev",
                "secret_file": str(self.secret_file),
                "bootstrap_expect": cluster.founders if number <= cluster.founders else 0,
                "witness": cluster.has_witness and number == cluster.size,
                "join": [cluster.host(number) for number in range(1, cluster.size + 1)],
            },
            "control": {"socket": str(self.socket)},
            "http": {"bind": self.host if is_loopback else "127.0.0.1", "port": HTTP_PORT},
        }
        for section, keys in settings.items():
            ours.setdefault(section, {}).update(keys)
        return _toml(ours)

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def start(self, environ: Mapping[str, str] | None = None) -> None:
        """Start the daemon."""
        assert not self.is_running, f"{self.name} runs already"
        daemon = [sys.executable, "-m", "muster", "--config", str(self.config_path)]
        command = [*self.prefix, *daemon]
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(  # noqa: S603 (our own interpreter and module)
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **(environ or {})},
                start_new_session=True,
            )

    def signal(self, number: int) -> None:
        """Send a signal to the process, if it runs."""
        if self.is_running:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL, and wait for the end."""
        self.signal(signal.SIGKILL)
        self.wait()

    def stop(self) -> int:
        """SIGTERM, and wait for the end; the exit code."""
        self.signal(signal.SIGTERM)
        return self.wait()

    def wait(self, within_s: float = STOP_S) -> int:
        """Wait for the end of the process; killed if that takes too long."""
        assert self.process is not None
        try:
            return self.process.wait(within_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise

    def client(self, timeout_s: float = 10.0) -> Client:
        """A client of this node's control socket."""
        return Client(str(self.socket), timeout_s=timeout_s)

    def log(self) -> str:
        """Everything that it has logged."""
        return self.log_path.read_text(encoding="utf-8", errors="replace")


class LocalCluster:
    """Nodes n1 to nN. Use as a context manager: leaving it ends every process."""

    def __init__(
        self,
        directory: Path,
        size: int,
        *,
        founders: int | None = None,
        has_witness: bool = False,
        network: str = "127.0.0",
        port: int = 7411,
        settings: Settings | None = None,
    ) -> None:
        """`founders`: how many, from n1 on, found the cluster (all of them by default); the others
        join. `has_witness`: the last node is one, and no founder. `network`: the first three parts
        of the addresses, below 127. `settings`: of every node, beside its own here or in their
        place."""
        if not 1 <= size <= NODES_MAX:
            raise LocalError(f"between 1 and {NODES_MAX} nodes, not {size}")
        self.directory = directory
        self.size = size
        self.has_witness = has_witness
        self.founders = size - has_witness if founders is None else founders
        self.network = network
        self.port = port
        directory.mkdir(parents=True, exist_ok=True)
        self.secret_file = self.make_secret("secret")
        self.nodes = [
            LocalNode(self, number, secret_file=self.secret_file, settings=settings)
            for number in range(1, size + 1)
        ]

    def __enter__(self) -> LocalCluster:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def host(self, number: int) -> str:
        return f"{self.network}.{number}"

    def make_secret(self, name: str) -> Path:
        """A new cluster secret in a file of that name."""
        path = self.directory / name
        if not path.exists():
            write_secret_file(str(path), format_secrets([os.urandom(32)]))
        return path

    def start(self) -> None:
        """Start all nodes."""
        for node in self.nodes:
            node.start()

    def close(self) -> None:
        """End every process that was started here."""
        for node in self.nodes:
            if node.is_running:
                node.signal(signal.SIGCONT)
                node.signal(signal.SIGTERM)
        for node in self.nodes:
            if node.process is not None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    node.wait(5.0)

    def running(self) -> list[LocalNode]:
        return [node for node in self.nodes if node.is_running]

    def leader(self, among: list[LocalNode] | None = None) -> LocalNode | None:
        """The node that says it leads and that all running ones follow; None if there is none."""
        nodes = self.running() if among is None else among
        said = [ask(node, "status") for node in nodes]
        if any(status is None for status in said):
            return None
        leaders = list(dict.fromkeys(status.leader for status in said))
        if len(leaders) != 1:
            return None
        for node, status in zip(nodes, said, strict=True):
            if status is not None and status.node == status.leader and status.role == "leader":
                return node
        return None

    def wait_for_leader(self, within_s: float = 30.0) -> LocalNode:
        """Errors: LocalError when none is agreed on in time."""
        return wait_for(self.leader, within_s, "no leader")


def _toml(sections: Settings) -> str:
    """A configuration file. Of JSON, what settings are made of is TOML too."""
    lines: list[str] = []
    for name, keys in sections.items():
        values = (f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in keys.items())
        lines += [f"[{name}]", *values, ""]
    return "\n".join(lines)


def ask(node: LocalNode, method: str, timeout_s: float = 2.0) -> Any:
    """A parameterless question; None if the node does not answer it now."""
    try:
        with node.client(timeout_s) as client:
            return client.call(method)
    except MusterError:
        return None


def wait_for(condition: Callable[[], T | None], within_s: float, what: str) -> T:
    """The first true value of `condition`. Errors: LocalError(what) when time is up."""
    deadline = time.monotonic() + within_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise LocalError(f"{what} within {within_s:.0f} s")
        time.sleep(POLL_S)  # the CLI blocks, and waits for a condition of other processes
