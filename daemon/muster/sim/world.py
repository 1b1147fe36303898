"""The `World` of a simulated node, and what a simulator needs to hurt it.

    run:   one `SimFabric`, one seed
    host:  one `SimHost`: clock, disk, seeded entropy; outlives its processes
    life:  one `World`, made by `SimHost.start` for each process; `crash` or `power_off` ends it

A host's seed is made of the run's seed, its address and the number of the life, so no node's draws
depend on another's.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from muster.entropy import SeededEntropy
from muster.sim.clock import SimClock
from muster.sim.disk import SimDisk
from muster.sim.network import SimFabric, SimNetwork
from muster.sim.offload import SimOffload
from muster.sim.vitals import SimVitals
from muster.world import World


@dataclass(frozen=True, slots=True)
class SimWorld(World):
    """A `World` whose parts are the simulator's, so that a scenario can reach their controls."""

    clock: SimClock
    network: SimNetwork
    offload: SimOffload
    vitals: SimVitals


class SimHost:
    """One simulated machine."""

    def __init__(
        self,
        fabric: SimFabric,
        ip: str,
        *,
        seed: str,
        wall_offset_s: float = 0.0,
        drift_ppm: float = 0.0,
        rate_ppm: float = 0.0,
    ) -> None:
        self.ip = ip
        self.clock = SimClock(wall_offset_s=wall_offset_s, drift_ppm=drift_ppm, rate_ppm=rate_ppm)
        self.world: SimWorld | None = None
        self.durations_s: dict[str, float] = {}
        """How long work off the loop takes here, in every life: see `SimOffload`."""
        self._fabric = fabric
        self._seed = f"{seed}/{ip}"
        self._lives = 0
        disk_rng = SeededEntropy(self._seed).stream("disk")
        self.disk = SimDisk(disk_rng, path=f"/sim/{ip}")

    def start(self) -> SimWorld:
        """The world for a new process; one that still runs is killed."""
        self.crash()
        self._lives += 1
        self.world = SimWorld(
            clock=self.clock,
            entropy=SeededEntropy(f"{self._seed}/life {self._lives}"),
            network=self._fabric.host(self.ip, self.clock),
            files=self.disk.mount(),
            offload=SimOffload(self.clock, durations_s=self.durations_s, disk=self.disk),
            vitals=SimVitals(self.clock),
        )
        return self.world

    def crash(self) -> None:
        """SIGKILL: streams are reset, the page cache stays. The caller cancels the node's tasks."""
        if self.world is None:
            return
        self.world.network.kill()
        self.world.offload.power_off()
        self.disk.unmount()
        self.world = None
        self.clock.resume()

    def power_off(self, *, tear: bool = False) -> None:
        """The plug is pulled: nobody is told, and what was not synced is lost, or with `tear` a
        part of it."""
        self._fabric.power_off(self.ip)
        self.crash()
        self.disk.unhang()
        self.disk.power_off(tear=tear)

    def pause(self) -> None:
        """SIGSTOP: nothing is handled, time passes, buffers fill."""
        self.clock.pause()

    def resume(self) -> None:
        """SIGCONT: everything that fell due meanwhile is due at once."""
        self.clock.resume()


def power_off(hosts: Iterable[SimHost], *, tear: bool = False) -> None:
    """The plugs of all these hosts are pulled at one instant."""
    for host in hosts:
        host.power_off(tear=tear)
