"""One node's services on a virtual clock, with everything in sight."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import trio.testing

from muster.entropy import SeededEntropy
from muster.runtime.bus import Bus
from muster.runtime.executor import Services
from muster.testing import VirtualClock
from muster_protocol.effects import Notify, Persist
from muster_protocol.signals.signal import Signal


@dataclass
class NodeUnderTest:
    """What a test can look at: notices, records, and every signal on the bus."""

    clock: VirtualClock = field(default_factory=VirtualClock)
    bus: Bus = field(default_factory=Bus)
    notices: list[tuple[str, Notify]] = field(default_factory=list)
    records: dict[tuple[str, str], bytes] = field(default_factory=dict)
    signals: list[Signal] = field(default_factory=list)
    disk_s: float = 0.0

    def __post_init__(self) -> None:
        self.services = Services(
            node="n1",
            clock=self.clock,
            entropy=SeededEntropy("test"),
            bus=self.bus,
            log=lambda agent, notice: self.notices.append((agent, notice)),
            persist=self._persist,
        )
        self.bus.attach(("**",), name="test", sink=self._overhear)

    def events(self) -> list[str]:
        return [notice.event for _, notice in self.notices]

    def publish(self, signal_type: str, **data: Any) -> int:
        signal = Signal(id="s1", source="n2/x", type=signal_type, time=0.0, data=data, trace="t1")
        return self.bus.publish(signal)

    async def settle(self) -> None:
        await trio.testing.wait_all_tasks_blocked()

    def _overhear(self, signal: Signal) -> bool:
        self.signals.append(signal)
        return True

    async def _persist(self, agent: str, record: Persist) -> None:
        await self.clock.sleep(self.disk_s)
        self.records[agent, record.name] = record.data
