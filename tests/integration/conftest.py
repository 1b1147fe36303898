"""Real daemons on loopback addresses of their own, one network per test."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from muster.cli.local_cluster import LocalCluster

_NUMBERS = itertools.count(1)


def fresh_network() -> str:
    """Three parts of a loopback network that no other running test uses, nor another test run."""
    return f"127.{30 + os.getpid() % 200}.{next(_NUMBERS) % 250}"


@pytest.fixture(autouse=True)
def pickle_hits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Every process that a test starts ends if it loads a pickle; then this file is there."""
    hits, watch = tmp_path / "pickle-hits", Path(__file__).parent / "stubs"
    paths = [str(watch), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    monkeypatch.setenv("MUSTER_PICKLE_HITS", str(hits))
    yield hits
    assert not hits.exists(), hits.read_text()


@pytest.fixture
def network() -> str:
    return fresh_network()


@pytest.fixture
def make_cluster(tmp_path: Path) -> Iterator[Callable[..., LocalCluster]]:
    """Makes clusters that end with the test."""
    made: list[LocalCluster] = []

    def make(size: int = 3, **options: object) -> LocalCluster:
        directory = tmp_path / f"cluster{len(made)}"
        cluster = LocalCluster(directory, size, network=fresh_network(), **options)  # type: ignore[arg-type]
        made.append(cluster)
        return cluster

    yield make
    for cluster in made:
        cluster.close()


@pytest.fixture
def cluster(make_cluster: Callable[..., LocalCluster]) -> LocalCluster:
    """Three nodes that have founded a cluster and elected a leader."""
    made = make_cluster()
    made.start()
    made.wait_for_leader()
    return made
