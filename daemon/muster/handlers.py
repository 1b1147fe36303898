"""What the control socket's methods do: from a request to the agents' ports and back.

One method each, collected in two tables, but for changes of the store, which come together. Nothing
here keeps state, and nothing decides: the agents' ports are asked, and what they say is brought
into the shapes of `session.methods`.
"""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from muster import __version__
from muster.agents.consistency.proposals import Change, Outcome, Resume, Told
from muster.control import Ask, Caller, Handler, StreamHandler, greeting
from muster.raft_status import raft_result
from muster.status import status_of
from muster_protocol.consistency.commands import (
    Command,
    Conflict,
    Delete,
    Done,
    Expired,
    Get,
    KeyValue,
    List,
    NotFound,
    Operation,
    Put,
    Rejected,
    Result,
)
from muster_protocol.errors import OutcomeForgotten, OutcomeUnknown, Refused, UsageError
from muster_protocol.membership.events import JoinHint
from muster_protocol.membership.member import MemberView
from muster_protocol.raftguard.steward import SIZES
from muster_protocol.session import methods as m
from muster_protocol.session.messages import PROTOCOL_MAJOR, PROTOCOL_MINOR, ServerHello
from muster_protocol.types import NodeId, parse_address
from muster_protocol.wire.hello import MAJOR_VERSION, MINOR_MAX
from muster_protocol.wire.membership import MemberState
from muster_protocol.wire.seats import SeatRequest

if TYPE_CHECKING:
    from muster.agents.consistency.agent import ConsistencyManager
    from muster.agents.failure import FailureDetector
    from muster.audit import Audit
    from muster.node import Node

FORGETTABLE: Final = (MemberState.FAILED, MemberState.STOPPED)

REQUEST_S: Final = 10.0
"""How long a request may wait for the quorum: several failovers (1.3 s each)."""


