"""The network partition handler: the seed's NetworkPartitionHandler, in its simplest true form.

It looks at the evidence once a second and whenever the membership changes, announces what it
concludes, and is the judge whom the consistency manager asks before every request: that answer is
computed on the spot from the present evidence, so a fence never lags behind a timer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec

from muster.runtime.actions import ActionContext, action
from muster.runtime.agent import Agent, Every
from muster_protocol.effects import Effect
from muster_protocol.partition.quorum import (
    Evidence,
    EvidenceSeen,
    PartitionWatch,
    Verdict,
    judge,
)

if TYPE_CHECKING:
    from muster.flight.tape import Tape

LOOK_PERIOD_S: Final = 1.0
"""For the announcements only; the verdict itself is made when it is asked for."""


class NoParams(msgspec.Struct, frozen=True):
    """For actions without parameters."""


class NetworkPartitionHandler(Agent):
    """See the module."""

    name = "partition"
    keeps_tape = True

    def __init__(
        self, *, tape: Tape[PartitionWatch], quorum_size: int, evidence: Callable[[], Evidence]
    ) -> None:
        detect = action(name="DetectPartitions", params=NoParams)(self._detect)
        self.actions = (detect,)
        self.routes = {"cluster.node.*": detect}
        self.schedules = (Every(LOOK_PERIOD_S, detect),)
        super().__init__()
        self.watch = tape.machine
        self._tape = tape
        self._quorum_size = quorum_size
        self._evidence = evidence

    @property
    def deadline(self) -> float | None:
        return self.watch.deadline

    def handle_event(self, event: Any, *, now: float) -> tuple[Effect, ...]:
        return self._tape.handle(event, now=now)

    def verdict(self) -> Verdict:
        """The port: may this side act, now?"""
        return judge(self._evidence(), quorum_size=self._quorum_size)

    def statistics(self) -> Mapping[str, Any]:
        verdict = self.watch.verdict
        return {"standing": verdict.standing.value, "reason": verdict.reason}

    def _detect(
        self, state: Any, params: NoParams, context: ActionContext
    ) -> tuple[Any, tuple[Effect, ...]]:
        del params
        return state, self._tape.handle(EvidenceSeen(self._evidence()), now=context.now)
