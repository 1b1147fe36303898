"""Hostile and unlucky input to running daemons: counted, told in a line, and they go on."""

from __future__ import annotations

import os
import random
import socket
import ssl
import struct
import time
from collections.abc import Callable

import pytest

from muster.cli.local_cluster import LocalCluster, LocalNode, ask, wait_for
from muster_protocol.session.messages import ClientHello, Request
from muster_protocol.session.methods import KvGetParams, KvListParams, KvPutParams
from muster_protocol.wire.codec import encode

pytestmark = pytest.mark.integration


def refused(node: LocalNode) -> dict[str, int]:
    """What the node refused so far, by cause, packets and streams together."""
    with node.client() as client:
        statistics = client.call("info").statistics
    causes: dict[str, int] = {}
    for part in ("packets", "streams"):
        for cause, count in statistics[part]["refused"]:
            causes[cause] = causes.get(cause, 0) + count
    return causes


def assert_well(cluster: LocalCluster) -> None:
    """All daemons run, nothing was logged as a crash, and a write goes through."""
    for node in cluster.nodes:
        assert node.is_running, node.log()[-2000:]
        assert "Traceback" not in node.log()
    with cluster.nodes[0].client() as client:
        client.call("kv.put", KvPutParams(key="well", value=b"1"))
    for node in cluster.nodes:
        with node.client() as client:
            assert client.call("kv.get", KvGetParams(key="well")).entry is not None


def udp(node: LocalNode, *packets: bytes) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((f"{node.cluster.network}.200", 0))
        for packet in packets:
            sock.sendto(packet, (node.host, 7411))


def test_garbage_truncated_and_oversized_packets_are_counted(cluster: LocalCluster) -> None:
    rng = random.Random(1)
    node = cluster.nodes[0]
    packets = [rng.randbytes(rng.randrange(1, 1400)) for _ in range(200)]
    udp(node, b"", b"\x10", b"\x10" * 53, b"\xff" * 2000, *packets)
    wait_for(lambda: sum(refused(node).values()) >= 150, 5.0, "the packets are not counted")
    assert_well(cluster)


def test_garbage_and_oversized_streams_are_dropped_one_by_one(cluster: LocalCluster) -> None:
    node = cluster.nodes[0]
    before = sum(refused(node).values())
    for payload in (b"GET / HTTP/1.1\r\n\r\n", b"\x00" * 5000, struct.pack(">I", 2**32 - 1)):
        with socket.create_connection((node.host, 7411), timeout=5) as sock:
            sock.sendall(payload)
            sock.settimeout(15)
            while sock.recv(4096):
                pass
    wait_for(lambda: sum(refused(node).values()) >= before + 3, 5.0, "they are not counted")
    assert_well(cluster)


def test_a_tls_client_without_a_certificate_of_the_cluster_is_refused(
    cluster: LocalCluster,
) -> None:
    node = cluster.nodes[0]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE

    def talk() -> None:
        with (
            socket.create_connection((node.host, 7411), timeout=5) as raw,
            context.wrap_socket(raw) as sock,
        ):
            sock.sendall(b"\x00\x00\x00\x01x")
            if not sock.recv(100):
                raise ConnectionError("closed")

    with pytest.raises((ssl.SSLError, ConnectionError)):
        talk()
    wait_for(lambda: sum(refused(node).values()) >= 1, 5.0, "it is not counted")
    assert_well(cluster)


def test_a_node_with_a_wrong_secret_stays_outside_and_both_sides_say_so(
    make_cluster: Callable[..., LocalCluster],
) -> None:
    cluster = make_cluster(4, founders=3)
    stranger = cluster.nodes[3]
    wrong = cluster.make_secret("another")
    text = stranger.config_path.read_text()
    stranger.config_path.write_text(text.replace(str(cluster.secret_file), str(wrong)))
    for node in cluster.nodes:
        node.start()
    wait_for(lambda: cluster.leader(cluster.nodes[:3]), 30.0, "no leader")
    wait_for(lambda: "foreign-key" in refused(cluster.nodes[0]), 10.0, "it is not counted")
    assert "foreign-key" in cluster.nodes[0].log()
    assert len(ask(stranger, "members").members) == 1
    assert len(ask(cluster.nodes[0], "members").members) == 3


