"""A snapshot on its way over a stream."""

from __future__ import annotations

import random
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import trio

from muster.agents.consistency import snapshotting
from muster.agents.consistency.snapshotting import fetch_snapshot, serve_snapshot
from muster.clock import TrioClock
from muster.entropy import SeededEntropy
from muster.net.peers import PeerConnection
from muster.sim.clock import SimClock
from muster.sim.disk import SimDisk
from muster.sim.network import SimFabric
from muster.storage.snapshots import SnapshotStore, verified_slices
from muster_protocol.errors import RemoteError
from muster_protocol.raftguard.transfer import Transfer
from muster_protocol.wire.codec import encode
from muster_protocol.wire.hello import Purpose
from muster_protocol.wire.raft import Configuration, Entry, Manifest, SnapshotWanted, Voter
from testkit.peer_nodes import PeerNode, make_node

CONFIGURATION = Configuration((Voter("a" * 32, "c" * 16),))


class Inline:
    """Work at once: what is read here takes no time."""

    async def run(self, work: Callable[[], Any], *, kind: str) -> Any:
        del kind
        return work()


class Leader:
    """Serves the newest of its snapshots; the stream breaks behind `pieces` of a transfer."""

    def __init__(self) -> None:
        self.store = SnapshotStore(SimDisk(random.Random(1)).mount())
        self.journal: Any = SimpleNamespace(manifest=None)
        self.pieces: float = float("inf")
        self.sent: list[bytes] = []
        self.on_piece: Callable[[], object] = lambda: None

    def take(self, index: int) -> Manifest:
        previous, last = Entry(b"p", index - 1, 3), Entry(b"l", index, 3)
        slices = [b"%d of %d" % (number, index) * 9 for number in range(20)]
        manifest = self.store.write(
            slices, previous=previous, last=last, configuration=CONFIGURATION
        )
        self.journal.manifest = manifest
        self.store.remove_older(manifest)
        return manifest

    async def serve(self, connection: PeerConnection) -> None:
        async def send(data: bytes) -> None:
            if len(data) > 1:
                if self.pieces <= 0:
                    await connection.aclose()
                    raise trio.BrokenResourceError
                self.pieces -= 1
                self.sent.append(data)
                self.on_piece()
            await connection.send(data)

        through: Any = SimpleNamespace(send=send, receive=connection.receive)
        try:
            await serve_snapshot(through, self.store, self.journal, Inline())
        except trio.BrokenResourceError:
            return  # as the voter does


async def pair(nursery: trio.Nursery, leader: Leader) -> tuple[PeerNode, PeerNode]:
    fabric = SimFabric(SeededEntropy("snapshots").stream("net"))
    networks = [fabric.host(f"10.0.0.{number}", SimClock()) for number in (1, 2)]
    nodes = [
        await make_node(name, network, host=network.ip)
        for name, network in zip("ab", networks, strict=True)
    ]
    nodes[0].streams.handlers[Purpose.SNAPSHOT] = leader.serve
    for node in nodes:
        await nursery.start(node.serve)
    return nodes[0], nodes[1]


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshotting, "CHUNK_BYTES", 100)


async def fetch_in_vain(
    leader: Leader, a: PeerNode, b: PeerNode, manifest: Manifest, transfer: Transfer
) -> None:
    """The leader's side of the transfer breaks after five pieces."""
    leader.pieces = 5
    with pytest.raises((RemoteError, trio.BrokenResourceError)):
        await fetch_snapshot(b.streams, TrioClock(), a.id, a.address, manifest, transfer)
    leader.pieces = float("inf")


async def test_a_transfer_that_broke_goes_on_where_it_ended_over_another_connection(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    del autojump_clock
    leader, transfer = Leader(), Transfer()
    a, b = await pair(nursery, leader)
    manifest = leader.take(9)
    await fetch_in_vain(leader, a, b, manifest, transfer)
    assert transfer.received_bytes == 500
    await fetch_snapshot(b.streams, TrioClock(), a.id, a.address, manifest, transfer)
    assert sum(map(len, leader.sent)) == manifest.size_bytes
    assert len(verified_slices(manifest, transfer.release())) == 20
    nursery.cancel_scope.cancel()


async def test_a_transfer_goes_on_while_a_newer_snapshot_removes_its_file(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    del autojump_clock
    leader, transfer = Leader(), Transfer()
    a, b = await pair(nursery, leader)
    manifest = leader.take(9)
    leader.on_piece = lambda: leader.take(12) if len(leader.sent) == 3 else None
    await fetch_snapshot(b.streams, TrioClock(), a.id, a.address, manifest, transfer)
    assert leader.store.read_data(manifest) is None
    assert len(leader.sent) > 3
    assert len(verified_slices(manifest, transfer.release())) == 20
    nursery.cancel_scope.cancel()


async def test_a_snapshot_that_took_its_place_begins_anew(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    del autojump_clock
    leader, transfer = Leader(), Transfer()
    a, b = await pair(nursery, leader)
    old = leader.take(9)
    await fetch_in_vain(leader, a, b, old, transfer)
    new = leader.take(12)
    with pytest.raises(RemoteError, match="another snapshot"):
        await fetch_snapshot(b.streams, TrioClock(), a.id, a.address, old, transfer)
    await fetch_snapshot(b.streams, TrioClock(), a.id, a.address, new, transfer)
    assert len(verified_slices(new, transfer.release())) == 20
    nursery.cancel_scope.cancel()


def test_the_request_is_written_as_ever() -> None:
    manifest = Manifest(Entry(b"p", 8, 3), Entry(b"l", 9, 3), CONFIGURATION, 10, b"d" * 32)
    entries, voter = "93c401700803 93c4016c0903", "92 d920" + "61" * 32 + "b0" + "63" * 16
    written = f"92 95 {entries} 96 91 {voter} 01 90 00 90 a0 0a c420 {'64' * 32} 04"
    assert encode(SnapshotWanted(manifest, 4)) == bytes.fromhex(written)
