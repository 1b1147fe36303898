"""A node: everything composed, in one nursery.

`Node(loaded, world, ...)` builds the parts in the order of the layers and starts them from below;
`stop` takes them down in the opposite order. Nothing here decides anything: where two agents need
each other's answers, the node hands one a typed function of the other (a port).

Started in this order: streams and packets are bound, then the agents `failure`, `signals`,
`discovery`, `consistency`, `partition`. A stop hands leadership over, announces itself (the member
is shown `stopped`, not failed), and ends the agents in reverse. What a node offers to its own host
(control socket, HTTP) is `muster.service`.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import trio

from muster import __version__
from muster.agents.consistency.agent import ConsistencyManager
from muster.agents.consistency.ports import CandidateView, Ports
from muster.agents.consistency.trace import TRACE_VARIABLE, DurabilityTrace
from muster.agents.consistency.witness import check_witness
from muster.agents.discovery import NodeDiscovery
from muster.agents.failure import FailureDetector
from muster.agents.partition import NetworkPartitionHandler
from muster.agents.relay import SignalRelay
from muster.config.compose import membership_config
from muster.entropy import rng_state
from muster.flight.births import PeersBirth, RelayBirth, SwimBirth, WatchBirth
from muster.flight.tape import Tape
from muster.identity import load_or_create
from muster.net.packets import PacketChannel
from muster.net.peers import PeerStreams
from muster.net.tls import PlainSecurity, StreamSecurity, TlsSecurity
from muster.recorder import FlightRecorder
from muster.runtime.bus import Bus
from muster.runtime.executor import RecordFiles, Services
from muster.runtime.looplag import LoopLag
from muster.runtime.supervisor import AgentSpec, Supervisor
from muster.storage.succession import CLUSTER_NAME, read_ancestors, settle
from muster.storage.superblock import read_superblock
from muster_protocol.crypto.insecure import InsecureKeys
from muster_protocol.crypto.keyring import KeyId, Keyring
from muster_protocol.crypto.sealing import BOOT_SALT_BYTES, PacketSealer
from muster_protocol.discovery.peers import RECORD_NAME as PEERS_RECORD
from muster_protocol.effects import Notify
from muster_protocol.errors import (
    LocalError,
    RemoteError,
    SafetyViolation,
    StorageCorrupt,
    StorageError,
)
from muster_protocol.membership.events import LeaveRequested, StopRequested, UpdateMeta
from muster_protocol.membership.member import Member, MemberView
from muster_protocol.partition.quorum import Standing, Verdict
from muster_protocol.raftguard.steward import Candidate
from muster_protocol.types import NO_CLUSTER, Address, ClusterId, NodeId, Severity
from muster_protocol.wire.hello import MAJOR_VERSION, MINOR_MAX, MINOR_MIN, Hello, Purpose
from muster_protocol.wire.membership import MembershipMessage, MemberState, NodeMeta, decode_message

if TYPE_CHECKING:
    from muster.config.load import Loaded
    from muster.net.endpoints import StreamListener
    from muster.world import World

FAREWELL_S: Final = 2.0
"""How long a stop waits for its news to leave; the machine's own farewell takes one second."""

HANDOVER_S: Final = 1.0
"""How long a stop waits for leadership to be taken over; without it the others need an election."""

LOOK_PERIOD_S: Final = 1.0

FATAL: Final = (StorageCorrupt, StorageError, SafetyViolation)
"""What no restart of an agent cures: the node ends."""


@dataclass(slots=True)
class Place:
    """What changes about where this node belongs. The one mutable value that several parts share;
    only `Node` writes it."""

    cluster: ClusterId = NO_CLUSTER
    generation: str = ""
    ancestors: tuple[ClusterId, ...] = ()
    """Clusters that this one was recovered from."""


@dataclass(slots=True)
class Agents:
    """The present instances; a restarted agent replaces its predecessor."""

    failure: FailureDetector | None = None
    signals: SignalRelay | None = None
    discovery: NodeDiscovery | None = None
    consistency: ConsistencyManager | None = None
    partition: NetworkPartitionHandler | None = None


@dataclass(slots=True)
class Parts:
    """What a running node is made of."""

    me: NodeId
    boot: bytes
    address: Address
    channel: PacketChannel[MembershipMessage]
    listener: StreamListener
    streams: PeerStreams
    bus: Bus
    records: RecordFiles
    agents: Agents
    supervisor: Supervisor = field(init=False)


