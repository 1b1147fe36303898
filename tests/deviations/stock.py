"""pysyncobj 0.3.17 as it is published: the control of every test in this folder.

The product rebinds names inside the library, once per process (`raft/rebound`). So the control is a
second copy of it, under a name of its own, in which only the clock and the random numbers are
replaced. Its nodes share a network in memory that delivers in order, and at once unless a test
cuts, holds or repeats something; there are no sockets and no threads. Files are real ones.

This is the only module here that knows private names of the library.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import logging
import mmap
import os
import random
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest

COPY: Final = "stock_pysyncobj"
STEP_S: Final = 0.05
"""The library's own tick period (`autoTickPeriod`)."""


class _World:
    """The one clock and generator of the nodes of the present test."""

    now = 0.0
    rng = random.Random(1)


def _copy_of_the_library() -> Any:
    found = importlib.util.find_spec("pysyncobj")
    assert found is not None
    assert found.origin is not None
    spec = importlib.util.spec_from_file_location(
        COPY, found.origin, submodule_search_locations=found.submodule_search_locations
    )
    assert spec is not None
    assert spec.loader is not None
    library = sys.modules[COPY] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(library)
    for name in ("syncobj", "serializer", "tcp_connection"):
        # They import it by the library's absolute name, and would get the rebound one.
        sys.modules[f"{COPY}.{name}"].pickle = library.pickle  # type: ignore[attr-defined]
    library.syncobj.monotonicTime = lambda: _World.now
    library.syncobj.random = _World.rng
    logging.getLogger(COPY).disabled = True
    for name in ("syncobj", "serializer"):
        logging.getLogger(f"{COPY}.{name}").disabled = True
    return library


LIBRARY: Final = _copy_of_the_library()
assert LIBRARY.version.VERSION == "0.3.17"
_LibraryNode: Any = LIBRARY.SyncObj
_LibraryTransport: Any = LIBRARY.transport.Transport
_LibraryName: Any = LIBRARY.node.Node
SUCCESS: Final = LIBRARY.FAIL_REASON.SUCCESS
DENIED: Final = LIBRARY.FAIL_REASON.REQUEST_DENIED


class Crashed(BaseException):
    """The process of a node dies here."""


class NodeName(_LibraryName):  # type: ignore[misc]  # the library has no types
    """A node as others know it. The library keeps such names in sets, and the order of a set of
    text differs from process to process; this one's does not."""

    def __hash__(self) -> int:
        return ord(self.id)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, NodeName) and self.id == other.id


@dataclass
class Outcome:
    """What a client was told about one command."""

    told: list[Any] = field(default_factory=list)
    """Reasons, as the library calls them."""

    def callback(self, result: Any, reason: Any) -> None:
        del result
        self.told.append(reason)

    @property
    def is_acknowledged(self) -> bool:
        return SUCCESS in self.told


@dataclass(frozen=True)
class Sent:
    """One message on the network."""

    sender: str
    receiver: str
    message: dict[str, Any]

    @property
    def kind(self) -> str:
        return str(self.message["type"])


def _nothing(sent: Sent) -> bool:
    return False


def way(sender: str, receiver: str) -> Callable[[Sent], bool]:
    """Is it sent on this way?"""
    return lambda sent: (sent.sender, sent.receiver) == (sender, receiver)


class _Transport(_LibraryTransport):  # type: ignore[misc]  # the library has no types
    def __init__(self, cluster: StockCluster, me: str) -> None:
        super().__init__(None, None, [])
        self._cluster = cluster
        self._me = me

    @property
    def ready(self) -> bool:
        return True

    def send(self, node: Any, message: dict[str, Any]) -> bool:
        self._cluster.post(Sent(self._me, node.id, message))
        return True

    def addNode(self, node: Any) -> None:  # noqa: N802 (the library's name)
        pass

    def dropNode(self, node: Any) -> None:  # noqa: N802 (the library's name)
        pass

    def destroy(self) -> None:
        pass

    def connected(self, name: str) -> None:
        self._onNodeConnected(NodeName(name))

    def disconnected(self, name: str) -> None:
        self._onNodeDisconnected(NodeName(name))

    def received(self, name: str, message: dict[str, Any]) -> None:
        self._onMessageReceived(NodeName(name), message)


