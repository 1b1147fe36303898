"""The replay window against a set that remembers everything."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from muster_protocol.crypto.replay import WINDOW_BITS, ReplayWindow


@given(
    opened_at=st.integers(0, 2**48),
    steps=st.lists(st.integers(-3 * WINDOW_BITS, 3 * WINDOW_BITS), max_size=60),
)
def test_window_accepts_what_a_perfect_memory_would_within_its_width(
    opened_at: int, steps: list[int]
) -> None:
    window, seen, highest = ReplayWindow(opened_at), set[int](), opened_at
    for step in steps:
        counter = max(0, highest + step)
        expected = counter > opened_at and counter not in seen and counter > highest - WINDOW_BITS
        assert window.accept(counter) is expected
        if expected:
            seen.add(counter)
            highest = max(highest, counter)


def test_window_refuses_everything_up_to_where_it_was_opened() -> None:
    window = ReplayWindow(100)
    assert not any(window.accept(counter) for counter in range(101))
    assert window.accept(101)


def test_window_accepts_late_packets_once() -> None:
    window = ReplayWindow(0)
    assert window.accept(WINDOW_BITS)
    assert [window.accept(1), window.accept(1)] == [True, False]
    assert window.accept(WINDOW_BITS + 1)
    assert not window.accept(1)
