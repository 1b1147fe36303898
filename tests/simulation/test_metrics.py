"""What whole nodes say of themselves at `/metrics`."""

from __future__ import annotations

import re
from collections.abc import Mapping

from muster.metrics import pages
from testkit.node_cluster import SimNode, node_cluster


def scraped(sim: SimNode) -> Mapping[str, float]:
    """Every sample, by name and labels as they stand on the page."""
    text = pages(sim.running)["/metrics"]().body.decode()
    return {
        name: float(value)
        for name, value in re.findall(r"^(\w+(?:\{.*\})?) (\S+)$", text, flags=re.MULTILINE)
    }


async def test_a_leader_tells_how_far_its_followers_are(autojump_clock: object) -> None:
    async with node_cluster(3) as cluster:
        await cluster.start()
        leader = await cluster.founded()
        await cluster.put(leader, "k", b"v")
        followers = [node for node in cluster.nodes if node is not leader]
        lags = [f'muster_raft_follower_lag_entries{{follower="{n.name}"}}' for n in followers]
        await cluster.until(lambda: all(scraped(leader)[lag] == 0.0 for lag in lags))
        told = scraped(leader)
        for node in followers:
            age = f'muster_raft_follower_answer_age_seconds{{follower="{node.name}"}}'
            assert 0.0 <= told[age] < 1.0
            assert not any(name.startswith("muster_raft_follower") for name in scraped(node))


async def test_syncs_and_commits_are_counted_by_how_long_they_took(autojump_clock: object) -> None:
    async with node_cluster(3) as cluster:
        await cluster.start()
        leader = await cluster.founded()
        for number in range(5):
            await cluster.put(leader, f"k{number}", b"v")
        told = scraped(leader)
        assert told["muster_raft_commit_seconds_count"] == 5.0
        assert told['muster_raft_commit_seconds_bucket{le="+Inf"}'] == 5.0
        assert told["muster_raft_sync_seconds_count"] >= 5.0
        assert 0.0 < told["muster_raft_sync_seconds_sum"] < 1.0
        assert told['muster_raft_proposals_total{outcome="committed"}'] == 5.0


async def test_an_election_is_told_with_its_cause(autojump_clock: object) -> None:
    async with node_cluster(3) as cluster:
        await cluster.start()
        first = await cluster.founded()
        first.agents.consistency.transfer_leadership()
        await cluster.until(lambda: cluster.leader() not in (None, first))
        second = cluster.leader()
        assert second is not None
        assert scraped(second)['muster_raft_campaigns_total{cause="handed-over"}'] == 1.0
        lost = 'muster_raft_leaderships_lost_total{cause="handed-over"}'
        assert scraped(first)[lost] == 1.0
        others = [node for node in cluster.nodes if node is not second]
        await cluster.crash(second)
        await cluster.until(lambda: cluster.leader(*others) is not None)
        campaigns = 'muster_raft_campaigns_total{cause="leader-stream-lost"}'
        assert sum(scraped(node)[campaigns] for node in others) >= 1.0


async def test_reads_that_nobody_confirms_are_told(autojump_clock: object) -> None:
    async with node_cluster(3) as cluster:
        await cluster.start()
        leader = await cluster.founded()
        await cluster.put(leader, "k", b"v")
        assert await cluster.get(leader, "k") == b"v"
        told = scraped(leader)
        assert told['muster_raft_reads_total{outcome="confirmed"}'] == 1.0
        assert told['muster_raft_reads_total{outcome="not-leader"}'] == 0.0
        assert told["muster_raft_reads_waiting"] == 0.0
