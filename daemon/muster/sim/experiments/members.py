"""One run of membership machines that is measured: some are sick, one dies, packets are lost.

A settled cluster of which some members are sick from the beginning to the end, in one of two ways:

    late     the slow reader of the Lifeguard replications: each packet is read 0.5-2.5 s late
    stalls   its network stands still both ways for 1-32 s, then works for 0.1-10 s, and so on; the
             lengths are drawn so that every order of magnitude is as likely

Timers are on time in both. One healthy member loses its power in the middle. Counted are, for each
report "failed" of one member about another that lives:

    FP      about a member that is not sick, by anybody
    FP-     the same, reported by members that are not sick
    of sick about a sick member: it cannot be reached, so that is no mistake if it lasts

and how long it takes until each healthy member has failed the one that did die.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from muster.sim.machines.gossip import GossipMembers, Happened, SimMember
from muster_protocol.membership.config import MembershipConfig

FAILED: Final = "cluster.node.failed"
SUSPECTED: Final = "cluster.node.suspected"

PAPER: Final = MembershipConfig(suspicion_mult=5.0, retransmit_mult=4)
"""Lifeguard's settings: memberlist's LAN timings, alpha 5, beta 6, K 3."""

MEMBERLIST: Final = replace(PAPER, suspicion_mult=4.0)
"""memberlist's LAN timings of today (alpha 4), with the paper's K."""

SWIM: Final = PAPER.without_lifeguard()

VARIANTS: Final[dict[str, MembershipConfig]] = {
    "SWIM": SWIM,
    "LHA-Probe": replace(SWIM, lha_probe=True),
    "LHA-Suspicion": replace(SWIM, lha_suspicion=True),
    "Buddy": replace(SWIM, buddy=True),
    "Lifeguard": PAPER,
    "SWIM, alpha 4": MEMBERLIST.without_lifeguard(),
    "Lifeguard, alpha 4": MEMBERLIST,
    "muster": MembershipConfig.lan(),
}
"""Each part of Lifeguard alone, all of them; the same as memberlist's users have it; and the
daemon's own defaults."""

STALLED_S: Final = (1.0, 32.0)
FLOWING_S: Final = (0.1, 10.0)


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What determines a run."""

    variant: str
    members: int
    sick: int
    sickness: Literal["late", "stalls"] = "late"
    loss: float = 0.0
    for_s: float = 120.0
    dies_at_s: float | None = 60.0
    seed: int = 1


@dataclass
class Outcome:
    """What was counted. Times in seconds."""

    fp: int = 0
    fp_healthy: int = 0
    fp_sick: int = 0
    suspicions: int = 0
    """Of those who live, by anybody."""

    detected_s: list[float] = field(default_factory=list)
    """One for each healthy member that failed the dead one: how long after its death."""

    missed: int = 0
    """Healthy members that had not, at the end."""

    packets: int = 0
    bytes: int = 0


def measure(setup: Setup) -> Outcome:
    """Run it."""
    return _Run(setup).run()


class _Run:
    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._outcome = Outcome()
        self._dead: SimMember | None = None
        self._died_at = 0.0
        self._detected: dict[str, float] = {}
        self._sick: dict[str, None] = {}
        self._rng = random.Random(f"{setup.seed}/sickness")
        self._cluster = GossipMembers(
            seed=setup.seed, config=VARIANTS[setup.variant], loss=setup.loss, on_signal=self._take
        )

    def run(self) -> Outcome:
        setup, cluster = self._setup, self._cluster
        cluster.found(setup.members)
        chosen = random.Random(f"{setup.seed}/who").sample(cluster.members, setup.sick + 1)
        for member in chosen[1:]:
            self._fall_sick(member)
        if setup.dies_at_s is not None:
            cluster.run(setup.dies_at_s)
            self._dead, self._died_at = chosen[0], cluster.now
            cluster.power_off(chosen[0])
        cluster.run(setup.for_s - cluster.now)
        return self._counted()

    def _fall_sick(self, member: SimMember) -> None:
        self._sick[member.id] = None
        if self._setup.sickness == "late":
            member.is_slow = True
        else:
            self._cluster.at(self._rng.uniform(0.0, FLOWING_S[1]), self._stall, member)

    def _stall(self, member: SimMember) -> None:
        stalled_s = self._any_magnitude(STALLED_S)
        self._cluster.stall(member, stalled_s)
        self._cluster.at(stalled_s + self._any_magnitude(FLOWING_S), self._stall, member)

    def _any_magnitude(self, bounds_s: tuple[float, float]) -> float:
        return math.exp(self._rng.uniform(*map(math.log, bounds_s)))

    def _counted(self) -> Outcome:
        outcome, members = self._outcome, self._cluster.members
        outcome.packets = sum(member.packets for member in members)
        outcome.bytes = sum(member.bytes for member in members)
        outcome.detected_s = [at - self._died_at for at in self._detected.values()]
        if self._dead is not None:
            healthy = [m for m in members if m is not self._dead and m.id not in self._sick]
            outcome.missed = len(healthy) - len(self._detected)
        return outcome

    def _take(self, signal: Happened) -> None:
        if signal.type not in (FAILED, SUSPECTED):
            return
        outcome, subject = self._outcome, signal.data["node"]
        is_sick, is_by_sick = subject in self._sick, signal.node in self._sick
        is_dead = self._dead is not None and subject == self._dead.id
        if signal.type == SUSPECTED:
            outcome.suspicions += not is_dead
        elif not is_dead:
            outcome.fp += not is_sick
            outcome.fp_healthy += not (is_sick or is_by_sick)
            outcome.fp_sick += is_sick
        elif not is_by_sick:
            self._detected.setdefault(signal.node, signal.at)
