"""That no daemon and no command loads a pickle is watched in all tests of this folder (`conftest`).
These show that the watch would see it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from muster.cli.local_cluster import LocalCluster

pytestmark = pytest.mark.integration

ENDED_BY_PICKLE = 86

STOCK = """
from pysyncobj import SyncObj, SyncObjConf, replicated

class Counter(SyncObj):
    def __init__(self):
        super().__init__("127.0.0.1:0", [], SyncObjConf(autoTick=False, commandsQueueSize=10))
        self.total = 0

    @replicated
    def add(self, number):
        self.total += number

counter = Counter()
for _ in range(400):
    counter.doTick(0.01)
    if counter._isLeader():
        break
counter.add(1)
for _ in range(100):
    counter.doTick(0.01)
print("total", counter.total)
"""


@pytest.mark.parametrize(
    "program",
    [
        STOCK,
        "import pickle; pickle.loads(pickle.dumps(1))",
        "import pickle, io; pickle.Unpickler(io.BytesIO(b'N.')).load()",
        "import pickle, io; pickle._Unpickler(io.BytesIO(b'N.')).load()",
        "import _pickle; _pickle.loads(b'N.')",
    ],
    ids=["stock library", "loads", "Unpickler", "_Unpickler", "_pickle"],
)
def test_who_loads_a_pickle_is_ended_and_told_of(pickle_hits: Path, program: str) -> None:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert done.returncode == ENDED_BY_PICKLE, done
    assert pickle_hits.read_text()
    pickle_hits.unlink()


def test_a_daemon_is_under_watch(cluster: LocalCluster) -> None:
    environ = Path(f"/proc/{cluster.nodes[0].pid}/environ").read_bytes()
    assert b"integration/stubs" in environ
    assert b"MUSTER_PICKLE_HITS" in environ
