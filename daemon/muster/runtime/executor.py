"""The executor: the table that says how each effect is done.

One table, looked up by exact type. An effect without an entry is an error, never ignored: it would
be a decision that nobody carries out. The table of one agent's executor holds what the runtime
does for everybody (`Emit`, `Notify`), what its host does for it (`RunAction`, `Reply`, ...) and
what the agent brings itself (`Agent.effect_handlers`).

Handlers do not wait. What has to is a `Persist`, which the driver awaits, an effectful action, or
the business of the agent's shell.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from muster.runtime.directives import Cause, Caused
from muster.storage.files import write_atomically
from muster.storage.records import encode_record, scan_records
from muster_protocol.effects import Effect, Emit, Notify, Persist
from muster_protocol.errors import LocalError, StorageCorrupt, UsageError
from muster_protocol.signals.signal import Signal, build, encode, make_id
from muster_protocol.types import Scope

if TYPE_CHECKING:
    from muster.clock import Clock
    from muster.driver import Recorder
    from muster.entropy import Entropy
    from muster.offload import Offload
    from muster.runtime.bus import Bus
    from muster.storage.files import Files

Handler = Callable[[Any, Cause | None], None]
"""Does one effect, knowing what led to it."""

_RECORD_KIND: Final = 1
_RECORD_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


class UnknownEffect(LocalError):
    """An agent asked for something that nobody can do: a wiring mistake."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """What all agents of a node share.

    `log` takes the agent's name and what it has to say; `persist` the agent's name and a record,
    and returns when that is durable. `observe` sees every effect just before it is done: for
    debugging and tests.
    """

    node: str
    clock: Clock
    entropy: Entropy
    bus: Bus
    log: Callable[[str, Notify], None]
    persist: Callable[[str, Persist], Awaitable[None]]
    recorder: Recorder | None = None
    observe: Callable[[str, Effect], None] | None = None


class Executor:
    """Does the effects of one agent (or of the supervisor)."""

    def __init__(
        self,
        services: Services,
        *,
        agent: str,
        host: Mapping[type[Effect], Handler] | None = None,
        own: Mapping[type[Effect], Callable[[Any], None]] | None = None,
    ) -> None:
        """`host` and `own` are added to the table.

        Errors: UsageError when `own` would replace what the runtime does.
        """
        self._services = services
        self._agent = agent
        self._table: dict[type[Effect], Handler] = {
            Emit: self._emit,
            Notify: self._notify,
            **(host or {}),
        }
        for kind, handler in (own or {}).items():
            if kind in self._table or kind is Persist:
                raise UsageError(f"agent {agent}: {kind.__name__} is done by the runtime")
            self._table[kind] = _ignoring_cause(handler)

    def perform(self, effect: Effect) -> None:
        """Do one effect now. Errors: UnknownEffect, and whatever its handler raises."""
        cause: Cause | None = None
        if isinstance(effect, Caused):
            cause, effect = effect.cause, effect.effect
        if self._services.observe is not None:
            self._services.observe(self._agent, effect)
        handler = self._table.get(type(effect))
        if handler is None:
            raise UnknownEffect(
                f"agent {self._agent}: nobody knows how to do a {type(effect).__name__}"
            )
        handler(effect, cause)

    async def persist(self, effect: Persist) -> None:
        """Make one record durable. Errors: StorageError."""
        if self._services.observe is not None:
            self._services.observe(self._agent, effect)
        await self._services.persist(self._agent, effect)

    def signal_for(self, emit: Emit, cause: Cause | None) -> Signal:
        """The signal that `emit` asks for, now.

        Errors: UsageError for a bad type, or for data that could not reach the other members.
        """
        services = self._services
        wall_s = services.clock.wall()
        signal = build(
            emit,
            id=make_id(wall_s, services.entropy.token_bytes(10)),
            source=f"{services.node}/{self._agent}",
            time=wall_s,
            causation=cause.signal if cause is not None else "",
            trace=(cause.trace if cause is not None else "")
            or services.entropy.token_bytes(16).hex(),
        )
        if signal.scope is Scope.CLUSTER:
            encode(signal)  # here it is the emitter's mistake; in the relay it would be everybody's
        return signal

    def _emit(self, effect: Emit, cause: Cause | None) -> None:
        self._services.bus.publish(self.signal_for(effect, cause))

    def _notify(self, effect: Notify, cause: Cause | None) -> None:  # noqa: ARG002
        self._services.log(self._agent, effect)


def _ignoring_cause(handler: Callable[[Any], None]) -> Handler:
    return lambda effect, cause: handler(effect)  # noqa: ARG005


class RecordFiles:
    """Where `Persist` goes: one small file for each record of each agent, replaced atomically."""

    def __init__(self, *, files: Files, offload: Offload) -> None:
        self._files = files
        self._offload = offload

    async def persist(self, agent: str, record: Persist) -> None:
        """Make a record durable.

        Errors: StorageError; the old record is still there. UsageError for an unusable name.
        Cancellation: the record is old or new.
        """
        name = _file_name(agent, record.name)
        data = encode_record(_RECORD_KIND, record.data)
        await self._offload.run(lambda: write_atomically(self._files, name, data), kind="fsync")

    def load(self, agent: str, name: str) -> bytes | None:
        """The record, or None where there is none. Blocks.

        Errors: StorageError; StorageCorrupt where the file is not exactly one sound record.
        """
        return read_record(self._files, _file_name(agent, name))


def read_record(files: Files, file_name: str) -> bytes | None:
    """What `RecordFiles.persist` has written; None where there is no such file. Blocks.

    Errors: StorageError; StorageCorrupt where the file is not exactly one sound record.
    """
    data = files.read(file_name)
    if data is None:
        return None
    path = files.describe(file_name)
    records = scan_records(data, path=path)
    if len(records) != 1 or records[0][0] != _RECORD_KIND:
        raise StorageCorrupt(f"{path}: expected exactly one record")
    return records[0][1]


def _file_name(agent: str, record: str) -> str:
    for name in (agent, record):
        if _RECORD_NAME.fullmatch(name) is None:
            raise UsageError(f"{name!r} cannot be part of a file's name")
    return f"{agent}.{record}.rec"
