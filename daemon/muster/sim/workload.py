"""Clients of a simulated cluster: what they ask, whom, and what they were told.

A client asks one thing at a time, at any node that runs, and repeats a change as the real clients
do: with its session, its number and the revision that was known before the first attempt, also at
another node, until its time is up. What it was told goes into the history that is checked for
linearizability, and acknowledged changes to a checker of their own.

Every value is written once (client and number), so that each read names its write: checking is
quicker, and an explanation shorter.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
import trio

from muster.sim.checkers.storage import AcknowledgedWrites
from muster.sim.cluster import Life, ProcessGone, SimCluster, SimNode
from muster.sim.history import HistoryRecorder, request_of
from muster_protocol.consistency.commands import (
    Command,
    Delete,
    Done,
    Expired,
    Get,
    Put,
    Rejected,
    Result,
    is_read,
)
from muster_protocol.errors import OutcomeUnknown, Refused

if TYPE_CHECKING:
    import random

StoreOperation = Put | Get | Delete
Share = Annotated[float, msgspec.Meta(ge=0, le=1e6)]

CALL_S: Final = 3.0
"""For one attempt; then the next node is asked."""

PAUSE_S: Final = 0.1
"""Between attempts."""

PROOF_S: Final = 20.0
"""For what must be answered in the end: some time-outs, and a few attempts."""

STAY: Final = 0.9
"""How often a client stays with its node: connections are kept."""


class Workload(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many ask for what. Shares are weights among each other."""

    clients: Annotated[int, msgspec.Meta(ge=0, le=100)] = 3
    rate_per_s: Annotated[float, msgspec.Meta(gt=0, le=10_000)] = 10.0
    """Of all clients together, when all is well."""

    keys: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 5
    """Few keys make conflicts, and histories that are hard to explain wrongly."""

    value_bytes: Annotated[int, msgspec.Meta(ge=0, le=65_536)] = 16
    give_up_s: Annotated[float, msgspec.Meta(gt=0, le=600)] = 10.0
    put: Share = 4.0
    get: Share = 4.0
    cas: Share = 1.5
    delete: Share = 0.5

    def __post_init__(self) -> None:
        if not self.put + self.get + self.cas + self.delete:
            raise ValueError("put, get, cas and delete are all 0: there is nothing to ask")


@dataclass(slots=True)
class Told:
    """How operations ended."""

    ok: int = 0
    failed: int = 0
    unknown: int = 0
    repeated: int = 0
    """Attempts beyond the first of an operation."""


