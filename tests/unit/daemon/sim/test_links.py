"""When what is sent over a way arrives, how often, or not at all."""

from __future__ import annotations

import statistics

import pytest

from muster.entropy import SeededEntropy
from muster.sim.links import LOST_IN_A_ROW_MAX, QUEUE_S, RTO_S, Link, Ways

A, B, C = "10.0.0.1", "10.0.0.2", "10.0.0.3"


def ways_of(link: Link | None = None, seed: str = "ways") -> Ways:
    return Ways(SeededEntropy(seed).stream("net"), link or Link())


def delays(link: Link, count: int = 2_000) -> list[float]:
    ways = ways_of(link)
    return [at for _ in range(count) for at in ways.packet(A, B, 100, now=0.0)]


def test_delay_is_constant_plus_uniform_by_default() -> None:
    got = delays(Link(delay_s=1.0, jitter_s=0.5))
    assert 1.0 <= min(got) < 1.01
    assert 1.49 < max(got) <= 1.5


def test_tail_is_exponential_and_has_its_mean() -> None:
    got = [delay - 1.0 for delay in delays(Link(delay_s=1.0, jitter_s=0.0, tail_s=0.2))]
    assert statistics.mean(got) == pytest.approx(0.2, rel=0.1)
    assert statistics.median(got) == pytest.approx(0.2 * 0.693, rel=0.1)
    assert max(got) > 1.0


def test_same_seed_gives_the_same_instants() -> None:
    link = Link(tail_s=0.01, loss=0.1, duplicate=0.1, reorder=0.1)
    assert delays(link) == delays(link)


def test_default_draws_once_for_a_packet() -> None:
    ways, rng = ways_of(), SeededEntropy("ways").stream("net")
    for _ in range(10):
        assert ways.packet(A, B, 1, now=0.0) == (0.000_2 + 0.000_1 * rng.random(),)


def test_reordered_packet_is_overtaken_by_the_next_ones() -> None:
    ways = ways_of(Link(jitter_s=0.0, reorder=0.1, reorder_s=0.01))
    arrivals = [ways.packet(A, B, 1, now=n * 0.001)[0] for n in range(500)]
    overtaken = sum(arrivals[n] > arrivals[n + 1] for n in range(499))
    assert 30 < overtaken < 70


def test_packet_above_the_mtu_of_the_way_vanishes_and_streams_do_not() -> None:
    ways = ways_of()
    ways.set_link(A, B, Link(mtu_bytes=1_000))
    assert ways.packet(A, B, 1_001, now=0.0) == ()
    assert ways.packet(A, B, 1_000, now=0.0)
    assert ways.packet(B, A, 1_001, now=0.0)
    assert ways.piece(A, B, 100_000, now=0.0) < 1.0
    assert ways.statistics().lost == 1


def test_packets_and_streams_of_one_way_queue_behind_each_other() -> None:
    ways = ways_of(Link(delay_s=0.0, jitter_s=0.0, bandwidth_bytes_s=1_000.0))
    assert ways.packet(A, B, 100, now=0.0) == (0.1,)
    assert ways.piece(A, B, 500, now=0.0) == pytest.approx(0.6)
    assert ways.packet(A, B, 100, now=0.0) == (pytest.approx(0.7),)
    assert ways.packet(A, C, 100, now=0.0) == ways.packet(B, A, 100, now=0.0) == (0.1,)
    assert ways.packet(A, B, 100, now=2.0) == (2.1,)


def test_packet_that_would_queue_too_long_is_dropped() -> None:
    ways = ways_of(Link(delay_s=0.0, jitter_s=0.0, bandwidth_bytes_s=1_000.0))
    ways.piece(A, B, 1_500, now=0.0)
    assert ways.packet(A, B, 1, now=1.5 - QUEUE_S - 0.01) == ()
    assert ways.packet(A, B, 1, now=1.5 - QUEUE_S + 0.01) == (pytest.approx(1.501),)


def test_clogged_way_holds_and_delivers_behind_its_end() -> None:
    ways = ways_of()
    ways.clog(A, B, until=5.0)
    ways.clog(A, B, until=3.0)
    assert 5.0 < ways.packet(A, B, 1, now=1.0)[0] < 5.001
    assert 5.0 < ways.piece(A, B, 1, now=1.0) < 5.001
    assert ways.packet(B, A, 1, now=1.0)[0] < 1.001
    assert ways.packet(A, B, 1, now=6.0)[0] < 6.001
    ways.heal(A, B)
    assert ways.packet(A, B, 1, now=1.0)[0] < 1.001


def test_partial_cut_leaves_the_third_host_in_reach_of_both() -> None:
    ways = ways_of()
    ways.cut(A, B)
    ways.cut(B, A)
    reaches = [(x, y) for x in (A, B, C) for y in (A, B, C) if ways.packet(x, y, 1, now=0.0)]
    assert (A, B) not in reaches
    assert (B, A) not in reaches
    assert len(reaches) == 7
    assert ways.statistics().cut == 2


def test_lost_piece_of_a_stream_comes_some_retransmissions_later() -> None:
    ways = ways_of(Link(delay_s=0.0, jitter_s=0.0, loss=0.5))
    seen = sorted({round(ways.piece(A, B, 1, now=0.0) / RTO_S) for _ in range(200)})
    assert seen[:4] == [0, 1, 3, 7]
    always = ways_of(Link(delay_s=0.0, jitter_s=0.0, loss=1.0))
    worst = RTO_S * (2**LOST_IN_A_ROW_MAX - 1)
    assert always.piece(A, B, 1, now=0.0) == pytest.approx(worst)
