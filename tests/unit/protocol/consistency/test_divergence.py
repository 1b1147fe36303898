"""Fingerprints of the state, and who has another one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from muster_protocol.consistency.commands import Command, Delete, Put
from muster_protocol.consistency.divergence import EVERY, PATIENCE, Diverged, Divergence
from muster_protocol.consistency.registry import Registry
from muster_protocol.types import NodeId

A, B, C = (NodeId(letter * 32) for letter in "abc")
SAME, OTHER, THIRD = b"s" * 16, b"o" * 16, b"t" * 16

commands = st.builds(
    lambda session, request, key, value: Command(
        f"{session:032x}", request, 0, 0.0, Delete(key) if value is None else Put(key, value)
    ),
    st.integers(1, 4),
    st.integers(1, 6),
    st.sampled_from(["a", "b", "c"]),
    st.none() | st.binary(max_size=3),
)


@given(st.lists(commands, max_size=40))
def test_the_fingerprint_is_that_of_the_state_however_it_came_about(given: list[Command]) -> None:
    registry = Registry(sessions_max=2)
    for command in given:
        registry.apply(command)
    again = Registry.restore(list(registry.capture().slices()))
    assert again.fingerprint() == registry.fingerprint()
    assert again.digest() == registry.digest()


@given(st.lists(st.tuples(commands, st.booleans()), max_size=40))
def test_the_fingerprint_does_not_depend_on_when_it_was_looked_at(
    given: list[tuple[Command, bool]],
) -> None:
    looked_at, not_looked_at = Registry(sessions_max=2), Registry(sessions_max=2)
    for command, is_looked_at in given:
        assert looked_at.apply(command) == not_looked_at.apply(command)
        if is_looked_at:
            looked_at.fingerprint()
    assert looked_at.fingerprint() == not_looked_at.fingerprint()


def test_the_fingerprint_of_a_state_is_the_same_in_all_versions() -> None:
    """Or voters of different versions would accuse each other."""
    registry = Registry(sessions_max=2)
    operations = [Put("a", b"1"), Put("b", b"2"), Delete("a"), Put("b", b"3"), Put("b", b"4")]
    for number, operation in enumerate([*operations, operations[-1]]):
        session, request = f"{min(number, 4) % 3 + 1:032x}", min(number, 4) + 1
        registry.apply(Command(session, request, min(number, 4), 0.0, operation))
    assert registry.fingerprint().hex() == "9b647d227ed5567d23276221eee6c69c"


@given(st.lists(commands, max_size=20), st.lists(commands, max_size=20))
def test_other_states_have_other_fingerprints(one: list[Command], two: list[Command]) -> None:
    registries = Registry(), Registry()
    for registry, given_ in zip(registries, (one, two), strict=True):
        for command in given_:
            registry.apply(command)
    are_same = registries[0].digest() == registries[1].digest()
    assert (registries[0].fingerprint() == registries[1].fingerprint()) == are_same


def test_who_differs_from_a_majority_is_named_once() -> None:
    divergence = Divergence(me=A, replicas=3)
    assert divergence.has(A, EVERY, SAME) == ()
    assert divergence.has(B, EVERY, OTHER) == (), "the third one will tell"
    assert divergence.has(C, EVERY, SAME) == (Diverged(EVERY, (B,)),)
    for node, state in ((A, SAME), (B, OTHER), (C, SAME)):
        assert divergence.has(node, 2 * EVERY, state) == ()
    assert (divergence.agreed_index, divergence.diverged) == (2 * EVERY, (B,))
    assert divergence.indexes == 0


def test_without_a_majority_all_are_named() -> None:
    two = Divergence(me=A, replicas=2)
    two.has(A, EVERY, SAME)
    assert two.has(B, EVERY, OTHER) == (Diverged(EVERY, (A, B)),)
    three = Divergence(me=A, replicas=3)
    three.has(A, EVERY, SAME)
    three.has(B, EVERY, OTHER)
    assert three.has(C, EVERY, THIRD) == (Diverged(EVERY, (A, B, C)),)
    assert three.agreed_index == 0


def test_who_lags_is_waited_for_and_not_for_ever() -> None:
    divergence = Divergence(me=A, replicas=3)
    found = []
    for number in range(1, PATIENCE + 2):
        for node, state in ((A, SAME), (B, OTHER)):
            found += divergence.has(node, number * EVERY, state)
    assert found == [Diverged(EVERY, (A, B))]
    assert divergence.indexes <= PATIENCE
    assert divergence.has(C, EVERY, SAME) == (), "that is judged"


def test_one_alone_agrees_with_itself() -> None:
    divergence = Divergence(me=A, replicas=1)
    assert divergence.has(A, EVERY, SAME) == ()
    assert divergence.agreed_index == EVERY


def test_other_indexes_are_not_compared() -> None:
    divergence = Divergence(me=A, replicas=2)
    divergence.has(A, EVERY + 1, SAME)
    assert divergence.indexes == 0


def test_what_is_far_ahead_is_not_kept() -> None:
    divergence = Divergence(me=A, replicas=3)
    divergence.has(B, 10**9 * EVERY, OTHER)
    assert divergence.indexes == 0
