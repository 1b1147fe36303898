"""What a voter on the smaller side may still do."""

from __future__ import annotations

import pytest

from muster.sim.checkers.fence import ACTS_S, MinorityFence
from muster.sim.checkers.violated import Violated


def watch(fence: MinorityFence, from_s: float, to_s: float, *, may_act: bool = True) -> None:
    """Looks at a minority, ten times in a second."""
    for tenth in range(round(from_s * 10), round(to_s * 10)):
        fence.sees("n1", tenth / 10, is_minority=True, may_act=may_act)


def test_a_minority_has_time_to_notice_and_not_more() -> None:
    fence = MinorityFence()
    watch(fence, 0.0, ACTS_S)
    with pytest.raises(Violated, match="n1 acts for"):
        watch(fence, ACTS_S, ACTS_S + 1.0)


def test_it_may_hope_again_after_it_has_refused() -> None:
    fence = MinorityFence()
    watch(fence, 0.0, 4.0)
    watch(fence, 4.0, 5.0, may_act=False)
    watch(fence, 5.0, 5.0 + ACTS_S)


def test_a_majority_and_a_new_life_start_afresh() -> None:
    fence = MinorityFence()
    watch(fence, 0.0, 6.0)
    fence.sees("n1", 6.0, is_minority=False, may_act=True)
    watch(fence, 7.0, 13.0)
    fence.pauses("n1")
    watch(fence, 14.0, 20.0)
