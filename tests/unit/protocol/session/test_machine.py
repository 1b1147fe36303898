"""Both ends of a control connection: order, caps, and bytes that nobody sane sends."""

from __future__ import annotations

import contextlib
import itertools
import struct
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster_protocol.errors import RemoteError
from muster_protocol.limits import CONTROL_FRAME_BYTES_MAX, HELLO_FRAME_BYTES_MAX
from muster_protocol.session.machine import (
    REQUESTS_AT_ONCE_MAX,
    ClientSession,
    ServerSession,
    to_bytes,
)
from muster_protocol.session.messages import (
    PROTOCOL_MAJOR,
    PROTOCOL_MINOR,
    Cancel,
    ClientHello,
    Code,
    End,
    Failure,
    FromServer,
    Item,
    Reply,
    Request,
    ServerHello,
)
from muster_protocol.session.methods import METHODS, Params, Result

HELLO = ClientHello(PROTOCOL_MAJOR, PROTOCOL_MINOR, "test")
SERVER_HELLO = ServerHello(PROTOCOL_MAJOR, PROTOCOL_MINOR, "a" * 32, "web1", "0.1.0")


def a_request(number: int = 1, method: str = "status", **params: Any) -> Request:
    return Request(number, method, params)


def greeted_server() -> ServerSession:
    server = ServerSession()
    server.receive(to_bytes(HELLO))
    return server


def raw(value: Any) -> bytes:
    """Any value as a frame."""
    payload = msgspec.msgpack.encode(value)
    return struct.pack(">I", len(payload)) + payload


def cause_of(server: ServerSession | ClientSession, data: bytes) -> str:
    with pytest.raises(RemoteError) as caught:
        server.receive(data)
    return caught.value.cause


# --- order ----------------------------------------------------------------------------------------


def test_a_hello_and_requests_come_out_in_order() -> None:
    server = ServerSession()
    data = to_bytes(HELLO) + to_bytes(a_request(1)) + to_bytes(a_request(2, "info", node="x"))
    assert server.receive(data) == [HELLO, a_request(1), a_request(2, "info", node="x")]
    assert server.client == HELLO


def test_a_conversation_is_the_same_byte_by_byte() -> None:
    server = ServerSession()
    got: list[Any] = []
    for byte in to_bytes(HELLO) + to_bytes(a_request(1)) + to_bytes(Cancel(1)):
        got += server.receive(bytes([byte]))
    assert got == [HELLO, a_request(1), Cancel(1)]
    server.close()


def test_a_client_hears_everything_in_order() -> None:
    client = ClientSession()
    said: list[FromServer] = [
        SERVER_HELLO,
        Item(2, {"a": b"\xff"}),
        Reply(1, {"x": 1}),
        End(2),
        Failure(3, Code.CONFLICT, "no", "hint", {"revision": 4}),
    ]
    assert client.receive(b"".join(map(to_bytes, said))) == said
    assert client.server == SERVER_HELLO


def test_a_request_before_the_hello_is_refused() -> None:
    assert cause_of(ServerSession(), to_bytes(a_request())) == "protocol"
    assert cause_of(ServerSession(), to_bytes(Cancel(1))) == "protocol"


def test_a_second_hello_is_refused() -> None:
    assert cause_of(greeted_server(), to_bytes(HELLO)) == "protocol"


def test_a_reply_before_the_daemons_hello_is_refused_but_a_refusal_is_heard() -> None:
    for message in (Reply(1, {}), Item(1, {}), End(1)):
        assert cause_of(ClientSession(), to_bytes(message)) == "protocol"
    refusal = Failure(0, Code.UNSUPPORTED, "another version")
    assert ClientSession().receive(to_bytes(refusal)) == [refusal]


@pytest.mark.parametrize("major", [0, PROTOCOL_MAJOR + 1, 2**62])
def test_another_major_version_is_refused_with_both_numbers(major: int) -> None:
    server = ServerSession()
    with pytest.raises(RemoteError, match=f"protocol {major}, this daemon {PROTOCOL_MAJOR}") as c:
        server.receive(to_bytes(ClientHello(major, 0, "old")))
    assert c.value.cause == "version"
    assert server.client is None


def test_a_later_minor_version_may_append_fields() -> None:
    """They are skipped."""
    server = ServerSession()
    (hello,) = server.receive(raw([1, PROTOCOL_MAJOR, 9, "new", "something", 7]))
    assert hello == ClientHello(PROTOCOL_MAJOR, 9, "new")


def test_a_request_id_is_free_again_once_it_was_answered() -> None:
    server = greeted_server()
    server.receive(to_bytes(a_request(7)))
    assert cause_of(server, to_bytes(a_request(7))) == "protocol"
    server = greeted_server()
    server.receive(to_bytes(a_request(7)))
    server.answered(7)
    server.answered(7)
    assert server.receive(to_bytes(a_request(7))) == [a_request(7)]


def test_a_cancel_for_what_nobody_asked_is_harmless() -> None:
    assert greeted_server().receive(to_bytes(Cancel(99))) == [Cancel(99)]


# --- caps -----------------------------------------------------------------------------------------


def test_the_first_frame_is_small() -> None:
    """What is not yet known to be a client of ours may not make the daemon allocate."""
    length = struct.pack(">I", HELLO_FRAME_BYTES_MAX + 1)
    assert cause_of(ServerSession(), length) == "oversized"


