"""Which machines can be replayed, from what each is made, and which events it knows.

The names are those of their tapes (`node.py`, `agents/consistency/voter.py`). What has none is an
agent: of it the record holds what went in, and no more can be shown.
"""

from __future__ import annotations

import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from muster.agents.consistency.raft.birth import LogTrimmed, RaftBirth, RaftLine
from muster.agents.consistency.raft.core import Propose, ProposeElectorate
from muster.flight.births import Line, PeersBirth, PlainLine, RelayBirth, SwimBirth, WatchBirth
from muster_protocol.discovery.peers import MemberGone, MemberSeen
from muster_protocol.effects import DeadlineReached
from muster_protocol.membership.events import MembershipEvent
from muster_protocol.partition.quorum import EvidenceSeen
from muster_protocol.raftguard import events as raft
from muster_protocol.signals import relay
from muster_protocol.wire.codec import Decoder


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of machine. `events` decode what it handles; `beside` has what happened to it
    besides, and `before` what has to be done for it before it handles an event."""

    birth: Decoder[Any]
    line: Line[Any]
    events: Mapping[str, Decoder[Any]]
    beside: Mapping[type[Any], Callable[[Any, Any], None]] = field(default_factory=dict)
    before: Mapping[type[Any], Callable[[Any, Any], None]] = field(default_factory=dict)


def _decoders(types: Sequence[type[Any]]) -> dict[str, Decoder[Any]]:
    return {kind.__name__: Decoder(kind) for kind in types}


def _kind(birth: type[Any], *events: type[Any]) -> Kind:
    return Kind(Decoder(birth), PlainLine(), _decoders((*events, DeadlineReached)))


def _trim(core: Any, event: LogTrimmed) -> None:
    core.journal.trim(event.manifest, keep_entries=event.keep_entries, keep_bytes=event.keep_bytes)


def _mark_durable(core: Any, event: raft.LogDurable) -> None:
    core.journal.mark_durable(lsn=event.lsn, index=event.index)


_RAFT_EVENTS: Final = (
    raft.PeerUp,
    raft.PeerDown,
    raft.FrameReceived,
    raft.LogDurable,
    raft.SnapshotInstalled,
    raft.SnapshotFailed,
    raft.TransferLeadership,
    raft.ReadWanted,
    raft.SuspendVoting,
    Propose,
    ProposeElectorate,
    LogTrimmed,
    DeadlineReached,
)

KINDS: Final[Mapping[str, Kind]] = {
    "failure": _kind(SwimBirth, *typing.get_args(MembershipEvent)),
    "raft": Kind(
        Decoder(RaftBirth),
        RaftLine(),
        _decoders(_RAFT_EVENTS),
        beside={LogTrimmed: _trim},
        before={raft.LogDurable: _mark_durable},
    ),
    "partition": _kind(WatchBirth, EvidenceSeen),
    "discovery": _kind(PeersBirth, MemberSeen, MemberGone),
    "signals": _kind(
        RelayBirth,
        relay.LocalSignal,
        relay.PeerUp,
        relay.PeerDown,
        relay.PeerForgotten,
        relay.RelayReceived,
    ),
}
