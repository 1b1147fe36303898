"""What `muster` loads before it answers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from testkit.fake_daemon import FakeDaemon, a_status

HEAVY = ("trio", "structlog", "rich", "prometheus_client", "cryptography", "pysyncobj", "asyncio")
UNWANTED = ("tomllib", "dataclasses", "difflib", "shutil", "logging", "threading", "pathlib")


def loaded(code: str) -> set[str]:
    """The modules that a fresh interpreter has after `code`, beyond those it starts with."""
    show = "import sys; before = set(sys.modules)\n{}\nprint(*(set(sys.modules) - before))"
    command = [sys.executable, "-c", show.format(code)]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    return set(ended.stdout.splitlines()[-1].split())


@pytest.mark.parametrize("module", ["muster", "muster.cli.main", "muster.client.blocking"])
def test_the_command_line_does_not_load_what_it_does_not_need(module: str) -> None:
    assert not loaded(f"import {module}") & set(HEAVY)


def test_a_whole_status_loads_nothing_heavy(daemon: FakeDaemon) -> None:
    daemon.answers("status", a_status())
    code = f"from muster.cli.main import main\nmain(['status', '--socket', {str(daemon.path)!r}])"
    found = loaded(code)
    assert not found & set(HEAVY)
    assert not found & set(UNWANTED)
    assert "muster.cli.commands.status" in found
    assert "muster.cli.commands.kv" not in found
    assert "muster.config.load" not in found


def test_the_library_loads_a_name_when_it_is_used() -> None:
    assert "muster.runtime.agent" in loaded("import muster\nmuster.Agent")
    assert "trio" not in loaded("import muster\nmuster.Client")


def test_every_exported_name_is_there() -> None:
    import muster

    for name in muster.__all__:
        assert getattr(muster, name) is not None
        assert name in dir(muster)


def test_the_module_can_be_run_as_a_program(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "muster.cli.main", "status", "--socket", str(tmp_path / "no")]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (3, "")
    assert "Traceback" not in ended.stderr
