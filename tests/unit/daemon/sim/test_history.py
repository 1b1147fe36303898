"""Our own format, and those of others."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster.sim.histories.reading import read_history
from muster.sim.history import (
    HistoryRecorder,
    Op,
    Outcome,
    Reply,
    Request,
    parse,
    reply_of,
    request_of,
)
from muster_protocol.consistency.commands import (
    Conflict,
    Delete,
    Done,
    Expired,
    Get,
    KeyValue,
    NotFound,
    Put,
    Rejected,
    Result,
)
from muster_protocol.errors import UsageError
from testkit.executions import execute, random_steps

HEADER = '{"schema":"muster.history/1"}'
PUT = '{"event":"invoke","id":0,"client":"a","op":"put","key":"k","value":"x","time":1}'
GET = '{"event":"invoke","id":0,"client":"a","op":"get","key":"k","time":1}'
FOUND = '{"event":"ok","id":0,"result":"done","value":"x","revision":1,"entry":1,"time":2}'
ENTRY = KeyValue(key="k", value=b"\xff\x00", revision=4, created=2, version=2, wall=0.0)


def recorded(history: list[Op]) -> HistoryRecorder:
    """Tell a recorder what happened, in the order of time."""
    recorder, numbers = HistoryRecorder(), {}
    events = [(each.call, 0, n) for n, each in enumerate(history)]
    events += [(each.ret, 1, n) for n, each in enumerate(history) if each.output]
    for now, kind, n in sorted(events):
        if kind == 0:
            numbers[n] = recorder.invoke(history[n].client, history[n].input, now)
        else:
            reply = history[n].output
            assert reply is not None
            recorder.ok(numbers[n], reply, now)
    return recorder


@given(st.integers(0, 2**32))
def test_what_is_written_is_read_again(seed: int) -> None:
    steps = random_steps(random.Random(seed), "registry", clients=5, count=30, lost=0.2)
    recorder = recorded(execute(steps, "registry"))
    again = parse(recorder.to_lines())
    assert again.kind == "registry"
    assert again.operations == recorder.operations()


@given(st.binary(max_size=9))
def test_any_value_is_kept(value: bytes) -> None:
    recorder = HistoryRecorder()
    recorder.invoke("a", request_of(Put("k", value)), 1.0)
    (operation,) = parse(recorder.to_lines()).operations
    held = operation.input.value
    assert held is not None
    assert held.encode(errors="surrogateescape") == value


def test_a_request_without_an_end_is_unknown_and_one_that_failed_is_gone() -> None:
    recorder = HistoryRecorder()
    put = Request("put", "k", "x")
    recorder.invoke("a", put, 1.0)
    failed, told = recorder.invoke("b", put, 1.0), recorder.invoke("c", put, 1.0)
    read = recorder.invoke("d", Request("get", "k"), 1.0)
    recorder.fail(failed, 2.0)
    recorder.unknown(told, 2.0)
    recorder.unknown(read, 2.0)
    assert [(each.client, each.output) for each in recorder.operations()] == [
        ("a", None),
        ("c", None),
    ]


@pytest.mark.parametrize(
    ("operation", "result", "reply"),
    [
        (Get("k"), Done(5, ENTRY), Reply(Outcome.DONE, "\udcff\x00", 5, 4)),
        (Put("k", b"x"), Done(4, ENTRY), Reply(Outcome.DONE, None, 4, 4)),
        (Delete("k"), Done(5, ENTRY), Reply(Outcome.DONE, None, 5, None)),
        (Get("k"), NotFound(5), Reply(Outcome.NOT_FOUND, None, 5)),
        (Put("k", b"x", 9), Conflict(5, ENTRY), Reply(Outcome.CONFLICT, None, 5, 4)),
        (Delete("k", 9), Conflict(5), Reply(Outcome.CONFLICT, None, 5)),
    ],
)
def test_what_muster_answers_is_recorded(
    operation: Put | Get | Delete, result: Result, reply: Reply
) -> None:
    assert isinstance(result, Done | Conflict | NotFound)
    assert reply_of(result, request_of(operation)) == reply
    recorder = HistoryRecorder()
    number = recorder.invoke("a", request_of(operation), 1.0)
    recorder.answered(number, result, 2.0)
    (recorded_one,) = parse(recorder.to_lines()).operations
    assert recorded_one.output == reply


@pytest.mark.parametrize(
    ("result", "count"),
    [(Rejected(1, "no"), 0), (Rejected(1, "old", is_unknown=True), 1), (Expired(1), 1)],
)
def test_what_muster_does_not_answer_failed_or_is_unknown(result: Result, count: int) -> None:
    recorder = HistoryRecorder()
    recorder.answered(recorder.invoke("a", Request("put", "k", "x"), 1.0), result, 2.0)
    assert len(recorder.operations()) == count


def test_a_recorder_takes_nothing_that_cannot_be() -> None:
    recorder = HistoryRecorder()
    number = recorder.invoke("a", Request("get", "k"), 1.0)
    with pytest.raises(UsageError, match=r"time goes back from 1\.0 to 0\.5"):
        recorder.fail(number, 0.5)
    with pytest.raises(UsageError, match="nan is no time"):
        recorder.fail(number, float("nan"))
    with pytest.raises(UsageError, match="which was not invoked"):
        recorder.fail(7, 1.0)
    recorder.fail(number, 1.0)
    with pytest.raises(UsageError, match="which has ended already"):
        recorder.unknown(number, 1.0)


@pytest.mark.parametrize(
    ("lines", "place", "what"),
    [
        ((), 1, "empty"),
        (("{}",), 1, "schema"),
        (('{"schema":"muster.history/2"}',), 1, "muster.history/2"),
        ((HEADER, "{"), 2, "truncated"),
        ((HEADER, PUT.replace('"put"', '"list"')), 2, "list"),
        ((HEADER, PUT.replace('"value"', '"volume"')), 2, "volume"),
        ((HEADER, PUT.replace(',"value":"x"', "")), 2, "a put has a value"),
        ((HEADER, PUT.replace('"value"', '"value_base64"')), 2, "value_base64"),
        ((HEADER, GET.replace('"time"', '"expected":1,"time"')), 2, "a get expects nothing"),
        ((HEADER, PUT, PUT), 3, "id 0 is used again"),
        ((HEADER, FOUND), 2, "id 0 was not invoked"),
        ((HEADER, "", GET, FOUND, FOUND), 5, "ended already"),
        ((HEADER, GET, FOUND.replace(":2}", ":0}")), 3, "time goes back"),
        ((HEADER, PUT, FOUND), 3, "nothing else has"),
        ((HEADER, GET, FOUND.replace(',"entry":1', "")), 3, "its entry's revision"),
        ((HEADER, GET, FOUND.replace('"done","value":"x"', '"conflict"')), 3, "no conflict"),
        ((HEADER, PUT, FOUND.replace('"done","value":"x"', '"not-found"')), 3, "a put finds"),
    ],
)
def test_what_is_wrong_with_a_file_is_one_line_with_its_place(
    lines: tuple[str, ...], place: int, what: str
) -> None:
    with pytest.raises(UsageError) as caught:
        parse(lines, "run.jsonl")
    message = str(caught.value)
    assert message.startswith(f"run.jsonl:{place}: ")
    assert what in message
    assert "\n" not in message


LOG = "INFO  jepsen.util - {}\t:{}\t:{}\t{}\n"
EDN = "{{:process {}, :type :{}, :f :{}, :key {}, :value {}}}\n"


@pytest.mark.parametrize(
    ("text", "place", "what"),
    [
        (LOG.format(0, "invoke", "read", "nil") * 2, 2, "process 0 has not ended"),
        (LOG.format(0, "ok", "read", "nil"), 1, "process 0 does nothing"),
        (LOG.format(0, "invoke", "write", "nil"), 1, "'nil' is nothing to write"),
        (LOG.format(0, "invoke", "append", "1"), 1, "no event of a register"),
        (
            LOG.format(0, "invoke", "write", "1") + LOG.format(0, "ok", "write", "2"),
            2,
            "answered for something else",
        ),
        (EDN.format(0, "invoke", "get", '"a"', '"x"'), 1, "a get has none"),
        (EDN.format(0, "invoke", "put", '"a"', "nil"), 1, "a put or append has a value"),
        (EDN.format(0, "ok", "put", '"a"', '"x"'), 1, "process 0 does nothing"),
        (EDN.format(0, "invoke", "get", '"a"', "nil") + "junk", 2, "no event of a store"),
        (EDN.format(0, "invoke", "get", '"a"', "nil") * 2, 2, "process 0 has not ended"),
        (
            EDN.format(0, "invoke", "get", '"a"', "nil") + EDN.format(0, "ok", "get", '"b"', '""'),
            2,
            "answered for something else",
        ),
        (
            EDN.format(0, "invoke", "get", '"a"', "nil") + EDN.format(0, "ok", "get", '"a"', "nil"),
            2,
            "says nothing of what was found",
        ),
        ("", 1, "neither a muster.history/1"),
        ("hello\n", 1, "neither a muster.history/1"),
    ],
)
def test_so_it_is_with_the_formats_of_others(
    tmp_path: Path, text: str, place: int, what: str
) -> None:
    path = tmp_path / "history"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        read_history(str(path))
    assert str(caught.value).startswith(f"{path}:{place}: ")
    assert what in str(caught.value)


def test_bytes_that_are_no_text_are_told_with_their_line(tmp_path: Path) -> None:
    path = tmp_path / "history"
    path.write_bytes(HEADER.encode() + b"\n\xff\n")
    with pytest.raises(UsageError, match=":2: a history is UTF-8 text"):
        read_history(str(path))


def test_what_else_is_in_a_log_of_jepsen_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "history.log"
    path.write_text(
        "INFO  jepsen.core - Everything is set up\n"
        "INFO  jepsen.util - :nemesis\t:info\t:start\tnil\n"
        + LOG.format(0, "invoke", "write", "1")
        + "\nWARN  org.example - slow\n"
        + LOG.format(0, "ok", "write", "1"),
        encoding="utf-8",
    )
    (operation,) = read_history(str(path)).operations
    assert (operation.input.value, operation.call, operation.ret) == ("1", 3.0, 6.0)


def test_quotes_in_edn_texts_are_read(tmp_path: Path) -> None:
    path = tmp_path / "history.edn"
    path.write_text(EDN.format(3, "invoke", "append", r'"a\"b"', r'"x\\ \n"'), encoding="utf-8")
    (operation,) = read_history(str(path)).operations
    assert operation.input == Request("append", 'a"b', "x\\ \n")
