"""The store as a dictionary, against the production registry and against lies."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster.sim.checkers.model import StoreModel
from muster.sim.checkers.violated import Violated
from muster_protocol.consistency.commands import Command, Delete, Get, Operation, Put
from muster_protocol.consistency.registry import Registry

keys = st.sampled_from("ab")
expected = st.one_of(st.none(), st.integers(0, 6))
operations: st.SearchStrategy[Operation] = st.one_of(
    st.builds(Put, keys, st.binary(max_size=2), expected),
    st.builds(Delete, keys, expected),
    st.builds(Get, keys),
)
commands = st.lists(
    st.builds(
        Command,
        session=st.sampled_from(["0" * 32, "1" * 32]),
        request=st.integers(1, 8),
        since=st.just(0),
        wall=st.just(0.0),
        operation=operations,
    ),
    max_size=30,
)


def put(request: int, value: bytes) -> Command:
    return Command("0" * 32, request, 0, 0.0, Put("k", value))


@given(commands)
def test_the_registry_does_what_the_model_says(log: list[Command]) -> None:
    registry, model = Registry(), StoreModel()
    for command in log:
        registry.apply(command)
        model.apply(command)
    held = {key: (e.revision, e.value) for key, e in registry.capture().entries.items()}
    model.compare("the registry", registry.revision, held)


@pytest.mark.parametrize(
    ("revision", "held", "told"),
    [
        (2, {"k": (2, b"v")}, "is at revision 2, its log makes 1"),
        (1, {"k": (1, b"w")}, r"holds 'k' as \(1, b'w'\), its log makes \(1, b'v'\)"),
        (1, {}, "holds 'k' as None"),
        (1, {"k": (1, b"v"), "other": (1, b"")}, "holds 'other'"),
    ],
)
def test_a_replica_that_differs_is_seen(
    revision: int, held: dict[str, tuple[int, bytes]], told: str
) -> None:
    model = StoreModel()
    for command in (put(1, b"v"), put(1, b"v")):
        model.apply(command)
    with pytest.raises(Violated, match=told):
        model.compare("n1", revision, held)
