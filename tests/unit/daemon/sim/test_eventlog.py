"""The event log of a run."""

from __future__ import annotations

from muster.sim.eventlog import TAIL_LINES, EventLog, payload


def a_log(*events: tuple[str, str, str]) -> EventLog:
    log = EventLog(lambda: 1.25)
    for event in events:
        log.add(*event)
    return log


def test_lines_stand_in_columns() -> None:
    (line,) = a_log(("n1", "packet", "n2 61")).tail()
    assert line == "        1.250000 n1       packet      n2 61"


def test_equal_events_give_equal_digests_and_one_difference_another() -> None:
    one, two = a_log(("n1", "note", "a")), a_log(("n1", "note", "a"))
    assert one.digest() == two.digest()
    two.add("n1", "note", "")
    assert one.digest() != two.digest()
    assert payload(b"abc") != payload(b"abd")


def test_the_tail_is_bounded_and_the_digest_is_not() -> None:
    written: list[str] = []
    log = EventLog(lambda: 0.0, write=written.append)
    for number in range(TAIL_LINES + 10):
        log.add("n1", "note", str(number))
    assert len(log.tail()) == TAIL_LINES
    assert log.lines == len(written) == TAIL_LINES + 10