def test_after_the_hello_frames_may_be_large_but_not_larger() -> None:
    server = greeted_server()
    value = bytes(256 * 1024)
    assert server.receive(to_bytes(a_request(1, "kv.put", value=value)))[0] == a_request(
        1, "kv.put", value=value
    )
    assert cause_of(server, struct.pack(">I", CONTROL_FRAME_BYTES_MAX + 1)) == "oversized"


def test_a_large_request_may_come_together_with_the_hello() -> None:
    large = a_request(1, "kv.put", value=bytes(100_000))
    assert ServerSession().receive(to_bytes(HELLO) + to_bytes(large)) == [HELLO, large]


def test_the_daemons_frames_are_capped_for_the_client_too() -> None:
    length = struct.pack(">I", CONTROL_FRAME_BYTES_MAX + 1)
    assert cause_of(ClientSession(), length) == "oversized"


def test_requests_at_once_are_bounded() -> None:
    server = greeted_server()
    for number in range(REQUESTS_AT_ONCE_MAX):
        server.receive(to_bytes(a_request(number)))
    assert cause_of(server, to_bytes(a_request(1000))) == "overload"


def test_our_own_oversized_frame_is_our_own_bug() -> None:
    with pytest.raises(AssertionError):
        to_bytes(a_request(1, value=bytes(CONTROL_FRAME_BYTES_MAX)))


def test_a_stream_that_ends_inside_a_frame_was_truncated() -> None:
    server = greeted_server()
    server.receive(to_bytes(a_request())[:-1])
    with pytest.raises(RemoteError) as caught:
        server.close()
    assert caught.value.cause == "truncated"


# --- hostile bytes --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        None,
        7,
        "hello",
        [],
        [1],
        [99, 1, 0, "x"],
        [1, "1", 0, "x"],
        [1, -1, 0, "x"],
        [1, 1, 0, "x" * 101],
        [2, 1, 0, "a", "b", "c"],
        {"1": 1},
        [[[[[[]]]]]],
    ],
)
def test_what_is_no_hello_is_garbage(value: Any) -> None:
    assert cause_of(ServerSession(), raw(value)) == "garbage"


@pytest.mark.parametrize(
    "value",
    [
        [3, 1, "kv.get"],
        [3, 1, "a" * 65, {}],
        [3, -1, "status", {}],
        [3, 2**63, "status", {}],
        [3, 1, "status", []],
        [3, 1, "status", {1: 2}],
        [4, "1"],
        [5, 1, {}],
    ],
)
def test_what_is_no_request_is_garbage(value: Any) -> None:
    assert cause_of(greeted_server(), raw(value)) == "garbage"


@pytest.mark.parametrize(
    "data",
    [
        b"\x00\x00\x00\x00",
        b"\x00\x00\x00\x01\xc1",
        b"\x00\x00\x00\x05" + b"\xdd\xff\xff\xff\xff",
        struct.pack(">I", 4000) + b"\x91" * 4000,
        raw([1, 1, 0, "x"])[:-1] + b"\xff",
        struct.pack(">I", 7) + msgspec.msgpack.encode([1, 1, 0, "x"]) + b"\x00",
        b"GET / HTTP/1.1\r\n\r\n",
    ],
)
def test_what_is_no_frame_is_dropped(data: bytes) -> None:
    assert cause_of(ServerSession(), data) in {"garbage", "oversized"}


@given(data=st.binary(max_size=300), greeted=st.booleans())
def test_any_bytes_give_messages_or_a_remote_error(data: bytes, greeted: bool) -> None:
    for session in (greeted_server() if greeted else ServerSession(), ClientSession()):
        with contextlib.suppress(RemoteError):
            session.receive(data)


PLAIN = st.recursive(
    st.none() | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=9) | st.binary(),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=12,
)


@given(values=st.lists(PLAIN, max_size=4))
def test_any_values_give_messages_or_a_remote_error(values: list[Any]) -> None:
    data = b"".join(raw(value) for value in values)
    for session in (greeted_server(), ClientSession()):
        with contextlib.suppress(RemoteError):
            session.receive(data)


@given(
    cuts=st.lists(st.integers(0, 200), max_size=8),
    numbers=st.lists(st.integers(0, 50), unique=True, max_size=6),
)
def test_where_the_stream_is_cut_does_not_matter(cuts: list[int], numbers: list[int]) -> None:
    sent: list[Any] = [HELLO, *(a_request(number) for number in numbers)]
    data = b"".join(map(to_bytes, sent))
    edges = sorted({0, len(data), *(min(cut, len(data)) for cut in cuts)})
    server, got = ServerSession(), []
    for start, end in itertools.pairwise(edges):
        got += server.receive(data[start:end])
    assert got == sent
    server.close()


# --- methods --------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", list(METHODS))
def test_every_method_has_its_types_and_refuses_unknown_parameters(method: str) -> None:
    params, result = METHODS[method]
    assert issubclass(params, Params)
    assert issubclass(result, Result)
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"nonsense": 1}, params)
    to_bytes(Request(1, method, {}))


def test_an_answer_too_large_for_a_frame_is_a_failure_that_says_so() -> None:
    client = ClientSession()
    client.receive(to_bytes(SERVER_HELLO))
    large = Reply(7, "x" * CONTROL_FRAME_BYTES_MAX)
    (answer,) = client.receive(to_bytes(large))
    assert isinstance(answer, Failure)
    assert (answer.id, answer.code) == (7, Code.FAILED)
    assert "ask for less" in answer.message
