"""Plots: the same data make the same file, and what cannot be drawn is said before the work."""

from __future__ import annotations

import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from muster.sim.experiments import plot
from muster.sim.experiments.experiment import Panel, Series
from muster_protocol.errors import UsageError

FEW = Series("few", (1.0, 2.0, 3.0), (0.0, 10.0, None), (0.0, 5.0), (1.0, 20.0))
MANY = Series(
    "many",
    tuple(float(x) for x in range(40)),
    tuple(float(x) for x in range(40)),
    tuple(0.0 for _ in range(40)),
    tuple(50.0 for _ in range(40)),
)
PANELS = [
    Panel("first", (FEW, MANY), "x", "y", is_logarithmic=True),
    Panel("second", (FEW,), "x", "y", ticks=("a", "b", "c")),
]


def test_the_same_panels_make_the_same_file_with_all_words_in_it(tmp_path: Path) -> None:
    files = [tmp_path / "one.svg", tmp_path / "two.svg"]
    for file in files:
        plot.draw("why?", PANELS, str(file))
    text = files[0].read_text()
    assert text == files[1].read_text()
    ElementTree.fromstring(text)
    for word in ("why?", "first", "second", "few", "many"):
        assert word in text


def test_a_picture_can_be_made_too(tmp_path: Path) -> None:
    plot.draw("why?", PANELS, str(tmp_path / "it.png"))
    assert (tmp_path / "it.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("file", "why"),
    [("it.pdf", "must end with .svg or .png"), ("no/it.svg", "No such file or directory")],
)
def test_a_file_that_cannot_be_is_refused_before_the_work(
    tmp_path: Path, file: str, why: str
) -> None:
    with pytest.raises(UsageError, match=why):
        plot.check(str(tmp_path / file))


def test_without_the_library_it_is_said_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UsageError, match=r"pip install 'musterd\[plot\]'"):
        plot.check(str(tmp_path / "it.svg"))
