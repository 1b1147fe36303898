"""`muster keys` and `muster config`: files, no daemon."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from muster_protocol.crypto.keyring import Keyring, parse_secrets
from testkit.commandline import muster

LEVELS = "debug, info, warning, error"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_generated_secret_is_closed_to_others_and_named_by_its_id(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    previous = os.umask(0)
    try:
        outcome = muster("keys", "generate", str(path))
    finally:
        os.umask(previous)
    assert (outcome.code, outcome.out, mode(path)) == (0, "", 0o600)
    ring = Keyring(parse_secrets(path.read_text()), label="lan")
    listed = muster("keys", "list", str(path), "--label", "lan", "--json").json
    assert listed["schema"] == "muster.keys/1"
    assert listed["keys"] == [{"id": ring.primary.id, "primary": True}]


def test_the_secret_itself_is_never_shown(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    muster("keys", "generate", str(path))
    secret = path.read_text().splitlines()[-1]
    shown = muster("keys", "list", str(path), "--label", "lan")
    assert secret not in shown.out + shown.stderr


def test_two_secrets_are_two_secrets(tmp_path: Path) -> None:
    assert muster("keys", "generate", "-").out != muster("keys", "generate", "-").out


def test_an_existing_file_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("precious")
    outcome = muster("keys", "generate", str(path))
    assert (outcome.code, path.read_text()) == (1, "precious")
    assert "is there already" in outcome.stderr


def test_a_redirected_secret_is_closed_to_others(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    with path.open("wb") as output:
        os.fchmod(output.fileno(), 0o644)
        command = [sys.executable, "-m", "muster.cli.main", "keys", "generate", "-"]
        subprocess.run(command, stdout=output, check=True)
    assert mode(path) == 0o600
    assert len(parse_secrets(path.read_text())) == 1


@pytest.mark.parametrize("wide", [0o640, 0o604, 0o660])
def test_a_secret_that_others_may_read_is_refused(tmp_path: Path, wide: int) -> None:
    path = tmp_path / "secret"
    muster("keys", "generate", str(path))
    path.chmod(wide)
    outcome = muster("keys", "list", str(path), "--label", "lan")
    assert outcome.code == 1
    assert f"chmod 600 {path}" in outcome.stderr


def test_the_configured_secret_is_listed(tmp_path: Path) -> None:
    path, config = tmp_path / "secret", tmp_path / "muster.toml"
    muster("keys", "generate", str(path))
    config.write_text(f'[cluster]\nlabel = "prod"\nsecret_file = "{path}"\n')
    listed = muster("keys", "list", "--config", str(config), "--json").json
    ring = Keyring(parse_secrets(path.read_text()), label="prod")
    assert (listed["label"], listed["keys"][0]["id"]) == ("prod", ring.primary.id)


def test_a_valid_file_is_said_to_be_valid(tmp_path: Path) -> None:
    config = tmp_path / "muster.toml"
    config.write_text("[node]\nport = 7500\n")
    assert muster("config", "check", str(config)).out == f"{config}: valid\n"
    checked = muster("config", "check", str(config), "--json").json
    assert checked == {
        "schema": "muster.config-check/1",
        "path": str(config),
        "valid": True,
        "faults": [],
    }


def test_every_fault_of_a_file_is_one_line_with_its_place(tmp_path: Path) -> None:
    config = tmp_path / "muster.toml"
    config.write_text('[node]\nprot = 1\n[log]\nlevel = "loud"\n')
    outcome = muster("config", "check", str(config))
    assert outcome.code == 2
    assert outcome.stderr.splitlines() == [
        f"muster: {config}:2: node.prot: there is no such setting; did you mean port?",
        f"muster: {config}:4: log.level: 'loud' is not one of the choices; one of {LEVELS}",
    ]
    checked = muster("config", "check", str(config), "--json")
    assert (checked.code, checked.json["valid"]) == (2, False)
    assert [fault["key"] for fault in checked.json["faults"]] == ["node.prot", "log.level"]


def test_a_secret_file_that_musterd_would_refuse_is_a_fault(tmp_path: Path) -> None:
    secret, config = tmp_path / "secret", tmp_path / "muster.toml"
    config.write_text(f'[cluster]\nsecret_file = "{secret}"\n')
    outcome = muster("config", "check", str(config))
    assert outcome.code == 2
    assert f"{config}:2: cluster.secret_file: secret file {secret}: No such file" in outcome.stderr
    muster("keys", "generate", str(secret))
    assert muster("config", "check", str(config)).code == 0
    secret.chmod(0o644)
    checked = muster("config", "check", str(config), "--json")
    assert [fault["key"] for fault in checked.json["faults"]] == ["cluster.secret_file"]


def test_shown_settings_say_where_they_come_from(tmp_path: Path) -> None:
    config = tmp_path / "muster.toml"
    config.write_text("[node]\nport = 7500\n")
    environ = {"MUSTER_LOG_LEVEL": "debug"}
    brief = muster("config", "show", str(config), "--json", environ=environ).json
    assert brief["schema"] == "muster.config/1"
    assert brief["items"] == [
        {"key": "node.port", "value": 7500, "origin": f"{config}:2"},
        {"key": "log.level", "value": "debug", "origin": "environment MUSTER_LOG_LEVEL"},
    ]
    full = muster("config", "show", str(config), "--effective", environ=environ).out
    assert "gossip.probe_interval_s" in full
    assert "profile lan" in full
