"""Clients of real daemons, and the history of what they were told."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from muster.cli.local_cluster import LocalNode
from muster.client.blocking import Client
from muster.client.errors import BadRequest, Conflict, NotFound, Unknown
from muster.sim.history import HistoryRecorder, Outcome, Reply, Request
from muster_protocol.errors import MusterError
from muster_protocol.session.methods import KvChangeParams, KvGetParams, KvPutParams

KEYS: Final = 12
CALL_S: Final = 5.0
STAY: Final = 0.9
"""How often a client asks the node that it asked before."""

SHARES: Final = {"put": 4.0, "get": 4.0, "cas": 1.5, "delete": 0.5}


@dataclass
class Told:
    """How operations ended."""

    ok: int = 0
    failed: int = 0
    unknown: int = 0


class Load:
    """`clients` threads, `rate_per_s` operations together when all is well."""

    def __init__(
        self, nodes: Sequence[LocalNode], *, clients: int, rate_per_s: float, seed: str
    ) -> None:
        self._nodes = nodes
        self._pause_s = clients / rate_per_s
        self._seed = seed
        self._lock = threading.Lock()
        self._ends = threading.Event()
        self._revisions: dict[str, int] = {}
        self._threads = [threading.Thread(target=self._run, args=(n,)) for n in range(clients)]
        self.history = HistoryRecorder()
        self.told = Told()
        self.answered_at: list[float] = []
        self.bugs: list[str] = []

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        for thread in self._threads:
            thread.join()

    def ask_once(self, node: LocalNode, key: str) -> bool:
        """A write and a read at this node, as part of the history. Are both answered?"""
        with Client(str(node.socket), timeout_s=CALL_S) as client:
            before = self.told.ok
            self._ask("the last", client, Request("put", key, f"last {node.name}"))
            self._ask("the last", client, Request("get", key))
            return self.told.ok == before + 2

    def _run(self, number: int) -> None:
        rng = random.Random(f"{self._seed}/client {number}")
        node = rng.choice(self._nodes)
        with contextlib.ExitStack() as stack:
            clients = {
                each.name: stack.enter_context(Client(str(each.socket), timeout_s=CALL_S))
                for each in self._nodes
            }
            for count in range(10**9):
                if self._ends.wait(rng.expovariate(1.0 / self._pause_s)):
                    return
                if rng.random() > STAY:
                    node = rng.choice(self._nodes)
                request = self._draw(rng, f"{number}.{count}")
                if not self._ask(f"c{number}", clients[node.name], request):
                    node = rng.choice(self._nodes)

    def _draw(self, rng: random.Random, value: str) -> Request:
        key = f"key {rng.randrange(KEYS)}"
        (action,) = rng.choices(list(SHARES), list(SHARES.values()))
        if action == "cas":
            return Request("put", key, value, self._revisions.get(key, 0))
        return Request(action, key, value if action == "put" else None)

    def _ask(self, name: str, client: Client, request: Request) -> bool:
        """One operation, from its call to its end in the history. Was it answered?"""
        with self._lock:
            number = self.history.invoke(name, request, time.monotonic())
        try:
            reply = _call(client, request)
        except Unknown:
            return self._ended(number, "unknown")
        except BadRequest as error:
            self.bugs.append(f"{request.action} {request.key}: {error}")
            return self._ended(number, "unknown")
        except MusterError:
            return self._ended(number, "failed")
        with self._lock:
            now = time.monotonic()
            self.history.ok(number, reply, now)
            self.told.ok += 1
            self.answered_at.append(now)
            if reply.entry is not None:
                self._revisions[request.key] = reply.entry
        return True

    def _ended(self, number: int, how: str) -> bool:
        with self._lock:
            if how == "failed":
                self.told.failed += 1
                self.history.fail(number, time.monotonic())
            else:
                self.told.unknown += 1
                self.history.unknown(number, time.monotonic())
        return False


def _call(client: Client, request: Request) -> Reply:
    """Errors: those of the client; a conflict and a missing key are answers."""
    try:
        result = client.call(*_params(request))
    except Conflict as error:
        return Reply(Outcome.CONFLICT, None, error.details["revision"], _entry(error))
    except NotFound as error:
        return Reply(Outcome.NOT_FOUND, None, error.details["revision"])
    entry = result.entry
    if request.action == "get":
        return Reply(Outcome.DONE, entry.value.decode(), result.revision, entry.revision)
    return Reply(
        Outcome.DONE, None, result.revision, entry.revision if request.action == "put" else None
    )


def _entry(error: Conflict) -> int | None:
    return int(error.details["entry"]) or None


def _params(request: Request) -> tuple[str, Any]:
    expected = request.expected
    assert not isinstance(expected, str)
    if request.action == "put":
        value = (request.value or "").encode()
        return "kv.put", KvPutParams(key=request.key, value=value, expected=expected)
    if request.action == "delete":
        return "kv.delete", KvChangeParams(key=request.key, expected=expected)
    return "kv.get", KvGetParams(key=request.key)
