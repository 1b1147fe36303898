"""What the service tells systemd, and how often it must.

sd_notify(3) is a datagram of `NAME=value` lines to the socket in $NOTIFY_SOCKET. We write it
ourselves: it is less than a dependency is worth. A daemon that was not started by systemd has no
socket, and then everything here does nothing.

The main thread's loop sends, so a send may not block: it is tried for at most `SEND_S`. A message
that is lost is counted; the watchdog's next one follows soon.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from typing import Final

SEND_S: Final = 0.1
"""systemd reads its socket at once unless it is in trouble itself."""

WATCHDOG_FRACTION: Final = 0.5
"""sd_watchdog_enabled(3): half of the time that is allowed."""

ENVIRONMENT: Final = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
"""Not to be handed on to worker processes: they must not speak for the daemon."""


class Notifier:
    """The daemon's line to systemd. No method raises."""

    def __init__(self, address: str, *, watchdog_period_s: float | None = None) -> None:
        """`address`: a path, or "@name" of an abstract socket; "" for none."""
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self.watchdog_period_s = watchdog_period_s
        """How often `watchdog` is to be called; None: not at all."""
        self.failed = 0
        """Messages that could not be sent."""

    @classmethod
    def from_environment(cls, environ: Mapping[str, str], *, pid: int | None = None) -> Notifier:
        """As systemd set it up for the process `pid` (this one)."""
        address = environ.get("NOTIFY_SOCKET", "")
        if address[:1] not in ("/", "@"):
            address = ""  # none, or a kind of socket (vsock) that no service on a host is given
        pid = os.getpid() if pid is None else pid
        return cls(address, watchdog_period_s=_watchdog_period_s(environ, pid))

    @property
    def is_connected(self) -> bool:
        """False if nobody listens."""
        return bool(self._address)

    def ready(self, status: str = "") -> bool:
        """Sockets are bound and the state is loaded; also the end of a reload."""
        return self._send("READY=1", status)

    def status(self, text: str) -> bool:
        """One line for `systemctl status`."""
        return self._send("", text)

    def stopping(self, status: str = "") -> bool:
        """The daemon begins to stop."""
        return self._send("STOPPING=1", status)

    def reloading(self) -> bool:
        """The daemon begins to reload; `ready` ends it. systemd compares the time stamp with its
        own CLOCK_MONOTONIC, so it is the kernel's and no node's clock."""
        return self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def watchdog(self) -> bool:
        """Alive: to be said only after the loops were seen to turn."""
        return self._send("WATCHDOG=1")

    def extend_timeout(self, seconds: float) -> bool:
        """Starting, stopping or reloading takes that much longer from now."""
        return self._send(f"EXTEND_TIMEOUT_USEC={int(seconds * 1e6)}")

    def _send(self, message: str, status: str = "") -> bool:
        if not self._address:
            return False
        if status:
            # A line feed would begin another assignment, and the text may hold a node's name.
            message = f"{message}\nSTATUS={' '.join(status.split())}".lstrip("\n")
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.settimeout(SEND_S)
                sock.sendto(message.encode(errors="replace"), self._address)
        except OSError:
            self.failed += 1
            return False
        return True


def _watchdog_period_s(environ: Mapping[str, str], pid: int) -> float | None:
    try:
        allowed_us = int(environ.get("WATCHDOG_USEC", "0"))
        meant_for = int(environ.get("WATCHDOG_PID") or pid)
    except ValueError:
        return None
    if allowed_us <= 0 or meant_for != pid:
        return None
    return allowed_us / 1e6 * WATCHDOG_FRACTION
