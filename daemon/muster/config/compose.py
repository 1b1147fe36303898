"""From the one configuration to the settings that each package owns."""

from __future__ import annotations

from dataclasses import replace

import msgspec

from muster.config.schema import GossipSection
from muster_protocol.membership.config import MembershipConfig

_PROFILES = {
    "lan": MembershipConfig.lan,
    "wan": MembershipConfig.wan,
    "local": MembershipConfig.local,
}


def membership_config(gossip: GossipSection) -> MembershipConfig:
    """The failure detector's settings: the profile, with what the operator set on top.

    Errors: ConfigError where the values contradict each other.
    """
    given = {
        name: value
        for name, value in msgspec.structs.asdict(gossip).items()
        if name != "profile" and value is not None
    }
    return replace(_PROFILES[gossip.profile](), **given)
