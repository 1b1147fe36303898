"""What a call knows at each point; no sockets."""

from __future__ import annotations

from typing import Any

import pytest

from muster.client.calls import Call, Identity, build_request, hello, parameters
from muster.client.errors import Conflict, NotFound, NotQuorate, TimedOut, Unknown
from muster_protocol.errors import RemoteError, UsageError
from muster_protocol.session.machine import ServerSession
from muster_protocol.session.messages import Code, Failure, Reply, Request
from muster_protocol.session.methods import (
    KvChangeParams,
    KvGetParams,
    KvListParams,
    KvPutParams,
    NoParams,
)

SESSION = "5" * 32


def a_put() -> Call:
    return Call("kv.put", KvPutParams(key="k", value=b"v", session=SESSION, request=7))


def sent(call: Call, *, revision: int) -> dict[str, Any]:
    """The parameters of the next attempt."""
    (message,) = ServerSession().receive(hello("test") + call.sending(1, revision=revision))[1:]
    assert isinstance(message, Request)
    return message.params


def refused(code: Code) -> Failure:
    return Failure(1, code, "no")


def test_a_read_that_was_lost_is_asked_again_and_times_out_without_doubt() -> None:
    call = Call("kv.get", KvGetParams(key="k"))
    call.sending(1, revision=12)
    assert call.lost() is None
    call.sending(2, revision=12)
    assert isinstance(call.out_of_time(1.0), TimedOut)


def test_a_change_that_was_lost_is_asked_again_and_ends_unknown_when_time_is_up() -> None:
    call = a_put()
    call.sending(1, revision=12)
    assert call.lost() is None
    error = call.out_of_time(1.0)
    assert isinstance(error, Unknown)
    assert (error.session, error.request, error.since) == (SESSION, 7, 12)


def test_a_repetition_says_what_was_known_before_the_first_attempt() -> None:
    call = a_put()
    assert "since" not in sent(call, revision=12)
    call.lost()
    assert sent(call, revision=20)["since"] == 12
    call.lost()
    assert sent(call, revision=30)["since"] == 12


def test_a_change_that_is_a_repetition_from_the_start_says_so_at_once() -> None:
    again = KvPutParams(key="k", value=b"v", session=SESSION, request=7, since=3)
    assert sent(Call("kv.put", again), revision=12)["since"] == 3


def test_an_outcome_that_is_forgotten_is_not_asked_for_again() -> None:
    call = a_put()
    call.sending(1, revision=12)
    forgotten = Failure(1, Code.UNKNOWN_OUTCOME, "too long ago", "look", {"forgotten": True})
    error = call.failed(forgotten)
    assert isinstance(error, Unknown)
    assert (error.session, error.hint) == ("", "look")


def test_a_change_that_was_never_sent_times_out_without_doubt() -> None:
    call = a_put()
    assert call.lost() is None
    assert isinstance(call.out_of_time(1.0), TimedOut)


def test_a_refused_first_attempt_is_the_answer() -> None:
    call = a_put()
    call.sending(1, revision=12)
    assert isinstance(call.failed(refused(Code.NOT_QUORATE)), NotQuorate)


@pytest.mark.parametrize("code", [Code.NOT_QUORATE, Code.TIMED_OUT, Code.FAILED, Code.USAGE])
def test_a_refused_retry_does_not_settle_an_attempt_in_doubt(code: Code) -> None:
    """The first attempt may have been committed; that the second was refused says nothing of it."""
    call = a_put()
    call.sending(1, revision=12)
    call.lost()
    call.sending(2, revision=12)
    assert call.failed(refused(code)) is None
    assert isinstance(call.out_of_time(1.0), Unknown)


def test_an_unknown_outcome_from_the_daemon_is_asked_again() -> None:
    call = a_put()
    call.sending(1, revision=12)
    assert call.failed(refused(Code.UNKNOWN_OUTCOME)) is None
    assert isinstance(call.out_of_time(1.0), Unknown)


@pytest.mark.parametrize(("code", "kind"), [(Code.CONFLICT, Conflict), (Code.NOT_FOUND, NotFound)])
def test_what_the_replicated_state_itself_answers_settles_the_change(
    code: Code, kind: type[Exception]
) -> None:
    call = a_put()
    call.sending(1, revision=12)
    call.lost()
    call.sending(2, revision=12)
    assert isinstance(call.failed(refused(code)), kind)


def test_a_command_is_never_asked_twice() -> None:
    call = Call("leave", NoParams())
    call.sending(1, revision=12)
    assert isinstance(call.lost(), Unknown)


def test_a_command_of_which_the_daemon_does_not_know_the_outcome_is_unknown() -> None:
    call = Call("leave", NoParams())
    call.sending(1, revision=12)
    assert isinstance(call.failed(refused(Code.UNKNOWN_OUTCOME)), Unknown)


def test_a_command_that_was_never_sent_may_be_tried_again() -> None:
    assert Call("leave", NoParams()).lost() is None


def test_a_result_that_does_not_fit_is_the_daemons_fault() -> None:
    call = Call("status", NoParams())
    call.sending(1, revision=12)
    with pytest.raises(RemoteError, match="does not fit"):
        call.replied(Reply(1, {"schema": "muster.status/1"}))


def test_changes_are_numbered_from_one_within_a_random_session() -> None:
    one, other = Identity(), Identity()
    put = KvPutParams(key="k", value=b"v")
    first, second = one.numbered(put), one.numbered(put)
    assert isinstance(first, KvChangeParams)
    assert isinstance(second, KvChangeParams)
    assert first.session == second.session == one.session != other.session
    assert (first.request, second.request) == (1, 2)


def test_a_change_that_names_its_session_keeps_it() -> None:
    named = KvPutParams(key="k", value=b"v", session=SESSION, request=3)
    assert Identity().numbered(named) is named


def test_parameters_at_their_defaults_are_not_sent() -> None:
    assert build_request("kv.list", KvListParams()).params == {}
    put = KvPutParams(key="k", value=b"v", expected=0)
    assert build_request("kv.put", put).params == {"key": "k", "value": b"v", "expected": 0}


def test_a_request_that_no_frame_can_hold_is_refused_before_it_is_sent() -> None:
    with pytest.raises(UsageError, match="at most"):
        Call("kv.put", KvPutParams(key="k", value=bytes(2 * 1024 * 1024)))


def test_parameters_are_checked_by_name() -> None:
    with pytest.raises(UsageError, match="no method"):
        parameters("kv.gett", None, {})
    with pytest.raises(UsageError, match="kee"):
        parameters("kv.get", None, {"kee": "k"})
