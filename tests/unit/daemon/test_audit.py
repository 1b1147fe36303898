"""Who changed what: administration in full, a flood of changes by its number."""

from __future__ import annotations

import trio

from muster.audit import PERIOD_S, PROCESSES_MAX, Audit
from muster.clock import TrioClock
from muster.control import Caller
from muster_protocol.effects import Notify
from muster_protocol.types import Severity

ME, OTHER = Caller(pid=7, uid=1000, gid=0), Caller(pid=8, uid=0, gid=0)


def audit(notices: list[Notify], *, every_change: bool = False) -> Audit:
    return Audit(clock=TrioClock(), notify=notices.append, every_change=every_change)


def test_administration_is_always_told() -> None:
    notices: list[Notify] = []
    trail = audit(notices)
    for _ in range(3):
        trail.command(ME, "leave", {})
    assert [notice.fields for notice in notices] == [
        {"command": "leave", "uid": 1000, "pid": 7}
    ] * 3


async def test_the_first_change_of_a_process_is_told_and_the_rest_counted(
    autojump_clock: object,
) -> None:
    notices: list[Notify] = []
    trail = audit(notices)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trail.run)
        for number in range(5):
            trail.change(ME, "put", f"k{number}")
        trail.change(OTHER, "delete", "d")
        assert [(notice.event, notice.fields["key"]) for notice in notices] == [
            ("control.command", "k0"),
            ("control.command", "d"),
        ]
        await trio.sleep(PERIOD_S + 0.1)
        assert notices[2:] == [
            Notify(
                "control.changes",
                fields={"changes": 4, "last_key": "k4", "uid": 1000, "pid": 7},
            )
        ]
        trail.change(ME, "put", "k5")
        assert notices[3].fields["key"] == "k5"
        trail.change(ME, "put", "k6")
        nursery.cancel_scope.cancel()
    assert notices[4].fields["last_key"] == "k6"


def test_each_change_is_told_on_debug() -> None:
    notices: list[Notify] = []
    trail = audit(notices, every_change=True)
    for number in range(3):
        trail.change(ME, "put", f"k{number}")
    assert [notice.severity for notice in notices] == [Severity.INFO, *[Severity.DEBUG] * 2]


def test_no_process_is_left_out_where_there_are_too_many() -> None:
    notices: list[Notify] = []
    trail = audit(notices)
    for pid in range(PROCESSES_MAX + 5):
        trail.change(Caller(pid=pid, uid=0, gid=0), "put", "k")
    assert len(notices) == PROCESSES_MAX + 5
