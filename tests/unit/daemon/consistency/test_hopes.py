"""For how long a voter without a link counts as reachable."""

from __future__ import annotations

from muster.agents.consistency.hopes import HOPE_AGAIN_S, LINK_GRACE_S, NEVER, Hopes
from muster_protocol.types import NodeId

OTHER = NodeId("b" * 32)


def test_a_link_that_was_lost_only_now_comes_back() -> None:
    hopes = Hopes()
    assert hopes.is_coming(OTHER, lost_at=10.0, alive_since=1.0, now=10.4)
    assert not hopes.is_coming(OTHER, lost_at=10.0, alive_since=1.0, now=10.6)


def test_who_comes_alive_is_hoped_for_until_there_was_time_to_dial_it() -> None:
    hopes = Hopes()
    assert hopes.is_coming(OTHER, lost_at=NEVER, alive_since=20.0, now=22.9)
    assert not hopes.is_coming(OTHER, lost_at=NEVER, alive_since=20.0, now=23.1)


def test_who_comes_alive_again_and_again_is_not_hoped_for_each_time() -> None:
    hopes = Hopes()
    for alive_since in (20.0, 24.0, 28.0):
        hopes.is_coming(OTHER, lost_at=10.0, alive_since=alive_since, now=alive_since + 0.1)
    assert not hopes.is_coming(OTHER, lost_at=10.0, alive_since=28.0, now=28.2)


def test_hope_is_renewed_by_a_link_and_by_time() -> None:
    hopes = Hopes()
    assert hopes.is_coming(OTHER, lost_at=10.0, alive_since=20.0, now=20.1)
    assert hopes.is_coming(OTHER, lost_at=24.0, alive_since=26.0, now=26.0 + LINK_GRACE_S / 2)
    later = 26.0 + HOPE_AGAIN_S
    assert hopes.is_coming(OTHER, lost_at=24.0, alive_since=later, now=later + 0.1)
