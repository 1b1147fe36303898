"""How the daemon sets up its interpreter."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator

import pytest

from muster import interpreter


class Cycle:
    """Refers to itself."""

    def __init__(self) -> None:
        self.me = self


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    interval, thresholds = sys.getswitchinterval(), gc.get_threshold()
    yield
    sys.setswitchinterval(interval)
    gc.set_threshold(*thresholds)
    gc.unfreeze()


def is_looked_at(thing: object) -> bool:
    """By a collection of all generations?"""
    return any(each is thing for each in gc.get_objects())


def test_what_is_there_is_not_collected_from_then_on_and_what_comes_is() -> None:
    imported = Cycle()
    interpreter.set_up()
    later = Cycle()
    assert not is_looked_at(imported)
    assert is_looked_at(later)
    assert gc.isenabled()


def test_threads_that_compute_give_way_soon() -> None:
    interpreter.set_up()
    assert sys.getswitchinterval() == pytest.approx(interpreter.SWITCH_S)
