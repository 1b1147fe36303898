"""House rules that no linter knows: sizes, banned calls, the order of sets, the module map."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted([*ROOT.glob("daemon/**/*.py"), *ROOT.glob("protocol/**/*.py")])
MUTANTS = sorted(ROOT.glob("tests/mutants/*.patch"))
MODULE_LINES_MAX = 500
FUNCTION_LINES_MAX = 60

WAITS = ("sleep", "sleep_until", "sleep_forever", "move_on_after", "move_on_at", "fail_after",
         "fail_at", "current_time")  # fmt: skip
"""trio's waits that let time pass. `sleep_forever` waits for cancellation only and is allowed."""

CLOCK_FILES = ("daemon/muster/clock.py", "daemon/muster/sim/", "daemon/muster/testing.py")


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def code_lines(tree: ast.AST, text: str) -> set[int]:
    """Lines that are code: no blank lines, comments or docstrings."""
    quoted: set[int] = set()
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        for child in body if isinstance(body, list) else ():
            if isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant):
                quoted.update(range(child.lineno, (child.end_lineno or 0) + 1))
    return {
        number
        for number, line in enumerate(text.splitlines(), 1)
        if line.strip() and not line.strip().startswith("#") and number not in quoted
    }


def parsed() -> Iterator[tuple[Path, str, ast.Module]]:
    for path in SOURCES:
        text = path.read_text(encoding="utf-8")
        yield path, text, ast.parse(text)


def test_no_module_or_function_outgrows_its_one_idea() -> None:
    too_long = []
    for path, text, tree in parsed():
        code = code_lines(tree, text)
        if len(code) > MODULE_LINES_MAX:
            too_long.append(f"{relative(path)}: {len(code)} lines")
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = sum(node.lineno <= line <= (node.end_lineno or 0) for line in code)
                if length > FUNCTION_LINES_MAX:
                    too_long.append(f"{relative(path)}:{node.lineno} {node.name}: {length} lines")
    assert too_long == []


def test_every_module_and_public_class_says_what_it_is() -> None:
    silent = []
    for path, _, tree in parsed():
        if ast.get_docstring(tree) is None:
            silent.append(relative(path))
        silent += [
            f"{relative(path)}:{node.lineno} {node.name}"
            for node in tree.body
            if isinstance(node, ast.ClassDef)
            and not node.name.startswith("_")
            and ast.get_docstring(node) is None
            and not relative(path).endswith(("raftguard/events.py", "session/messages.py"))
            and not relative(path).startswith("protocol/muster_protocol/wire")
            and not relative(path).endswith(("consistency/bootstrap.py", "session/methods.py"))
        ]
    assert silent == []


def test_every_wait_goes_through_the_clock() -> None:
    """A node is paused in the simulator by its clock; a wait beside it would go on."""
    beside = []
    for path, _, tree in parsed():
        if relative(path).startswith(CLOCK_FILES):
            continue
        for node in ast.walk(tree):
            if (
                isinstance(node, ast.Attribute)
                and isinstance(node.value, ast.Name)
                and node.value.id == "trio"
                and node.attr in WAITS
                and node.attr != "sleep_forever"
            ):
                beside.append(f"{relative(path)}:{node.lineno} trio.{node.attr}")
    assert beside == []


def test_nothing_iterates_over_a_set() -> None:
    """The order of a set of text or objects differs from process to process."""
    loops = []
    for path, _, tree in parsed():
        for node in ast.walk(tree):
            iterated = node.iter if isinstance(node, ast.For | ast.comprehension) else None
            is_set = isinstance(iterated, ast.Set | ast.SetComp) or (
                isinstance(iterated, ast.Call)
                and isinstance(iterated.func, ast.Name)
                and iterated.func.id in ("set", "frozenset")
            )
            if is_set:
                loops.append(f"{relative(path)}:{iterated.lineno}")  # type: ignore[union-attr]
    assert loops == []


def test_nobody_pickles() -> None:
    """Pickle appears in one place: where pysyncobj's own module of that name is rebound."""
    pickles = re.compile(r"import pickle|\bpickle\.")
    found = [relative(path) for path, text, _ in parsed() if pickles.search(text)]
    assert found == ["daemon/muster/agents/consistency/raft/rebound.py"]


@pytest.mark.parametrize("patch", MUTANTS, ids=lambda patch: patch.stem)
def test_a_planted_defect_can_be_planted(patch: Path) -> None:
    """A patch whose place was rewritten has to be rewritten with it."""
    command = ["git", "apply", "--check", str(patch)]
    applied = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert applied.returncode == 0, applied.stderr


@pytest.mark.parametrize("name", ["utils.py", "helpers.py", "common.py", "manager.py"])
def test_no_module_is_called_after_nothing(name: str) -> None:
    assert [relative(path) for path in SOURCES if path.name == name] == []


def test_the_module_map_of_the_architecture_is_true() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    table = text[text.index("## Where is") :]
    named = re.findall(r"^\| .+ \| `([^`]+)` \|$", table, flags=re.MULTILINE)
    assert len(named) > 40
    assert [path for path in named if not (ROOT / path).is_file()] == []


def test_links_in_the_documents_lead_somewhere() -> None:
    broken = []
    for document in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]:
        for target in re.findall(r"\]\(([^)#]+)[)#]", document.read_text(encoding="utf-8")):
            if "://" not in target and not (document.parent / target).exists():
                broken.append(f"{relative(document)}: {target}")
    assert broken == []


def test_metrics_are_documented_one_by_one() -> None:
    from muster.metrics import FAMILIES, HISTOGRAMS

    text = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| (.*?) \| (.*?) \|$", text, flags=re.MULTILINE)
    expected = [
        (
            family.name + ("_total" if family.is_counter else ""),
            "counter" if family.is_counter else "gauge",
            ", ".join(family.labels),
            family.help,
        )
        for family in FAMILIES
    ]
    expected += [(family.name, "histogram", "", family.help) for family in HISTOGRAMS]
    assert rows == expected


def test_nothing_names_a_package_index() -> None:
    named = []
    for path in [ROOT / "requirements.lock", ROOT / "pyproject.toml", ROOT / "Makefile"]:
        if re.search(r"https?://", path.read_text(encoding="utf-8")):
            named.append(relative(path))
    assert named == []
