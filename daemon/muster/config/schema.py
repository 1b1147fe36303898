"""Every setting: its section, name, type, bounds, default, and why the default is what it is.

Units stand last in the names. Empty text means "work it out" (`load` does, and says how); what it
worked out is shown by `muster config show --effective`. What the parts of the daemon need of each
other is not here: each package owns its settings type, and `compose` makes those from this.

`configs/example.toml` says the same to operators; a test keeps the two alike.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from muster_protocol.limits import VOTERS_MAX
from muster_protocol.raftguard.steward import REPLACE_S
from muster_protocol.types import Address, parse_address

NODE_PORT = 7411
HTTP_PORT = 7412
JOIN_MAX = 100
"""Addresses to join by: as many as `muster join` takes at once."""

Name = Annotated[str, msgspec.Meta(pattern=r"^([A-Za-z0-9][A-Za-z0-9._-]{0,62})?\Z")]
GroupName = Annotated[str, msgspec.Meta(pattern=r"^([A-Za-z_][A-Za-z0-9_.-]{0,31})?\Z")]
Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]
Duration = Annotated[float, msgspec.Meta(gt=0, le=366 * 86_400)]
"""Seconds; the bound catches milliseconds that were meant as seconds."""

Multiplier = Annotated[float, msgspec.Meta(ge=1, le=100)]


class Section(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all sections."""


class NodeSection(Section, frozen=True, kw_only=True):
    """[node]: this host."""

    name: Name = ""
    """What people call this node. "": the host name, which is what they call the host."""
    state_dir: str = ""
    """Identity, journal, snapshots. "": /var/lib/muster (systemd's StateDirectory), or
    $XDG_STATE_HOME/muster in a user's own run."""
    bind: str = ""
    """The IP address to listen on. "": every IPv4 address where there is a secret, else loopback:
    who may speak to us must be known before we listen to all."""
    advertise: str = ""
    """Where others reach this node: an IP address, with a port behind NAT. "": the address from
    which the host would send to the others."""
    port: Port = NODE_PORT
    """UDP and TCP. One number for both, so that a firewall needs one rule. 0: any (tests)."""


class ClusterSection(Section, frozen=True, kw_only=True):
    """[cluster]: to whom this node belongs."""

    label: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9._-]{1,63}\Z")] = "muster"
    """Clusters of different labels never speak to each other, even with one secret."""
    secret_file: str = ""
    """Made by `muster keys generate`, the same on every host, mode 0600. "": systemd's credential
    `muster.secret` if there is one, else no secret."""
    insecure: bool = False
    """Listen beyond loopback without a secret: everybody who can send a packet is a member. Off,
    because that is never right outside a laboratory."""
    bootstrap_expect: Annotated[int, msgspec.Meta(ge=0, le=VOTERS_MAX)] = 0
    """How many nodes found the cluster together, the same on each of them. 0: this node only
    joins. Ignored once there is a cluster, so that nothing has to be changed afterwards."""
    voters: Literal[0, 1, 3, 5, 7] = 0
    """How many members should vote; the others forward. 0: as many as found the cluster, and three
    at least. The first leader takes it over; later it is changed by `muster raft voters`."""
    replace_voter_after_s: Annotated[float, msgspec.Meta(ge=10.0, le=604_800.0)] = REPLACE_S
    """A voter that has been silent for so long gives its seat to a member that is there, if one has
    the log by then."""
    witness: bool = False
    """This node only votes, and keeps no data: the third device of a site of two nodes. It founds
    nothing (`bootstrap_expect` stays 0) and gets its seat by itself, while the others are even in
    number. Off, because a node that has the data is worth more."""
    join: Annotated[tuple[str, ...], msgspec.Meta(max_length=JOIN_MAX)] = ()
    """Addresses of other members. One that answers tells of the rest; the node's own is skipped.
    Empty: this node waits to be found, or for `muster join`."""


