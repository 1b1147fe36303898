"""What a node offers to its own host: the control socket, and HTTP on loopback.

It stands above the node and reads it; a node without it is whole, which is how it runs in the
simulator.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import trio

from muster.audit import Audit
from muster.control import ControlServer
from muster.handlers import Handlers
from muster.http import HttpServer
from muster.metrics import pages

if TYPE_CHECKING:
    from muster.net.endpoints import StreamListener
    from muster.node import Node


async def serve_host(
    node: Node, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Serve a node that runs, until cancelled; `task_status` is told when both are bound.

    Errors: LocalError, one line, when one of them cannot be bound.
    """
    listener = await _http_listener(node)
    try:
        async with trio.open_nursery() as nursery:
            if listener is not None:
                server = HttpServer(clock=node.world.clock, pages=pages(node))
                nursery.start_soon(server.run, listener)
            audit = Audit(
                clock=node.world.clock,
                notify=node.notify,
                every_change=node.config.log.level == "debug",
            )
            nursery.start_soon(audit.run)
            nursery.start_soon(node.loop_lag.run)
            await nursery.start(_control_server(node, audit).run)
            task_status.started()
    finally:
        if listener is not None:
            listener.close()


async def _http_listener(node: Node) -> StreamListener | None:
    address = node.config.http_address
    return None if address is None else await node.world.network.listen(address)


def _control_server(node: Node, audit: Audit) -> ControlServer:
    assert node.parts is not None, "the node runs"
    handlers = Handlers(node, audit)
    return ControlServer(
        path=Path(node.config.control.socket),
        group=node.config.control.group,
        clock=node.world.clock,
        handlers=handlers.table(),
        stream_handlers=handlers.stream_table(),
        changes=handlers.changes,
        greeting=handlers.greeting,
        notify=lambda notice: node.log("control", notice),
    )
