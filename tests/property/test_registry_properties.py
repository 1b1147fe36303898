"""What holds for every history of sessions, however few of them are remembered."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from muster_protocol.consistency.commands import Command, Done, Expired, Get, Put
from muster_protocol.consistency.registry import Registry

CLIENTS = 4

steps = st.lists(
    st.tuples(st.integers(0, CLIENTS - 1), st.booleans(), st.integers(0, 3)), max_size=60
)


@given(steps=steps, sessions_max=st.integers(1, CLIENTS))
def test_no_request_takes_effect_twice(
    steps: list[tuple[int, bool, int]], sessions_max: int
) -> None:
    """Each step is a client's next change or its last one again, known to be younger than a
    revision that lies some way back."""
    registry = Registry(sessions_max=sessions_max)
    newest: dict[int, Command] = {}
    effects: dict[tuple[int, int], int] = {}
    for client, is_repetition, lag in steps:
        if not is_repetition or client not in newest:
            newest[client] = Command(
                session=f"{client:032x}",
                request=newest[client].request + 1 if client in newest else 1,
                since=max(0, registry.revision - lag),
                wall=0.0,
                operation=Put(str(client), b"v"),
            )
        command = newest[client]
        result = registry.apply(command)
        assert isinstance(result, Done | Expired)
        if isinstance(result, Done) and not result.repeated:
            effects[client, command.request] = effects.get((client, command.request), 0) + 1
    assert set(effects.values()) <= {1}
    for client in newest:
        read = registry.read(Get(str(client)))
        versions = read.entry.version if isinstance(read, Done) and read.entry else 0
        assert versions == sum(1 for who, _ in effects if who == client)


@given(st.integers(1, CLIENTS), st.lists(st.integers(0, CLIENTS - 1), max_size=40))
def test_a_change_that_knows_the_newest_revision_is_always_made(
    sessions_max: int, clients: list[int]
) -> None:
    registry = Registry(sessions_max=sessions_max)
    for request, client in enumerate(clients, start=1):
        put = Put("a", b"v")
        command = Command(f"{client:032x}", request, registry.revision, 0.0, put)
        assert isinstance(registry.apply(command), Done)
