"""The settings of the failure detector, and what follows from them and the size of the cluster.

Where the defaults come from: memberlist's LAN profile, which has been in the field the longest,
except where something better was measured.

| setting | memberlist | here | why |
|---|---|---|---|
| `suspicion_mult` | 4 | 3 | with 6 retransmissions, kinship measured 50 nodes: detection p50 6.9 s instead of 8.6, 0.13 false deaths instead of 0.61 |
| `retransmit_mult` | 4 | 6 | removed every false death that kinship screened, for 10 % more bytes at 50 nodes, 4 % at 200 |
| confirmations K | mult - 2 | 3, at most those who can confirm | the paper's K; see `suspicion` |
| probe timeout under bad local health | not stretched | stretched | the paper does; a node that reads late is helped by waiting, not by asking less often |
| `reconnect_interval_s` | none (serf 30) | 10 | a partition of a small cluster heals in seconds; one small packet each time |

`suspicion_min` of a cluster of up to ten is 3 s. It is bound from below by the node that reads its
packets late: the model of the Lifeguard replications is 0.5-2.5 s, so an accused one answers
within 2.5 s and a round trip. What may be shorter is a suspicion for which everybody who could
have an opinion was told by the suspect's own kernel that no process listens there:
`suspicion_refused_min_s`, see `suspicion`.
"""  # noqa: E501 - a table row is one line

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final

from muster_protocol.errors import ConfigError
from muster_protocol.limits import PACKET_BYTES_MAX

SEALING_BYTES: Final = 54
"""Header and tag of a sealed packet (`crypto.sealing`)."""

BODY_ENVELOPE_BYTES: Final = 48
"""What a packet's body holds beside the messages: a version, the cluster id (34) and the arrays."""

DAY_S: Final = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class MembershipConfig:
    """All durations in seconds. `lan`, `wan` and `local` make the three usual ones.

    Errors: ConfigError for values that contradict each other.
    """

    probe_interval_s: float = 1.0
    """One member is probed per interval."""
    probe_timeout_s: float = 0.5
    """Silence after which others are asked, and a stream is tried."""
    indirect_checks: int = 3
    """How many others are asked. SWIM's k; the paper's estimate for 5 % loss gives 3."""
    nack_fraction: float = 0.8
    """When a relay says that it has no answer either, in parts of the probe timeout (Lifeguard)."""
    stream_probes: bool = True
    """Try a stream beside the indirect probes: UDP alone may be blocked."""

    suspicion_mult: float = 3.0
    suspicion_max_mult: float = 6.0
    """The longest suspicion in multiples of the shortest. Lifeguard's beta."""
    suspicion_confirmations: int = 3
    """K: how many independent confirmations bring a suspicion down to the shortest."""
    suspicion_refused_min_s: float = 1.0
    """The shortest suspicion when every accuser was refused by the suspect's own host."""

    retransmit_mult: int = 6
    gossip_interval_s: float = 0.2
    gossip_nodes: int = 3
    gossip_to_dead_s: float = 30.0
    """How long a failed or stopped member is still gossiped to, so that it may refute."""

    sync_interval_s: float = 30.0
    """Time between two push-pulls in quiet times, up to 32 members; longer above."""
    sync_interval_min_s: float = 1.0
    """Time between two push-pulls while they still find something new."""
    reconnect_interval_s: float = 10.0
    """How often one failed or stopped member is tried again."""
    join_retry_min_s: float = 0.5
    join_retry_max_s: float = 30.0
    """An address that was hinted is asked until it answers; the waits double between these."""
    join_retry_alone_s: float = 2.0
    """The longest wait while nobody is known at all: then there is nothing else to do."""

    awareness_max: int = 8
    """Local health goes from 0 to one less; it multiplies probe interval and timeout by 1 to 8."""
    lag_tolerated_s: float = 0.1
    """A loop that is later than this doubts itself; the driver reports nothing below it."""

    forget_failed_s: float = DAY_S
    forget_left_s: float = DAY_S
    """When a failed or left member is dropped from the table. Stopped ones are kept."""
    farewell_s: float = 1.0
    """How long a stopping or leaving node goes on telling so; memberlist's propagate delay."""

    lha_probe: bool = True
    """Lifeguard's first part: probe slower while one's own health is in doubt."""
    lha_suspicion: bool = True
    """Its second: wait long for few accusers, less for many."""
    buddy: bool = True
    """Its third: a suspected member hears of it first."""

    packet_body_bytes_max: int = PACKET_BYTES_MAX - SEALING_BYTES - BODY_ENVELOPE_BYTES
    """What the messages of one packet may take, encoded."""

    def __post_init__(self) -> None:
        if not 0 < self.probe_timeout_s < self.probe_interval_s:
            raise ConfigError("membership: probe_timeout_s must lie between 0 and probe_interval_s")
        if not 0 < self.nack_fraction < 1:
            raise ConfigError("membership: nack_fraction must lie between 0 and 1")
        if self.suspicion_max_mult < 1:
            raise ConfigError("membership: suspicion_max_mult below 1")
        if self.awareness_max < 1:
            raise ConfigError("membership: awareness_max below 1")

    @classmethod
    def lan(cls) -> MembershipConfig:
        """Machines on one network: the defaults."""
        return cls()

    @classmethod
    def wan(cls) -> MembershipConfig:
        """Machines far apart: memberlist's WAN timings with our multipliers."""
        return cls(
            probe_interval_s=5.0,
            probe_timeout_s=3.0,
            gossip_interval_s=0.5,
            gossip_nodes=4,
            gossip_to_dead_s=60.0,
            sync_interval_s=60.0,
            reconnect_interval_s=30.0,
            suspicion_refused_min_s=5.0,
        )

    @classmethod
    def local(cls) -> MembershipConfig:
        """Several nodes on one machine, for development and tests."""
        return cls(
            probe_timeout_s=0.2,
            indirect_checks=1,
            gossip_interval_s=0.1,
            gossip_to_dead_s=15.0,
            sync_interval_s=15.0,
            reconnect_interval_s=5.0,
        )

    def without_lifeguard(self) -> MembershipConfig:
        """The same with all three parts switched off: SWIM with a stream fallback."""
        return replace(self, lha_probe=False, lha_suspicion=False, buddy=False)

    def suspicion_min_s(self, members: int) -> float:
        """The shortest suspicion in a cluster of so many members (memberlist's formula)."""
        scale = max(1.0, math.log10(max(1, members)))
        return self.suspicion_mult * scale * self.probe_interval_s

    def suspicion_max_s(self, members: int) -> float:
        """The longest one: a single accuser whom nobody confirms."""
        return self.suspicion_max_mult * self.suspicion_min_s(members)

    def retransmit_limit(self, members: int) -> int:
        """How often one update is piggybacked by one node. SWIM proves O(log n) to suffice."""
        return self.retransmit_mult * math.ceil(math.log10(members + 1))

    def sync_interval_at(self, members: int) -> float:
        """The quiet push-pull interval: grows with log2 above 32 members, as memberlist's does."""
        if members <= 32:
            return self.sync_interval_s
        return self.sync_interval_s * (math.ceil(math.log2(members) - 5) + 1)
