"""Drawn runs of membership machines."""

from __future__ import annotations

import pytest

from muster.sim.checkers.violated import Violated
from muster.sim.machines.gossip import GossipMembers, Happened, SimMember
from muster.sim.machines.gossip_checks import GossipChecks
from muster.sim.machines.gossip_swarm import GossipRun, draw
from muster_protocol.membership.config import MembershipConfig
from muster_protocol.wire.membership import MemberState


@pytest.mark.parametrize("seed", range(1, 25))
def test_a_drawn_run_holds(seed: int) -> None:
    GossipRun(draw(seed)).run()


def test_draws_differ_and_are_the_seeds_own() -> None:
    options = [draw(seed) for seed in range(1, 60)]
    assert options == [draw(seed) for seed in range(1, 60)]
    assert len({(o.members, o.kinds, o.loss, o.latency_s) for o in options}) > 40
    assert any(o.is_benign for o in options)
    assert any(o.for_s > 100 for o in options)


def test_a_run_of_one_seed_is_the_same_again() -> None:
    runs = [GossipRun(draw(3)) for _ in range(2)]
    for run in runs:
        run.run()
    notices = [run.cluster.notices for run in runs]
    assert notices[0] == notices[1] != []
    packets = [[member.packets for member in run.cluster.members] for run in runs]
    assert packets[0] == packets[1]


def test_who_is_failed_by_the_living_is_a_violation_where_nothing_excuses_it() -> None:
    accusations: list[tuple[str, str, str]] = []

    def accused(observer: SimMember, subject: SimMember, how: str) -> None:
        accusations.append((observer.name, subject.name, how))
        if how == "failed":
            raise Violated("accuracy", f"{observer.name} failed {subject.name}")

    checks = GossipChecks(MembershipConfig.lan(), accused=accused)
    cluster = GossipMembers(seed=1, on_signal=lambda signal: signalled(signal))

    def signalled(signal: Happened) -> None:
        numbers = (int(node, 16) - 1 for node in (signal.node, signal.data["node"]))
        checks.signalled(*(cluster.members[number] for number in numbers), signal)

    cluster.found(3)
    cluster.power_off(cluster.members[2])
    with pytest.raises(Violated, match="failed node-2"):
        cluster.run(30.0)
    assert ("node-0", "node-2", "suspected") in accusations


def test_a_founded_cluster_is_quiet_and_whole() -> None:
    cluster = GossipMembers(seed=1)
    cluster.found(30)
    assert cluster.is_converged()
    cluster.run(30.0)
    assert cluster.signals == []
    assert all(cluster.all_see(member, MemberState.ALIVE) for member in cluster.members)
