"""One line per cause and minute, whatever comes."""

from __future__ import annotations

from trio.testing import MockClock

from muster.clock import TrioClock
from muster.net.refusals import CAUSES_MAX, NOTIFY_PERIOD_S, Refusals
from muster_protocol.effects import Notify
from muster_protocol.errors import RemoteError
from muster_protocol.types import Address

HERE = Address("127.0.0.1", 7411)


async def test_first_of_a_cause_is_told_at_once_and_the_rest_once_a_minute(
    autojump_clock: MockClock,
) -> None:
    told: list[Notify] = []
    refusals = Refusals("packets.refused", clock=TrioClock(), notify=told.append)
    for _ in range(100):
        refusals.count(RemoteError("forged", "no"), HERE)
    refusals.count(RemoteError("version", "no"), HERE)
    assert [(line.fields["cause"], line.fields["count"]) for line in told] == [
        ("forged", 1),
        ("version", 1),
    ]
    await TrioClock().sleep(NOTIFY_PERIOD_S)
    refusals.count(RemoteError("forged", "no"), HERE)
    assert told[-1].fields == {
        "cause": "forged",
        "source": "127.0.0.1:7411",
        "reason": "no",
        "count": 100,
    }
    assert refusals.totals() == (("forged", 101), ("version", 1))


async def test_causes_are_bounded() -> None:
    refusals = Refusals("streams.refused", clock=TrioClock(), notify=lambda _: None)
    for number in range(CAUSES_MAX + 10):
        refusals.count(RemoteError(f"cause-{number}", ""), HERE)
    totals = dict(refusals.totals())
    assert len(totals) == CAUSES_MAX + 1
    assert totals["other"] == 10
