"""The daemon's methods: name, parameters, result. Both ends use these types.

A result is encoded as a map, so JSON output of the CLI is exactly these fields. `schema` in each
top-level result names its version; fields are only ever added within one. Ages are seconds at the
moment of the answer; text of other nodes is shown through `cli/render.py` only.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from muster_protocol.limits import LIST_KEYS_MAX
from muster_protocol.types import HexId, UInt


class Params(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all parameters: an unknown one is an error."""


class NoParams(Params, frozen=True, kw_only=True):
    """For methods that take none."""


class JoinParams(Params, frozen=True, kw_only=True):
    """`addresses`: IP addresses with optional ports."""

    addresses: Annotated[list[str], msgspec.Meta(min_length=1, max_length=100)]


class ForgetParams(Params, frozen=True, kw_only=True):
    """`node`: id or unambiguous name of a failed or left member."""

    node: str


class LeaveParams(Params, frozen=True, kw_only=True):
    """`force`: leave even where the seat cannot be given back first."""

    force: bool = False


class VotersParams(Params, frozen=True, kw_only=True):
    """How many members shall vote: 1, 3, 5 or 7."""

    size: int


class SeatParams(Params, frozen=True, kw_only=True):
    """`node`: id or unambiguous name of a member."""

    node: str


class InfoParams(Params, frozen=True, kw_only=True):
    """`node`: id, id prefix or name; "" means the daemon that answers."""

    node: str = ""


class KvGetParams(Params, frozen=True, kw_only=True):
    key: str
    stale: bool = False


class KvListParams(Params, frozen=True, kw_only=True):
    prefix: str = ""
    after: str = ""
    limit: Annotated[int, msgspec.Meta(ge=1, le=LIST_KEYS_MAX)] = LIST_KEYS_MAX
    stale: bool = False


class KvChangeParams(Params, frozen=True, kw_only=True):
    """`expected`: the revision that the key must have (0: it must not exist). `session` and
    `request` make a retry harmless: the same pair again gives the first answer. Who repeats a
    change adds `since`, any revision heard before it was first asked for: by it a change that the
    cluster no longer remembers is told from a new one. None: this is no repetition."""

    key: str
    expected: UInt | None = None
    session: HexId | None = None
    request: UInt = 0
    since: UInt | None = None


class KvPutParams(KvChangeParams, frozen=True, kw_only=True):
    value: bytes


class AgentParams(Params, frozen=True, kw_only=True):
    """`name`: an agent's name."""

    name: str


class TailParams(Params, frozen=True, kw_only=True):
    """`pattern`: signal types, `*` for one segment and `**` for any."""

    pattern: str = "**"


