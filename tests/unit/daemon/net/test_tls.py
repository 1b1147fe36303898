"""Streams under TLS, over real sockets on the loopback."""

from __future__ import annotations

import contextlib
import ssl
import subprocess
from pathlib import Path

import msgspec
import pytest
import trio

from muster.clock import TrioClock
from muster.net.network import RealNetwork
from muster.net.tls import HANDSHAKE_S, TlsSecurity, TlsStream, make_context
from muster_protocol.crypto.certificates import authority_pem, issue_leaf
from muster_protocol.crypto.keyring import Keyring
from muster_protocol.errors import RemoteError
from muster_protocol.limits import FRAME_BYTES_MAX
from muster_protocol.types import NodeId
from muster_protocol.wire.hello import Purpose
from testkit.peer_nodes import PeerNode, make_node, until

pytestmark = pytest.mark.timeout(20)
OLD, NEW = b"s" * 32, b"t" * 32
RING, OTHER_RING = Keyring([OLD], label="lab"), Keyring([NEW], label="lab")
NETWORK = RealNetwork(TrioClock())


class HastyClock(TrioClock):
    """Time-outs fifty times as short: what would take five seconds takes a tenth of one."""

    def move_on_after(self, seconds: float) -> trio.CancelScope:
        return super().move_on_after(seconds / 50)


async def pair(
    nursery: trio.Nursery, ring_a: Keyring = RING, ring_b: Keyring = RING
) -> tuple[PeerNode, PeerNode]:
    a = await make_node("a", NETWORK, keyring=ring_a)
    b = await make_node("b", NETWORK, keyring=ring_b)
    for node in (a, b):
        await nursery.start(node.serve)
    return a, b


async def echoes(dialler: PeerNode, acceptor: PeerNode) -> None:
    """A frame goes there and back, and each side knows the other."""
    connection = await dialler.streams.dial(acceptor.id, acceptor.address, Purpose.RAFT)
    await connection.send(b"ping")
    assert await connection.receive() == b"ping"
    assert connection.peer.node_id == acceptor.id
    assert acceptor.served[-1].peer.node_id == dialler.id
    await connection.aclose()


async def refused(dialler: PeerNode, acceptor: PeerNode) -> str:
    with pytest.raises(RemoteError) as caught:
        await dialler.streams.dial(acceptor.id, acceptor.address, Purpose.RAFT)
    return caught.value.cause


async def test_holders_of_one_secret_talk(nursery: trio.Nursery) -> None:
    a, b = await pair(nursery)
    await echoes(a, b)
    await echoes(b, a)
    assert a.refused == b.refused == {}
    nursery.cancel_scope.cancel()


async def test_wrong_secret_is_refused_by_both_with_one_cause(nursery: trio.Nursery) -> None:
    a, b = await pair(nursery, RING, OTHER_RING)
    assert await refused(a, b) == "wrong-secret"
    await until(lambda: a.refused == b.refused == {"wrong-secret": 1})
    assert [line.fields["cause"] for line in a.told + b.told] == ["wrong-secret"] * 2
    assert b.served == []
    nursery.cancel_scope.cancel()


async def test_dialler_that_only_the_acceptor_distrusts_learns_why(nursery: trio.Nursery) -> None:
    """In TLS 1.3 its handshake is over before it is refused: the alert comes instead of a hello."""
    both_but_old_first = RING.install(NEW)
    for _ in range(10):
        a, b = await pair(nursery, both_but_old_first, OTHER_RING)
        assert await refused(a, b) == "wrong-secret"
        await until(lambda b=b: b.refused == {"wrong-secret": 1})  # type: ignore[misc]
    nursery.cancel_scope.cancel()


async def test_rotation_with_overlap_keeps_everybody_talking(nursery: trio.Nursery) -> None:
    old, both = RING, RING.install(NEW)
    used = both.use(OTHER_RING.primary.id)
    steps = [(old, both), (both, both), (both, used), (used, used), (used, OTHER_RING)]
    a, b = await pair(nursery)
    for ring_a, ring_b in steps:
        for node, ring in ((a, ring_a), (b, ring_b)):
            assert isinstance(node.streams.security, TlsSecurity)
            node.streams.security.replace_keyring(ring)
        await echoes(a, b)
        await echoes(b, a)
    nursery.cancel_scope.cancel()


