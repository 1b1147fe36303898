"""muster: a cluster daemon for a handful of machines on a LAN, and the library under it.

What a program needs stands here:

    async with muster.connect() as cluster:            # trio: ask the daemon on this host
        await cluster.call("kv.put", key="colour", value=b"blue")

    with muster.Client() as client:                    # the same without trio
        client.call("status").verdict

    class Greeter(muster.Agent): ...                   # an agent: action, Sensor, Skill, Every

Nothing is imported before it is used (PEP 562): the CLI starts without trio.
"""

from __future__ import annotations

TYPE_CHECKING = False  # what type checkers take for true; importing it from typing costs 8 ms
if TYPE_CHECKING:
    from typing import Any

    from muster.client.aio import AsyncClient, connect
    from muster.client.blocking import Client
    from muster.runtime.actions import Action, ActionContext, Backoff, action
    from muster.runtime.agent import Agent, Every
    from muster.runtime.sensors import PeriodicSensor, Sensor, every
    from muster.runtime.skills import Skill
    from muster_protocol.errors import LocalError, MusterError, OutcomeUnknown, Refused, RemoteError
    from muster_protocol.signals.signal import Signal

__version__ = "0.1.0"

_PLACES = {
    "connect": "muster.client.aio",
    "AsyncClient": "muster.client.aio",
    "Client": "muster.client.blocking",
    "Action": "muster.runtime.actions",
    "ActionContext": "muster.runtime.actions",
    "Backoff": "muster.runtime.actions",
    "action": "muster.runtime.actions",
    "Agent": "muster.runtime.agent",
    "Every": "muster.runtime.agent",
    "PeriodicSensor": "muster.runtime.sensors",
    "Sensor": "muster.runtime.sensors",
    "every": "muster.runtime.sensors",
    "Skill": "muster.runtime.skills",
    "Signal": "muster_protocol.signals.signal",
    "LocalError": "muster_protocol.errors",
    "MusterError": "muster_protocol.errors",
    "OutcomeUnknown": "muster_protocol.errors",
    "Refused": "muster_protocol.errors",
    "RemoteError": "muster_protocol.errors",
}
"""Name -> the module that it stands in."""

__all__ = [
    "Action",
    "ActionContext",
    "Agent",
    "AsyncClient",
    "Backoff",
    "Client",
    "Every",
    "LocalError",
    "MusterError",
    "OutcomeUnknown",
    "PeriodicSensor",
    "Refused",
    "RemoteError",
    "Sensor",
    "Signal",
    "Skill",
    "__version__",
    "action",
    "connect",
    "every",
]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'muster' has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(_PLACES[name]), name)
    globals()[name] = value  # found without us from now on
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_PLACES})
