"""Signals: what may be emitted, what is accepted, and both forms on the wire."""

from __future__ import annotations

import contextlib
import uuid

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster_protocol.effects import Emit
from muster_protocol.errors import RemoteError, UsageError
from muster_protocol.limits import SIGNAL_BYTES_MAX
from muster_protocol.signals.signal import (
    DATA_DEPTH_MAX,
    Signal,
    build,
    check_type,
    decode,
    encode,
    from_json,
    make_id,
    to_json,
)
from muster_protocol.types import Priority, Scope


def a_signal(**fields: object) -> Signal:
    defaults: dict[str, object] = {
        "id": "1",
        "source": "n1/failure",
        "type": "cluster.node.failed",
        "time": 1_767_225_600.5,
        "subject": "n2",
        "data": {"node": "n2", "evidence": [1, 2.5, None, True]},
        "scope": Scope.CLUSTER,
        "priority": Priority.HIGH,
        "metadata": {"cluster_event": True},
        "causation": "0",
        "trace": "t",
        "sequence": 7,
    }
    return Signal(**(defaults | fields))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "accepted",
    [
        "cluster.node.failed",
        "cluster.node.left",
        "trainer.epoch_2.finished",
        "agent.rolled_back",
        "session.reset",
        "index.rebuilt",
        "lease.overrun",
        "record.withdrawn",
        "nodes.met",
        "a.b.c.d.e.cut",
    ],
)
def test_a_type_in_the_past_tense_may_be_emitted(accepted: str) -> None:
    assert check_type(accepted) == accepted


@pytest.mark.parametrize(
    "refused",
    [
        "failed",
        "",
        "cluster..failed",
        ".cluster.failed",
        "cluster.failed.",
        "Cluster.Node.Failed",
        "cluster.node.fail",
        "cluster.node.announcement",
        "cluster.node.reid",
        "cluster.*.failed",
        "cluster.node-x.failed",
        "a." * 16 + "failed",
        "a." + "b" * 130 + "ed",
        "cluster.failed\n",
    ],
)
def test_any_other_type_is_a_usage_error(refused: str) -> None:
    with pytest.raises(UsageError, match="signal type"):
        check_type(refused)


def test_ids_are_uuids_of_version_7_in_the_order_of_time() -> None:
    first, second = make_id(1_000.0, b"\xff" * 10), make_id(1_000.001, b"\x00" * 10)
    assert uuid.UUID(first).version == 7
    assert uuid.UUID(first).variant == uuid.RFC_4122
    assert first < second
    assert uuid.UUID(first).int >> 80 == 1_000_000


def test_a_built_signal_carries_all_that_the_effect_says() -> None:
    emit = Emit(
        "cluster.node.failed",
        {"node": "n2"},
        subject="n2",
        scope=Scope.CLUSTER,
        priority=Priority.HIGH,
        metadata={"alert": True},
    )
    signal = build(emit, id="i", source="n1/a", time=5.0, causation="c", trace="t")
    assert signal == Signal(
        id="i",
        source="n1/a",
        type="cluster.node.failed",
        time=5.0,
        subject="n2",
        data={"node": "n2"},
        scope=Scope.CLUSTER,
        priority=Priority.HIGH,
        metadata={"alert": True},
        causation="c",
        trace="t",
    )


def test_building_a_signal_of_a_bad_type_is_refused() -> None:
    with pytest.raises(UsageError):
        build(Emit("cluster.node.fail", {}), id="i", source="s", time=0.0)


def test_a_signal_survives_the_wire() -> None:
    assert decode(encode(a_signal())) == a_signal()


def test_the_bytes_of_a_signal_are_golden() -> None:
    """A change here is a change of the wire format."""
    signal = a_signal(data={"a": 1}, metadata={}, time=1.0)
    assert encode(signal).hex() == (
        "9da3312e30a131aa6e312f6661696c757265b3636c75737465722e6e6f64652e6661696c6564"
        "cb3ff0000000000000a26e3281a16101a7636c75737465720380a130a17407"
    )


