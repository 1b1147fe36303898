"""One simulated run, from a plan to a report.

    found  →  safety: clients ask, faults happen, checkers look  →  heal  →  liveness: it must
    recover →  quiescence: replicas are equal, nothing acknowledged is lost, the history is
    linearizable

A plan and the code determine the run to the last byte; the report says so by the digest of the
event log. Nothing in a report is of real time.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar

import msgspec
import trio

from muster.entropy import SeededEntropy
from muster.sim.checkers.expectations import Expected, Seen, as_expected, longest_gap_s
from muster.sim.checkers.judgement import judge
from muster.sim.checkers.violated import Violated
from muster.sim.checkers.wording import timeline
from muster.sim.cluster import SIZE_MAX, SimCluster, SimNode
from muster.sim.deterministic import run_seeded
from muster.sim.eventlog import EventLog, payload
from muster.sim.faults import AnyFault, describe
from muster.sim.history import History, HistoryRecorder
from muster.sim.injector import Injector
from muster.sim.network import Link
from muster.sim.watch import LOOK_S, Watch
from muster.sim.workload import Clients, Told, Workload
from muster_protocol.errors import ConfigError, UsageError, first_of

if TYPE_CHECKING:
    from muster_protocol.effects import Notify
    from muster_protocol.types import Address

T = TypeVar("T")

FOUNDING_S: Final = 60.0
QUIET_S: Final = 30.0
PROBE_S: Final = 1.0
"""Between two looks at whether the cluster has recovered."""

NOTABLE: Final = (
    "raft.role.changed",
    "partition.minority",
    "partition.majority",
    "agent.failed",
    "agent.parked",
    "journal.torn.tail.cut",
    "raft.snapshot.failed",
    "raft.disk.stuck",
    "bootstrap.decided",
    "recorder.failed",
    "process.ended",
)
"""What nodes say that stands in the timeline; the event log has all."""


class Timed(msgspec.Struct, frozen=True, kw_only=True):
    """A fault and when it begins, in seconds after the founding."""

    at_s: Annotated[float, msgspec.Meta(ge=0)]
    fault: AnyFault


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """All that determines a run, and what is expected of it."""

    seed: str
    name: str = ""
    nodes: Annotated[int, msgspec.Meta(ge=1, le=SIZE_MAX)] = 3
    witness: bool = False
    """The last node is one."""

    for_s: Annotated[float, msgspec.Meta(gt=0)] = 60.0
    """Of the safety phase."""

    recover_s: Annotated[float, msgspec.Meta(gt=0)] = 60.0
    """Within which the cluster must be whole again when the faults have ended."""

    link: Link = Link()
    clock_ppm: Annotated[float, msgspec.Meta(ge=0, le=10_000)] = 0.0
    """How much monotonic clocks run fast or slow at most, each differently."""

    workload: Workload = Workload()
    faults: tuple[Timed, ...] = ()
    expect: Expected = Expected()
    config_file: str | None = None


class Moment(msgspec.Struct, frozen=True):
    """One line of the timeline."""

    at_s: float
    where: str
    what: str


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a run. `verdict`: ok, violated (an invariant), crashed (the daemon), or
    undecided (nothing is wrong, but the history took too long to be judged)."""

    schema: str = "muster.simulation/1"
    seed: str
    name: str
    nodes: int
    verdict: str
    checker: str = ""
    what: str = ""
    virtual_s: float
    recovered_after_s: float | None = None
    operations_ok: int
    operations_failed: int
    operations_unknown: int
    attempts_repeated: int
    history: str
    """linearizable, not linearizable, unknown, or "" where it was not judged."""

    leaders: int
    entries_committed: int
    packets: int
    packets_lost: int
    events: int
    events_sha256: str
    timeline: tuple[Moment, ...]
    plan: dict[str, Any]
    """What was drawn, or stood in the scenario; no path is in it."""