# --- results ----------------------------------------------------------------------------------


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all results."""


class MemberRow(Result, frozen=True, kw_only=True):
    """One member as the answering node sees it. `state`: alive, suspect, failed, stopped, left.
    `role`: leader, voter, member (no seat) or "" where that is not known."""

    id: str
    name: str
    address: str
    state: str
    role: str
    incarnation: int
    state_age_s: float
    seen_age_s: float | None
    build: str
    protocol: str
    is_me: bool
    why: str = ""
    tags: dict[str, str] = {}


class MembersResult(Result, frozen=True, kw_only=True):
    schema: str = "muster.members/1"
    node: str
    members: list[MemberRow]


class Problem(Result, frozen=True, kw_only=True):
    """Something wrong, and what to do about it (a command where there is one)."""

    what: str
    next: str = ""


class StatusResult(Result, frozen=True, kw_only=True):
    """`verdict`: HEALTHY, DEGRADED or NOT QUORATE (FOUNDING before there is a cluster)."""

    schema: str = "muster.status/1"
    verdict: str
    reason: str
    problems: list[Problem]
    node: str
    name: str
    cluster: str
    label: str
    address: str
    uptime_s: float
    build: str
    members_alive: int
    members_total: int
    voters_reachable: int
    voters_total: int
    is_voter: bool
    role: str
    leader: str
    leader_name: str
    term: int
    commit_index: int
    applied_index: int
    standing: str
    agents_running: int
    agents_total: int
    keys: int


class VoterRow(Result, frozen=True, kw_only=True):
    """One seat. `role`: leader, voter, learner, witness. `lag` and `answer_age_s` are known to the
    leader only; a witness has no log that could lag."""

    id: str
    name: str
    role: str
    is_me: bool
    connected: bool
    acknowledged_index: int | None = None
    lag: int | None = None
    answer_age_s: float | None = None


class RaftResult(Result, frozen=True, kw_only=True):
    schema: str = "muster.raft/1"
    node: str
    is_voter: bool
    role: str
    leader: str
    leader_name: str
    term: int
    first_index: int
    last_index: int
    durable_index: int
    commit_index: int
    applied_index: int
    revision: int
    keys: int
    state_fingerprint: str
    snapshot_index: int
    journal_bytes: int
    voters: list[VoterRow]
    elections_won: int
    campaigns: int
    dropped: dict[str, int]
    voting_suspended: str = ""
    states_agree_up_to: int = 0
    """The newest log index at which a majority is known to have the same state."""
    states_diverged: list[str] = []
    """Names of voters that made something else of the same log."""
    voters_wanted: int = 0
    """How many shall vote; 0 where no leader has said it yet."""
    barred: list[str] = []
    """Names of members from which an operator took the seat."""
    is_changing: bool = False
    """A change of the electorate is in the log and not committed."""
    witness_called: bool = False
    """On the leader: entries are committed with the witness's word, in place of another node's
    disk."""
    mark_index: int = 0
    """On a witness: it votes for no log that ends before this entry."""


class PartitionResult(Result, frozen=True, kw_only=True):
    schema: str = "muster.partition/1"
    node: str
    standing: str
    reason: str
    reachable: list[str]
    unreachable: list[str]
    bar: int
    since_age_s: float
    may_write: bool


class AgentRow(Result, frozen=True, kw_only=True):
    """`state`: running, backing-off, parked, stopped."""

    name: str
    state: str
    uptime_s: float
    restarts: int
    handled: int
    dropped: int
    mailbox: int
    last_error: str = ""
    actions: list[str] = []
    sensors: list[str] = []
    skills: list[str] = []
    details: dict[str, Any] = {}


class AgentsResult(Result, frozen=True, kw_only=True):
    schema: str = "muster.agents/1"
    node: str
    agents: list[AgentRow]


class KeyRow(Result, frozen=True, kw_only=True):
    key: str
    value: bytes
    revision: int
    created: int
    version: int


class KvResult(Result, frozen=True, kw_only=True):
    """`outcome`: committed (a change or a linearizable read), stale (a local read, `age_s` since
    this node last heard the quorum, None if never). `entry` is None after a delete."""

    schema: str = "muster.kv/1"
    outcome: str
    revision: int
    entry: KeyRow | None = None
    age_s: float | None = None
    repeated: bool = False
    session: str = ""
    request: int = 0


class KvListResult(Result, frozen=True, kw_only=True):
    """`more`: ask again with `after` = the last key."""

    schema: str = "muster.kv-list/1"
    outcome: str
    revision: int
    entries: list[KeyRow]
    more: bool
    age_s: float | None = None


class JoinResult(Result, frozen=True, kw_only=True):
    schema: str = "muster.join/1"
    hinted: list[str]


class DoneResult(Result, frozen=True, kw_only=True):
    """For commands that only take effect."""

    schema: str = "muster.done/1"
    message: str


class InfoResult(Result, frozen=True, kw_only=True):
    """Everything about one node; `statistics` is free-form, for people and bug reports."""

    schema: str = "muster.info/1"
    member: MemberRow
    statistics: dict[str, Any] = {}


class ConfigItem(Result, frozen=True, kw_only=True):
    key: str
    value: Any
    origin: str


class ConfigResult(Result, frozen=True, kw_only=True):
    """The running daemon's settings; secrets are named, never shown."""

    schema: str = "muster.config/1"
    path: str
    items: list[ConfigItem]


class VersionResult(Result, frozen=True, kw_only=True):
    schema: str = "muster.version/1"
    build: str
    control_protocol: str
    wire_protocol: str


class SignalItem(Result, frozen=True, kw_only=True):
    """One signal of a tail, CloudEvents-shaped."""

    id: str
    type: str
    source: str
    subject: str
    wall: float
    priority: str
    scope: str
    data: dict[str, Any]


METHODS: dict[str, tuple[type[Params], type[Result]]] = {
    "status": (NoParams, StatusResult),
    "members": (NoParams, MembersResult),
    "info": (InfoParams, InfoResult),
    "join": (JoinParams, JoinResult),
    "leave": (LeaveParams, DoneResult),
    "forget": (ForgetParams, DoneResult),
    "kv.get": (KvGetParams, KvResult),
    "kv.put": (KvPutParams, KvResult),
    "kv.delete": (KvChangeParams, KvResult),
    "kv.list": (KvListParams, KvListResult),
    "raft": (NoParams, RaftResult),
    "raft.transfer": (NoParams, DoneResult),
    "raft.voters": (VotersParams, DoneResult),
    "raft.add": (SeatParams, DoneResult),
    "raft.remove": (SeatParams, DoneResult),
    "partition": (NoParams, PartitionResult),
    "agents": (NoParams, AgentsResult),
    "agents.unpark": (AgentParams, DoneResult),
    "bootstrap.reset": (NoParams, DoneResult),
    "config": (NoParams, ConfigResult),
    "version": (NoParams, VersionResult),
    "signals.tail": (TailParams, SignalItem),
}
"""Every method. `signals.tail` streams items of its result type; all others give one."""