def test_another_clusters_node_with_the_same_secret_is_not_let_in(
    make_cluster: Callable[..., LocalCluster],
) -> None:
    cluster = make_cluster(4, founders=3)
    for node in cluster.nodes[:3]:
        node.start()
    cluster.wait_for_leader()
    other = cluster.nodes[3]
    text = other.config_path.read_text()
    lone = text.replace("bootstrap_expect = 0", "bootstrap_expect = 1")
    lone = lone.replace("port = 7411", "port = 7499")  # where the others do not look for it
    joins = next(line for line in lone.splitlines() if line.startswith("join"))
    other.config_path.write_text(lone.replace(joins, "join = []"))
    other.start()
    wait_for(lambda: (s := ask(other, "status")) and s.cluster, 15.0, "it founds no cluster")
    other.stop()
    other.config_path.write_text(text)
    other.start()
    wait_for(lambda: "foreign-cluster" in refused(cluster.nodes[0]), 15.0, "it is not counted")
    assert len(ask(cluster.nodes[0], "members").members) == 3
    assert len(ask(other, "members").members) == 1


def control(node: LocalNode) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.settimeout(15)
    sock.connect(str(node.socket))
    return sock


def framed(value: object) -> bytes:
    data = encode(value)
    return struct.pack(">I", len(data)) + data


def test_garbage_on_the_control_socket_closes_that_connection_only(cluster: LocalCluster) -> None:
    node = cluster.nodes[0]
    hello = framed(ClientHello(1, 0, "test"))
    for payload in (
        os.urandom(500),
        struct.pack(">I", 2**31) + b"x",
        framed(ClientHello(9, 0, "from the future")),
        framed(Request(1, "status", {})),
        hello + hello,
        hello + struct.pack(">I", 2**31),
        hello + b"\x00\x00\x00\x03abc",
    ):
        with control(node) as sock:
            sock.sendall(payload)
            while sock.recv(65536):
                pass
    assert_well(cluster)


def test_a_control_client_of_another_major_version_is_told_so(cluster: LocalCluster) -> None:
    with control(cluster.nodes[0]) as sock:
        sock.sendall(framed(ClientHello(9, 0, "from the future")))
        answer = sock.recv(65536)
    assert b"control protocol 9" in answer


def test_a_client_that_never_reads_is_closed_and_nobody_else_notices(
    cluster: LocalCluster,
) -> None:
    node = cluster.nodes[0]
    with node.client() as client:
        for number in range(8):
            client.call("kv.put", KvPutParams(key=f"big{number}", value=bytes(200_000)))
    requests = b"".join(
        framed(Request(number, "kv.list", {"prefix": "big"})) for number in range(1, 40)
    )
    with control(node) as sock:
        sock.sendall(framed(ClientHello(1, 0, "deaf")) + requests)
        started = time.monotonic()
        with node.client() as client:
            assert client.call("kv.list", KvListParams(prefix="well")).entries == []
        assert time.monotonic() - started < 5
        wait_for(lambda: "control.client.unread" in node.log(), 20.0, "it is not closed")
    assert_well(cluster)


def test_a_thousand_idle_control_connections_do_not_keep_an_operator_out(
    cluster: LocalCluster,
) -> None:
    node = cluster.nodes[0]
    idle = [control(node) for _ in range(1_000)]
    try:
        for sock in idle[::2]:
            sock.sendall(framed(ClientHello(1, 0, "idle")))
        assert ask(node, "status", 5.0).verdict == "HEALTHY"
        assert_well(cluster)
    finally:
        for sock in idle:
            sock.close()
    assert_well(cluster)


def test_unknown_methods_and_parameters_are_answered_in_one_line(cluster: LocalCluster) -> None:
    with control(cluster.nodes[0]) as sock:
        sock.sendall(
            framed(ClientHello(1, 0, "test"))
            + framed(Request(1, "no.such", {}))
            + framed(Request(2, "kv.get", {"key": "a", "colour": "blue"}))
            + framed(Request(3, "kv.put", {"key": "", "value": b""}))
        )
        answer = b""
        while answer.count(b"usage") + answer.count(b"unsupported") < 3:
            answer += sock.recv(65536)
    assert b"no.such" in answer
    assert b"colour" in answer