async def test_streams_of_a_removed_secret_are_closed_and_no_others(nursery: trio.Nursery) -> None:
    used = RING.install(NEW).use(OTHER_RING.primary.id)
    a, b = await pair(nursery, RING.install(NEW), used)
    c = await make_node("c", NETWORK, keyring=used)
    old = await a.streams.dial(b.id, b.address, Purpose.RAFT)
    new = await c.streams.dial(b.id, b.address, Purpose.RAFT)
    await until(lambda: len(b.served) == 2)
    assert [one.key_id for one in b.served] == [RING.primary.id, OTHER_RING.primary.id]
    await b.streams.close_key(RING.primary.id)
    assert await old.receive() == b""
    await new.send(b"still here")
    assert await new.receive() == b"still here"
    await until(lambda: b.streams.statistics().open == 1)
    assert b.refused == {}
    for connection in (old, new):
        await connection.aclose()
    c.listener.close()
    nursery.cancel_scope.cancel()


async def test_certificate_and_hello_must_name_the_same_node(nursery: trio.Nursery) -> None:
    _, b = await pair(nursery)
    liar = await make_node("d", NETWORK, keyring=RING, certificate_of="e")
    await nursery.start(liar.serve)
    assert await refused(liar, b) == "identity"
    await until(lambda: b.refused == {"identity": 1})
    assert await refused(b, liar) == "identity"
    nursery.cancel_scope.cancel()


async def test_reaching_another_node_than_meant_is_refused(nursery: trio.Nursery) -> None:
    a, b = await pair(nursery)
    with pytest.raises(RemoteError) as caught:
        await a.streams.dial(NodeId("c" * 32), b.address, Purpose.RAFT)
    assert caught.value.cause == "wrong-peer"
    await until(lambda: a.refused == b.refused == {"wrong-peer": 1})
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("said", [b"", b"\x16\x03\x01\x02"])
async def test_handshake_that_does_not_proceed_is_cut_off(
    nursery: trio.Nursery, said: bytes
) -> None:
    b = await make_node("b", NETWORK, keyring=RING, clock=HastyClock())
    await nursery.start(b.serve)
    stream = await NETWORK.dial(b.address)
    await stream.send_all(said)
    with trio.fail_after(HANDSHAKE_S):
        assert await drained(stream)
    await until(lambda: b.refused == {"timeout": 1})
    await stream.aclose()
    nursery.cancel_scope.cancel()


async def test_handshake_dripped_byte_by_byte_is_cut_off_as_well(nursery: trio.Nursery) -> None:
    b = await make_node("b", NETWORK, keyring=RING, clock=HastyClock())
    await nursery.start(b.serve)
    stream = await NETWORK.dial(b.address)
    hello = bytes.fromhex("1603010400 010003fc 0303") + bytes(1_000)
    with pytest.raises((trio.BrokenResourceError, trio.ClosedResourceError)):
        await drip(stream, hello)
    await until(lambda: b.refused == {"timeout": 1})
    await stream.aclose()
    nursery.cancel_scope.cancel()


async def drip(stream: object, data: bytes) -> None:
    for byte in data:
        await stream.send_all(bytes([byte]))  # type: ignore[attr-defined]
        await trio.sleep(0.002)


async def drained(stream: object) -> bool:
    """True when the other side has closed, in whatever way."""
    try:
        while await stream.receive_some(4_096):  # type: ignore[attr-defined]
            pass
    except trio.BrokenResourceError:
        pass
    return True


@pytest.mark.parametrize("said", [b"GET / HTTP/1.1\r\n\r\n", b"SSH-2.0-x\r\n", bytes(64)])
async def test_peer_that_does_not_speak_tls_is_named_so(nursery: trio.Nursery, said: bytes) -> None:
    b = await make_node("b", NETWORK, keyring=RING, clock=HastyClock())
    await nursery.start(b.serve)
    stream = await NETWORK.dial(b.address)
    await stream.send_all(said)
    assert await drained(stream)
    await stream.aclose()
    await until(lambda: b.refused == {"not-tls": 1})
    nursery.cancel_scope.cancel()


async def test_older_tls_and_a_client_without_certificate_are_refused(
    nursery: trio.Nursery,
) -> None:
    b = await make_node("b", NETWORK, keyring=RING)
    await nursery.start(b.serve)
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    bare = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    bare.check_hostname, bare.verify_mode = False, ssl.CERT_NONE
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    for context in (old, bare):
        raw = await NETWORK.dial(b.address)
        stream = TlsStream(raw, context, is_server=False, clock=TrioClock())
        with pytest.raises(trio.BrokenResourceError):
            await shake_and_read(stream)
        await stream.aclose()
    await until(lambda: b.refused == {"certificate": 1, "not-tls": 1})
    assert b.served == []
    nursery.cancel_scope.cancel()


