"""Plots of experiments, by matplotlib, which only they need: `pip install 'musterd[plot]'`."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from muster.sim.experiments.experiment import Panel, Series
from muster_protocol.errors import UsageError

FORMATS: Final = (".svg", ".png")
PANELS_PER_ROW: Final = 3
INCHES: Final = (4.6, 3.6)
"""Of one panel."""

INCHES_MIN: Final = 8.0
"""Of the whole: the title and the names of the lines need so much."""

LINES: Final = ("-", "--", "-.", ":")
MARKERS: Final = "osD^vPX*"
"""Lines are told apart without colour too."""

MARKED_POINTS_MAX: Final = 20
"""A line of more points is drawn without markers, and with a shade instead of bars."""


def check(file: str) -> None:
    """Can a plot be written there? Asked before hours of work. Errors: UsageError."""
    if Path(file).suffix not in FORMATS:
        raise UsageError(f"--plot {file}: the name must end with {' or '.join(FORMATS)}")
    path = Path(file)
    is_new = not path.exists()
    try:
        with path.open("ab"):
            pass
    except OSError as error:
        raise UsageError(f"--plot {file}: {error.strerror}") from error
    if is_new:
        path.unlink()
    _library("matplotlib")


def draw(title: str, panels: Sequence[Panel], file: str) -> None:
    """Write them side by side. The same panels make the same file. Errors: UsageError, OSError."""
    matplotlib = _library("matplotlib")
    matplotlib.use("agg")
    matplotlib.rcParams.update({"svg.hashsalt": "muster", "svg.fonttype": "none", "font.size": 9})
    columns = min(PANELS_PER_ROW, len(panels))
    rows = -(-len(panels) // columns)
    pyplot = _library("matplotlib.pyplot")
    figure, axes = pyplot.subplots(
        rows,
        columns,
        squeeze=False,
        figsize=(max(INCHES_MIN, INCHES[0] * columns), INCHES[1] * rows + 0.6),
    )
    for place, axis in enumerate(axes.flat):
        if place < len(panels):
            _draw_panel(axis, panels[place])
        else:
            axis.set_visible(False)
    figure.suptitle(title)
    names, labels = axes.flat[0].get_legend_handles_labels()
    figure.legend(names, labels, loc="lower center", ncols=min(6, len(labels)), frameon=False)
    figure.tight_layout(rect=(0, 0.05, 1, 1))
    figure.savefig(file, metadata={"Date": None} if file.endswith(".svg") else None)
    pyplot.close(figure)


def _draw_panel(axis: Any, panel: Panel) -> None:
    for place, series in enumerate(panel.series):
        _draw_series(axis, series, place)
    axis.set_title(panel.title, fontsize=9)
    axis.set_xlabel(panel.x_label)
    axis.set_ylabel(panel.y_label)
    axis.grid(alpha=0.3)
    if panel.is_logarithmic:
        axis.set_yscale("symlog", linthresh=1.0)
    if panel.ticks:
        axis.set_xticks(range(len(panel.ticks)), panel.ticks, rotation=40, ha="right")
    axis.set_ylim(0.0, max(1.0, axis.get_ylim()[1]))


def _draw_series(axis: Any, series: Series, place: int) -> None:
    points = [(x, y) for x, y in zip(series.x, series.y, strict=True) if y is not None]
    xs, ys = [x for x, _ in points], [y for _, y in points]
    is_marked = len(points) <= MARKED_POINTS_MAX
    (line,) = axis.plot(
        xs,
        ys,
        LINES[place % len(LINES)],
        marker=MARKERS[place % len(MARKERS)] if is_marked else None,
        markersize=4,
        linewidth=1.2,
        label=series.name,
    )
    if not series.low:
        return
    if is_marked:
        spread = [
            [y - low for y, low in zip(ys, series.low, strict=True)],
            [high - y for y, high in zip(ys, series.high, strict=True)],
        ]
        axis.errorbar(xs, ys, spread, fmt="none", color=line.get_color(), capsize=2, linewidth=0.8)
    else:
        axis.fill_between(
            xs, series.low, series.high, color=line.get_color(), alpha=0.2, linewidth=0
        )


def _library(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UsageError(
            "--plot needs matplotlib, which the daemon does not: pip install 'musterd[plot]'"
        ) from error
