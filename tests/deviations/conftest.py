"""Stock clusters that close their files when the test is over."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from deviations.stock import StockCluster


@pytest.fixture
def stock(tmp_path: Path) -> Iterator[Callable[..., StockCluster]]:
    """Makes clusters of the stock library, each in a folder of its own."""
    made: list[StockCluster] = []

    def make(names: str = "abc", **options: Any) -> StockCluster:
        directory = tmp_path / f"stock-{len(made)}"
        directory.mkdir()
        made.append(StockCluster(directory, names, **options))
        return made[-1]

    yield make
    for cluster in made:
        cluster.close()
