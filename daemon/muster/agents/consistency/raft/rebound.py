"""What is rebound inside pysyncobj 0.3.17, and nowhere else.

The library reads its clock and its random numbers from module globals, makes its journal by a
module-level function and serialises with pickle. Five names are rebound, once per process:

* `syncobj.createJournal`: looks up the journal that was registered under the given path, because
  many nodes live in one process.
* `pickle.dumps/loads/dump/load` (the library's own module, which the others refer to): MessagePack.
  `use_list=False` matters: the engine asks `isinstance(command, tuple)`, and with lists every
  committed command would raise on every tick of every node.
* `syncobj.createPoller`: it looks for sockets with each tick, of which it has none. That was a
  system call for each, and each gave the interpreter away to the thread that waits to sync.
* `syncobj.monotonicTime` and `syncobj.random`: the clock and the generator of the node that is
  being called now (`calling`). Time stands still during one call.

Pickle is thereby unreachable: `pickle.load` and its like raise if they are reached by another way.
"""

from __future__ import annotations

import logging
from typing import Any, NoReturn

import msgpack
import pysyncobj.pickle
import pysyncobj.syncobj

from muster_protocol.types import Rng

_journals: dict[str, Any] = {}


class _Calling:
    """Whose call into the engine this is. The one piece of module state in the daemon: it is set
    for the length of a call that never awaits, so it cannot be seen by another node."""

    now = 0.0
    rng: Rng | None = None


class calling:  # noqa: N801 (it is used as a function; a generator would take thrice as long)
    """Everything that runs inside is a call of the node with this clock and generator."""

    __slots__ = ("_inner", "_outer")

    def __init__(self, *, now: float, rng: Rng) -> None:
        self._inner = (now, rng)
        self._outer: tuple[float, Rng | None] = self._inner

    def __enter__(self) -> None:
        self._outer = (_Calling.now, _Calling.rng)
        _Calling.now, _Calling.rng = self._inner

    def __exit__(self, *_: object) -> None:
        _Calling.now, _Calling.rng = self._outer


def register_journal(path: str, journal: Any) -> None:
    """The journal that the next engine with this `journalFile` gets."""
    _journals[path] = journal


class _EngineRandom:
    """Stands for the module `random` in the engine; only `random()` is used there."""

    @staticmethod
    def random() -> float:
        assert _Calling.rng is not None, "the engine was called outside `calling`"
        return _Calling.rng.random()


def _now() -> float:
    return _Calling.now


def _create_journal(path: str) -> Any:
    return _journals.pop(path)


class _NoPoller:
    """Of no sockets."""

    def poll(self, timeout: float) -> None:
        """There is nothing to wait for: the engine is only ever ticked with a timeout of 0."""
        assert timeout == 0, "the engine waits"


def _create_poller(kind: str) -> _NoPoller:
    del kind
    return _NoPoller()


def _dumps(value: Any, protocol: int = 2) -> bytes:
    del protocol
    packed: bytes = msgpack.packb(value)
    return packed


def _loads(data: bytes) -> Any:
    return msgpack.unpackb(data, use_list=False)


def _never(*_: Any) -> NoReturn:
    raise AssertionError("the engine serialised to a file: its own snapshots must be unreachable")


def _rebind() -> None:
    pysyncobj.pickle.dumps = _dumps
    pysyncobj.pickle.loads = _loads
    pysyncobj.pickle.dump = _never
    pysyncobj.pickle.load = _never
    pysyncobj.syncobj.createJournal = _create_journal
    pysyncobj.syncobj.createPoller = _create_poller
    pysyncobj.syncobj.monotonicTime = _now
    pysyncobj.syncobj.random = _EngineRandom
    # It logs every heartbeat to a follower that needs a snapshot as a failure to open a file; the
    # guard sees the same thing and offers the snapshot.
    logging.getLogger("pysyncobj").disabled = True
    logging.getLogger("pysyncobj.serializer").disabled = True


_rebind()
