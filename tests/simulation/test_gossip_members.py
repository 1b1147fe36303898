"""Clusters of membership machines under faults, on a virtual clock."""

from __future__ import annotations

import pytest

from muster.sim.machines.gossip import GossipMembers, SimMember
from muster_protocol.limits import PACKET_BYTES_MAX
from muster_protocol.membership.config import MembershipConfig
from muster_protocol.membership.events import (
    ForgetRequested,
    LeaveRequested,
    StopRequested,
    SyncReceived,
    UpdateMeta,
)
from muster_protocol.types import Address, Severity
from muster_protocol.wire.membership import MemberState, NodeMeta

SERF_FAILED_S = 5.8
"""What serf takes at three nodes from SIGKILL until all others say so."""

LIFEGUARD_SEEDS = range(12, 22)
"""Of thirty runs with a slow reader among six nodes and a fifth of the packets lost, 14 had a false
failure without Lifeguard and none with it; these ten have seven of them."""

A_META = NodeMeta(
    build="muster 1.0.0", cluster_id="c" * 32, voter=True, tags={"http": "127.0.0.1:7412"}
)


def a_cluster(count: int, *, seed: int = 1, **options: object) -> GossipMembers:
    """`count` nodes that have found each other."""
    cluster = GossipMembers(seed=seed, meta=A_META, **options)  # type: ignore[arg-type]
    cluster.add_many(count)
    assert cluster.wait_for(cluster.is_converged, 30.0, step_s=0.05), f"seed {seed} did not join"
    return cluster


def failures_of_the_living(cluster: GossipMembers) -> list[tuple[float, str, str]]:
    """Every false "failed", for an assertion that shows them."""
    dead = {node.id: None for node in cluster.members if not node.is_up}
    return [
        (signal.at, signal.node, signal.data["node"])
        for signal in cluster.signals_of("cluster.node.failed")
        if signal.data["node"] not in dead
    ]


def seconds_until_failed(cluster: GossipMembers, victim: SimMember) -> float:
    """From now until everybody says that the victim failed."""
    start = cluster.now
    is_failed = lambda: cluster.all_see(victim, MemberState.FAILED)  # noqa: E731
    assert cluster.wait_for(is_failed, 60.0, step_s=0.01)
    return cluster.now - start


# --- joining -----------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_join_converges_when_all_start_at_once_and_packets_are_lost(seed: int) -> None:
    cluster = a_cluster(20, seed=seed, loss=0.05)
    assert failures_of_the_living(cluster) == []


def test_join_of_one_into_a_hundred_is_seen_by_all_within_a_second() -> None:
    cluster = a_cluster(100)
    cluster.run(8.0)
    for _ in range(2):
        cluster.network.loss = 0.01
        start = cluster.now
        joiner = cluster.add(join=cluster.members[:1])
        seen = lambda joiner=joiner: cluster.all_see(joiner, MemberState.ALIVE)  # noqa: E731
        assert cluster.wait_for(seen, 60.0, step_s=0.02)
        assert cluster.now - start <= 1.0
        assert len(joiner.swim.members()) == len(cluster.members)


def test_join_needs_no_luck_when_most_packets_to_the_seed_are_lost() -> None:
    cluster = a_cluster(5)
    joiner = cluster.add()
    cluster.network.loss = 0.7
    cluster.hint(joiner, cluster.members[:1])
    assert cluster.wait_for(lambda: len(joiner.swim.members()) == 6, 60.0, step_s=0.05)


def test_join_finds_a_node_that_starts_later() -> None:
    cluster = GossipMembers(seed=4)
    first, second = cluster.add(), cluster.add()
    cluster.kill(second)
    cluster.hint(first, [second])
    cluster.run(100.0)
    cluster.restart(second)
    assert cluster.wait_for(cluster.is_converged, 40.0, step_s=0.05)


# --- crashes -----------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(10))
def test_kill_of_one_in_three_is_detected_well_before_serf(seed: int) -> None:
    cluster = a_cluster(3, seed=seed)
    cluster.run(10 + seed / 7)
    cluster.kill(cluster.members[seed % 3])
    assert seconds_until_failed(cluster, cluster.members[seed % 3]) < 0.7 * SERF_FAILED_S
    assert failures_of_the_living(cluster) == []


@pytest.mark.parametrize("seed", range(6))
def test_power_cut_of_one_in_three_is_detected_by_silence_alone(seed: int) -> None:
    cluster = a_cluster(3, seed=seed)
    cluster.run(10 + seed / 7)
    cluster.power_off(cluster.members[seed % 3])
    assert seconds_until_failed(cluster, cluster.members[seed % 3]) < 6.5
    assert failures_of_the_living(cluster) == []