class GossipSection(Section, frozen=True, kw_only=True):
    """[gossip]: the failure detector. What is not set comes from the profile.

    The profiles and the reason for each number: `muster_protocol.membership.config`.
    """

    profile: Literal["lan", "wan", "local"] = "lan"
    """lan: one network. wan: far apart. local: several nodes on one machine."""
    probe_interval_s: Duration | None = None
    """One member is probed per interval."""
    probe_timeout_s: Duration | None = None
    """Silence after which others are asked to probe too."""
    suspicion_mult: Multiplier | None = None
    """The shortest time from suspected to failed, in probe intervals (up to ten members)."""
    gossip_interval_s: Duration | None = None
    """Time between two rounds of passing news on."""
    sync_interval_s: Duration | None = None
    """Time between two comparisons of whole member tables, in quiet times."""
    reconnect_interval_s: Duration | None = None
    """How often a failed or stopped member is tried again."""
    forget_failed_s: Duration | None = None
    """When a failed member is dropped from the table."""
    forget_left_s: Duration | None = None
    """When a member that left is dropped from the table."""


class ControlSection(Section, frozen=True, kw_only=True):
    """[control]: the socket that `muster` speaks to."""

    socket: str = ""
    """"": /run/muster/muster.sock (systemd's RuntimeDirectory), or $XDG_RUNTIME_DIR/muster/ in a
    user's own run. $MUSTER_SOCKET sets it for daemon and client alike."""
    group: GroupName = ""
    """Who may ask beside root. "": the group of the user that runs the daemon, which has no members
    unless somebody adds them: who may ask may also change."""


class HttpSection(Section, frozen=True, kw_only=True):
    """[http]: metrics and health checks, read-only."""

    enabled: bool = True
    """On, because a daemon that nobody can watch is not watched."""
    bind: str = "127.0.0.1"
    """A loopback address; nothing else is taken: there is no authentication on it."""
    port: Port = HTTP_PORT
    """Beside the node's port. 0: any (tests)."""


class AgentsSection(Section, frozen=True, kw_only=True):
    """[agents]: what of the daemon runs, so that it can be taken into use step by step.

    All on by default. Each needs those above it: `consistency` needs `failure`, which tells it
    where the voters are, and `partition` needs `consistency`, which tells it who they are.
    """

    discovery: bool = True
    """Find other nodes."""
    failure: bool = True
    """Watch them."""
    consistency: bool = True
    """Agree with them."""
    partition: bool = True
    """Know which side of a split may act."""


class PartitionSection(Section, frozen=True, kw_only=True):
    """[partition]: quorum."""

    quorum_size: Annotated[int, msgspec.Meta(ge=0, le=VOTERS_MAX)] = 0
    """How many voters a side must reach, where that is more than a majority; it can never be
    less (a fixed 3, as the seed has it, lets both sides of 3 | 3 act). 0: a majority."""


class LogSection(Section, frozen=True, kw_only=True):
    """[log]: to standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """info: what changed. debug: why."""
    format: Literal["auto", "console", "json"] = "auto"
    """auto: JSON lines under journald, for people otherwise."""


class RecorderSection(Section, frozen=True, kw_only=True):
    """[recorder]: the flight recorder."""

    enabled: bool = True
    """On: it costs 8 MiB of disk, and what went wrong yesterday can be replayed today."""


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """All settings of one daemon."""

    node: NodeSection = NodeSection()
    cluster: ClusterSection = ClusterSection()
    gossip: GossipSection = GossipSection()
    control: ControlSection = ControlSection()
    http: HttpSection = HttpSection()
    agents: AgentsSection = AgentsSection()
    partition: PartitionSection = PartitionSection()
    log: LogSection = LogSection()
    recorder: RecorderSection = RecorderSection()

    @property
    def bind_address(self) -> Address:
        """Where to listen; only after `load` worked out `node.bind`."""
        return parse_address(self.node.bind, default_port=self.node.port)

    @property
    def advertise_address(self) -> Address | None:
        """Where others reach us; None: the network layer finds out."""
        if not self.node.advertise:
            return None
        return parse_address(self.node.advertise, default_port=self.node.port)

    @property
    def join_addresses(self) -> tuple[Address, ...]:
        """Where to look for members."""
        port = self.node.port or NODE_PORT
        return tuple(parse_address(text, default_port=port) for text in self.cluster.join)

    @property
    def http_address(self) -> Address | None:
        """Where to answer HTTP; None: nowhere."""
        return Address(self.http.bind, self.http.port) if self.http.enabled else None


SECTIONS: dict[str, type[Section]] = {
    "node": NodeSection,
    "cluster": ClusterSection,
    "gossip": GossipSection,
    "control": ControlSection,
    "http": HttpSection,
    "agents": AgentsSection,
    "partition": PartitionSection,
    "log": LogSection,
    "recorder": RecorderSection,
}
