"""A violation on its way between processes."""

from __future__ import annotations

import copy

from muster.sim.checkers.violated import Violated


def test_a_violation_can_be_made_again_from_its_parts() -> None:
    """Exceptions are taken apart with `args`, which is the one text, to be passed on."""
    violated = copy.copy(Violated("bounds", "too much"))
    assert (violated.checker, violated.what, str(violated)) == (
        "bounds",
        "too much",
        "bounds: too much",
    )