async def shake_and_read(stream: TlsStream) -> None:
    with contextlib.suppress(AssertionError):  # a context that asks for no certificate gets none
        await stream.handshake()
    await stream.receive_some(1)


async def test_oversized_frame_drops_the_connection_and_nothing_else(nursery: trio.Nursery) -> None:
    a, b = await pair(nursery)
    bystander = await a.streams.dial(b.id, b.address, Purpose.SYNC)
    connection = await a.streams.dial(b.id, b.address, Purpose.RAFT)
    prefix = (FRAME_BYTES_MAX + 1).to_bytes(4, "big")
    await connection._frames._stream.send_all(prefix + b"the rest never matters")
    assert await connection.receive() == b""
    await until(lambda: b.refused == {"oversized": 1})
    await bystander.send(b"unmoved")
    assert await bystander.receive() == b"unmoved"
    for one in (connection, bystander):
        await one.aclose()
    nursery.cancel_scope.cancel()


async def test_largest_frame_passes_in_both_directions_at_once(nursery: trio.Nursery) -> None:
    a, b = await pair(nursery)
    connection = await a.streams.dial(b.id, b.address, Purpose.SNAPSHOT)
    largest = bytes(range(256)) * (FRAME_BYTES_MAX // 256)
    async with trio.open_nursery() as inner:
        inner.start_soon(connection.send, largest)
        assert await connection.receive() == largest
    await connection.aclose()
    nursery.cancel_scope.cancel()


async def test_no_session_can_be_resumed(nursery: trio.Nursery) -> None:
    a, b = await pair(nursery)
    connection = await a.streams.dial(b.id, b.address, Purpose.RAFT)
    tls = connection._frames._stream
    assert isinstance(tls, TlsStream)
    await connection.send(b"x")
    await connection.receive()
    session = tls._tls.session
    assert tls._tls.version() == "TLSv1.3"
    assert session is None or not session.has_ticket
    await connection.aclose()
    nursery.cancel_scope.cancel()


async def test_peer_that_vanishes_breaks_the_stream_and_does_not_end_it(
    nursery: trio.Nursery,
) -> None:
    """An end without TLS's goodbye may be a forged one: it must not look like the real one."""
    a, b = await pair(nursery)
    connection = await a.streams.dial(b.id, b.address, Purpose.RAFT)
    tls = connection._frames._stream
    assert isinstance(tls, TlsStream)
    await until(lambda: len(b.served) == 1)
    served = b.served[0]._frames._stream
    assert isinstance(served, TlsStream)
    await served._stream.aclose()
    with pytest.raises(trio.BrokenResourceError):
        await connection.receive()
    await connection.aclose()
    nursery.cancel_scope.cancel()


def test_private_key_is_on_no_disk_and_contexts_are_strict() -> None:
    leaf = issue_leaf(RING.primary, node_id=NodeId("a" * 32), key_seed=b"k" * 32, serial=1)
    context = make_context(leaf, [authority_pem(RING.primary)], is_server=True)
    assert context.minimum_version == context.maximum_version == ssl.TLSVersion.TLSv1_3
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.verify_flags & ssl.VERIFY_X509_STRICT
    assert context.num_tickets == 0
    assert [ca["serialNumber"] for ca in context.get_ca_certs()]


def test_openssl_agrees_that_the_certificates_are_strict(tmp_path: Path) -> None:
    leaf = issue_leaf(RING.primary, node_id=NodeId("a" * 32), key_seed=b"k" * 32, serial=1)
    (tmp_path / "ca").write_bytes(authority_pem(RING.primary))
    (tmp_path / "leaf").write_bytes(leaf.certificate_pem)
    files = [str(tmp_path / name) for name in ("ca", "leaf")]
    command = ["openssl", "verify", "-x509_strict", "-CAfile", *files]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("no openssl command")
    assert done.returncode == 0, done.stderr


async def test_hello_of_tls_peer_carries_what_it_says(nursery: trio.Nursery) -> None:
    a, b = await pair(nursery)
    a.hello = msgspec.structs.replace(a.hello, generation="ab" * 16, cluster_id="c" * 32)
    await echoes(a, b)
    assert b.served[0].peer.generation == "ab" * 16
    assert b.served[0].peer.cluster_id == "c" * 32
    assert b.served[0].peer.purpose == Purpose.RAFT
    nursery.cancel_scope.cancel()