class Handlers:
    """The methods of one node."""

    def __init__(self, node: Node, audit: Audit) -> None:
        self._node = node
        assert node.parts is not None
        self._parts = node.parts
        self._clock = node.world.clock
        self._entropy = node.world.entropy
        self._audit = audit

    def table(self) -> Mapping[str, Handler]:
        """Methods that give one result."""
        return {
            "status": self.status,
            "members": self.members,
            "info": self.info,
            "join": self.join,
            "leave": self.leave,
            "forget": self.forget,
            "kv.get": self.kv_get,
            "kv.list": self.kv_list,
            "raft": self.raft,
            "raft.transfer": self.raft_transfer,
            "raft.voters": self.raft_voters,
            "raft.add": self.raft_add,
            "raft.remove": self.raft_remove,
            "partition": self.partition,
            "agents": self.agents,
            "agents.unpark": self.agents_unpark,
            "bootstrap.reset": self.bootstrap_reset,
            "config": self.config,
            "version": self.version,
        }

    def stream_table(self) -> Mapping[str, StreamHandler]:
        """Methods that give items."""
        return {"signals.tail": self.signals_tail}

    def greeting(self) -> ServerHello:
        """What a new connection is told first."""
        node, consistency = self._node, self._parts.agents.consistency
        revision = consistency.revision() if consistency is not None else 0
        return greeting(node=self._parts.me, name=node.name, build=__version__, revision=revision)

    # --- the node and its members -------------------------------------------------------------

    async def status(self, params: m.NoParams, caller: Caller) -> m.StatusResult:
        del params, caller
        return status_of(self._node)

    async def members(self, params: m.NoParams, caller: Caller) -> m.MembersResult:
        del params, caller
        rows = [self._member_row(member) for member in self._failure().swim.members()]
        rows.sort(key=lambda row: (row.name, row.id))
        return m.MembersResult(node=self._parts.me, members=rows)

    async def info(self, params: m.InfoParams, caller: Caller) -> m.InfoResult:
        del caller
        failure = self._failure()
        wanted = failure.find(params.node) if params.node else self._parts.me
        member = next(member for member in failure.swim.members() if member.id == wanted)
        statistics: dict[str, Any] = {}
        if wanted == self._parts.me:
            statistics = self._own_statistics()
        return m.InfoResult(member=self._member_row(member), statistics=statistics)

    async def join(self, params: m.JoinParams, caller: Caller) -> m.JoinResult:
        port = self._node.config.node.port
        addresses = tuple(parse_address(text, default_port=port) for text in params.addresses)
        for address in addresses:
            ip = ipaddress.ip_address(address.host)
            if ip.is_unspecified or ip.is_multicast or not address.port:
                raise UsageError(f"{address}: no node can be reached there")
            if address == self._parts.address:
                raise UsageError(f"{address}: that is this node itself")
        self._failure().post(JoinHint(addresses))
        self._audit.command(caller, "join", {"addresses": [str(address) for address in addresses]})
        return m.JoinResult(hinted=[str(address) for address in addresses])

    async def leave(self, params: m.LeaveParams, caller: Caller) -> m.DoneResult:
        self._audit.command(caller, "leave", {"force": params.force})
        consistency = self._parts.agents.consistency
        if consistency is not None and consistency.has_seat and not params.force:
            try:
                await self._change_seats(SeatRequest("leave", self._parts.me))
            except Refused as refused:
                why = f"{refused}; its seat stays: stop it instead, or say --force"
                raise Refused(refused.reason, why) from refused
            except OutcomeUnknown as unknown:
                why = "whether this node still has its seat is not known, and it runs on: repeat it"
                raise OutcomeUnknown(why) from unknown
        self._node.request_stop(leave=True)
        return m.DoneResult(message="leaving the cluster, then stopping")

    async def forget(self, params: m.ForgetParams, caller: Caller) -> m.DoneResult:
        failure = self._failure()
        node = failure.find(params.node)
        state = next(member.state for member in failure.swim.members() if member.id == node)
        if node == self._parts.me or state not in FORGETTABLE:
            raise Refused(
                "conflict",
                f"{params.node} is {state.name.lower()}: only who failed or stopped is forgotten",
            )
        failure.forget(node)
        self._audit.command(caller, "forget", {"node": node})
        return m.DoneResult(message=f"{params.node} is given up: it is shown as left")

    async def version(self, params: m.NoParams, caller: Caller) -> m.VersionResult:
        del params, caller
        return m.VersionResult(
            build=__version__,
            control_protocol=f"{PROTOCOL_MAJOR}.{PROTOCOL_MINOR}",
            wire_protocol=f"{MAJOR_VERSION}.{MINOR_MAX}",
        )

    async def config(self, params: m.NoParams, caller: Caller) -> m.ConfigResult:
        del params, caller
        loaded = self._node.loaded
        items = [
            m.ConfigItem(key=item.key, value=item.value, origin=item.origin)
            for item in loaded.items
        ]
        return m.ConfigResult(path=loaded.path, items=items)

    # --- the store ----------------------------------------------------------------------------

    async def kv_get(self, params: m.KvGetParams, caller: Caller) -> m.KvResult:
        del caller
        if params.stale:
            result, age_s = self._consistency().read_stale(Get(params.key))
            return _kv_result(result, params.key, outcome="stale", age_s=age_s)
        result = await self._read(Get(params.key))
        return _kv_result(result, params.key, outcome="committed")

    async def kv_list(self, params: m.KvListParams, caller: Caller) -> m.KvListResult:
        del caller
        operation = List(params.prefix, params.after, params.limit)
        age_s: float | None = None
        if params.stale:
            result, age_s = self._consistency().read_stale(operation)
        else:
            result = await self._read(operation)
        if not isinstance(result, Done):
            raise _as_error(result, params.prefix)
        return m.KvListResult(
            outcome="stale" if params.stale else "committed",
            revision=result.revision,
            entries=[_key_row(entry) for entry in result.entries],
            more=result.more,
            age_s=age_s,
        )

    def changes(self, asks: Sequence[Ask]) -> None:
        """`kv.put` and `kv.delete`, of one turn of the loop: each is answered, now or later."""
        deadline, wall = self._clock.now() + REQUEST_S, self._clock.wall()
        try:
            consistency = self._consistency()
        except Refused as refused:
            for ask in asks:
                ask.answer(refused)
            return
        revision = consistency.revision()
        begun = []
        for ask in asks:
            params = ask.params
            try:
                command = self._command(params, revision, wall)
            except UsageError as error:
                ask.answer(error)
            else:
                is_first = params.since is None
                begun.append(Change(command, deadline, self._changed, ask, is_first))
        consistency.begin(begun)

    def _command(self, params: m.KvChangeParams, revision: int, wall: float) -> Command:
        if (params.session is None) != (params.request == 0):
            raise UsageError("session and request go together, and requests count from 1")
        if params.since is not None and params.session is None:
            raise UsageError("only a named session's request can be a repetition")
        operation: Operation
        if isinstance(params, m.KvPutParams):
            operation = Put(params.key, params.value, params.expected)
        else:
            operation = Delete(params.key, params.expected)
        return Command(
            session=params.session or self._fresh_session(),
            request=params.request or 1,
            since=revision if params.since is None else params.since,
            wall=wall,
            operation=operation,
        )

    def _changed(self, change: Change, outcome: Outcome) -> None:
        """A change is over: tell whoever asked for it."""
        if callable(outcome):
            change.asked.answer(functools.partial(self._changed_later, change, outcome))
            return
        try:
            answer: m.KvResult | Exception = self._change_result(change, outcome)
        except (Refused, OutcomeUnknown, UsageError) as error:
            answer = error
        change.asked.answer(answer)

    async def _changed_later(self, change: Change, resume: Resume) -> m.KvResult:
        return self._change_result(change, await resume())

    def _change_result(self, change: Change, outcome: Told) -> m.KvResult:
        """What the client is told of a change. Errors: why it is none."""
        if isinstance(outcome, Exception):
            raise outcome
        ask, command = change.asked, change.command
        key = ask.params.key
        if not isinstance(outcome, Done):
            raise _as_error(outcome, key)
        is_put = isinstance(command.operation, Put)
        self._audit.change(ask.caller, "put" if is_put else "delete", key)
        row = None
        if is_put:
            entry = outcome.entry
            assert entry is not None
            row = m.KeyRow(
                key=key,
                value=ask.params.value,  # it did not travel twice
                revision=entry.revision,
                created=entry.created,
                version=entry.version,
            )
        return m.KvResult(
            outcome="committed",
            revision=outcome.revision,
            entry=row,
            repeated=outcome.repeated,
            session=command.session,
            request=command.request,
        )

    async def _read(self, operation: Get | List) -> Result:
        consistency = self._consistency()
        command = Command(
            session=self._fresh_session(),
            request=0,
            since=consistency.revision(),
            wall=self._clock.wall(),
            operation=operation,
        )
        deadline = self._clock.now() + REQUEST_S
        return await consistency.submit(command, is_first=True, deadline=deadline)

    def _fresh_session(self) -> str:
        return self._entropy.token_bytes(16).hex()

    # --- Raft and quorum ----------------------------------------------------------------------

    async def raft(self, params: m.NoParams, caller: Caller) -> m.RaftResult:
        del params, caller
        return raft_result(self._consistency(), self._node.members(), self._parts.me, self._clock)

    async def raft_transfer(self, params: m.NoParams, caller: Caller) -> m.DoneResult:
        del params
        self._audit.command(caller, "raft transfer", {})
        await self._change_seats(SeatRequest("transfer"))
        return m.DoneResult(message="leadership is being handed over")

    async def raft_voters(self, params: m.VotersParams, caller: Caller) -> m.DoneResult:
        if params.size not in SIZES:
            raise UsageError(f"{params.size} voters: it has to be 1, 3, 5 or 7")
        self._audit.command(caller, "raft voters", {"size": params.size})
        await self._change_seats(SeatRequest("size", size=params.size))
        message = f"voters wanted: {params.size}; seats come and go one by one"
        alive = sum(member.state is MemberState.ALIVE for member in self._node.members())
        if alive < params.size:
            message += f", as far as there are members: {alive} are alive"
        return m.DoneResult(message=message)

    async def raft_add(self, params: m.SeatParams, caller: Caller) -> m.DoneResult:
        node = self._seat_of(params.node)
        self._audit.command(caller, "raft add", {"node": node})
        await self._change_seats(SeatRequest("add", node))
        return m.DoneResult(message=f"{params.node} has a seat; `muster raft` shows when it votes")

    async def raft_remove(self, params: m.SeatParams, caller: Caller) -> m.DoneResult:
        node = self._seat_of(params.node)
        self._audit.command(caller, "raft remove", {"node": node})
        await self._change_seats(SeatRequest("remove", node))
        return m.DoneResult(message=f"{params.node} has no seat, and gets none before `raft add`")

    def _seat_of(self, text: str) -> NodeId:
        """The member, or the holder of a seat that nobody has seen since the start, with this name
        or id. Errors: Refused("not-found"), UsageError."""
        held = self._consistency().configuration
        try:
            return self._failure().find(text)
        except Refused:
            seats = {*(seat.node for seat in held.seats), *held.barred} if held is not None else ()
            found = [node for node in seats if node.startswith(text)]
            if len(found) != 1:
                raise
            return NodeId(found[0])

    async def _change_seats(self, request: SeatRequest) -> None:
        deadline = self._clock.now() + REQUEST_S
        await self._consistency().change_seats(request, deadline=deadline)

    async def partition(self, params: m.NoParams, caller: Caller) -> m.PartitionResult:
        del params, caller
        partition = self._parts.agents.partition
        if partition is None:
            raise Refused("unsupported", "the agent `partition` is switched off on this node")
        evidence, verdict = self._consistency().evidence(), partition.verdict()
        names = self._names()
        return m.PartitionResult(
            node=self._parts.me,
            standing=verdict.standing.value,
            reason=verdict.reason,
            reachable=[names.get(v, v) for v in evidence.voters if v in evidence.reachable],
            unreachable=[names.get(v, v) for v in evidence.voters if v not in evidence.reachable],
            bar=verdict.bar,
            since_age_s=self._clock.now() - partition.watch.since,
            may_write=verdict.may_act,
        )

    async def bootstrap_reset(self, params: m.NoParams, caller: Caller) -> m.DoneResult:
        del params
        self._consistency().reset_bootstrap()
        self._audit.command(caller, "bootstrap reset", {})
        return m.DoneResult(message="this node's promise to an unfinished founding is void")

    # --- agents and signals -------------------------------------------------------------------

    async def agents(self, params: m.NoParams, caller: Caller) -> m.AgentsResult:
        del params, caller
        rows = []
        for child in self._parts.supervisor.statistics():
            host = child.host
            agent = getattr(self._parts.agents, child.name)
            rows.append(
                m.AgentRow(
                    name=child.name,
                    state=child.state.value,
                    uptime_s=host.uptime_s if host else 0.0,
                    restarts=child.restarts,
                    handled=host.driver.events_handled if host else 0,
                    dropped=host.driver.events_dropped if host else 0,
                    mailbox=host.driver.inbox_length if host else 0,
                    last_error=child.last_error,
                    actions=[declared.name for declared in agent.actions] if agent else [],
                    sensors=list(getattr(agent, "sensor_names", ())),
                    skills=[skill.name for skill in agent.skills] if agent else [],
                    details=dict(host.agent) if host else {},
                )
            )
        return m.AgentsResult(node=self._parts.me, agents=rows)

    async def agents_unpark(self, params: m.AgentParams, caller: Caller) -> m.DoneResult:
        if params.name not in self._parts.supervisor.names():
            raise Refused("not-found", f"there is no agent {params.name!r}")
        self._parts.supervisor.unpark(params.name)
        self._audit.command(caller, "agents unpark", {"agent": params.name})
        return m.DoneResult(message=f"agent {params.name} starts again")

    async def signals_tail(
        self, params: m.TailParams, caller: Caller
    ) -> AsyncGenerator[m.SignalItem]:
        del caller
        subscription = self._parts.bus.subscribe([params.pattern], name="tail")
        try:
            while True:
                signal = await subscription.next()
                yield m.SignalItem(
                    id=signal.id,
                    type=signal.type,
                    source=signal.source,
                    subject=signal.subject,
                    wall=signal.time,
                    priority=signal.priority.name.lower(),
                    scope=signal.scope.value,
                    data=dict(signal.data),
                )
        finally:
            subscription.close()

    # --- small things -------------------------------------------------------------------------

    def _failure(self) -> FailureDetector:
        failure = self._parts.agents.failure
        if failure is None:
            raise Refused("unsupported", "the agent `failure` is switched off on this node")
        return failure

    def _consistency(self) -> ConsistencyManager:
        consistency = self._parts.agents.consistency
        if consistency is None:
            raise Refused("unsupported", "the agent `consistency` is switched off on this node")
        return consistency

    def _names(self) -> Mapping[NodeId, str]:
        return {member.id: member.name for member in self._node.members()}

    def _member_row(self, member: MemberView) -> m.MemberRow:
        now = self._clock.now()
        consistency = self._parts.agents.consistency
        leader = consistency.leader() if consistency is not None else None
        seat = "witness" if member.meta.witness else "voter"
        role = "leader" if member.id == leader else seat if member.meta.voter else "member"
        is_me = member.id == self._parts.me
        seen_age = None if member.last_seen is None else now - member.last_seen
        why = "; ".join(f"{a.by[:8]}: {a.reason}" for a in member.suspected_by)
        return m.MemberRow(
            id=member.id,
            name=member.name,
            address=str(member.address),
            state=member.state.name.lower(),
            role=role,
            incarnation=member.incarnation,
            state_age_s=max(0.0, now - member.since),
            seen_age_s=0.0 if is_me else seen_age,
            build=member.meta.build,
            protocol=f"{MAJOR_VERSION}.{member.meta.protocol_max}",
            is_me=is_me,
            why=why,
            tags=dict(member.meta.tags),
        )

    def _own_statistics(self) -> dict[str, Any]:
        agents = {
            child.name: dict(child.host.agent)
            for child in self._parts.supervisor.statistics()
            if child.host is not None
        }
        return {
            "vitals": asdict(self._node.world.vitals.read()),
            "packets": asdict(self._parts.channel.statistics()),
            "streams": asdict(self._parts.streams.statistics()),
            "bus": asdict(self._parts.bus.statistics()),
            "agents": agents,
        }


