"""One drawn run of membership machines: faults at random, then all is healed and they must agree.

What is on or off, and how often it comes, is drawn from the seed (see `sim.swarm` for why). Checked
after every event: `checkers.rumours`, and that nobody is resurrected. In runs without anything that
excuses it, nobody who lives is failed at any time. At the end: those who run see each other alive
and the dead gone, and then, with nothing the matter any more, nobody is accused.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Final

from muster.sim.checkers.violated import Violated
from muster.sim.machines.gossip import GossipMembers, Happened, SimMember
from muster.sim.machines.gossip_checks import GossipChecks
from muster.sim.machines.gossip_faults import BENIGN_KINDS, FAULT_KINDS, GossipFaults
from muster.sim.machines.gossip_network import LATENCY_S
from muster_protocol.membership.config import DAY_S, MembershipConfig
from muster_protocol.types import NodeId
from muster_protocol.wire.membership import MemberState

SIZES: Final = (2, 3, 3, 3, 4, 5, 5, 5, 8, 12)
JOIN_S: Final = 60.0
RECOVER_S: Final = 120.0
"""A probe of everybody (12 s), the longest suspicion (20 s), and several reconnects of 10 s."""

SETTLE_S: Final = 10.0
"""The longest probe of one in bad local health (8 s): it may have begun before the heal."""

CALM_S: Final = 15.0
"""A probe of everybody, and then a suspicion would show."""

FORGETTING: Final = 0.1
"""Share of runs that go on until the dead are forgotten, with old tables about."""

FORGET_S: Final = 20.0
FORGETTING_S: Final = 160.0
"""Two searches of the table for members to forget, and time to be told of them again."""

BENIGN: Final = 0.25
"""Share of runs in which nothing happens that excuses a false failure."""


@dataclass(frozen=True)
class GossipOptions:
    """What was drawn. Times in seconds."""

    seed: int
    members: int
    kinds: tuple[str, ...]
    is_benign: bool
    fault_gap_s: float
    fault_s: float
    """Mean time until a fault ends."""

    loss: float
    repeated: float
    latency_s: tuple[float, float]
    slow: int
    """Members that read late."""

    forget_s: float
    """When the failed and the left are forgotten."""

    for_s: float


def draw(seed: int, *, for_s: float = 45.0) -> GossipOptions:
    """The options of this seed."""
    rng = random.Random(f"{seed}/gossip")
    is_benign = rng.random() < BENIGN
    members = rng.choice(SIZES)
    known = BENIGN_KINDS if is_benign else FAULT_KINDS
    kinds = tuple(kind for kind in known if rng.random() < 0.5)
    is_forgetting = rng.random() < FORGETTING
    if is_forgetting:
        members, kinds = rng.choice((3, 4, 5)), (*kinds, "kill", "leave", "old-table")
    return GossipOptions(
        seed=seed,
        members=members,
        kinds=kinds or (rng.choice(known),),
        is_benign=is_benign and not is_forgetting,
        fault_gap_s=rng.choice((0.5, 2.0, 8.0)),
        fault_s=rng.choice((0.5, 4.0, 20.0)),
        loss=0.0 if is_benign else rng.choice((0.0, 0.01, 0.05, 0.3)),
        repeated=rng.choice((0.0, 0.1, 0.5)),
        latency_s=LATENCY_S if is_benign else rng.choice((LATENCY_S, LATENCY_S, (0.001, 0.6))),
        slow=0 if is_benign or rng.random() < 0.5 else rng.randint(1, max(1, members // 4)),
        forget_s=FORGET_S if is_forgetting else DAY_S,
        for_s=FORGETTING_S if is_forgetting else for_s,
    )


class GossipRun:
    """Runs the options of one seed."""

    def __init__(self, options: GossipOptions) -> None:
        self._options = options
        self._rng = random.Random(f"{options.seed}/gossip-faults")
        config = MembershipConfig(forget_failed_s=options.forget_s, forget_left_s=options.forget_s)
        self._checks = GossipChecks(config, accused=self._accused)
        self.cluster = GossipMembers(
            seed=options.seed,
            config=config,
            on_signal=self._signalled,
            on_handled=self._checks.handled,
        )
        self._faults = GossipFaults(self.cluster, self._rng, fault_s=options.fault_s)
        self._is_calm = False

    def run(self) -> None:
        """Errors: Violated."""
        options, cluster = self._options, self.cluster
        cluster.add_many(options.members, apart_s=self._rng.choice((0.0, 0.3)))
        self._wait_until_agreed(JOIN_S, "after the start")
        self._storm()
        cluster.at(0.5, self._fault)
        cluster.run(options.for_s)
        cluster.drop(self._fault)
        self._recover()
        cluster.run(SETTLE_S)
        self._is_calm = True
        cluster.run(CALM_S)

    # --- the safety phase -------------------------------------------------------------------

    def _storm(self) -> None:
        options, network = self._options, self.cluster.network
        network.loss, network.repeated = options.loss, options.repeated
        network.latency_s = options.latency_s
        for member in self._rng.sample(self.cluster.members, options.slow):
            member.is_slow = True

    def _fault(self) -> None:
        kind = self._rng.choice(self._options.kinds)
        self._faults.strike(kind, self._rng.choice(self.cluster.members))
        self.cluster.at(self._rng.expovariate(1.0 / self._options.fault_gap_s), self._fault)

    # --- the liveness phase -----------------------------------------------------------------

    def _recover(self) -> None:
        """Some who are down stay down, and must be missed by all."""
        cluster = self.cluster
        self._faults.end_all()
        for member in cluster.members:
            if not member.is_up and (self._rng.random() < 0.7 or len(cluster.up()) < 2):
                self._faults.bring_back(member)
        for member in cluster.up():  # as discovery does, again and again
            cluster.hint(member, self._rng.sample(cluster.up(), min(3, len(cluster.up()))))
        self._wait_until_agreed(RECOVER_S, "after the heal")

    def _wait_until_agreed(self, seconds: float, when: str) -> None:
        if not self.cluster.wait_for(lambda: self._missing() == "", seconds, step_s=1.0):
            raise Violated("liveness", f"{seconds:.0f} s {when} {self._missing()}")

    def _missing(self) -> str:
        """What somebody sees wrongly; "" if all see what is so."""
        for observer in self.cluster.up():
            for member in self.cluster.members:
                if not self._is_right(observer, member):
                    view = observer.swim.member(member.id)
                    seen = "not at all" if view is None else view.state.name.lower()
                    is_up = "up" if member.is_up else "down"
                    return f"{observer.name} sees {member.name}, which is {is_up}, {seen}"
        return ""

    def _is_right(self, observer: SimMember, member: SimMember) -> bool:
        view = observer.swim.member(member.id)
        if not member.is_up:
            return view is None or not view.is_present
        is_alive = view is not None and view.state is MemberState.ALIVE
        return is_alive and view == member.swim.member(member.id)

    # --- what is seen -----------------------------------------------------------------------

    def _signalled(self, signal: Happened) -> None:
        observer, subject = self._member(signal.node), self._member(signal.data["node"])
        self._checks.signalled(observer, subject, signal)

    def _accused(self, observer: SimMember, subject: SimMember, how: str) -> None:
        """Accuracy, where nothing excuses the contrary."""
        if self._is_calm and subject.is_up:
            raise Violated("accuracy", f"{observer.name} {how} {subject.name}, and all is well")
        is_excused = not self._options.is_benign or subject.id in self._faults.was_down
        if how == "failed" and not is_excused:
            raise Violated("accuracy", f"{observer.name} failed {subject.name}, which was well")

    def _member(self, node: NodeId) -> SimMember:
        return self.cluster.members[int(node, 16) - 1]
