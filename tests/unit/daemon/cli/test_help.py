"""Help, mistakes, and completion."""

from __future__ import annotations

import ast
import importlib
import subprocess
from pathlib import Path
from typing import Any

import pytest

from muster.cli.commands import dev
from muster.cli.main import COMMANDS
from muster.cli.parser import Parser
from testkit.commandline import muster


@pytest.mark.parametrize("word", list(COMMANDS))
def test_the_help_of_every_command_leads_with_examples(word: str) -> None:
    outcome = muster(word, "--help")
    lines = outcome.out.splitlines()
    assert outcome.code == 0
    assert lines[0] == COMMANDS[word]
    assert lines[2] == "Examples:"
    assert lines[3].startswith(("  muster", "  openssl"))
    assert f"usage: muster {word}" in outcome.out
    assert "--json" in outcome.out


def test_the_overview_names_every_command_and_exit_code() -> None:
    out = muster("--help").out
    for word in COMMANDS:
        assert f"\n  {word}" in out
    for code in range(11):
        assert f"{code} " in out[out.index("Exit codes") :]


@pytest.mark.parametrize(
    ("argv", "meant"),
    [
        (("stauts",), "muster status"),
        (("member",), "muster members"),
        (("kv", "gte", "k"), "get"),
        (("keys", "generat"), "generate"),
        (("completion", "bsh"), "bash"),
    ],
)
def test_a_typing_mistake_gets_a_suggestion(argv: tuple[str, ...], meant: str) -> None:
    outcome = muster(*argv)
    assert outcome.code == 2
    assert f"did you mean{':' if ' ' in meant else ''} {meant}" in outcome.stderr


def test_options_are_not_abbreviated() -> None:
    assert muster("status", "--stric").code == 2


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_completion_knows_the_words(shell: str, tmp_path: Path) -> None:
    script = muster("completion", shell).out
    for word in ("status", "unpark", "--strict", "--socket"):
        assert word.lstrip("-") in script
    assert "sabotage" not in script
    if shell == "bash":
        (tmp_path / "muster").write_text(script)
        subprocess.run(["bash", "-n", str(tmp_path / "muster")], check=True)


def test_dev_is_handed_to_its_own_module(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys
    import types

    seen: list[Any] = []
    module: Any = types.ModuleType("muster.cli.dev")
    module.run = lambda args: seen.append(args) or 3
    monkeypatch.setitem(sys.modules, "muster.cli.dev", module)
    assert muster("dev", "-n", "5", "--dir", "/tmp/x", "--tour", "--sabotage", "heal").code == 3
    (args,) = seen
    assert (args.n, args.dir, args.tour, args.sabotage) == (5, "/tmp/x", True, "heal")
    assert args.network == "127.0.0"
    for wrong in (("-n", "0"), ("-n", "99"), ("--network", "10.0.0"), ("--network", "127.0")):
        assert muster("dev", *wrong).code == 2
    assert len(seen) == 1
    assert "sabotage" not in muster("dev", "--help").out


def test_dev_gets_every_argument_that_its_module_reads() -> None:
    """The stub of the test above would not miss one."""
    source = Path(importlib.import_module("muster.cli.dev").__file__ or "").read_text()
    read = {
        node.attr
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "args"
    }
    parser = Parser(prog="muster dev")
    dev.arguments(parser)
    assert read
    assert read <= set(vars(parser.parse_args([])))


def test_a_reader_that_stops_reading_is_no_error(tmp_path: Path) -> None:
    import os
    import sys

    command = [sys.executable, "-m", "muster.cli.main", "config", "show", "--effective"]
    read, write = os.pipe()
    os.close(read)
    ended = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, check=False)
    os.close(write)
    assert (ended.returncode, ended.stderr) == (141, b"")