class Clients:
    """All clients of one run."""

    def __init__(
        self,
        cluster: SimCluster,
        workload: Workload,
        *,
        rng: random.Random,
        history: HistoryRecorder,
        acknowledged: AcknowledgedWrites,
    ) -> None:
        self._cluster = cluster
        self._workload = workload
        self._rng = rng
        self._history = history
        self._acknowledged = acknowledged
        self._revisions: dict[str, int] = {}
        self.told = Told()
        self.last_ok_at = 0.0

    async def run(self) -> None:
        """Ask until cancelled; what is under way then has an unknown outcome."""
        async with trio.open_nursery() as nursery:
            for number in range(self._workload.clients):
                nursery.start_soon(self._client, number)

    async def _client(self, number: int) -> None:
        session = self._rng.randbytes(16).hex()
        sim, request = self._rng.choice(self._cluster.nodes), 0
        gap_s = self._workload.clients / self._workload.rate_per_s
        while True:
            await trio.sleep(self._rng.expovariate(1.0 / gap_s))
            if self._rng.random() > STAY:
                sim = self._rng.choice(self._cluster.nodes)
            request += 1
            operation = self._operation(number, request)
            within_s = self._workload.give_up_s
            attempt = _Attempts(session, request, operation, sim, within_s=within_s)
            await self._ask(f"c{number}", attempt)

    def _operation(self, client: int, request: int) -> StoreOperation:
        load, key = self._workload, f"key {self._rng.randrange(self._workload.keys)}"
        value = f"{client}.{request}".encode().ljust(load.value_bytes, b".")
        kinds: tuple[tuple[float, StoreOperation], ...] = (
            (load.put, Put(key, value)),
            (load.get, Get(key)),
            (load.cas, Put(key, value, expected=self._revisions.get(key, 0))),
            (load.delete, Delete(key)),
        )
        return self._rng.choices([kind for _, kind in kinds], [share for share, _ in kinds])[0]

    async def prove(self, sim: SimNode, session: str) -> bool:
        """Does this node, and no other, answer a write and a read?"""
        key = f"proof {sim.name}"
        operations: tuple[StoreOperation, ...] = (Put(key, b"proof"), Get(key))
        for request, operation in enumerate(operations, start=1):
            before = self.told.ok
            attempt = _Attempts(session, request, operation, sim, within_s=PROOF_S, stays=True)
            await self._ask("proof", attempt)
            if self.told.ok == before:
                return False
        return True

    # --- one operation ------------------------------------------------------------------------

    async def _ask(self, client: str, attempt: _Attempts) -> None:
        operation = attempt.operation
        request = request_of(operation)
        number = self._history.invoke(client, request, trio.current_time())
        is_settled = False
        try:
            result = await self._answer(attempt)
            now = trio.current_time()
            is_settled = True
            if result is None and not (attempt.is_in_doubt or attempt.is_under_way):
                self.told.failed += 1
                self._history.fail(number, now)
            elif result is None or isinstance(result, Expired | Rejected):
                is_settled = False
            else:
                self._take(operation, result, now)
                self._history.answered(number, result, now)
        finally:
            if not is_settled:
                self.told.unknown += 1
                self._history.unknown(number, trio.current_time())
                if isinstance(operation, Delete):
                    self._acknowledged.maybe_deleted(operation.key)

    def _take(self, operation: StoreOperation, result: Result, now: float) -> None:
        self.told.ok += 1
        self.last_ok_at = now
        if not isinstance(result, Done) or result.entry is None:
            return
        key = result.entry.key
        self._revisions[key] = result.entry.revision
        if isinstance(operation, Put):
            self._acknowledged.acknowledged(key, result.revision, operation.value)
        elif isinstance(operation, Delete):
            self._acknowledged.acknowledged(key, result.revision, None)
            self._revisions[key] = 0

    async def _answer(self, attempt: _Attempts) -> Result | None:
        """None: no answer within the time, or a refusal that settles it."""
        with trio.move_on_after(attempt.within_s):
            while True:
                if attempt.sim.life is Life.RUNNING and _consistency(attempt.sim) is not None:
                    result = await self._attempt(attempt)
                    if result is not None or attempt.is_refused:
                        return result
                await trio.sleep(PAUSE_S)
                if not attempt.stays:
                    attempt.sim = self._rng.choice(self._cluster.nodes)
        return None

    async def _attempt(self, attempt: _Attempts) -> Result | None:
        consistency = _consistency(attempt.sim)
        is_first = attempt.since is None
        if attempt.since is None:
            attempt.since = consistency.revision()
        else:
            self.told.repeated += 1
        operation = attempt.operation
        command = Command(
            session=attempt.session,
            request=attempt.request,
            since=attempt.since,
            wall=attempt.sim.host.clock.wall(),
            operation=operation,
        )
        deadline = attempt.sim.host.clock.now() + CALL_S
        attempt.is_under_way = not is_read(operation)
        try:
            with trio.move_on_after(CALL_S):
                submit = functools.partial(
                    consistency.submit, command, is_first=is_first, deadline=deadline
                )
                result: Result = await self._cluster.ask(attempt.sim, submit)
                attempt.is_under_way = False
                return result
        except Refused:
            # A refused first attempt settles it; after a doubtful one it says nothing.
            attempt.is_under_way = False
            attempt.is_refused = not (attempt.is_in_doubt or attempt.stays)
        except (OutcomeUnknown, ProcessGone):
            pass  # in doubt, as is what took too long
        attempt.is_in_doubt = attempt.is_in_doubt or attempt.is_under_way
        return None


@dataclass(slots=True)
class _Attempts:
    """One operation on its way, over as many attempts as it takes."""

    session: str
    request: int
    operation: StoreOperation
    sim: SimNode
    within_s: float
    stays: bool = False
    """With its node, and asks again when it is refused."""

    since: int | None = None
    is_under_way: bool = False
    is_in_doubt: bool = False
    is_refused: bool = False


def _consistency(sim: SimNode) -> Any:
    """The port of its present life, or None."""
    parts = sim.node.parts if sim.node is not None else None
    return parts.agents.consistency if parts is not None else None