class Node:
    """One node. `run` it in a nursery; `stop` ends it in order."""

    def __init__(
        self,
        *,
        loaded: Loaded,
        world: World,
        keyring: Keyring | None,
        machine_id: str,
        log: Callable[[str, Notify], None],
        durability_trace: str | None = None,
        streams_are_plain: bool = False,
    ) -> None:
        """`keyring` None: no sealing, plain streams. `log` takes a part's name and what it says.
        `streams_are_plain`: no TLS even with a keyring, for the simulator, where packets alone
        are sealed (DESIGN 8: TLS costs time there and proves nothing)."""
        self.loaded = loaded
        self.config = loaded.config
        self.world: World = world
        self.place = Place()
        self.started_at: float = world.clock.now()
        self.loop_lag = LoopLag(world.clock)
        """For whoever serves this node's host to run."""
        self._keyring = keyring
        self._machine_id = machine_id
        self.log = log
        self._trace = DurabilityTrace(durability_trace or os.environ.get(TRACE_VARIABLE))
        self._stop_requested = trio.Event()
        self._is_leaving = False
        self._streams_are_plain = streams_are_plain
        self._nursery: trio.Nursery | None = None
        self.parts: Parts | None = None
        self.recorder = FlightRecorder(
            clock=world.clock,
            files=world.files,
            offload=world.offload,
            notify=self.notify,
            build=__version__,
        )

    @property
    def name(self) -> str:
        return self.config.node.name

    @property
    def keeps_records(self) -> bool:
        """Is there a flight record? Not of a witness: its disk may be small, and wears out."""
        return self.config.recorder.enabled and not self.config.cluster.witness

    def notify(self, notice: Notify) -> None:
        """Log something of the node's own."""
        self.log("node", notice)

    # --- life -------------------------------------------------------------------------------

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Live until `request_stop`. `task_status` is told when everything is bound and recovered.

        Errors: LocalError, StorageCorrupt, StorageError: one clear line each, in groups.
        """
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                self.parts = parts = await self._build()
                if self.keeps_records:
                    nursery.start_soon(self.recorder.run)
                await nursery.start(parts.streams.serve, parts.listener)
                await nursery.start(parts.supervisor.run)
                nursery.start_soon(self._keep_looking)
                task_status.started()
                await self._stop_requested.wait()
                await self._wind_down(parts)
                nursery.cancel_scope.cancel()
        finally:
            if self.parts is not None:
                self.parts.channel.close()
                self.parts.listener.close()
            self._trace.close()

    def request_stop(self, *, leave: bool = False) -> None:
        """End in order; with `leave`, the membership too."""
        self._is_leaving = self._is_leaving or leave
        self._stop_requested.set()

    def reload(self, loaded: Loaded, keyring: Keyring | None) -> tuple[Notify, ...]:
        """Take over what can change in a running node: the cluster's secrets. Says what changed
        and what needs a restart."""
        notices: list[Notify] = []
        if keyring is not None and self._keyring is not None:
            removed = [key for key in self._keyring.ids if key not in keyring.ids]
            self._replace_keys(keyring, removed)
            notices.append(
                Notify("keys.replaced", fields={"keys": list(keyring.ids), "removed": removed})
            )
        was = {item.key: item.value for item in self.loaded.items}
        changed = [item.key for item in loaded.items if was.get(item.key) != item.value]
        if changed:
            told = {"keys": changed, "hint": "restart this node to apply them"}
            notices.append(Notify("config.needs.restart", Severity.WARNING, told))
        return tuple(notices) or (Notify("config.unchanged"),)

    def _replace_keys(self, keyring: Keyring, removed: list[KeyId]) -> None:
        assert self.parts is not None
        assert self._nursery is not None
        self._keyring = keyring
        self.parts.channel.sealer.replace_keys(keyring)
        security = self.parts.streams.security
        if isinstance(security, TlsSecurity):
            security.replace_keyring(keyring)
        for key in removed:
            self._nursery.start_soon(self.parts.streams.close_key, key)

    async def _wind_down(self, parts: Parts) -> None:
        agents = parts.agents
        if agents.consistency is not None and agents.consistency.leads():
            agents.consistency.transfer_leadership()
            with self.world.clock.move_on_after(HANDOVER_S):
                while agents.consistency.leads():
                    await self.world.clock.sleep(0.02)
        if agents.failure is not None:
            agents.failure.post(LeaveRequested() if self._is_leaving else StopRequested())
            with self.world.clock.move_on_after(FAREWELL_S):
                while not agents.failure.swim.has_departed:
                    await self.world.clock.sleep(0.05)
        await parts.supervisor.stop()
        await self.recorder.flush()

    async def _keep_looking(self) -> None:
        """What follows from one agent for another and is no signal: a duplicate identity ends the
        voting at once."""
        while True:
            await self.world.clock.sleep(LOOK_PERIOD_S)
            agents = self.parts.agents if self.parts is not None else Agents()
            failure, consistency = agents.failure, agents.consistency
            if failure is not None and failure.swim.identity_conflict and consistency is not None:
                consistency.suspend_voting("this node's id is alive elsewhere too")
            if self.parts is not None and consistency is not None:
                await self._ask_foreigner(self.parts)
                if self.parts.streams.superseded:
                    consistency.suspend_voting(self.parts.streams.superseded)

    async def _ask_foreigner(self, parts: Parts) -> None:
        """Somebody with our secret is of another cluster. Was ours recovered without us, he refuses
        us with just that; whatever else comes of it is counted by the streams."""
        foreign, parts.channel.foreign = parts.channel.foreign, None
        if foreign is None or parts.streams.superseded:
            return
        with contextlib.suppress(RemoteError, OSError, trio.BrokenResourceError):
            connection = await parts.streams.dial(None, foreign, Purpose.PROBE)
            await connection.aclose()

    # --- building ---------------------------------------------------------------------------

    async def _build(self) -> Parts:
        world, files = self.world, self.world.files
        identity, notices = await world.offload.run(
            lambda: load_or_create(files, world.entropy, machine=self._machine_id), kind="read"
        )
        for notice in notices:
            self.notify(notice)
        self.place = await world.offload.run(self._recorded_place, kind="read")
        me = identity.node_id
        boot = world.entropy.token_bytes(BOOT_SALT_BYTES)
        listener = await world.network.listen(self.config.bind_address)
        bind = self.config.bind_address
        endpoint = await world.network.open_packets(Address(bind.host, listener.address.port))
        address = self._advertised(listener.address)
        keys = self._keyring or InsecureKeys(label=self.config.cluster.label)
        channel: PacketChannel[MembershipMessage] = PacketChannel(
            endpoint,
            PacketSealer(keys, node_id=me, boot_salt=boot),
            clock=world.clock,
            entropy=world.entropy,
            cluster=lambda: self.place.cluster,
            decode_message=decode_message,
            notify=lambda notice: self.log("packets", notice),
        )
        streams = PeerStreams(
            network=world.network,
            clock=world.clock,
            security=self._stream_security(me),
            hello=lambda purpose: self._hello(me, boot, purpose),
            notify=lambda notice: self.log("streams", notice),
        )
        streams.ancestors = channel.ancestors = await world.offload.run(
            lambda: read_ancestors(files), kind="read"
        )
        bus = Bus()
        agents = Agents()
        records = RecordFiles(files=files, offload=world.offload)
        services = Services(
            node=me,
            clock=world.clock,
            entropy=world.entropy,
            bus=bus,
            log=self.log,
            persist=records.persist,
            recorder=self.recorder if self.keeps_records else None,
        )
        stored_peers = await world.offload.run(
            lambda: records.load("discovery", PEERS_RECORD), kind="read"
        )
        parts = Parts(me, boot, address, channel, listener, streams, bus, records, agents)
        builder = _AgentBuilder(self, parts, stored_peers)
        parts.supervisor = Supervisor(services, builder.specs(), fatal=FATAL)
        return parts

    def _recorded_place(self) -> Place:
        """Where an earlier start left this node. Blocks."""
        files = self.world.files
        block = read_superblock(files)
        if block is not None:
            settle(files, block)
        has_journal = block is not None and not block.is_retired
        check_witness(files, wanted=self.config.cluster.witness, has_journal=has_journal)
        ancestors = read_ancestors(files)
        if block is not None:
            generation = "" if block.is_retired else block.generation
            return Place(block.cluster_id, generation, ancestors)
        data = files.read(CLUSTER_NAME) or b""
        return Place(ClusterId(data.decode("ascii")), ancestors=ancestors)

    def _advertised(self, bound: Address) -> Address:
        """Where the others reach us."""
        configured = self.config.advertise_address
        if configured is not None:
            return configured
        if bound.host in ("0.0.0.0", "::"):  # noqa: S104 (compared, not bound)
            towards = self.config.join_addresses[:1]
            host = self.world.network.own_host(towards[0] if towards else None, bound.host)
            if host is None:
                raise LocalError(
                    "node.advertise is not set and the host's own address could not be worked out:"
                    " set it to the address at which the other nodes reach this one"
                )
            return Address(host, bound.port)
        return bound

    def _stream_security(self, me: NodeId) -> StreamSecurity:
        if self._keyring is None or self._streams_are_plain:
            return PlainSecurity()
        return TlsSecurity(
            self._keyring, node_id=me, clock=self.world.clock, entropy=self.world.entropy
        )

    def _hello(self, me: NodeId, boot: bytes, purpose: Purpose) -> Hello:
        return Hello(
            MAJOR_VERSION,
            MINOR_MIN,
            MINOR_MAX,
            me,
            self.name,
            self.place.cluster,
            self.config.cluster.label,
            boot.hex(),
            purpose,
            self.place.generation,
        )

    # --- what the parts ask of each other -----------------------------------------------------

    def members(self) -> tuple[MemberView, ...]:
        """The present gossip view."""
        failure = self.parts.agents.failure if self.parts is not None else None
        return failure.swim.members() if failure is not None else ()

    def joined(self, cluster: ClusterId, generation: str) -> None:
        """This node belongs to a cluster now, with a seat if it has a journal generation."""
        self.place.cluster, self.place.generation = cluster, generation
        failure = self.parts.agents.failure if self.parts is not None else None
        if failure is not None:
            failure.post(UpdateMeta(self.meta()))

    def meta(self) -> NodeMeta:
        """What this node tells of itself by gossip."""
        expect = 0 if self.place.cluster else self.config.cluster.bootstrap_expect
        return NodeMeta(
            protocol_min=MINOR_MIN,
            protocol_max=MINOR_MAX,
            build=__version__,
            cluster_id=self.place.cluster,
            bootstrap_expect=expect,
            voter=bool(self.place.generation),
            witness=self.config.cluster.witness,
        )

    def verdict(self) -> Verdict:
        """May this side act, now?"""
        partition = self.parts.agents.partition if self.parts is not None else None
        if partition is None:
            return Verdict(Standing.QUORATE, 0, 0, 0, "the partition agent is switched off")
        return partition.verdict()


class _AgentBuilder:
    """Makes the agents, again and again: each factory builds a new one from scratch."""

    def __init__(self, node: Node, parts: Parts, stored_peers: bytes | None) -> None:
        self._node = node
        self._parts = parts
        self._stored_peers = stored_peers
        self._clock = node.world.clock
        self._log = node.recorder if node.keeps_records else None

    def specs(self) -> list[AgentSpec]:
        """The agents that are switched on, in the order of their starts."""
        on = self._node.config.agents
        wanted = (
            (on.failure, AgentSpec("failure", self.failure, mailbox_max=8_192)),
            (on.failure, AgentSpec("signals", self.signals, mailbox_max=8_192)),
            (on.discovery, AgentSpec("discovery", self.discovery)),
            (on.consistency, AgentSpec("consistency", self.consistency)),
            (on.partition, AgentSpec("partition", self.partition)),
        )
        return [spec for is_on, spec in wanted if is_on]

    def failure(self) -> FailureDetector:
        node = self._node
        me = Member(self._parts.me, node.name, self._parts.address, meta=node.meta())
        born = SwimBirth(
            config=membership_config(node.config.gossip),
            me=me,
            boot=self._parts.boot.hex(),
            rng=rng_state(node.world.entropy.stream("membership")),
            now=self._clock.now(),
        )
        self._parts.agents.failure = FailureDetector(
            tape=Tape.begin("failure", born, self._log),
            channel=self._parts.channel,
            streams=self._parts.streams,
            clock=self._clock,
        )
        return self._parts.agents.failure

    def signals(self) -> SignalRelay:
        life = self._node.world.entropy.token_bytes(8).hex()
        born = RelayBirth(node=self._parts.me, life=life, now=self._clock.now())
        relay = SignalRelay(
            me=self._parts.me,
            tape=Tape.begin("signals", born, self._log),
            streams=self._parts.streams,
            clock=self._clock,
            live_members=self._live_members,
            deliver=self._parts.bus.deliver,
        )
        self._parts.agents.signals = relay
        self._parts.bus.connect_relay(relay.publish)
        return relay

    def discovery(self) -> NodeDiscovery:
        born = PeersBirth(
            me=self._parts.me,
            own=self._parts.address,
            static=self._node.config.join_addresses,
            stored=self._stored_peers,
            now=self._clock.now(),
        )
        self._parts.agents.discovery = NodeDiscovery(tape=Tape.begin("discovery", born, self._log))
        return self._parts.agents.discovery

    def consistency(self) -> ConsistencyManager:
        node = self._node
        ports = Ports(
            me=self._parts.me,
            boot=self._parts.boot.hex(),
            world=node.world,
            streams=self._parts.streams,
            trace=node._trace,  # noqa: SLF001 (the builder is the node's own hand)
            recorder=self._log,
            notify=lambda notice: node.log("consistency", notice),
            address_of=self._address_of,
            live_voters=lambda: self._live_voters(with_witness=True),
            live_replicas=lambda: self._live_voters(with_witness=False),
            alive_since=self._alive_since,
            candidates=self._candidates,
            members=self._cluster_members,
            load_record=lambda name: self._parts.records.load("consistency", name),
            save_record=lambda record: self._parts.records.persist("consistency", record),
            verdict=node.verdict,
            joined=node.joined,
        )
        cluster = node.config.cluster
        self._parts.agents.consistency = ConsistencyManager(
            ports,
            expect=cluster.bootstrap_expect,
            voters=cluster.voters,
            replace_after_s=cluster.replace_voter_after_s,
            is_witness=cluster.witness,
        )
        return self._parts.agents.consistency

    def partition(self) -> NetworkPartitionHandler:
        quorum_size = self._node.config.partition.quorum_size
        agents = self._parts.agents
        assert agents.consistency is not None, "the configuration demands it"
        born = WatchBirth(me=self._parts.me, quorum_size=quorum_size, now=self._clock.now())
        self._parts.agents.partition = NetworkPartitionHandler(
            tape=Tape.begin("partition", born, self._log),
            quorum_size=quorum_size,
            evidence=lambda: agents.consistency.evidence(),  # type: ignore[union-attr]  # asserted
        )
        return self._parts.agents.partition

    # --- views of the membership ------------------------------------------------------------

    def _present(self) -> list[MemberView]:
        present = (MemberState.ALIVE, MemberState.SUSPECT)
        return [m for m in self._node.members() if m.id != self._parts.me and m.state in present]

    def _live_members(self) -> Mapping[NodeId, Address]:
        return {member.id: member.address for member in self._present()}

    def _address_of(self, node: NodeId) -> Address | None:
        failure = self._parts.agents.failure
        return failure.address_of(node) if failure is not None else None

    def _alive_since(self, node: NodeId) -> float | None:
        for member in self._node.members():
            if member.id == node and member.state is MemberState.ALIVE:
                return member.since
        return None

    def _live_voters(self, *, with_witness: bool) -> tuple[NodeId, ...]:
        return tuple(
            m.id for m in self._present() if m.meta.voter and (with_witness or not m.meta.witness)
        )

    def _cluster_members(self) -> Mapping[NodeId, Candidate]:
        return {
            member.id: Candidate(
                is_alive=member.state is MemberState.ALIVE,
                since=member.since,
                has_left=member.state is MemberState.LEFT,
                is_witness=member.meta.witness,
            )
            for member in self._node.members()
            if member.meta.cluster_id == self._node.place.cluster
        }

    def _candidates(self) -> CandidateView:
        present = self._present()
        candidates = {
            m.id: m.name for m in present if m.meta.bootstrap_expect and not m.meta.cluster_id
        }
        clusters = tuple(
            dict.fromkeys(ClusterId(m.meta.cluster_id) for m in present if m.meta.cluster_id)
        )
        return CandidateView(candidates, clusters)
