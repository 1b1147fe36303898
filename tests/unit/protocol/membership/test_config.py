"""Settings and what follows from them."""

from __future__ import annotations

import pytest

from muster_protocol.errors import ConfigError
from muster_protocol.membership.config import MembershipConfig


def test_config_shortest_suspicion_is_three_seconds_up_to_ten_members() -> None:
    config = MembershipConfig.lan()
    assert [config.suspicion_min_s(n) for n in (1, 3, 10)] == [3.0, 3.0, 3.0]
    assert config.suspicion_min_s(100) == pytest.approx(6.0)
    assert config.suspicion_max_s(100) == pytest.approx(36.0)


def test_config_retransmissions_grow_with_the_logarithm() -> None:
    config = MembershipConfig.lan()
    assert [config.retransmit_limit(n) for n in (1, 9, 10, 99, 100)] == [6, 6, 12, 12, 18]


def test_config_push_pull_grows_rarer_above_32_members() -> None:
    config = MembershipConfig.lan()
    assert [config.sync_interval_at(n) for n in (3, 32, 33, 100)] == [30.0, 30.0, 60.0, 90.0]


@pytest.mark.parametrize(
    "wrong",
    [
        {"probe_timeout_s": 1.0},
        {"probe_timeout_s": 0.0},
        {"nack_fraction": 1.0},
        {"suspicion_max_mult": 0.5},
        {"awareness_max": 0},
    ],
)
def test_config_refuses_what_contradicts_itself(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        MembershipConfig(**wrong)  # type: ignore[arg-type]


def test_config_profiles_are_consistent() -> None:
    for profile in (MembershipConfig.lan(), MembershipConfig.wan(), MembershipConfig.local()):
        assert profile.suspicion_refused_min_s <= profile.suspicion_min_s(1)
        off = profile.without_lifeguard()
        assert (off.lha_probe, off.lha_suspicion, off.buddy) == (False, False, False)
