"""Every queue, log and table stays under its limit."""

from __future__ import annotations

import pytest

from muster.sim.checkers.bounds import within_bounds
from muster.sim.checkers.violated import Violated
from muster_protocol.types import Size


def test_what_is_at_its_limit_passes() -> None:
    within_bounds("n1", [Size("graves", 0, 3), Size("members", 3, 3)])


def test_what_is_one_above_its_limit_does_not() -> None:
    with pytest.raises(Violated) as violated:
        within_bounds("n1", [Size("members", 3, 3), Size("graves", 4, 3)])
    assert violated.value.checker == "bounds"


def test_node_and_thing_and_size_and_limit_are_named() -> None:
    with pytest.raises(Violated, match="n7 keeps 4 of held frames, the limit is 3"):
        within_bounds("n7", [Size("held frames", 4, 3)])
