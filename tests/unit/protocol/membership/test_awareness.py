"""How much a node doubts itself."""

from __future__ import annotations

from muster_protocol.membership.awareness import Awareness


def test_awareness_rises_by_the_missing_nacks_of_a_failed_probe() -> None:
    awareness = Awareness(maximum=8, enabled=True)
    awareness.probe_failed(nacks_expected=3, nacks_received=1)
    assert awareness.score == 2


def test_awareness_stays_when_all_relays_answered() -> None:
    awareness = Awareness(maximum=8, enabled=True)
    awareness.probe_failed(nacks_expected=3, nacks_received=3)
    assert awareness.multiplier == 1


def test_awareness_rises_by_one_when_nobody_could_be_asked() -> None:
    awareness = Awareness(maximum=8, enabled=True)
    awareness.probe_failed(nacks_expected=0, nacks_received=0)
    assert awareness.score == 1


def test_awareness_stays_between_zero_and_its_maximum() -> None:
    awareness = Awareness(maximum=8, enabled=True)
    awareness.probe_answered()
    assert awareness.score == 0
    awareness.lagged(60.0)
    assert (awareness.score, awareness.multiplier) == (7, 8)
    awareness.probe_answered()
    assert awareness.score == 6


def test_awareness_rises_more_the_later_the_loop_was() -> None:
    awareness = Awareness(maximum=8, enabled=True)
    awareness.lagged(0.2)
    assert awareness.score == 1
    awareness.lagged(1.0)
    assert awareness.score == 4


def test_awareness_switched_off_never_rises() -> None:
    awareness = Awareness(maximum=8, enabled=False)
    awareness.was_suspected()
    awareness.lagged(10.0)
    assert awareness.multiplier == 1
