"""A cluster of three etcd processes on loopback, beside `LocalCluster`'s of muster.

Between the nodes TLS with certificates on both ends, made here; clients come over unix sockets, as
muster's do. Durability, heartbeats, elections and snapshots are as etcd has them by default. Only
processes that were started here are ever signalled, by their pid.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import urllib.request
from pathlib import Path
from typing import Any, Final

from muster.cli.local_cluster import wait_for
from muster_protocol.errors import LocalError

PROGRAMS: Final = {"etcd": "etcd-server", "openssl": "openssl"}
"""And the Debian packages that have them."""

CLIENT_PORT: Final = 2379
PEER_PORT: Final = 2380
QUOTA_BYTES: Final = 8 * 2**30
"""etcd keeps every revision: its default of 2 GiB may be full in a long benchmark."""

ASK_S: Final = 2.0
STOP_S: Final = 10.0


def missing() -> str:
    """In one line, what has to be installed; "" if nothing is missing."""
    packages = [package for name, package in PROGRAMS.items() if shutil.which(name) is None]
    if not packages:
        return ""
    return f"{' and '.join(packages)} not found; on Debian: apt-get install {' '.join(packages)}"


def version() -> str:
    """As etcd says it: "3.4.23"."""
    said = subprocess.run(["etcd", "--version"], check=True, capture_output=True, text=True).stdout
    return said.splitlines()[0].rpartition(" ")[2]


class EtcdNode:
    """One process, or the place where one was."""

    def __init__(self, cluster: EtcdCluster, number: int) -> None:
        self.name = f"e{number}"
        self.host = f"{cluster.network}.{number}"
        self.directory = cluster.directory / self.name
        self.socket = self.directory / f"{self.name}:1"  # etcd's way to name a socket's file
        self.process: subprocess.Popen[bytes] | None = None
        self._cluster = cluster
        self.directory.mkdir(parents=True)

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def peer_url(self) -> str:
        return f"https://{self.host}:{PEER_PORT}"

    @property
    def client_url(self) -> str:
        return f"http://{self.host}:{CLIENT_PORT}"

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def start(self, *, is_new: bool = False) -> None:
        """`is_new`: with the cluster, for the first time."""
        self.socket.unlink(missing_ok=True)  # etcd does not listen where one was killed
        certificates = self._cluster.certificates
        peers = ",".join(f"{node.name}={node.peer_url}" for node in self._cluster.nodes)
        settings = {
            "name": self.name,
            "data-dir": "data",
            "listen-client-urls": f"{self.client_url},unix://{self.socket.name}",
            "advertise-client-urls": self.client_url,
            "listen-peer-urls": self.peer_url,
            "initial-advertise-peer-urls": self.peer_url,
            "initial-cluster": peers,
            "initial-cluster-state": "new" if is_new else "existing",
            "peer-cert-file": str(certificates / "node.pem"),
            "peer-key-file": str(certificates / "node.key"),
            "peer-trusted-ca-file": str(certificates / "ca.pem"),
            "peer-client-cert-auth": "true",
            "quota-backend-bytes": str(QUOTA_BYTES),
            "logger": "zap",
            "log-level": "warn",
        }
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                ["etcd", *(f"--{name}={value}" for name, value in settings.items())],
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={k: v for k, v in os.environ.items() if not k.startswith("ETCD_")},
                start_new_session=True,
            )

    def kill(self) -> None:
        """SIGKILL, and wait for the end."""
        if self.is_running:
            os.kill(self.pid, signal.SIGKILL)
        assert self.process is not None
        self.process.wait(STOP_S)

    def status(self) -> dict[str, Any] | None:
        """What `Maintenance/Status` says; None if the node does not answer now."""
        asked = urllib.request.Request(f"{self.client_url}/v3/maintenance/status", data=b"{}")
        try:
            with urllib.request.urlopen(asked, timeout=ASK_S) as answer:
                status: dict[str, Any] = json.load(answer)
        except (OSError, ValueError):
            return None
        return status


class EtcdCluster:
    """Nodes e1 to e3. Use as a context manager: leaving it ends every process."""

    def __init__(self, directory: Path, *, network: str = "127.0.79") -> None:
        self.directory = directory
        self.network = network
        self.certificates = directory / "certificates"
        self.nodes = [EtcdNode(self, number) for number in (1, 2, 3)]
        self._make_certificates()

    def __enter__(self) -> EtcdCluster:
        return self

    def __exit__(self, *_: object) -> None:
        for node in self.nodes:
            if node.is_running:
                os.kill(node.pid, signal.SIGTERM)
        for node in self.nodes:
            if node.process is not None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    node.process.wait(STOP_S)
                node.kill()

    def start(self) -> None:
        """Start all nodes of a new cluster."""
        for node in self.nodes:
            node.start(is_new=True)

    def leader(self) -> EtcdNode | None:
        """The node of which all that run say that it leads; None if there is none."""
        said = [(node, node.status()) for node in self.nodes if node.is_running]
        leaders = {status.get("leader", "0") if status else "0" for _, status in said}
        if len(leaders) == 1:
            for node, status in said:
                if status is not None and status["header"]["member_id"] in leaders:
                    return node
        return None

    def wait_for_leader(self, within_s: float = 30.0) -> EtcdNode:
        """Errors: LocalError when none is agreed on in time."""
        try:
            return wait_for(self.leader, within_s, "etcd has no leader")
        except LocalError as error:
            logs = [node.directory / "log" for node in self.nodes]
            last = [path.read_text(errors="replace")[-300:] for path in logs if path.exists()]
            raise LocalError(f"{error}: {' '.join(last)}") from error

    def _make_certificates(self) -> None:
        """An authority, and one certificate for all three nodes."""
        self.certificates.mkdir()
        # They dial from 127.0.0.1, and etcd checks the address of whoever dials, too.
        hosts = ",".join(f"IP:{host}" for host in ["127.0.0.1", *(n.host for n in self.nodes)])
        usage = f"subjectAltName={hosts}\nextendedKeyUsage=serverAuth,clientAuth\n"
        (self.certificates / "usage").write_text(usage, encoding="ascii")
        key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        for command in (
            ["req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=benchmark"],
            ["req", *key, "-keyout", "node.key", "-out", "node.csr", "-subj", "/CN=node"],
            ["x509", "-req", "-in", "node.csr", "-CA", "ca.pem", "-CAkey", "ca.key",
             "-CAcreateserial", "-extfile", "usage", "-days", "2", "-out", "node.pem"],
        ):  # fmt: skip
            subprocess.run(
                ["openssl", *command], check=True, cwd=self.certificates, capture_output=True
            )