def test_power_cut_of_two_in_three_is_detected_by_the_third_without_waiting_for_opinions() -> None:
    cluster = a_cluster(3)
    cluster.power_off(cluster.members[1])
    cluster.power_off(cluster.members[2])
    for node in cluster.members[1:]:
        seconds_until_failed(cluster, node)
    assert cluster.now < 12.0


@pytest.mark.parametrize("seed", range(2))
def test_power_cut_among_fifty_is_seen_by_all_at_about_the_same_time(seed: int) -> None:
    cluster = a_cluster(50, seed=seed)
    cluster.run(5.0)
    cluster.power_off(cluster.members[7])
    assert seconds_until_failed(cluster, cluster.members[7]) < 10.0
    times = [signal.at for signal in cluster.signals_of("cluster.node.failed")]
    assert len(times) == 49
    assert max(times) - min(times) < 0.6
    assert failures_of_the_living(cluster) == []


def test_restart_with_the_same_id_and_a_new_boot_is_back_at_once() -> None:
    cluster = a_cluster(5)
    victim = cluster.members[2]
    cluster.kill(victim)
    seconds_until_failed(cluster, victim)
    cluster.restart(victim, join=cluster.members[:1])
    assert cluster.wait_for(cluster.is_converged, 1.0, step_s=0.05)
    assert victim.swim.members()[0].incarnation > 0


def test_restart_at_another_address_is_back_at_once() -> None:
    cluster = a_cluster(5)
    victim = cluster.members[2]
    cluster.kill(victim)
    cluster.run(1.0)
    cluster.restart(victim, join=cluster.members[:1], address=Address("10.9.9.9", 7411))
    assert cluster.wait_for(cluster.is_converged, 1.0, step_s=0.05)
    assert not victim.swim.identity_conflict


def test_restart_without_any_hint_is_taken_in_by_the_first_ping() -> None:
    cluster = a_cluster(3)
    victim = cluster.members[0]
    cluster.kill(victim)
    cluster.restart(victim)
    assert cluster.wait_for(cluster.is_converged, 6.0, step_s=0.05)


# --- slow, late and lossy ----------------------------------------------------------------------


def runs_that_a_slow_reader_spoils(config: MembershipConfig) -> int:
    """How many of the seeds have a false failure, with one slow reader of six."""
    spoilt = 0
    for seed in LIFEGUARD_SEEDS:
        cluster = GossipMembers(seed=seed, config=config)
        cluster.add_many(6)
        assert cluster.wait_for(cluster.is_converged, 30.0, step_s=0.05)
        cluster.members[-1].is_slow = True
        cluster.network.loss = 0.2
        cluster.run(60.0)
        spoilt += bool(failures_of_the_living(cluster))
    return spoilt


def test_slow_reader_causes_no_false_failure_under_lifeguard() -> None:
    assert runs_that_a_slow_reader_spoils(MembershipConfig.lan()) == 0


def test_slow_reader_causes_false_failures_without_lifeguard() -> None:
    """The same seeds, so that the test above cannot pass for want of trouble."""
    assert runs_that_a_slow_reader_spoils(MembershipConfig.lan().without_lifeguard()) >= 3


@pytest.mark.parametrize("seed", range(3))
def test_loss_of_five_percent_fails_nobody(seed: int) -> None:
    cluster = a_cluster(20, seed=seed)
    cluster.network.loss = 0.05
    cluster.run(60.0)
    assert failures_of_the_living(cluster) == []


def test_pause_shorter_than_a_suspicion_fails_nobody_on_either_side() -> None:
    cluster = a_cluster(5)
    for node in cluster.members:
        cluster.pause(node, 2.0)
        cluster.run(10.0)
    assert failures_of_the_living(cluster) == []


def test_paused_node_blames_itself_and_not_the_others() -> None:
    cluster = a_cluster(5)
    sleeper = cluster.members[0]
    cluster.pause(sleeper, 10.0)
    cluster.run(15.0)
    blamed = [
        signal.data["node"]
        for signal in cluster.signals_of("cluster.node.failed")
        if signal.node == sleeper.id
    ]
    assert blamed == []
    assert cluster.wait_for(cluster.is_converged, 10.0, step_s=0.05)


