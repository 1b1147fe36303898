"""Nodes that consist of peer streams alone, on a real or simulated network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec
import trio

from muster.clock import Clock, TrioClock
from muster.entropy import SeededEntropy
from muster.net.endpoints import Network, StreamListener
from muster.net.peers import PeerConnection, PeerLimits, PeerStreams
from muster.net.tls import PlainSecurity, StreamSecurity, TlsSecurity
from muster_protocol.crypto.keyring import Keyring
from muster_protocol.effects import Notify
from muster_protocol.types import Address, NodeId
from muster_protocol.wire.hello import MAJOR_VERSION, Hello, Purpose


@dataclass
class PeerNode:
    """Streams, a listener, and an echo for every purpose in `Purpose` but `BOOTSTRAP`."""

    name: str
    streams: PeerStreams
    listener: StreamListener
    hello: Hello
    told: list[Notify]
    served: list[PeerConnection] = field(default_factory=list)

    @property
    def id(self) -> NodeId:
        return NodeId(self.hello.node_id)

    @property
    def address(self) -> Address:
        return self.listener.address

    @property
    def refused(self) -> dict[str, int]:
        return dict(self.streams.statistics().refused)

    async def echo(self, connection: PeerConnection) -> None:
        self.served.append(connection)
        while data := await connection.receive():
            await connection.send(data)

    async def serve(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        try:
            await self.streams.serve(self.listener, task_status=task_status)
        finally:
            self.listener.close()


async def make_node(
    name: str,
    network: Network,
    *,
    host: str = "127.0.0.1",
    clock: Clock | None = None,
    keyring: Keyring | None = None,
    limits: PeerLimits | None = None,
    certificate_of: str = "",
) -> PeerNode:
    """`keyring` None means no TLS; `certificate_of` names another node to impersonate in TLS."""
    clock, told = clock or TrioClock(), list[Notify]()
    me = Hello(
        major=MAJOR_VERSION,
        minor_min=0,
        minor_max=0,
        node_id=name * 32,
        name=f"node-{name}",
        cluster_id="",
        label="lab",
        boot=name * 24,
        purpose=Purpose.SYNC,
    )
    security: StreamSecurity = PlainSecurity()
    if keyring is not None:
        security = TlsSecurity(
            keyring,
            node_id=NodeId((certificate_of or name) * 32),
            clock=clock,
            entropy=SeededEntropy(f"node {name}"),
        )
    streams = PeerStreams(
        network=network,
        clock=clock,
        security=security,
        hello=lambda purpose: _with_purpose(node.hello, purpose),
        notify=told.append,
        limits=limits,
    )
    node = PeerNode(name, streams, await network.listen(Address(host, 0)), me, told)
    for purpose in Purpose:
        if purpose is not Purpose.BOOTSTRAP:
            streams.handlers[purpose] = node.echo
    return node


async def until(condition: Callable[[], bool], *, within_s: float = 5.0) -> None:
    """Wait for a condition; fails when it does not come true in time."""
    with trio.fail_after(within_s):
        while not condition():  # noqa: ASYNC110 (it is about the state of both sides)
            await trio.sleep(0.001)


def _with_purpose(hello: Hello, purpose: Purpose) -> Hello:
    return msgspec.structs.replace(hello, purpose=purpose)
