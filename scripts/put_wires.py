"""What two stores speak to their clients, as bytes in and bytes out: puts, and what became of them.

Both benchmarks against etcd drive both sides through these, over unix sockets, so that the client's
part costs about the same on either side: muster's control protocol (`muster_protocol.session`), and
of etcd's gRPC over HTTP/2 just as much as a put needs (RFC 9113; the headers are constant and never
indexed, so nothing has to be compressed). A library that can all of gRPC takes 50 µs for a put, and
etcd's three nodes 80 on the same cores: it would be measured with them.
"""

from __future__ import annotations

import os
import struct
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

from muster_protocol.session.machine import ClientSession, to_bytes
from muster_protocol.session.messages import (
    PROTOCOL_MAJOR,
    PROTOCOL_MINOR,
    Cancel,
    ClientHello,
    End,
    Failure,
    Reply,
    Request,
)

Answers = list[tuple[int, str]]
"""Number of a put, and why it was refused: "" if it was done."""


class Wire(Protocol):
    """One connection. Numbers of puts begin at 1 and grow."""

    def opening(self) -> bytes:
        """What the client says first; it need not wait for an answer."""

    def put(self, number: int, client: int, key: bytes, value: bytes) -> bytes:
        """A put, to be sent now; empty where flow control makes it wait."""

    def cancel(self, number: int) -> bytes:
        """Ask no more about a put."""

    def receive(self, data: bytes) -> tuple[Answers, bytes]:
        """What was answered, and what is to be sent. Errors: ConnectionError, MusterError."""


class MusterWire:
    """The control socket's protocol. Each client has a session, as `muster.client`'s have."""

    def __init__(self) -> None:
        self._session = ClientSession()
        self._salt = os.urandom(12).hex()

    def opening(self) -> bytes:
        return to_bytes(ClientHello(PROTOCOL_MAJOR, PROTOCOL_MINOR, "benchmark"))

    def put(self, number: int, client: int, key: bytes, value: bytes) -> bytes:
        session = f"{self._salt}{client:08x}"
        params = {"key": key.decode(), "value": value, "session": session, "request": number}
        return to_bytes(Request(number, "kv.put", params))

    def cancel(self, number: int) -> bytes:
        return to_bytes(Cancel(number))

    def receive(self, data: bytes) -> tuple[Answers, bytes]:
        answers: Answers = []
        for message in self._session.receive(data):
            if isinstance(message, Reply):
                answers.append((message.id, ""))
            elif isinstance(message, Failure):
                if message.id == 0:
                    raise ConnectionError(message.message)
                answers.append((message.id, message.message))
            elif isinstance(message, End):
                answers.append((message.id, "cancelled"))
        return answers, b""


DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
ACK, END_STREAM, END_HEADERS = 1, 1, 4
FRAME_BYTES: Final = 9
WINDOW_BYTES: Final = 65_535
"""What may be sent before the server says that there is more room."""

_FRAME: Final = struct.Struct(">IBI")  # length and type, flags, stream
_NUMBER: Final = struct.Struct(">I")
_GRPC: Final = struct.Struct(">BI")


def _literal(text: bytes) -> bytes:
    assert len(text) < 127
    return bytes([len(text)]) + text


def _headers(path: bytes) -> bytes:
    """HPACK: indexed :method POST and :scheme http; the others literal, never indexed."""
    return b"".join([
        b"\x83\x86",
        b"\x04" + _literal(path),
        b"\x01" + _literal(b"localhost"),
        b"\x0f\x10" + _literal(b"application/grpc"),
        b"\x00" + _literal(b"te") + _literal(b"trailers"),
    ])  # fmt: skip


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return _FRAME.pack(len(payload) << 8 | kind, flags, stream) + payload


def _field(tag: int, value: bytes) -> bytes:
    """A protobuf field of bytes."""
    length, size = len(value), bytearray()
    while length > 127:
        size.append(length & 127 | 128)
        length >>= 7
    size.append(length)
    return bytes([tag << 3 | 2]) + bytes(size) + value


class EtcdWire:
    """etcd's KV/Put. A put was done if a message came back: an error has trailers only."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._window = WINDOW_BYTES
        self._waiting: deque[tuple[int, bytes]] = deque()
        self._said: set[int] = set()
        self._headers = _headers(b"/etcdserverpb.KV/Put")

    def opening(self) -> bytes:
        more_room = _frame(WINDOW_UPDATE, 0, 0, _NUMBER.pack(2**30))
        return b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _frame(SETTINGS, 0, 0, b"") + more_room

    def put(self, number: int, client: int, key: bytes, value: bytes) -> bytes:
        del client
        stream = 2 * number - 1
        message = _field(1, key) + _field(2, value)
        payload = _GRPC.pack(0, len(message)) + message
        data = _frame(HEADERS, END_HEADERS, stream, self._headers)
        data += _frame(DATA, END_STREAM, stream, payload)
        self._waiting.append((len(payload), data))
        return self._sendable()

    def _sendable(self) -> bytes:
        sending = []
        while self._waiting and self._waiting[0][0] <= self._window:
            size, data = self._waiting.popleft()
            self._window -= size
            sending.append(data)
        return b"".join(sending)

    def cancel(self, number: int) -> bytes:
        return _frame(RST_STREAM, 0, 2 * number - 1, _NUMBER.pack(8))

    def receive(self, data: bytes) -> tuple[Answers, bytes]:
        answers: Answers = []
        replies: list[bytes] = []
        buffer, at = self._buffer, 0
        buffer += data
        while len(buffer) - at >= FRAME_BYTES:
            head, flags, stream = _FRAME.unpack_from(buffer, at)
            end = at + FRAME_BYTES + (head >> 8)
            if end > len(buffer):
                break
            payload = bytes(buffer[at + FRAME_BYTES : end])
            at = end
            kind = head & 255
            if stream:
                self._take(kind, flags, stream, payload, answers)
            else:
                replies.append(self._control(kind, flags, payload))
        del buffer[:at]
        return answers, b"".join(replies)

    def _take(self, kind: int, flags: int, stream: int, payload: bytes, answers: Answers) -> None:
        if kind == DATA and payload:
            self._said.add(stream)
        is_last = kind == RST_STREAM or (kind in (DATA, HEADERS) and flags & END_STREAM)
        if is_last:
            is_done = stream in self._said and kind != RST_STREAM
            self._said.discard(stream)
            answers.append(((stream + 1) // 2, "" if is_done else f"refused: {payload!r}"))

    def _control(self, kind: int, flags: int, payload: bytes) -> bytes:
        if kind == GOAWAY:
            raise ConnectionError(f"etcd closes the connection: {payload!r}")
        if kind == WINDOW_UPDATE:
            self._window += _NUMBER.unpack(payload)[0]
            return self._sendable()
        if kind in (SETTINGS, PING) and not flags & ACK:
            return _frame(kind, ACK, 0, payload if kind == PING else b"")
        return b""


WIRES: Final[dict[str, Callable[[], Wire]]] = {"muster": MusterWire, "etcd": EtcdWire}