def test_fields_of_a_later_version_are_skipped() -> None:
    row = msgspec.msgpack.decode(encode(a_signal()))
    assert decode(msgspec.msgpack.encode([*row, "new", 1])) == a_signal()


def test_fields_that_an_earlier_version_does_not_send_have_defaults() -> None:
    row = msgspec.msgpack.decode(encode(a_signal()))
    assert decode(msgspec.msgpack.encode(row[:-1])) == a_signal(sequence=0)


def test_a_signal_over_the_size_cap_is_refused_by_its_sender() -> None:
    with pytest.raises(UsageError, match="bulk"):
        encode(a_signal(data={"blob": b"x" * SIGNAL_BYTES_MAX}))


def test_a_signal_over_the_size_cap_is_refused_before_it_is_decoded() -> None:
    with pytest.raises(RemoteError) as caught:
        decode(b"\x00" * (SIGNAL_BYTES_MAX + 1))
    assert caught.value.cause == "oversized"


def test_data_that_cannot_be_sent_is_the_senders_error() -> None:
    with pytest.raises(UsageError, match=r"cluster\.node\.failed"):
        encode(a_signal(data={"what": object()}))
    with pytest.raises(UsageError):
        encode(a_signal(data={"what": 2**70}))


@pytest.mark.parametrize(
    "fields",
    [
        {"type": "not a type"},
        {"type": "a..b"},
        {"type": "a\n"},
        {"type": "a." * 16 + "b"},
        {"type": "a" * 129},
        {"id": ""},
        {"time": -1.0},
        {"time": float("nan")},
        {"time": float("inf")},
        {"specversion": "2.0"},
        {"priority": 9},
        {"scope": "world"},
        {"sequence": -1},
        {"data": {"k": msgspec.msgpack.Ext(5, b"")}},
        {"data": {1: 2}},
        {"data": {"k": [{(1, 2): 3}]}},
    ],
)
def test_a_signal_that_does_not_fit_is_the_senders_fault(fields: dict[str, object]) -> None:
    row = {name: getattr(a_signal(), name) for name in Signal.__struct_fields__} | fields
    with pytest.raises(RemoteError) as caught:
        decode(msgspec.msgpack.encode(list(row.values())))
    assert caught.value.cause == "garbage"


def test_data_that_is_nested_too_deep_is_the_senders_fault() -> None:
    nested: object = 1
    for _ in range(DATA_DEPTH_MAX + 1):
        nested = [nested]
    with pytest.raises(RemoteError, match="nested"):
        decode(encode(a_signal(data={"k": nested})))


@given(st.binary(max_size=200))
def test_any_bytes_decode_to_a_signal_or_a_remote_error(data: bytes) -> None:
    with contextlib.suppress(RemoteError):
        decode(data)


def test_the_json_form_is_a_cloud_event() -> None:
    assert msgspec.json.decode(to_json(a_signal())) == {
        "specversion": "1.0",
        "id": "1",
        "source": "n1/failure",
        "type": "cluster.node.failed",
        "time": "2026-01-01T00:00:00.500000Z",
        "subject": "n2",
        "datacontenttype": "application/json",
        "data": {"node": "n2", "evidence": [1, 2.5, None, True]},
        "scope": "cluster",
        "priority": "high",
        "metadata": '{"cluster_event":true}',
        "causationid": "0",
        "traceid": "t",
        "originsequence": 7,
    }


def test_extension_attributes_have_the_names_and_types_that_cloud_events_allows() -> None:
    attributes = msgspec.json.decode(to_json(a_signal()))
    for name, value in attributes.items():
        assert name.isalnum()
        assert name == name.lower()
        assert name == "data" or isinstance(value, str | int | bool)


def test_a_signal_survives_json() -> None:
    assert from_json(to_json(a_signal()), received_wall_s=0.0) == a_signal()


