"""Who changed what, for the operator: one line for each change that somebody asked for.

Commands of administration are all told. Changes of the store may be tens of thousands in a second,
and a line takes longer than a change: of each process the first in `PERIOD_S` is told in full, with
its key, as all of a person at a shell are. Those that follow are counted, and told in one line when
the period is over: how many, and the last key. With `log.level = "debug"` each one is told.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from muster_protocol.effects import Notify
from muster_protocol.types import Severity

if TYPE_CHECKING:
    from muster.clock import Clock
    from muster.control import Caller

PERIOD_S: Final = 10.0
"""As often as an operator may want to look whether somebody still writes."""

PROCESSES_MAX: Final = 1_024
"""That are counted apart in one period; what more of them do is told line by line, as it comes at
the rate at which processes start."""


@dataclass(slots=True)
class _Tally:
    caller: Caller
    changes: int = 0
    last: str = ""


class Audit:
    """The trail of one node. `run` it beside the control socket."""

    def __init__(
        self, *, clock: Clock, notify: Callable[[Notify], None], every_change: bool
    ) -> None:
        """`every_change`: leave none out."""
        self._clock = clock
        self._notify = notify
        self._every_change = every_change
        self._tallies: dict[int, _Tally] = {}

    def command(self, caller: Caller, what: str, fields: Mapping[str, Any]) -> None:
        """Something that is told in any case."""
        self._tell("control.command", caller, {"command": what, **fields})

    def change(self, caller: Caller, what: str, key: str) -> None:
        """The store was changed."""
        tally = self._tallies.get(caller.pid)
        if tally is not None and not self._every_change and tally.caller.uid == caller.uid:
            tally.changes += 1
            tally.last = key
            return
        if tally is None and len(self._tallies) < PROCESSES_MAX:
            self._tallies[caller.pid] = _Tally(caller)
        severity = Severity.DEBUG if tally is not None else Severity.INFO
        self._tell("control.command", caller, {"command": what, "key": key}, severity)

    async def run(self) -> None:
        """Tell what was counted, once in `PERIOD_S` and at the end."""
        try:
            while True:
                await self._clock.sleep(PERIOD_S)
                self.tell_counts()
        finally:
            self.tell_counts()

    def tell_counts(self) -> None:
        """End the present period."""
        tallies, self._tallies = self._tallies, {}
        for tally in tallies.values():
            if tally.changes:
                fields = {"changes": tally.changes, "last_key": tally.last}
                self._tell("control.changes", tally.caller, fields)

    def _tell(
        self,
        event: str,
        caller: Caller,
        fields: Mapping[str, Any],
        severity: Severity = Severity.INFO,
    ) -> None:
        who = {"uid": caller.uid, "pid": caller.pid}
        self._notify(Notify(event, severity, {**fields, **who}))
