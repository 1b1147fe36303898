"""One drawn run of Raft voters: faults at random, then everything is healed and they must agree
again.

What is on or off, and how often it comes, is drawn from the seed (see `sim.swarm` for why).
Checked at every step: election safety, durability of what is claimed, equal entries at equal
indexes, equal states after equal logs, that what is committed is on a majority, that reads are not
old. At the end: liveness, and that every acknowledged command is applied on every voter.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from muster.agents.consistency.compaction import SnapshotPolicy
from muster.sim.checkers.violated import Violated
from muster.sim.machines.raft import RaftVoters
from muster.sim.machines.reconfiguring import Reconfiguring
from muster.sim.machines.snapshots import SnapshotPlan
from muster.sim.machines.voter import SimVoter
from muster.storage.journal import SEGMENT_BYTES_MAX
from muster_protocol.raftguard.events import TransferLeadership
from muster_protocol.types import NodeId
from muster_protocol.wire.codec import encode

SIZES: Final = (3, 3, 3, 5, 5, 5, 2, 4, 1)
RECOVER_S: Final = 20.0
"""Some elections, each of at most 1.5 s, of which several may collide."""

PIECE_BYTES: Final = 400
PIECES_S_MAX: Final = 0.02
"""A snapshot of a long run has tens of pieces, and should arrive before the next one is due."""

SPLIT_VOTES: Final = 0.3
"""Share of runs that are about colliding elections, which other runs hardly ever have."""

OLD_ANSWERS: Final = 0.2
"""Share of runs that are about leaders who come back while answers to their old terms are still on
the way: that takes two elections over the same connections, which crashes and cuts end."""

FAULT_KINDS: Final = (
    "crash",
    "lose-unsynced",
    "crash-leader",
    "crash-all",
    "isolate",
    "isolate-one-way",
    "hold-way",
    "hold-minority",
    "transfer",
    "power-off-at-work",
)


FAILING_DISKS: Final = 0.25
"""Share of the runs in which syncs fail, and the power too: what a failed sync lost shows then."""


CHANGING_ELECTORATES: Final = 0.4
"""Share of the runs in which voters come and go; the others show sooner what has nothing to do with
that."""


WITNESSES: Final = 0.25
WITNESSES_OF_CHANGING: Final = 0.1
"""Share of the runs with a witness, and an even number of voters beside it: of those whose
electorate stays as it is, and of the others."""

RESTLESS: Final = 0.5
"""Share of the runs with a witness that are about what was begun and not finished."""


@dataclass(frozen=True)
class RaftOptions:
    """What was drawn. Times in seconds."""

    seed: int
    voters: int
    kinds: tuple[str, ...]
    fault_gap_s: float
    fault_s: float
    """Mean time until a fault ends."""

    request_gap_s: float
    sync_s_max: float
    frame_s_max: float
    is_fifo: bool
    repeated: float
    """Chance of a frame to come twice, where frames do not keep their order."""

    straggling: float
    """The same, to come much too late."""

    snapshots: SnapshotPlan
    for_s: float
    spares: int = 0
    """Nodes beside the founders, which get seats."""

    change_gap_s: float = 0.0
    """Mean time between changes of the electorate, where there are spares."""

    with_witness: bool = False
    """There is a witness beside the voters."""


def draw(seed: int, *, for_s: float = 15.0) -> RaftOptions:
    """The options of this seed."""
    options, is_changing = _draw(seed, for_s), False
    rng = random.Random(f"{seed}/electorate")
    if rng.random() < CHANGING_ELECTORATES:
        spares, gap_s = rng.choice((1, 2, 3)), rng.choice((0.1, 0.5, 2.0))
        options, is_changing = replace(options, spares=spares, change_gap_s=gap_s), True
    rng = random.Random(f"{seed}/witness")
    if rng.random() >= (WITNESSES_OF_CHANGING if is_changing else WITNESSES):
        return options
    options = replace(options, voters=rng.choice((2, 2, 2, 4)), with_witness=True)
    return _restless(rng, options) if rng.random() < RESTLESS else options


def _restless(rng: random.Random, options: RaftOptions) -> RaftOptions:
    """Leaders go before what they have begun is committed, and what was not synced is lost."""
    return replace(
        options,
        kinds=("crash-leader", "lose-unsynced", "isolate"),
        fault_gap_s=rng.choice((0.3, 1.0)),
        fault_s=rng.choice((0.5, 1.5)),
        request_gap_s=rng.uniform(0.01, 0.05),
        sync_s_max=rng.choice((0.02, 0.3)),
        frame_s_max=rng.choice((0.003, 0.05)),
    )


def _draw(seed: int, for_s: float) -> RaftOptions:
    rng = random.Random(seed)
    kinds = tuple(kind for kind in FAULT_KINDS if rng.random() < 0.6)
    focus = rng.random()
    if focus < SPLIT_VOTES:
        return _split_votes(rng, seed, for_s)
    if focus < SPLIT_VOTES + OLD_ANSWERS:
        return _old_answers(rng, seed, for_s)
    if random.Random(f"{seed}/disks").random() < FAILING_DISKS:
        kinds = (*kinds, "fail-sync", "lose-unsynced")
    return RaftOptions(
        seed=seed,
        voters=rng.choice(SIZES),
        kinds=kinds or (rng.choice(FAULT_KINDS),),
        fault_gap_s=rng.choice((0.3, 1.0, 3.0)),
        fault_s=rng.choice((0.1, 0.5, 3.0)),
        request_gap_s=rng.uniform(0.01, 0.1),
        sync_s_max=rng.choice((0.002, 0.02, 0.02, 0.3)),
        frame_s_max=rng.choice((0.001, 0.003, 0.05, 0.4)),
        is_fifo=rng.random() < 0.5,
        repeated=rng.choice((0.0, 0.1, 0.5)),
        straggling=rng.choice((0.0, 0.02, 0.2)),
        snapshots=_snapshots(rng, seed),
        for_s=for_s,
    )


def _snapshots(rng: random.Random, seed: int) -> SnapshotPlan:
    """Every other run takes some: a log that is whole hides what a trimmed one has to get right,
    and shows other things sooner."""
    every, keep = rng.choice((5, 20, 100)), rng.choice((0, 3, 30))
    segment_bytes_max = rng.choice((300, 2_000, SEGMENT_BYTES_MAX))
    work_s_max, transfer_s_max = rng.choice((0.01, 0.3)), rng.choice((0.02, 0.5, 3.0))
    power_failing = rng.choice((0.0, 0.02, 0.2))
    if rng.random() < 0.5:
        return SnapshotPlan()
    policy = SnapshotPolicy(
        every_entries=every, every_bytes=10**6, keep_entries=keep, keep_bytes=10**6
    )
    pieces = SnapshotPlan(policy, segment_bytes_max, work_s_max, transfer_s_max, power_failing)
    if transfer_s_max > PIECES_S_MAX or random.Random(f"{seed}/pieces").random() < 0.5:
        return pieces
    return replace(pieces, piece_bytes=PIECE_BYTES)


def _split_votes(rng: random.Random, seed: int, for_s: float) -> RaftOptions:
    """Leaders die all the time, and frames take longer than the jitter that keeps pre-votes apart:
    several campaign in one term, and what was said in it arrives late or twice."""
    return RaftOptions(
        seed=seed,
        voters=5,
        kinds=("crash-leader",),
        fault_gap_s=1.0,
        fault_s=0.5,
        request_gap_s=0.1,
        sync_s_max=0.02,
        frame_s_max=0.4,
        is_fifo=False,
        repeated=rng.choice((0.0, 0.5, 0.9)),
        straggling=rng.choice((0.0, 0.1, 0.3)),
        snapshots=_snapshots(rng, seed),
        for_s=2 * for_s,
    )


def _old_answers(rng: random.Random, seed: int, for_s: float) -> RaftOptions:
    """Nothing but comebacks: all connections stay, and answers are as late as can be."""
    return RaftOptions(
        seed=seed,
        voters=5,
        kinds=("comeback",),
        fault_gap_s=3.0,
        fault_s=2.0,
        request_gap_s=rng.choice((0.02, 0.05)),
        sync_s_max=0.02,
        frame_s_max=rng.choice((0.003, 0.05)),
        is_fifo=rng.random() < 0.5,
        repeated=0.0,
        straggling=0.0,
        snapshots=_snapshots(rng, seed),
        for_s=2 * for_s,
    )


class RaftRun:
    """Runs the options of one seed."""

    def __init__(self, options: RaftOptions) -> None:
        self._options = options
        self.voters = RaftVoters(
            options.voters,
            seed=options.seed,
            sync_s_max=options.sync_s_max,
            frame_s=(0.0002, options.frame_s_max),
            is_fifo=options.is_fifo,
            repeated=0.0 if options.is_fifo else options.repeated,
            straggling=0.0 if options.is_fifo else options.straggling,
            snapshots=options.snapshots,
            spares=options.spares,
            with_witness=options.with_witness,
        )
        electorate = random.Random(f"{options.seed}/changes")
        self.reconfiguring = Reconfiguring(self.voters, electorate)
        self._rng = random.Random(f"{options.seed}/faults")
        self._requests = 0
        self._faults: Mapping[str, Callable[[NodeId], None]] = {
            "crash": functools.partial(self._crash, lose_unsynced=False),
            "lose-unsynced": functools.partial(self._crash, lose_unsynced=True),
            "crash-leader": self._crash_leader,
            "crash-all": self._crash_all,
            "isolate": functools.partial(self._isolate, one_way=False),
            "isolate-one-way": functools.partial(self._isolate, one_way=True),
            "hold-way": self._hold_way,
            "hold-minority": self._hold_minority,
            "transfer": self._transfer,
            "comeback": self._comeback,
            "power-off-at-work": self._power_off_at_work,
            "fail-sync": self._fail_sync,
        }
        self.voters.on_power_failed = self._power_failed

    def run(self) -> None:
        """Errors: Violated."""
        voters = self.voters
        voters.at(1.0, self._request)
        voters.at(2.0, self._fault)
        if self._options.spares:
            voters.at(2.0, self._change)
        voters.run_until(self._options.for_s)
        voters.drop(self._request, self._fault, self._change)
        self._nothing_is_lost(self._recover())

    # --- the safety phase -----------------------------------------------------------------------

    def _request(self) -> None:
        for leader in self.voters.leaders():
            self._requests += 1
            self.voters.propose(leader, _command(leader, self._requests))
        for leader in self.voters.leaders():
            self.voters.read(leader)
        self.voters.at(self._rng.expovariate(1.0 / self._options.request_gap_s), self._request)

    def _fault(self) -> None:
        kind = self._rng.choice(self._options.kinds)
        self._faults[kind](self._rng.choice(self._parties()))
        self.voters.at(self._rng.expovariate(1.0 / self._options.fault_gap_s), self._fault)

    def _change(self) -> None:
        self.reconfiguring.change()
        self.voters.at(self._rng.expovariate(1.0 / self._options.change_gap_s), self._change)

    def _crash_all(self, _: NodeId) -> None:
        for each in self._parties():
            self._crash(each, lose_unsynced=True)

    def _crash_leader(self, _: NodeId) -> None:
        for leader in self.voters.leaders():
            self._crash(leader.id, lose_unsynced=self._rng.random() < 0.5)

    def _isolate(self, node: NodeId, *, one_way: bool) -> None:
        self.voters.isolate(node, one_way=one_way)
        self.voters.at(self._lasts_s(), self.voters.heal)

    def _hold_way(self, node: NodeId) -> None:
        """To or from a leader, usually: that is where the frames are."""
        others = [leader for leader in self._leader_ids() if leader != node]
        for other in others or [self._rng.choice(self._parties())]:
            way = (node, other) if self._rng.random() < 0.5 else (other, node)
            self.voters.hold((way,), self._lasts_s())

    def _hold_minority(self, node: NodeId) -> None:
        for leader in self._leader_ids() or [node]:
            self._hold_off(leader, self._lasts_s())

    def _hold_off(self, leader: NodeId, for_s: float) -> list[NodeId]:
        """A leader and as many more as do not make a majority, from all others and back; returns
        who is with it."""
        others = [each for each in self._parties() if each != leader]
        few = self._rng.sample(others, max(0, (len(others) - 2) // 2))
        many = [each for each in others if each not in few]
        ways = [way for one in (leader, *few) for two in many for way in ((one, two), (two, one))]
        self.voters.hold(ways, for_s)
        return few

    def _comeback(self, _: NodeId) -> None:
        """A leader is held off with its few followers until others have elected another one, and
        gets the leadership back by transfers. The answers of the few take all that time."""
        for leader in self._leader_ids():
            off_s, back_s = self._rng.uniform(1.2, 2.5), self._rng.uniform(1.0, 3.0)
            few = self._hold_off(leader, off_s)
            self.voters.hold([(each, leader) for each in few], off_s + back_s)
            until = self.voters.now + off_s + back_s
            self.voters.at(off_s, self._transfer_to, leader, few, until)

    def _transfer_to(self, node: NodeId, few: list[NodeId], until: float) -> None:
        """Leaders hand over to whom they like, so again and again. Then the few do not hear the one
        that is back, and as many others as it could do without if those few still counted."""
        if node in self._leader_ids():
            others = [each for each in self._parties() if each not in (node, *few)]
            hearing = self._rng.randint(1, max(1, len(few)))
            deaf = self._rng.sample(others, max(0, len(others) - hearing))
            self.voters.hold([(node, each) for each in (*few, *deaf)], self._lasts_s())
        elif self.voters.now < until:
            self._transfer(node)
            self.voters.at(0.1, self._transfer_to, node, few, until)

    def _transfer(self, _: NodeId) -> None:
        for leader in self.voters.leaders():
            self.voters.step(leader, TransferLeadership())

    def _power_off_at_work(self, node: NodeId) -> None:
        if node in self.voters.nodes:
            self.voters.nodes[node].disk.power_off_in(self._rng.randrange(12))

    def _fail_sync(self, node: NodeId) -> None:
        if node in self.voters.nodes:
            self.voters.fail_sync(node)

    def _power_failed(self, node: NodeId) -> None:
        self.voters.at(self._lasts_s(), self.voters.restart, node)

    def _leader_ids(self) -> list[NodeId]:
        return [leader.id for leader in self.voters.leaders()]

    def _parties(self) -> list[NodeId]:
        """Who can be hurt."""
        witness = self.voters.witness
        return [*self.voters.nodes, *([witness.id] if witness is not None else ())]

    def _crash(self, node: NodeId, *, lose_unsynced: bool) -> None:
        if self.voters.is_up(node):
            self.voters.crash(node, lose_unsynced=lose_unsynced)
            self.voters.at(self._lasts_s(), self.voters.restart, node)

    def _lasts_s(self) -> float:
        return self._rng.expovariate(1.0 / self._options.fault_s)

    # --- the liveness phase ---------------------------------------------------------------------

    def _recover(self) -> SimVoter:
        """The leader under which all agree. Errors: Violated."""
        voters = self.voters
        voters.release()
        voters.snapshots.power_failing = 0.0
        voters.stop_failing()
        for node in list(voters.nodes):
            voters.nodes[node].disk.power_off_in(None)
            voters.restart(node)
        if voters.witness is not None:
            voters.restart(voters.witness.id)
        voters.heal()
        deadline = voters.now + RECOVER_S
        while voters.now < deadline:
            if not voters.run_until(deadline, lambda: self._leader() is not None):
                break
            leader = self._leader()
            assert leader is not None
            self._requests += 1
            last = _command(leader, self._requests)
            voters.propose(leader, last)
            is_there = functools.partial(self._is_everywhere, last, leader)
            if voters.run_until(voters.now + 2.0, is_there):
                return leader
        raise Violated("liveness", f"no agreement within {RECOVER_S:.0f} s of the heal")

    def _leader(self) -> SimVoter | None:
        leaders = self.voters.leaders()
        if len(leaders) != 1:
            return None
        seated = self.reconfiguring.seated(leaders[0])
        is_followed = all(node.core.leader == leaders[0].id for node in seated)
        return leaders[0] if is_followed else None

    def _is_everywhere(self, command: bytes, leader: SimVoter) -> bool:
        return all(
            node.up and any(data == command for _, data in node.applied[-5:])
            for node in self.reconfiguring.seated(leader)
        )

    def _nothing_is_lost(self, leader: SimVoter) -> None:
        for node in self.reconfiguring.seated(leader):
            applied = dict(node.applied)
            for command, index in self.voters.acknowledged.items():
                if applied.get(index) != command:
                    raise Violated("acknowledged", f"index {index} is lost on {node.id[-2:]}")


def _command(leader: SimVoter, number: int) -> bytes:
    return encode(["command", leader.id[-2:], number])