def test_member_whose_network_stands_still_is_failed_and_comes_back_without_harm() -> None:
    """What it thought meanwhile arrives all at once, after the others' refutations."""
    cluster = a_cluster(6)
    stalled = cluster.members[5]
    cluster.stall(stalled, 40.0)
    sent = stalled.packets
    assert cluster.wait_for(
        lambda: all(cluster.state(m, stalled) is MemberState.FAILED for m in cluster.members[:5]),
        30.0,
        step_s=0.1,
    )
    assert stalled.packets > sent, "its timers should have gone on"
    cluster.unstall(stalled)
    assert cluster.wait_for(cluster.is_converged, 15.0, step_s=0.1)
    blamed = {
        signal.data["node"]
        for signal in cluster.signals_of("cluster.node.failed")
        if signal.node != stalled.id
    }
    assert blamed == {stalled.id}


def test_blocked_packets_are_bridged_by_streams_and_reported() -> None:
    """UDP between two nodes is dropped, streams connect: nobody fails, and it is said."""
    cluster = a_cluster(2)
    cluster.network.is_udp_blocked = True
    cluster.run(30.0)
    assert failures_of_the_living(cluster) == []
    events = [notice.type for notice in cluster.notices]
    assert events.count("membership.packets.blocked") == 2


@pytest.mark.parametrize("kind", ["one way", "lossy"])
def test_half_connected_node_leaves_equal_views_behind(kind: str) -> None:
    """The two scenarios that memberlist fails in the Rapid paper; here at the end all agree."""
    cluster = a_cluster(10)
    odd = cluster.members[3]
    if kind == "one way":
        cluster.network.is_cut = lambda _, to: to == odd.address and int(cluster.now / 20) % 2 == 0
    else:
        cluster.network.loss_of = lambda source, to: 0.8 * (odd.address in (source, to))
    cluster.run(100.0)
    others = [
        signal
        for signal in failures_signalled_by_others(cluster, odd)
        if signal.data["node"] != odd.id
    ]
    assert others == [], "the well-connected never fail each other"
    cluster.network.heal()
    assert cluster.wait_for(cluster.is_converged, 30.0, step_s=0.1)


def failures_signalled_by_others(cluster: GossipMembers, odd: SimMember) -> list:  # type: ignore[type-arg]
    """What everybody but one says failed."""
    return [signal for signal in cluster.signals_of("cluster.node.failed") if signal.node != odd.id]


# --- partitions --------------------------------------------------------------------------------


@pytest.mark.parametrize(("minority", "seconds"), [(1, 40.0), (2, 40.0), (3, 600.0)])
def test_partition_heals_without_help_and_views_converge(minority: int, seconds: float) -> None:
    cluster = a_cluster(7)
    small, large = cluster.members[:minority], cluster.members[minority:]
    cluster.cut(small, large)
    cluster.run(seconds)
    assert all(cluster.state(large[0], node) is MemberState.FAILED for node in small)
    assert all(cluster.state(small[0], node) is MemberState.FAILED for node in large)
    before = len(cluster.signals_of("cluster.node.failed"))
    cluster.network.heal()
    assert cluster.wait_for(cluster.is_converged, 30.0, step_s=0.1)
    assert len(cluster.signals_of("cluster.node.failed")) == before, "the heal fails nobody"


def test_partition_in_which_somebody_changed_ends_with_the_newer_word() -> None:
    cluster = a_cluster(6)
    small, large = cluster.members[:2], cluster.members[2:]
    cluster.cut(small, large)
    cluster.run(20.0)
    renewed = NodeMeta(build="muster 1.0.1")
    cluster.post(small[1], UpdateMeta(renewed))
    cluster.post(large[0], LeaveRequested())
    cluster.run(5.0)
    cluster.kill(large[0])
    cluster.network.heal()
    assert cluster.wait_for(cluster.is_converged, 30.0, step_s=0.1)
    views = {view.id: view for view in large[1].swim.members()}
    assert views[small[1].id].meta == renewed
    assert cluster.all_see(large[0], MemberState.LEFT)


# --- going away and coming back ----------------------------------------------------------------


def say_good_bye(cluster: GossipMembers, node: SimMember, event: object) -> None:
    cluster.post(node, event)
    assert cluster.wait_for(lambda: node.swim.has_departed, 2.0, step_s=0.05)
    cluster.kill(node)


@pytest.mark.parametrize("count", [2, 3, 30])
def test_stopped_is_shown_as_stopped_everywhere_and_comes_back(count: int) -> None:
    cluster = a_cluster(count, loss=0.02)
    node = cluster.members[1]
    say_good_bye(cluster, node, StopRequested())
    cluster.run(60.0)
    assert cluster.all_see(node, MemberState.STOPPED)
    assert cluster.signals_of("cluster.node.failed", node) == []
    assert len(cluster.signals_of("cluster.node.stopped", node)) == count - 1
    cluster.restart(node, join=cluster.members[:1])
    assert cluster.wait_for(cluster.is_converged, 3.0, step_s=0.05)
    assert len(cluster.signals_of("cluster.node.recovered", node)) == count - 1