def test_a_signal_of_a_jido_program_is_accepted() -> None:
    text = b"""{"specversion": "1.0.2", "id": "0198", "source": "/sensors/1",
        "type": "metrics.collected", "time": "2026-01-01T01:00:00+01:00", "subject": null,
        "datacontenttype": "application/json", "data": {"load": 0.5},
        "trace_id": "abc", "causation_id": "def", "span_id": "42", "priority": 2}"""
    signal = from_json(text, received_wall_s=9.0)
    assert signal.specversion == "1.0.2"
    assert (signal.time, signal.trace, signal.causation) == (1_767_225_600.0, "abc", "def")
    assert signal.priority is Priority.MEDIUM
    assert signal.metadata == {"span_id": "42"}


def test_a_json_signal_without_a_time_is_as_old_as_its_arrival() -> None:
    text = b'{"specversion":"1.0","id":"1","source":"s","type":"a.b"}'
    assert from_json(text, received_wall_s=9.0) == Signal(id="1", source="s", type="a.b", time=9.0)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"{}",
        b'{"specversion":"0.3","id":"1","source":"s","type":"a.b"}',
        b'{"specversion":"1.0","id":"1","source":"s","type":"a b"}',
        b'{"specversion":"1.0","id":1,"source":"s","type":"a.b"}',
        b'{"specversion":"1.0","id":"1","source":"s","type":"a.b","time":"yesterday"}',
        b'{"specversion":"1.0","id":"1","source":"s","type":"a.b","time":12}',
        b'{"specversion":"1.0","id":"1","source":"s","type":"a.b","time":"2026-01-01T00:00:00"}',
        b'{"specversion":"1.0","id":"1","source":"s","type":"a.b","priority":"urgent"}',
        b'{"specversion":"1.0","id":"1","source":"s","type":"a.b","priority":[]}',
        b'{"specversion":"1.0","id":"1","source":"s","type":"a.b","data":[1]}',
        b'{"specversion":"1.0","id":"1","source":"s","type":"a.b","data_base64":"AA=="}',
        b'{"specversion":"1.0","id":"1","source":"s","type":"a.b","datacontenttype":"text/xml"}',
        b'{"specversion":"1.0","id":"1","source":"s","type":"a.b","metadata":"{"}',
        b'{"specversion":"1.0","id":"1","source":"s","type":"a.b","metadata":3}',
        b'{"specversion":"1.0","id":"1","source":"s","type":"a.b","metadata":"3"}',
        b"{" * 100_000,
    ],
)
def test_json_that_is_no_cloud_event_is_the_senders_fault(text: bytes) -> None:
    with pytest.raises(RemoteError):
        from_json(text, received_wall_s=0.0)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)
json_attributes = st.fixed_dictionaries(
    {"specversion": st.just("1.0"), "id": st.text(), "source": st.text(), "type": st.just("a.b")},
    optional=dict.fromkeys(
        ("time", "data", "metadata", "priority", "scope", "subject", "originsequence"), json_values
    ),
)


@given(json_attributes)
def test_any_attributes_make_a_signal_or_a_remote_error(attributes: dict[str, object]) -> None:
    """And what they make can be written in both forms again."""
    try:
        signal = from_json(msgspec.json.encode(attributes), received_wall_s=0.0)
    except RemoteError:
        return
    to_json(signal)
    assert decode(encode(signal)) == signal


@pytest.mark.parametrize("number", [-(2**63) - 1, 2**64])
def test_a_number_in_which_no_signal_can_travel_is_garbage(number: int) -> None:
    attributes = {"specversion": "1.0", "id": "0", "source": "", "type": "a.b", "data": {"n": 0}}
    text = msgspec.json.encode(attributes).replace(b'"n":0', b'"n":%d' % number)
    with pytest.raises(RemoteError, match="not a CloudEvent"):
        from_json(text, received_wall_s=0.0)


def test_data_that_json_cannot_hold_is_the_senders_error() -> None:
    with pytest.raises(UsageError):
        to_json(a_signal(data={"what": object()}))
