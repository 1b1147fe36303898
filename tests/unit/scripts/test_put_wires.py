"""What the benchmarks say to the two stores, and what they take for done."""

from __future__ import annotations

import importlib.util
import struct
from pathlib import Path
from typing import Any

import pytest

from muster_protocol.session.machine import ServerSession, to_bytes
from muster_protocol.session.messages import (
    Cancel,
    ClientHello,
    Code,
    Failure,
    Reply,
    Request,
    ServerHello,
)

PATH = Path(__file__).parents[3] / "scripts" / "put_wires.py"

FRAME = struct.Struct(">IBI")


def loaded() -> Any:
    spec = importlib.util.spec_from_file_location("put_wires", PATH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


wires = loaded()


def h2(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return FRAME.pack(len(payload) << 8 | kind, flags, stream) + payload


def parsed(data: bytes) -> list[tuple[int, int, int, bytes]]:
    """Kind, flags, stream and payload of each frame."""
    found = []
    while data:
        head, flags, stream = FRAME.unpack_from(data)
        end = FRAME.size + (head >> 8)
        found.append((head & 255, flags, stream, data[FRAME.size : end]))
        data = data[end:]
    return found


DONE = h2(1, 4, 1, b"headers") + h2(0, 0, 1, b"\0\0\0\0\0") + h2(1, 5, 1, b"trailers")


def test_a_put_to_muster_is_one_that_a_daemon_takes() -> None:
    wire, server = wires.MusterWire(), ServerSession()
    hello, first, again, cancel = server.receive(
        wire.opening() + wire.put(1, 7, b"k", b"v") + wire.put(2, 7, b"k", b"w") + wire.cancel(2)
    )
    assert isinstance(hello, ClientHello)
    assert isinstance(first, Request)
    assert isinstance(again, Request)
    assert cancel == Cancel(2)
    assert (first.method, first.params["value"]) == ("kv.put", b"v")
    assert first.params["session"] == again.params["session"]
    assert len(first.params["session"]) == 32


def test_musters_answers_are_done_or_say_why_not() -> None:
    wire = wires.MusterWire()
    said = [ServerHello(1, 0, "", "", ""), Reply(1, {}), Failure(2, Code.NOT_QUORATE, "no")]
    assert wire.receive(b"".join(map(to_bytes, said))) == ([(1, ""), (2, "no")], b"")
    with pytest.raises(ConnectionError, match="overload"):
        wire.receive(to_bytes(Failure(0, Code.FAILED, "overload")))


def test_a_put_to_etcd_is_headers_and_one_message() -> None:
    headers, data = parsed(wires.EtcdWire().put(3, 0, b"key", bytes(300)))
    assert headers[:3] == (1, 4, 5)
    assert b"/etcdserverpb.KV/Put" in headers[3]
    message = b"\x0a\x03key" + b"\x12\xac\x02" + bytes(300)
    assert data == (0, 1, 5, b"\0" + struct.pack(">I", len(message)) + message)


def test_etcds_answer_is_done_when_a_message_came() -> None:
    wire = wires.EtcdWire()
    answers = [wire.receive(bytes([byte]))[0] for byte in DONE]
    assert [each for each in answers if each] == [[(1, "")]]


def test_etcds_error_has_trailers_only() -> None:
    ((number, refused),), _ = wires.EtcdWire().receive(h2(1, 5, 3, b"trailers"))
    assert number == 2
    assert refused.startswith("refused")


def test_pings_and_settings_are_acknowledged_once() -> None:
    wire = wires.EtcdWire()
    _, reply = wire.receive(h2(4, 0, 0, bytes(6)) + h2(6, 0, 0, b"12345678") + h2(4, 1, 0))
    assert parsed(reply) == [(4, 1, 0, b""), (6, 1, 0, b"12345678")]


def test_puts_wait_for_room_and_keep_their_order() -> None:
    wire = wires.EtcdWire()
    sent = [wire.put(number, 0, b"k", bytes(1024)) for number in range(1, 71)]
    waiting = [number for number, data in enumerate(sent, 1) if not data]
    assert 60 < waiting[0] <= 64
    _, released = wire.receive(h2(8, 0, 0, struct.pack(">I", 65_535)))
    streams = [stream for kind, _, stream, _ in parsed(released) if kind == 0]
    assert streams == [2 * number - 1 for number in waiting]