def test_left_stays_left_and_an_old_table_changes_nothing() -> None:
    cluster = a_cluster(5)
    node = cluster.members[1]
    old = cluster.members[2].swim.table_for_sync()
    say_good_bye(cluster, node, LeaveRequested())
    cluster.run(10.0)
    for other in cluster.members:
        cluster.post(other, SyncReceived(cluster.members[2].id, old))
    cluster.run(60.0)
    assert cluster.all_see(node, MemberState.LEFT)
    assert cluster.signals_of("cluster.node.recovered", node) == []


def test_failed_member_is_not_resurrected_by_old_tables_even_when_forgotten() -> None:
    config = MembershipConfig(forget_failed_s=300.0)
    cluster = a_cluster(5, config=config)
    node = cluster.members[1]
    old = cluster.members[2].swim.table_for_sync()
    cluster.kill(node)
    seconds_until_failed(cluster, node)
    for wait in (1.0, 400.0):
        cluster.run(wait)
        for other in cluster.members:
            cluster.post(other, SyncReceived(cluster.members[2].id, old))
        cluster.run(20.0)
    assert cluster.all_see(node, None)  # type: ignore[arg-type]
    assert cluster.signals_of("cluster.node.recovered", node) == []
    assert len(cluster.signals_of("cluster.node.announced", node)) == 4


def test_operator_forgets_a_failed_member_everywhere() -> None:
    cluster = a_cluster(5)
    node = cluster.members[1]
    cluster.kill(node)
    seconds_until_failed(cluster, node)
    cluster.post(cluster.members[4], ForgetRequested(node.id))
    assert cluster.wait_for(lambda: cluster.all_see(node, MemberState.LEFT), 5.0, step_s=0.05)


# --- two of one kind ---------------------------------------------------------------------------


def test_copied_identity_is_found_out_and_the_younger_yields() -> None:
    cluster = a_cluster(4)
    original = cluster.members[1]
    cluster.run(50.0)
    copy = cluster.add(id=original.id, name=original.name, join=cluster.members[:1])
    assert cluster.wait_for(lambda: copy.swim.identity_conflict, 20.0, step_s=0.05)
    cluster.run(20.0)
    assert not original.swim.identity_conflict
    notices = [n for n in cluster.notices if n.type == "membership.identity.duplicate"]
    assert {notice.data["severity"] for notice in notices} <= {Severity.ERROR, Severity.WARNING}
    errors = [notice for notice in notices if notice.data["severity"] is Severity.ERROR]
    assert [notice.data["address"] for notice in errors] == [str(copy.address)]
    seen = {view.id: view.address for view in cluster.members[3].swim.members()}
    assert seen[original.id] == original.address


def test_same_name_of_two_ids_is_reported_by_everybody_once() -> None:
    cluster = a_cluster(3)
    cluster.add(name="node-1", join=cluster.members[:1])
    cluster.run(60.0)
    reports = [n.node for n in cluster.notices if n.type == "membership.name.duplicate"]
    assert sorted(reports) == sorted(node.id for node in cluster.members)
    assert cluster.is_converged()


# --- cost --------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [3, 50])
def test_idle_cluster_costs_two_packets_a_second_and_node(count: int) -> None:
    cluster = a_cluster(count)
    cluster.run(60.0)
    for node in cluster.members:
        node.packets = node.bytes = 0
    cluster.run(60.0)
    assert sum(node.packets for node in cluster.members) / count / 60.0 < 2.1
    assert sum(node.bytes for node in cluster.members) / count / 60.0 < 270


def test_packets_never_pass_their_size_however_much_there_is_to_tell() -> None:
    """The harness asserts each packet; here they are as full as can be."""
    tags = {f"tag-{number}": "v" * 50 for number in range(7)}
    cluster = a_cluster(30)
    for node in cluster.members:
        cluster.post(node, UpdateMeta(NodeMeta(build="x" * 64, tags=tags)))
    cluster.run(5.0)
    assert 1_000 < cluster.packet_bytes_max <= PACKET_BYTES_MAX
    assert cluster.is_converged()


def test_runs_of_one_seed_are_identical() -> None:
    def run() -> list[object]:
        cluster = a_cluster(8, seed=5, loss=0.1)
        cluster.members[3].is_slow = True
        cluster.kill(cluster.members[4])
        cluster.run(30.0)
        return [*cluster.signals, *cluster.notices]

    assert run() == run()
