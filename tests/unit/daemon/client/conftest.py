from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from testkit.fake_daemon import FakeDaemon


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[FakeDaemon]:
    """A daemon that answers what the test says."""
    with FakeDaemon(tmp_path / "muster.sock") as fake:
        yield fake
