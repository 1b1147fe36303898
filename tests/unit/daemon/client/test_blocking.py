"""The blocking client against a daemon that misbehaves in every way it can."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from muster.client.blocking import Client
from muster.client.errors import (
    BadRequest,
    Conflict,
    Failed,
    Forbidden,
    Incompatible,
    NotFound,
    NotQuorate,
    RequestError,
    SocketForbidden,
    TimedOut,
    Unknown,
    Unreachable,
    Unsupported,
)
from muster_protocol.errors import LocalError, OutcomeUnknown, RemoteError, UsageError
from muster_protocol.session.messages import Code
from muster_protocol.session.methods import KvPutParams, SignalItem, StatusResult
from testkit.fake_daemon import (
    HANG_UP,
    SILENCE,
    FakeDaemon,
    Stream,
    a_kv_result,
    a_status,
    hello,
    refusal,
)

SHORT_S = 0.3


def a_client(daemon: FakeDaemon, timeout_s: float = 5.0) -> Client:
    return Client(str(daemon.path), timeout_s=timeout_s)


def a_signal(number: int) -> SignalItem:
    return SignalItem(
        id=str(number),
        type="cluster.node.failed",
        source="web1",
        subject="web2",
        wall=0.0,
        priority="high",
        scope="cluster",
        data={"n": number},
    )


def test_a_call_gives_the_typed_result(daemon: FakeDaemon) -> None:
    daemon.answers("status", a_status())
    with a_client(daemon) as client:
        assert client.call("status") == a_status()
        assert client.server == hello()


def test_one_connection_serves_many_calls(daemon: FakeDaemon) -> None:
    daemon.answers("status", a_status())
    with a_client(daemon) as client:
        for _ in range(3):
            assert isinstance(client.call("status"), StatusResult)
    assert daemon.connections == 1
    assert [request.id for request in daemon.requests] == [1, 2, 3]


def test_a_socket_that_is_not_there_is_told_at_once_with_a_hint(tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match="there is no socket") as caught:
        Client(str(tmp_path / "none.sock")).call("status")
    assert isinstance(caught.value, LocalError)
    assert "systemctl status" in caught.value.hint


def test_a_socket_that_nobody_serves_is_told_at_once(tmp_path: Path) -> None:
    path = tmp_path / "left.sock"
    with FakeDaemon(path):
        os.link(path, tmp_path / "stale.sock")
    with pytest.raises(Unreachable, match="nobody listens"):
        Client(str(tmp_path / "stale.sock")).call("status")


def test_a_path_that_is_too_long_is_unreachable_not_a_crash() -> None:
    with pytest.raises(Unreachable, match="too long"):
        Client("/" + "x" * 200).call("status")


def test_a_socket_that_this_user_may_not_use_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    from muster.client import calls

    error = calls.unreachable("/run/muster/muster.sock", PermissionError(13, "no"))
    assert isinstance(error, SocketForbidden)
    assert "group" in error.hint


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (Code.FAILED, Failed),
        (Code.USAGE, BadRequest),
        (Code.NOT_QUORATE, NotQuorate),
        (Code.NOT_FOUND, NotFound),
        (Code.PERMISSION, Forbidden),
        (Code.TIMED_OUT, TimedOut),
        (Code.CONFLICT, Conflict),
        (Code.UNSUPPORTED, Unsupported),
    ],
)
def test_a_failure_is_an_exception_of_its_own_kind(
    daemon: FakeDaemon, code: Code, kind: type[RequestError]
) -> None:
    daemon.answers("info", refusal(code, "because", "do that"))
    with a_client(daemon) as client, pytest.raises(kind, match="because") as caught:
        client.call("info", node="web2")
    assert type(caught.value) is kind
    assert (caught.value.code, caught.value.hint) == (code, "do that")
    assert len(daemon.requests) == 1


@pytest.mark.parametrize("at_the_hello", [True, False])
def test_a_daemon_that_never_answers_times_out(daemon: FakeDaemon, at_the_hello: bool) -> None:
    daemon.greeting = SILENCE if at_the_hello else hello()
    daemon.answers("status", SILENCE)
    started = time.monotonic()
    with a_client(daemon, SHORT_S) as client, pytest.raises(TimedOut, match=r"0\.3 s"):
        client.call("status")
    assert SHORT_S <= time.monotonic() - started < SHORT_S + 2


def test_after_a_time_out_the_next_call_has_a_connection_of_its_own(daemon: FakeDaemon) -> None:
    daemon.answers("status", SILENCE, a_status())
    with a_client(daemon) as client:
        with pytest.raises(TimedOut):
            client.call("status", timeout_s=SHORT_S)
        assert client.call("status") == a_status()
    assert daemon.connections == 2


def test_a_daemon_of_another_major_version_is_incompatible(daemon: FakeDaemon) -> None:
    daemon.greeting = hello(major=2, build="9.0")
    with a_client(daemon) as client, pytest.raises(Incompatible, match="protocol 2") as caught:
        client.call("status")
    assert isinstance(caught.value, RemoteError)


def test_a_daemon_that_refuses_our_version_is_incompatible(daemon: FakeDaemon) -> None:
    daemon.greeting = refusal(Code.UNSUPPORTED, "the client speaks control protocol 1")
    with a_client(daemon) as client, pytest.raises(Incompatible, match="speaks control protocol 1"):
        client.call("status")


def test_what_is_no_muster_daemon_is_incompatible(daemon: FakeDaemon) -> None:
    daemon.greeting = b"HTTP/1.1 400 Bad Request\r\n\r\n"
    with a_client(daemon) as client, pytest.raises(Incompatible, match="makes no sense"):
        client.call("status")


def test_a_daemon_that_hangs_up_before_the_hello_is_unreachable(daemon: FakeDaemon) -> None:
    daemon.greeting = HANG_UP
    with a_client(daemon) as client, pytest.raises(Unreachable, match="at once"):
        client.call("status")


def test_an_answer_that_does_not_fit_is_the_daemons_fault(daemon: FakeDaemon) -> None:
    daemon.answers("status", {"verdict": 3})
    with a_client(daemon) as client, pytest.raises(RemoteError, match="does not fit"):
        client.call("status")


def test_a_read_goes_on_over_a_lost_connection(daemon: FakeDaemon) -> None:
    daemon.answers("status", HANG_UP, HANG_UP, a_status())
    with a_client(daemon) as client:
        assert client.call("status") == a_status()
    assert daemon.connections == 3


def test_a_change_is_repeated_as_the_same_change(daemon: FakeDaemon) -> None:
    """Session and request number stay, so the cluster makes it once; the next change has another
    number."""
    daemon.answers("kv.put", HANG_UP, refusal(Code.UNKNOWN_OUTCOME), a_kv_result(repeated=True))
    with a_client(daemon) as client:
        assert client.call("kv.put", key="k", value=b"v").repeated
        client.call("kv.put", key="k", value=b"w")
    asked = [(params.session, params.request) for params in daemon.params("kv.put")]
    assert asked[0] == asked[1] == asked[2]
    assert asked[3] == (asked[0][0], 2)


def test_a_change_whose_answer_never_comes_is_unknown(daemon: FakeDaemon) -> None:
    daemon.answers("kv.put", SILENCE)
    with a_client(daemon, SHORT_S) as client, pytest.raises(Unknown) as caught:
        client.call("kv.put", key="k", value=b"v")
    assert isinstance(caught.value, OutcomeUnknown)
    (params,) = daemon.params("kv.put")
    assert (caught.value.session, caught.value.request) == (params.session, params.request)


def test_a_change_stays_unknown_when_only_a_retry_was_refused(daemon: FakeDaemon) -> None:
    daemon.answers("kv.put", HANG_UP, refusal(Code.NOT_QUORATE))
    with a_client(daemon, SHORT_S) as client, pytest.raises(Unknown):
        client.call("kv.put", key="k", value=b"v")
    assert len(daemon.requests) > 1


def test_the_same_pair_asked_again_can_settle_it(daemon: FakeDaemon) -> None:
    daemon.answers("kv.put", SILENCE, a_kv_result(repeated=True))
    params = KvPutParams(key="k", value=b"v")
    with a_client(daemon) as client:
        with pytest.raises(Unknown) as caught:
            client.call("kv.put", params, timeout_s=SHORT_S)
        again = KvPutParams(
            key="k",
            value=b"v",
            session=caught.value.session,
            request=caught.value.request,
            since=caught.value.since,
        )
        assert client.call("kv.put", again).repeated


def test_a_command_is_sent_once_and_unknown_when_the_connection_is_lost(daemon: FakeDaemon) -> None:
    daemon.answers("leave", HANG_UP)
    with a_client(daemon) as client, pytest.raises(Unknown, match="lost before it answered"):
        client.call("leave")
    assert len(daemon.requests) == 1


def test_a_daemon_that_restarts_meanwhile_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "muster.sock"
    lost = threading.Event()

    def hang_up(_request: object) -> object:
        lost.set()
        return HANG_UP

    results = []
    with FakeDaemon(path) as first, Client(str(path), timeout_s=5.0) as client:
        first.answers("status", hang_up)
        asking = threading.Thread(target=lambda: results.append(client.call("status")))
        asking.start()
        assert lost.wait(5)
        first.__exit__(None, None, None)
        with FakeDaemon(path) as second:
            second.answers("status", a_status(name="again"))
            asking.join(5)
    assert [result.name for result in results] == ["again"]


def test_a_stream_gives_items_until_its_end(daemon: FakeDaemon) -> None:
    daemon.answers("signals.tail", Stream([a_signal(1), a_signal(2)]))
    with a_client(daemon) as client:
        items = list(client.stream("signals.tail", pattern="cluster.**"))
    assert items == [a_signal(1), a_signal(2)]
    assert daemon.params("signals.tail")[0].pattern == "cluster.**"


def test_a_stream_that_is_lost_is_unreachable(daemon: FakeDaemon) -> None:
    daemon.answers("signals.tail", Stream([a_signal(1), HANG_UP]))
    with a_client(daemon) as client:
        items = client.stream("signals.tail")
        assert next(items) == a_signal(1)
        with pytest.raises(Unreachable, match="closed the connection"):
            next(items)


def test_a_refused_stream_is_an_exception(daemon: FakeDaemon) -> None:
    daemon.answers("signals.tail", refusal(Code.USAGE, "a bad pattern"))
    with a_client(daemon) as client, pytest.raises(BadRequest, match="a bad pattern"):
        next(client.stream("signals.tail"))


def test_a_stream_does_not_disturb_calls(daemon: FakeDaemon) -> None:
    daemon.answers("signals.tail", Stream([a_signal(1), a_signal(2)]))
    daemon.answers("status", a_status())
    with a_client(daemon) as client:
        items = client.stream("signals.tail")
        next(items)
        assert client.call("status") == a_status()
        items.close()


def test_a_method_that_does_not_exist_is_not_asked(daemon: FakeDaemon) -> None:
    with a_client(daemon) as client, pytest.raises(UsageError):
        client.call("stats")
    assert daemon.connections == 0
