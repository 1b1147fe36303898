"""Hosts as network namespaces on a bridge, made and removed by the test.

The bridge stands in a namespace of its own, so nothing of it touches the machine's interfaces. A
host is cut off by taking its port off the bridge: its link stays up and its packets vanish, as
behind a switch that died.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator


def can_make_namespaces() -> bool:
    """Root, iproute2, and a kernel that has bridges."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        return False
    probe = f"muster-probe-{os.getpid()}"
    if subprocess.run(["ip", "netns", "add", probe], capture_output=True, check=False).returncode:
        return False
    made = subprocess.run(
        ["ip", "-n", probe, "link", "add", "br0", "type", "bridge"],
        capture_output=True,
        check=False,
    )
    subprocess.run(["ip", "netns", "del", probe], check=True)
    return made.returncode == 0


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


class Lan:
    """`size` hosts, 10.77.0.1 and on, each in its namespace."""

    def __init__(self, name: str, size: int) -> None:
        self.network = "10.77.0"
        self.size = size
        self._switch = f"{name}-sw"
        self._hosts = [f"{name}-{number}" for number in range(1, size + 1)]
        ip("netns", "add", self._switch)
        ip("-n", self._switch, "link", "add", "br0", "type", "bridge")
        ip("-n", self._switch, "link", "set", "br0", "up")
        for number, host in enumerate(self._hosts, start=1):
            ip("netns", "add", host)
            ip("-n", self._switch, "link", "add", f"p{number}", "type", "veth",
               "peer", "name", "eth0", "netns", host)  # fmt: skip
            ip("-n", self._switch, "link", "set", f"p{number}", "master", "br0", "up")
            ip("-n", host, "addr", "add", f"{self.network}.{number}/24", "dev", "eth0")
            ip("-n", host, "link", "set", "eth0", "up")
            ip("-n", host, "link", "set", "lo", "up")

    def prefix(self, number: int) -> tuple[str, ...]:
        """A command that runs another one on that host."""
        return ("ip", "netns", "exec", self._hosts[number - 1])

    def cut(self, number: int) -> None:
        """What this host sends and what is sent to it vanishes."""
        ip("-n", self._switch, "link", "set", f"p{number}", "nomaster")

    def heal(self, number: int) -> None:
        ip("-n", self._switch, "link", "set", f"p{number}", "master", "br0")

    def deafen(self, number: int, towards: int) -> None:
        """This host hears nothing more from the other one, who still hears it. Needs nftables."""
        self._nft(number, "add table inet muster")
        self._nft(number, "add set inet muster deaf { type ipv4_addr ; }")
        hook = "type filter hook input priority 0 ; policy accept ;"
        self._nft(number, f"add chain inet muster input {{ {hook} }}")
        self._nft(number, "flush chain inet muster input")
        self._nft(number, "add rule inet muster input ip saddr @deaf drop")
        self._nft(number, f"add element inet muster deaf {{ {self.network}.{towards} }}")

    def hear(self, number: int) -> None:
        """This host hears everybody again."""
        command = [*self.prefix(number), "nft", "delete", "table", "inet", "muster"]
        subprocess.run(command, capture_output=True, check=False)  # it may be deaf to nobody

    def _nft(self, number: int, rule: str) -> None:
        command = [*self.prefix(number), "nft", rule]
        subprocess.run(command, check=True, capture_output=True)

    def close(self) -> None:
        for namespace in (*self._hosts, self._switch):
            subprocess.run(["ip", "netns", "del", namespace], capture_output=True, check=False)


@contextlib.contextmanager
def lan(name: str, size: int) -> Iterator[Lan]:
    """A LAN that is gone afterwards, whatever happens."""
    made = Lan(name, size)
    try:
        yield made
    finally:
        made.close()
