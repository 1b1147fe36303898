"""sd_notify, against a socket as systemd has it."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from muster.systemd import Notifier


class Manager:
    """systemd's end."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self._socket.settimeout(5)

    def heard(self) -> dict[str, str]:
        lines = self._socket.recv(4096).decode().split("\n")
        return dict(line.split("=", 1) for line in lines)

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    abstract = request.param == "abstract"
    found = Manager(f"@muster-test-{os.getpid()}" if abstract else str(tmp_path / "notify"))
    yield found
    found.close()


def a_notifier(manager: Manager, **environ: str) -> Notifier:
    return Notifier.from_environment({"NOTIFY_SOCKET": manager.address, **environ}, pid=42)


def test_each_message_is_as_systemd_reads_it(manager: Manager) -> None:
    notifier = a_notifier(manager)
    assert notifier.is_connected
    assert notifier.ready("3/3 alive")
    assert manager.heard() == {"READY": "1", "STATUS": "3/3 alive"}
    assert notifier.ready()
    assert manager.heard() == {"READY": "1"}
    assert notifier.status("leader=web2")
    assert manager.heard() == {"STATUS": "leader=web2"}
    assert notifier.stopping("handing over")
    assert manager.heard() == {"STOPPING": "1", "STATUS": "handing over"}
    assert notifier.watchdog()
    assert manager.heard() == {"WATCHDOG": "1"}
    assert notifier.extend_timeout(2.5)
    assert manager.heard() == {"EXTEND_TIMEOUT_USEC": "2500000"}


def test_a_reload_carries_the_kernels_monotonic_time(manager: Manager) -> None:
    before = time.monotonic_ns() // 1000
    assert a_notifier(manager).reloading()
    heard = manager.heard()
    assert heard["RELOADING"] == "1"
    assert before <= int(heard["MONOTONIC_USEC"]) <= time.monotonic_ns() // 1000


def test_a_status_cannot_add_an_assignment(manager: Manager) -> None:
    """The text may hold another node's name."""
    a_notifier(manager).status("leader=x\nREADY=1\r\nMAINPID=1")
    assert manager.heard() == {"STATUS": "leader=x READY=1 MAINPID=1"}


@pytest.mark.parametrize("address", ["", "vsock:2:1234", "relative"])
def test_without_systemd_nothing_happens(address: str) -> None:
    notifier = Notifier.from_environment({"NOTIFY_SOCKET": address})
    assert not notifier.is_connected
    assert not notifier.ready()
    assert not notifier.watchdog()
    assert notifier.failed == 0


def test_a_socket_that_is_gone_is_counted_and_raises_nothing(tmp_path: Path) -> None:
    notifier = Notifier(str(tmp_path / "gone"))
    assert not notifier.ready()
    assert not notifier.watchdog()
    assert notifier.failed == 2


def test_a_manager_that_does_not_read_holds_nobody_up(tmp_path: Path) -> None:
    manager = Manager(str(tmp_path / "notify"))
    notifier = Notifier(manager.address)
    started = time.monotonic()
    while notifier.watchdog():
        assert time.monotonic() - started < 10
    assert notifier.failed == 1
    manager.close()


@pytest.mark.parametrize(
    ("environ", "period_s"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "42"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "43"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "me"}, None),
    ],
)
def test_the_watchdog_is_fed_twice_per_period_by_the_process_it_is_meant_for(
    environ: dict[str, str], period_s: float | None
) -> None:
    assert Notifier.from_environment(environ, pid=42).watchdog_period_s == period_s