class StockNode(_LibraryNode):  # type: ignore[misc]  # the library has no types
    """Keeps, in order, the values that it is given."""

    def __init__(
        self,
        cluster: StockCluster,
        name: str,
        others: Iterable[str],
        conf: Any,
        *,
        consumers: Iterable[Any] = (),
    ) -> None:
        # What is set before the library's constructor is no part of its snapshots (D33).
        self.name = name
        self.up = True
        self.errors: list[Exception] = []
        self.network = _Transport(cluster, name)
        peers = [NodeName(other) for other in others]
        super().__init__(
            NodeName(name), peers, conf, list(consumers), nodeClass=NodeName, transport=self.network
        )
        self.values: list[Any] = []

    @LIBRARY.replicated  # type: ignore[untyped-decorator]  # as above
    def put(self, value: Any) -> int:
        self.values.append(value)
        return len(self.values)

    def write(self, value: Any) -> Outcome:
        """Ask for `put`, as a client of this node."""
        outcome = Outcome()
        self.put(value, callback=outcome.callback)
        return outcome

    def write_all(self, *values: Any) -> list[Outcome]:
        return [self.write(value) for value in values]

    @property
    def is_leader(self) -> bool:
        return bool(self._isLeader())

    @property
    def log_length(self) -> int:
        return int(self._getRaftLogSize())

    @property
    def electorate(self) -> list[str]:
        return sorted([self.name, *(node.id for node in self.otherNodes)])


class StockCluster:
    """Nodes of the stock library: run them, cut them off, kill them, look at them."""

    def __init__(
        self,
        directory: Path,
        names: str = "abc",
        *,
        journal: bool = False,
        dump: bool = False,
        node_class: Callable[..., StockNode] = StockNode,
        **conf: Any,
    ) -> None:
        """`journal`, `dump`: with files for these, which the library's defaults are without.
        Everything else in `conf` is the library's."""
        _World.now = 0.0
        _World.rng.seed(1)
        self.directory = directory
        self.names = list(names)
        self.node_class = node_class
        self.sent: list[Sent] = []
        """Everything that anybody ever sent."""
        self.cut: set[tuple[str, str]] = set()
        """What is sent on these ways (sender, receiver) is lost; nobody is told."""
        self.is_held: Callable[[Sent], bool] = _nothing
        """What waits on its way."""
        self.send_s = 0.0
        """How long a call of `send` takes."""
        self._files = {"journalFile": journal, "fullDumpFile": dump}
        self._conf = {
            "autoTick": False,
            "useFork": False,
            "logCompactionMinEntries": 10**9,
            "logCompactionMinTime": 10**9,
            **conf,
        }
        self._queue: list[Sent] = []
        self.nodes: dict[str, StockNode] = {}
        for name in self.names:
            self.start(name)

    def __getitem__(self, name: str) -> StockNode:
        return self.nodes[name]

    # --- nodes ------------------------------------------------------------------------------

    def path(self, name: str, kind: str) -> Path:
        """A file of a node: "journalFile" or "fullDumpFile"."""
        return self.directory / f"{name}.{kind}"

    def start(self, name: str, node_class: Callable[..., StockNode] | None = None) -> StockNode:
        files = {kind: str(self.path(name, kind)) for kind, wanted in self._files.items() if wanted}
        conf = LIBRARY.SyncObjConf(**{**self._conf, **files})
        others = [other for other in self.names if other != name]
        node = (node_class or self.node_class)(self, name, others, conf)
        self.nodes[name] = node
        for other in others:
            if other in self.nodes and self.nodes[other].up:
                node.network.connected(other)
                self.nodes[other].network.connected(name)
        return node

    def crash(self, *names: str) -> None:
        """Kill these; their files stay as they are."""
        for name in names:
            self.nodes[name].up = False
            self.nodes[name]._doDestroy()
            self._queue = [s for s in self._queue if name not in (s.sender, s.receiver)]
            for other in self.names:
                if other != name and other in self.nodes:
                    self.nodes[other].network.disconnected(name)

    def restart(self, *names: str) -> None:
        self.crash(*(name for name in names if self.nodes[name].up))
        for name in names:
            self.start(name)

    def close(self) -> None:
        for name in self.names:
            if name in self.nodes and self.nodes[name].up:
                self.nodes[name]._doDestroy()

    # --- the network ------------------------------------------------------------------------

    def isolate(self, *names: str) -> None:
        """Cut these off from all others, silently."""
        for name in names:
            for other in self.names:
                if other not in names:
                    self.cut |= {(name, other), (other, name)}

    def heal(self) -> None:
        """Nothing is cut off, and nothing held."""
        self.cut.clear()
        self.is_held = _nothing

    def reconnect(self, one: str, two: str) -> None:
        """The connection between them breaks, and is there again at once."""
        for here, there in ((one, two), (two, one)):
            self.nodes[here].network.disconnected(there)
            self.nodes[here].network.connected(there)

    def post(self, sent: Sent) -> None:
        _World.now += self.send_s
        self.sent.append(sent)
        if (sent.sender, sent.receiver) not in self.cut:
            self._queue.append(sent)

    def deliver(self) -> None:
        """Whatever is under way, and the answers to it."""
        while (position := self._next_free()) is not None:
            self.arrives(self._queue.pop(position))

    def _next_free(self) -> int | None:
        free = (at for at, sent in enumerate(self._queue) if not self.is_held(sent))
        return next(free, None)

    def arrives(self, sent: Sent) -> None:
        """A message reaches its receiver now, for the first time or again."""
        receiver = self.nodes.get(sent.receiver)
        if receiver is None or not receiver.up:
            return
        try:
            receiver.network.received(sent.sender, sent.message)
        except Exception as error:  # noqa: BLE001 (as in its tick thread: logged, and on it goes)
            receiver.errors.append(error)

    def newest(self, wanted: Callable[[Sent], bool]) -> Sent:
        """Of all that was ever sent and is such."""
        return next(sent for sent in reversed(self.sent) if wanted(sent))

    def leaders(self) -> list[str]:
        """Who thinks so."""
        return [name for name in self.names if self.nodes[name].up and self.nodes[name].is_leader]

    # --- time -------------------------------------------------------------------------------

    @property
    def now(self) -> float:
        return _World.now

    def tick(self, name: str) -> None:
        node = self.nodes[name]
        try:
            node.doTick(0)
        except Exception as error:  # noqa: BLE001 (as in its tick thread: logged, and on it goes)
            node.errors.append(error)

    def run(
        self,
        seconds: float,
        until: Callable[[], bool] = lambda: False,
        *,
        only: str | None = None,
    ) -> bool:
        """Let so much time pass, or until that is so; says whether it is. `only` these tick."""
        end = _World.now + seconds
        while not until():
            if _World.now >= end:
                return False
            _World.now += STEP_S
            for name in only or self.names:
                if self.nodes[name].up:
                    self.tick(name)
            self.deliver()
        return True

    def elect(self, name: str) -> StockNode:
        """Nobody else's clock goes until this one leads."""
        node = self.nodes[name]
        assert self.run(10.0, lambda: node.is_leader, only=name), f"{name} is not elected"
        return node

    def lead(self, name: str) -> StockNode:
        """`elect`, and everybody knows."""
        node = self.elect(name)
        self.run(0.5)
        return node

    def compact(self, name: str) -> None:
        """The node writes a dump and forgets what it covers."""
        self.nodes[name].forceLogCompaction()
        self.tick(name)
        self.tick(name)