def _kv_result(result: Result, key: str, *, outcome: str, age_s: float | None = None) -> m.KvResult:
    if not isinstance(result, Done):
        raise _as_error(result, key)
    return m.KvResult(
        outcome=outcome,
        revision=result.revision,
        entry=_key_row(result.entry) if result.entry is not None else None,
        age_s=age_s,
        repeated=result.repeated,
    )


def _as_error(result: Result, key: str) -> Exception:
    """What a client is told of a result that is no success."""
    if isinstance(result, NotFound):
        there_is_none = {"revision": result.revision}
        return Refused("not-found", f"there is no key {key!r}", there_is_none)
    if isinstance(result, Conflict):
        there, entry = "it does not exist", 0
        if result.entry is not None:
            there, entry = f"it has revision {result.entry.revision}", result.entry.revision
        details = {"revision": result.revision, "entry": entry}
        return Refused("conflict", f"key {key!r} was not changed: {there}", details)
    if isinstance(result, Expired):
        return OutcomeForgotten("asked too long ago: what became of it is not remembered")
    assert isinstance(result, Rejected)
    if result.is_unknown:
        return OutcomeForgotten(f"{result.reason}: what became of this one is not remembered")
    if result.is_full:
        return Refused("full", result.reason)
    return UsageError(result.reason)


def _key_row(entry: KeyValue) -> m.KeyRow:
    return m.KeyRow(
        key=entry.key,
        value=entry.value,
        revision=entry.revision,
        created=entry.created,
        version=entry.version,
    )
