"""What was refused, counted by cause, and told to the operator without flooding the log.

Every `RemoteError` that the network layer survives goes through here. The first of a cause is told
at once, later ones at most once per `NOTIFY_PERIOD_S`, with how many there were meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from muster_protocol.effects import Notify
from muster_protocol.errors import RemoteError
from muster_protocol.types import Address, Severity

if TYPE_CHECKING:
    from muster.clock import Clock

NOTIFY_PERIOD_S: Final = 60.0
"""One line per minute and cause: an hour of attack is sixty lines."""

CAUSES_MAX: Final = 64
"""Our own causes are two dozen; a peer may name others when it refuses us. Past it: "other"."""


@dataclass(slots=True)
class _Cause:
    count: int = 0
    told: int = 0
    told_at: float = 0.0


class Refusals:
    """Counts by cause; `notify` gets the lines under the event name `event`."""

    def __init__(self, event: str, *, clock: Clock, notify: Callable[[Notify], None]) -> None:
        self._event = event
        self._clock = clock
        self._notify = notify
        self._causes: dict[str, _Cause] = {}

    def count(self, error: RemoteError, source: Address) -> None:
        """One more of `error.cause`, from `source`."""
        name = error.cause
        if name not in self._causes and len(self._causes) >= CAUSES_MAX:
            name = "other"
        cause = self._causes.setdefault(name, _Cause())
        cause.count += 1
        now = self._clock.now()
        if cause.told and now - cause.told_at < NOTIFY_PERIOD_S:
            return
        fields = {
            "cause": name,
            "source": str(source),
            "reason": str(error),
            "count": cause.count - cause.told,
        }
        cause.told, cause.told_at = cause.count, now
        self._notify(Notify(self._event, Severity.WARNING, fields))

    def totals(self) -> tuple[tuple[str, int], ...]:
        """(cause, count), sorted."""
        return tuple(sorted((name, cause.count) for name, cause in self._causes.items()))
