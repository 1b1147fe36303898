"""The table in docs/consistency.md is what the tests say, and the control is the stock library."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pysyncobj.pickle
import pytest

from deviations.stock import LIBRARY, StockCluster
from deviations.table import BEGIN, DEVIATIONS, END, Shown, render, shown_by
from muster.agents.consistency.raft import rebound

HERE = Path(__file__).parent
DOCUMENT = HERE.parents[1] / "docs" / "consistency.md"


def marked() -> Iterator[tuple[str, list[pytest.Mark]]]:
    """Every test here that shows a deviation, in the order in which they run."""
    for path in sorted(HERE.glob("test_*.py")):
        for name, test in vars(importlib.import_module(f"deviations.{path.stem}")).items():
            marks = list(getattr(test, "pytestmark", ()))
            if name.startswith("test_") and any(mark.name == "deviation" for mark in marks):
                yield name, marks


def test_every_deviation_has_a_test_of_its_number_and_a_control() -> None:
    shown = [(name, shown_by(marks)) for name, marks in marked()]
    assert [name for name, row in shown if not name.startswith(f"test_d{row.number:02d}_")] == []
    assert list(DEVIATIONS) == list(range(1, 35))
    assert {row.number for _, row in shown if row.stock} == set(DEVIATIONS)
    assert {row.number for _, row in shown if row.ours} == set(DEVIATIONS)


def test_the_committed_table_is_what_make_deviations_writes() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    table = text[text.index(BEGIN) : text.index(END) + len(END)]
    assert table == render(shown_by(marks) for _, marks in marked())


def test_what_failed_is_not_claimed() -> None:
    rows = [
        Shown(1, "loses a write", "loses none", "failed"),
        Shown(2, "stops", "goes on", "xfailed", "not built"),
    ]
    lines = render(rows).splitlines()
    first, second = (line for line in lines if re.match(r"\| D[12] ", line))
    assert "loses" not in first
    assert first.count("**not shown**") == 2
    assert "| stops | **open**: not built |" in second


def test_the_control_is_not_rebound(stock: Callable[..., StockCluster]) -> None:
    """Else it would show what our own replacements do."""
    assert LIBRARY.pickle.dumps((1, 2)).startswith(b"\x80\x02")
    assert LIBRARY.syncobj.pickle is LIBRARY.serializer.pickle is LIBRARY.pickle
    assert LIBRARY.syncobj.createJournal is LIBRARY.journal.createJournal
    assert pysyncobj.pickle.dumps is rebound.__dict__["_dumps"]
    cluster = stock("abc")
    outcome = cluster.lead("b").write("x")
    assert cluster.run(1.0, lambda: outcome.is_acknowledged)
    cluster.run(1.0)
    assert [cluster[name].values for name in "abc"] == [["x"]] * 3


def test_no_test_looks_inside_the_library() -> None:
    """What goes wrong is shown by what comes out of it."""
    mangled = "_SyncObj" + "__"
    assert [path.name for path in HERE.glob("*.py") if mangled in path.read_text("utf-8")] == []