class Simulation:
    """Runs one plan, once."""

    def __init__(
        self,
        plan: Plan,
        *,
        write_line: Callable[[str], object] | None = None,
        on_moment: Callable[[Moment], object] | None = None,
        on_progress: Callable[[float], object] | None = None,
    ) -> None:
        """`write_line` takes every line of the event log, `on_moment` the timeline as it grows,
        `on_progress` the virtual time, a few times in each of its seconds."""
        self._plan = plan
        self._entropy = SeededEntropy(plan.seed)
        self._on_moment = on_moment
        self._on_progress = on_progress
        self._timeline: list[Moment] = []
        self._recovered_after_s: float | None = None
        write = functools.partial(self._observe, write_line) if write_line is not None else None
        self.log = EventLog(trio.current_time, write=write)
        self._told = Told()
        self._linearizability = ""
        self._why_undecided = ""
        self._observer_failed: OSError | None = None
        self._watch: Watch | None = None
        self._cluster: SimCluster | None = None
        self._virtual_s = self._founded_at = self._ended_at = 0.0
        self.crash: Exception | None = None
        self.history = HistoryRecorder()

    def run(self) -> Report:
        """Do it. Errors: UsageError for a fault at a node that there is not, ConfigError for the
        nodes' configuration. A bug of a node, or of the simulator, is the verdict "crashed", and
        kept in `crash`."""
        failed: Exception | None = None
        try:
            run_seeded(self._run, seed=self._plan.seed)
        except* KeyboardInterrupt:
            raise KeyboardInterrupt from None
        except* Violated as group:
            failed = first_of(group)
        except* (UsageError, ConfigError) as group:
            raise first_of(group) from None
        except* Exception as group:  # noqa: BLE001 (whatever it is, the run has found it)
            if self._observer_failed is not None:
                raise self._observer_failed from None
            failed = self.crash = first_of(group)
        return self._report(failed)

    # --- the phases -----------------------------------------------------------------------------

    async def _run(self) -> None:
        plan = self._plan
        async with trio.open_nursery() as nursery:
            self._cluster = cluster = SimCluster(
                nursery,
                plan.nodes,
                has_witness=plan.witness,
                seed=plan.seed,
                link=plan.link,
                clock_ppm=plan.clock_ppm,
                config_file=plan.config_file,
                log=self._note,
                on_delivery=self._delivered,
            )
            for sim in cluster.nodes:
                sim.host.disk.on_sync = functools.partial(self._synced, sim)
            self._watch = watch = Watch(cluster)
            clients = self._clients(cluster, watch)
            injector = Injector(cluster, self._entropy.stream("faults"), nursery)
            nursery.start_soon(self._look, watch)
            try:
                await cluster.start()
                await self._founded(watch)
                await self._safety(injector, clients)
                await self._liveness(injector, watch, clients)
                await self._quiescence(watch)
            finally:
                self._virtual_s = trio.current_time()
                cluster.let_go()
            nursery.cancel_scope.cancel()

    async def _founded(self, watch: Watch) -> None:
        await _within(
            FOUNDING_S,
            lambda: not watch.not_recovered(),
            lambda: "no cluster was founded: " + "; ".join(watch.not_recovered()),
        )
        self._founded_at = trio.current_time()
        self._tell("cluster", f"founded, led by {self._leader_name()}")

    def _clients(self, cluster: SimCluster, watch: Watch) -> Clients:
        clients = Clients(
            cluster,
            self._plan.workload,
            rng=self._entropy.stream("clients"),
            history=self.history,
            acknowledged=watch.acknowledged,
        )
        self._told = clients.told
        return clients

    async def _safety(self, injector: Injector, clients: Clients) -> None:
        with trio.move_on_after(self._plan.for_s):
            async with trio.open_nursery() as phase:
                phase.start_soon(clients.run)
                for timed in self._plan.faults:
                    phase.start_soon(self._fault, injector, timed)
                await trio.sleep_forever()

    async def _fault(self, injector: Injector, timed: Timed) -> None:
        await trio.sleep(timed.at_s)
        what = describe(timed.fault)
        undo, whom = await injector.begin(timed.fault)
        self._tell("fault", f"{what} ({whom or 'nobody'})")
        await trio.sleep(timed.fault.for_s)
        await undo()
        self._tell("fault", f"ends: {what}")

    async def _liveness(self, injector: Injector, watch: Watch, clients: Clients) -> None:
        self._tell("cluster", "all faults end")
        self._ended_at = trio.current_time()
        healed_at = trio.current_time()
        await injector.heal_all()
        await _within(
            self._plan.recover_s,
            lambda: not watch.not_recovered(),
            lambda: "not recovered: " + "; ".join(watch.not_recovered()),
        )
        self._recovered_after_s = round(trio.current_time() - healed_at, 3)
        self._tell("cluster", f"recovered, led by {self._leader_name()}")
        assert self._cluster is not None
        for sim in self._cluster.nodes:
            session = self._entropy.stream(f"proof {sim.name}").randbytes(16).hex()
            if not await clients.prove(sim, session):
                raise Violated("liveness", f"{sim.name} does not answer a write and a read")

    async def _quiescence(self, watch: Watch) -> None:
        await _within(QUIET_S, watch.is_quiet, "the replicas do not come level")
        watch.check_state()
        self._judge()
        assert self._cluster is not None
        as_expected(self._plan.expect, self._seen(watch))

    def _seen(self, watch: Watch) -> Seen:
        """What happened, as far as somebody may have expected something else."""
        return Seen(
            leaders=watch.elections.terms,
            refused=self._told.failed,
            unanswered_s=longest_gap_s(self.history.operations(), self._founded_at, self._ended_at),
            failed_alive=watch.failed_alive,
        )

    def _judge(self) -> None:
        """Is what the clients saw linearizable? Errors: Violated."""
        judgement = judge(History("registry", self.history.operations()))
        self._linearizability = judgement.verdict.value
        self._why_undecided = judgement.why_unknown
        if judgement.explanation is not None:
            why = judgement.explanation
            told = "; ".join(line.strip() for line in timeline(why.operations))
            raise Violated("linearizability", f"key {why.key}: {why.why} {told}")

    # --- what is seen ---------------------------------------------------------------------------

    async def _look(self, watch: Watch) -> None:
        while True:
            watch.look()
            if self._on_progress is not None:
                self._observe(self._on_progress, trio.current_time())
            if self._observer_failed is not None:
                raise self._observer_failed
            await trio.sleep(LOOK_S)

    def _observe(self, tell: Callable[[T], object], what: T) -> None:
        """Most of this is told in the middle of what a node does, which must not feel that a disk
        is full, or that the reader of a pipe has gone: the run ends with its next look."""
        if self._observer_failed is None:
            try:
                tell(what)
            except OSError as error:
                self._observer_failed = error

    def _note(self, sim: SimNode, part: str, note: Notify) -> None:
        fields = " ".join(f"{name}={value}" for name, value in note.fields.items())
        self.log.add(sim.name, "note", f"{part} {note.event} {fields}")
        if note.event in NOTABLE:
            self._tell(sim.name, f"{note.event} {fields}")
        assert self._watch is not None
        self._watch.note(sim, note)

    def _delivered(self, kind: str, source: Address, target: Address, data: bytes) -> None:
        self.log.add(_name_at(target), kind, f"{_name_at(source)} {payload(data)}")

    def _synced(self, sim: SimNode, name: str, data: bytes) -> None:
        self.log.add(sim.name, "sync", f"{name} {payload(data)}")

    def _tell(self, where: str, what: str) -> None:
        self.log.add(where, "moment", what)
        moment = Moment(round(trio.current_time(), 3), where, what)
        self._timeline.append(moment)
        if self._on_moment is not None:
            self._observe(self._on_moment, moment)

    def _leader_name(self) -> str:
        assert self._cluster is not None
        leader = self._cluster.leader()
        return leader.name if leader is not None else "nobody"

    def _report(self, failed: Exception | None) -> Report:
        verdict, checker, what = "ok", "", ""
        if isinstance(failed, Violated):
            verdict, checker, what = "violated", failed.checker, failed.what
        elif failed is not None:
            verdict, checker, what = "crashed", type(failed).__name__, str(failed)
        elif self._why_undecided:
            verdict, checker, what = "undecided", "linearizability", self._why_undecided
        assert self._watch is not None
        assert self._cluster is not None
        network = self._cluster.fabric.statistics()
        return Report(
            seed=self._plan.seed,
            name=self._plan.name,
            nodes=self._plan.nodes,
            verdict=verdict,
            checker=checker,
            what=what,
            virtual_s=round(self._virtual_s, 3),
            recovered_after_s=self._recovered_after_s,
            operations_ok=self._told.ok,
            operations_failed=self._told.failed,
            operations_unknown=self._told.unknown,
            attempts_repeated=self._told.repeated,
            history=self._linearizability,
            leaders=self._watch.elections.terms,
            entries_committed=self._watch.prefixes.entries,
            packets=network.sent,
            packets_lost=network.lost + network.cut,
            events=self.log.lines,
            events_sha256=self.log.digest(),
            timeline=tuple(self._timeline),
            plan=msgspec.to_builtins(msgspec.structs.replace(self._plan, config_file=None)),
        )


def _name_at(address: Address) -> str:
    """A node's name by its address: see `SimCluster`."""
    return f"n{address.host.rpartition('.')[2]}"


async def _within(
    seconds: float, condition: Callable[[], bool], what: str | Callable[[], str]
) -> None:
    """Errors: Violated("liveness") when time is up."""
    deadline = trio.current_time() + seconds
    while not condition():
        if trio.current_time() > deadline:
            raise Violated("liveness", what if isinstance(what, str) else what())
        await trio.sleep(PROBE_S)
