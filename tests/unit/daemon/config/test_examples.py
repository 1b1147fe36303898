"""The files in `configs/` and `systemd/` are true to the code."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import msgspec
import pytest

import muster.__main__ as daemon
from muster.cli.commands.check_history import HistoryExit
from muster.cli.exit import Exit
from muster.config.load import Host, load_config
from muster.config.schema import SECTIONS
from muster_protocol.membership.config import MembershipConfig

ROOT = Path(__file__).parents[4]
EXAMPLE = (ROOT / "configs/example.toml").read_text()
HOST = Host({}, 0, "web1")


def plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


def test_the_example_names_every_setting_and_no_other() -> None:
    uncommented = re.sub(r"^#(\w+ = )", r"\1", EXAMPLE, flags=re.MULTILINE)
    named = {section: set(keys) for section, keys in tomllib.loads(uncommented).items()}
    assert named == {name: set(kind.__struct_fields__) for name, kind in SECTIONS.items()}


def test_the_example_shows_the_defaults() -> None:
    shown = tomllib.loads(EXAMPLE)
    defaults = {
        name: {
            key: plain(value)
            for key, value in msgspec.structs.asdict(kind()).items()
            if value is not None
        }
        for name, kind in SECTIONS.items()
    }
    assert shown == defaults


def test_the_example_shows_the_values_of_its_profile() -> None:
    for key, value in re.findall(r"^#(\w+) = ([\d.]+)$", EXAMPLE, flags=re.MULTILINE):
        assert getattr(MembershipConfig.lan(), key) == float(value), key


def test_every_setting_of_the_example_says_why() -> None:
    lines = EXAMPLE.splitlines()
    for number, line in enumerate(lines):
        if re.match(r"#?\w+ = ", line):
            assert lines[number - 1].startswith("# "), line


@pytest.mark.parametrize("name", ["example", "lan", "development"])
def test_every_shipped_configuration_is_valid(name: str) -> None:
    load_config(ROOT / f"configs/{name}.toml", host=HOST)


def test_the_lan_configuration_listens_with_a_secret() -> None:
    config = load_config(ROOT / "configs/lan.toml", host=HOST).config
    assert config.cluster.secret_file
    assert not config.cluster.insecure
    assert not config.bind_address.is_loopback


def test_the_exit_codes_are_documented() -> None:
    """A row each, of `muster`, of the command that has its own, and of `musterd`."""
    text, _, of_daemon = (ROOT / "docs/exit-codes.md").read_text().partition("## `musterd`")
    cli, _, others = text.partition("## `muster check-history`")
    of_histories, _, _ = others.partition("\n## ")
    for part, codes_of in ((cli, Exit), (of_histories, HistoryExit)):
        rows = {int(code) for code in re.findall(r"^\| (\d+) \|", part, flags=re.MULTILINE)}
        assert rows == {int(code) for code in codes_of}
    rows = {int(code) for code in re.findall(r"^\| (\d+) \|", of_daemon, flags=re.MULTILINE)}
    codes = {value for name, value in vars(daemon).items() if re.match(r"EXIT_[A-Z]+$", name)}
    assert rows == {code for code in codes if isinstance(code, int)}


def test_the_unit_does_not_restart_where_no_restart_helps() -> None:
    unit = (ROOT / "systemd/musterd.service").read_text()
    codes = f"RestartPreventExitStatus={daemon.EXIT_USAGE} {daemon.EXIT_STATE}\n"
    assert codes in unit


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_the_unit_is_understood_and_stays_hardened() -> None:
    unit = ROOT / "systemd/musterd.service"
    exposure = ["systemd-analyze", "security", "--offline=true", "--threshold=15", str(unit)]
    ended = subprocess.run(exposure, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout
    checked = subprocess.run(
        ["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False
    )
    complaints = [line for line in checked.stderr.splitlines() if "is not executable" not in line]
    assert complaints == []