def lock_table(unlock_s: float) -> Any:
    """What its `ReplLockManager` replicates; the manager gives it `time.time()` of its client."""
    return importlib.import_module(f"{COPY}.batteries")._ReplLockManagerImpl(unlock_s)


def trim_dies(patch: pytest.MonkeyPatch) -> None:
    """The next process that rewrites its journal to forget the oldest entries dies in it."""

    def dies(*_: object) -> None:
        raise Crashed

    journal = LIBRARY.journal.FileJournal
    forget = journal.deleteEntriesTo

    def deleteEntriesTo(self: Any, position: int) -> None:  # noqa: N802 (the library's name)
        patch.setattr(journal, "add", dies)
        forget(self, position)

    patch.setattr(journal, "deleteEntriesTo", deleteEntriesTo)


@contextlib.contextmanager
def counted_syncs() -> Iterator[list[str]]:
    """Every call inside that could make a file durable."""
    syncs: list[str] = []

    class Mapped(mmap.mmap):
        def flush(self, *arguments: int) -> None:
            syncs.append("msync")
            super().flush(*arguments)

    def counted(name: str) -> Callable[[int], None]:
        return lambda _: syncs.append(name)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mmap, "mmap", Mapped)
        for name in ("fsync", "fdatasync", "sync"):
            patch.setattr(os, name, counted(name))
        yield syncs
