"""Write the table of pysyncobj's deviations into docs/consistency.md: `make deviations`.

Runs every test of `tests/deviations` and writes what each has shown, the stock library and ours
side by side. A test that failed has shown nothing: the table says so, and the exit code is 1.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
sys.path[0] = str(ROOT / "tests")  # not this folder, whose `deviations` is this script

from deviations.table import Shown, render, replaced, shown_by  # noqa: E402 (see above)

DOCUMENT = ROOT / "docs" / "consistency.md"


class Results:
    """What pytest says of each test, in the order of the tests."""

    def __init__(self) -> None:
        self._marks: dict[str, list[pytest.Mark]] = {}
        self._outcomes: dict[str, str] = {}

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        self._marks = {item.nodeid: list(item.iter_markers()) for item in items}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._outcomes[report.nodeid] = "failed"
        elif report.when == "call":
            is_expected = hasattr(report, "wasxfail")
            outcome = "xfailed" if is_expected and report.skipped else report.outcome
            self._outcomes.setdefault(report.nodeid, outcome)

    def shown(self) -> list[Shown]:
        return [
            shown_by(marks, self._outcomes.get(test, "failed"))
            for test, marks in self._marks.items()
            if any(mark.name == "deviation" for mark in marks)
        ]


def main() -> int:
    results = Results()
    code = pytest.main([str(ROOT / "tests" / "deviations"), "-m", "deviation"], plugins=[results])
    shown = results.shown()
    if not shown:
        return int(code)
    DOCUMENT.write_text(replaced(DOCUMENT.read_text("utf-8"), render(shown)), "utf-8")
    print(f"{len(shown)} tests, {sum(row.outcome == 'failed' for row in shown)} failed: {DOCUMENT}")
    return int(code)


if __name__ == "__main__":
    sys.exit(main())
