"""The control socket's methods of a simulated node, asked without a socket."""

from __future__ import annotations

from typing import Any

import trio

from muster.audit import Audit
from muster.control import CHANGES, Caller
from muster.handlers import Handlers
from muster_protocol.session import methods as m
from testkit.node_cluster import SimNode

ME = Caller(pid=1, uid=0, gid=0)


async def ask(sim: SimNode, method: str, **params: Any) -> Any:
    """As a client would, but for the socket."""
    handlers = handlers_of(sim)
    typed = m.METHODS[method][0](**params)
    if method not in CHANGES:
        return await handlers.table()[method](typed, ME)
    asked = Asked(method, typed)
    handlers.changes([asked])  # type: ignore[list-item]  # as much of an `Ask` as is used
    await asked.is_answered.wait()
    if callable(asked.outcome):
        return await asked.outcome()
    if isinstance(asked.outcome, Exception):
        raise asked.outcome
    return asked.outcome


def handlers_of(sim: SimNode) -> Handlers:
    node = sim.running
    audit = Audit(clock=node.world.clock, notify=node.notify, every_change=False)
    return Handlers(node, audit)


class Asked:
    """An `Ask` without a connection."""

    def __init__(self, method: str, params: Any) -> None:
        self.method, self.params, self.caller = method, params, ME
        self.is_answered = trio.Event()
        self.outcome: Any = None

    def answer(self, outcome: Any) -> None:
        assert not self.is_answered.is_set(), "a request is answered once"
        self.outcome = outcome
        self.is_answered.set()
