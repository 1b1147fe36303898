"""Everybody's requests, from the fence to the answer.

A request is fenced first: on the minority's side it is refused at once. Otherwise it is tried, at
the leader that is known, until its deadline. Trying again is harmless, because every change
carries a session and a request number by which the replicated state recognises it; what is not
known to have happened at the end is `OutcomeUnknown`.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec
import trio

from muster.agents.consistency.forwarding import RETRY_S
from muster.agents.consistency.proposals import Change, Outcome, Told
from muster_protocol.consistency.commands import (
    Command,
    Expired,
    Result,
    check_operation,
    is_read,
)
from muster_protocol.errors import OutcomeUnknown, Refused, UsageError

if TYPE_CHECKING:
    from muster.agents.consistency.fence import Fence
    from muster.agents.consistency.forwarding import Forwarder
    from muster.agents.consistency.seat import Seat
    from muster.clock import Clock


class Requests:
    """Of one node."""

    def __init__(self, *, clock: Clock, fence: Fence, seat: Seat, forwarder: Forwarder) -> None:
        self._clock = clock
        self._fence = fence
        self._seat = seat
        self._forwarder = forwarder
        self.revision_heard = 0
        """The newest revision of the store that was in an answer."""

    async def submit(self, command: Command, *, is_first: bool, deadline: float) -> Result:
        """Commit one command, wherever the leader is. `is_first`: nobody proposed it before, so if
        this node knew only a revision that is too old, it is proposed again with a newer one.

        Errors: UsageError; Refused("not-quorate", "timed-out", "overload"), nothing took effect;
        OutcomeUnknown.
        """
        check_operation(command.operation)
        if is_read(command.operation):
            return await self._keep_asking(command, is_first=is_first, deadline=deadline)
        settled = trio.Event()
        outcomes: list[Outcome] = []

        def settle(_: Change, outcome: Outcome) -> None:
            outcomes.append(outcome)
            settled.set()

        self.begin([Change(command, deadline, settle, is_first=is_first)])
        await settled.wait()
        if isinstance(outcomes[0], Exception):
            raise outcomes[0]
        return await outcomes[0]() if callable(outcomes[0]) else outcomes[0]

    def begin(self, changes: Sequence[Change]) -> None:
        """`submit` for changes that came together: each is settled, now or later, with its result,
        with an error of `submit`, or with what has to be awaited for either, in the caller's
        task. The fence is looked at once for all of them."""
        if self._fence.is_resuming:
            for change in changes:
                change.settle(change, functools.partial(self._keep_asking_for, change))
            return
        try:
            self._fence.check(was_proposed=False)
        except Refused as refused:
            for change in changes:
                change.settle(change, refused)
            return
        fitting = []
        for change in changes:
            try:
                check_operation(change.command.operation)
            except UsageError as error:
                change.settle(change, error)
            else:
                fitting.append(change)
        if self._seat.leads:
            assert self._seat.voter is not None
            self._seat.voter.begin(fitting, self._attempted)
            return
        for change in self._forwarder.begin(fitting, self._attempted):
            change.settle(change, functools.partial(self._keep_asking_for, change))

    def _attempted(self, change: Change, outcome: Told | None) -> None:
        """The first attempt of a change that has begun is over. None: nothing was proposed."""
        was_proposed = isinstance(outcome, OutcomeUnknown)
        if isinstance(outcome, Refused) and outcome.reason == "not-leader":
            outcome = None
        if outcome is not None and not isinstance(outcome, Exception):
            self.revision_heard = max(self.revision_heard, outcome.revision)
        if isinstance(outcome, Expired) and change.is_first:
            change.command = msgspec.structs.replace(change.command, since=outcome.revision)
        elif outcome is not None and not was_proposed:
            change.settle(change, outcome)
            return
        go_on = functools.partial(
            self._keep_asking_for, change, pause_s=RETRY_S, was_proposed=was_proposed
        )
        change.settle(change, go_on)

    async def _keep_asking_for(
        self, change: Change, *, pause_s: float = 0.0, was_proposed: bool = False
    ) -> Result:
        await self._clock.sleep(pause_s)
        return await self._keep_asking(
            change.command,
            is_first=change.is_first,
            deadline=change.deadline,
            was_proposed=was_proposed,
        )

    async def _keep_asking(
        self, command: Command, *, is_first: bool, deadline: float, was_proposed: bool = False
    ) -> Result:
        await self._fence.until_resumed(deadline)
        while self._clock.now() < deadline:
            self._fence.check(was_proposed=was_proposed)
            result = None
            try:
                result = await self._attempt(command, deadline)
            except OutcomeUnknown:
                was_proposed = True
            except Refused:
                if not was_proposed:
                    raise  # else it says nothing about the earlier attempt
            if result is not None:
                self.revision_heard = max(self.revision_heard, result.revision)
                if was_proposed or not (is_first and isinstance(result, Expired)):
                    return result
                command = msgspec.structs.replace(command, since=result.revision)
            await self._clock.sleep(RETRY_S)
        if was_proposed:
            raise OutcomeUnknown("not known to be committed in time; a retry will tell")
        raise Refused("timed-out", "no leader answered in time; nothing was changed")

    async def _attempt(self, command: Command, deadline: float) -> Result | None:
        """None: nothing was proposed. Errors: Refused, where asking again does not help;
        OutcomeUnknown."""
        voter = self._seat.voter
        if voter is None or not self._seat.leads:
            return await self._forwarder.submit(command, deadline=deadline)
        try:
            return await voter.submit(command, deadline=deadline)
        except Refused as refused:
            if refused.reason == "not-leader":
                return None
            raise
