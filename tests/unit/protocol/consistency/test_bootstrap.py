"""Founding: once, whole, and never two clusters."""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest

from muster_protocol.consistency.bootstrap import (
    Answer,
    Answered,
    Ask,
    Asked,
    Bootstrap,
    CandidatesSeen,
    Found,
    FoundingDone,
    JoinCluster,
    Record,
    ResetRequested,
    load_record,
)
from muster_protocol.effects import DeadlineReached, Effect, Notify, Persist
from muster_protocol.errors import StorageCorrupt
from muster_protocol.types import ClusterId, NodeId
from muster_protocol.wire.bootstrap import Decide, Promised, Propose
from muster_protocol.wire.raft import Configuration, Voter


class Candidate:
    """A machine, its disk and what it founded."""

    def __init__(self, node_id: NodeId, expect: int, rng: random.Random) -> None:
        self.id, self.expect, self.rng = node_id, expect, rng
        self.disk: bytes | None = None
        self.founded: tuple[str, Configuration] | None = None
        self.joined: ClusterId | None = None
        self.notes: list[Notify] = []
        self.up = True
        self.boot(0.0)

    def boot(self, now: float) -> None:
        self.up = True
        self.machine = Bootstrap(
            me=self.id,
            expect=self.expect,
            record=load_record(self.disk, path="bootstrap"),
            founded=self.founded is not None,
            fresh_id=lambda: f"{self.rng.getrandbits(128):032x}",
            now=now,
        )


class Hall:
    """Candidates that talk; each message may be lost, anybody may crash."""

    def __init__(self, n: int, *, expect: int, seed: int = 0, loss: float = 0.0) -> None:
        self.rng = random.Random(seed)
        self.loss = loss
        self.now = 0.0
        self.nodes = {
            NodeId(f"{i + 1:032x}"): Candidate(NodeId(f"{i + 1:032x}"), expect, self.rng)
            for i in range(n)
        }
        self.queue: list[tuple[NodeId, Any]] = []
        self.tokens: dict[int, NodeId] = {}
        self.counter = itertools.count(1)

    def see(self, *, only: tuple[int, ...] | None = None) -> None:
        """Everybody sees everybody (or these positions) who is up."""
        ids = [n for i, n in enumerate(self.nodes) if only is None or i in only]
        up = [n for n in ids if self.nodes[n].up]
        clusters = tuple(
            dict.fromkeys(ClusterId(n.founded[0]) for n in self.nodes.values() if n.founded)
        )
        for node in up:
            others = {n: f"n{int(n, 16)}" for n in up if n != node and not self.nodes[n].founded}
            self.post(node, CandidatesSeen(others, clusters))

    def post(self, node: NodeId, event: Any) -> None:
        self.queue.append((node, event))

    def settle(self, for_s: float = 5.0) -> None:
        """Run until nothing happens for `for_s`."""
        stop = self.now + for_s
        while True:
            while self.queue:
                node, event = self.queue.pop(0)
                if self.nodes[node].up:
                    self._step(self.nodes[node], event)
            due = [
                (n.machine.deadline, n.id)
                for n in self.nodes.values()
                if n.up and n.machine.deadline is not None
            ]
            if not due or min(due)[0] > stop:
                self.now = stop
                return
            self.now = max(self.now, min(due)[0])
            self.post(min(due)[1], DeadlineReached())

    def _step(self, node: Candidate, event: Any) -> None:
        for effect in node.machine.handle(event, now=self.now):
            self._perform(node, effect)

    def _perform(self, node: Candidate, effect: Effect) -> None:
        if isinstance(effect, Persist):
            node.disk = effect.data
        elif isinstance(effect, Ask):
            if self.rng.random() >= self.loss:
                token = next(self.counter)
                self.tokens[token] = node.id
                self.post(effect.peer, Asked(node.id, effect.message, token))
        elif isinstance(effect, Answer):
            if self.rng.random() >= self.loss:
                self.post(self.tokens[effect.token], Answered(node.id, effect.message))
        elif isinstance(effect, Found):
            assert node.founded is None, "founded twice"
            node.founded = (effect.cluster, effect.configuration)
            self.post(node.id, FoundingDone())
        elif isinstance(effect, JoinCluster):
            node.joined = effect.cluster
        else:
            assert isinstance(effect, Notify)
            node.notes.append(effect)

    def clusters(self) -> list[str]:
        return sorted({n.founded[0] for n in self.nodes.values() if n.founded})


def test_three_candidates_found_one_cluster_with_one_configuration() -> None:
    hall = Hall(3, expect=3)
    hall.see()
    hall.settle()
    founded = [n.founded for n in hall.nodes.values()]
    assert all(founded)
    assert len(hall.clusters()) == 1
    configurations = [f[1] for f in founded if f]
    assert configurations[0] == configurations[1] == configurations[2]
    assert len(configurations[0].voters) == 3


def test_a_lone_candidate_founds_alone() -> None:
    hall = Hall(1, expect=1)
    hall.see()
    hall.settle()
    assert len(hall.clusters()) == 1


def test_too_few_wait() -> None:
    hall = Hall(2, expect=3)
    hall.see()
    hall.settle(60.0)
    assert hall.clusters() == []


def test_more_than_expected_refuse_and_are_named() -> None:
    hall = Hall(4, expect=3)
    hall.see()
    hall.settle(60.0)
    assert hall.clusters() == []
    (note,) = next(iter(hall.nodes.values())).notes
    assert note.event == "bootstrap.refused"
    assert len(note.fields["candidates"]) == 4


def test_a_node_that_sees_a_cluster_joins_it() -> None:
    hall = Hall(4, expect=3)
    hall.see(only=(0, 1, 2))
    hall.settle()
    hall.see()
    hall.settle()
    last = list(hall.nodes.values())[3]
    assert last.founded is None
    assert last.joined == hall.clusters()[0]


def test_overlapping_views_do_not_found_two_clusters() -> None:
    """1, 2, 3 see each other; so do 2, 3, 4: node 2 and 3 promise once."""
    hall = Hall(4, expect=3)
    hall.see(only=(0, 1, 2))
    hall.see(only=(1, 2, 3))
    hall.settle(120.0)
    assert len(hall.clusters()) <= 1


@pytest.mark.parametrize("seed", range(60))
def test_losses_and_crashes_never_found_two_and_end_with_one(seed: int) -> None:
    hall = Hall(3, expect=3, seed=seed, loss=0.3)
    hall.see()
    for _ in range(12):
        hall.settle(hall.rng.uniform(0.1, 2.0))
        node = hall.rng.choice(list(hall.nodes.values()))
        node.up = False
        hall.settle(hall.rng.uniform(0.1, 2.0))
        node.boot(hall.now)
        if hall.rng.random() < 0.5:
            hall.see()
        assert len(hall.clusters()) <= 1
    hall.loss = 0.0
    for _ in range(4):
        hall.see()
        hall.settle(40.0)
    assert len(hall.clusters()) == 1
    assert all(n.founded for n in hall.nodes.values())


def test_a_proposal_with_a_silent_founder_is_given_up_and_its_promises_are_void() -> None:
    hall = Hall(3, expect=3)
    ids = list(hall.nodes)
    hall.nodes[ids[2]].up = False
    hall.post(ids[1], CandidatesSeen({ids[0]: "n1", ids[2]: "n3"}, ()))
    hall.post(ids[0], CandidatesSeen({ids[1]: "n2", ids[2]: "n3"}, ()))
    hall.settle(10.0)
    assert hall.nodes[ids[1]].machine.record.proposal
    hall.settle(60.0)
    assert hall.clusters() == []
    assert not hall.nodes[ids[1]].machine.record.proposal
    hall.nodes[ids[2]].boot(hall.now)
    hall.see()
    hall.settle()
    assert len(hall.clusters()) == 1


def test_an_operator_can_void_a_promise_whose_proposer_is_lost() -> None:
    hall = Hall(3, expect=3)
    ids = list(hall.nodes)
    hall.nodes[ids[2]].up = False
    for node, others in ((ids[0], ids[1:]), (ids[1], [ids[0], ids[2]])):
        hall.post(node, CandidatesSeen(dict.fromkeys(others, "x"), ()))
    hall.settle(3.0)
    hall.nodes[ids[0]].up = False
    hall.settle(100.0)
    assert hall.nodes[ids[1]].machine.record.proposal
    hall.post(ids[1], ResetRequested())
    hall.settle(1.0)
    assert not hall.nodes[ids[1]].machine.record.proposal


def test_a_damaged_record_is_refused() -> None:
    assert load_record(None, path="bootstrap") == Record()
    with pytest.raises(StorageCorrupt, match="bootstrap"):
        load_record(b"\x01", path="bootstrap")


A, B = NodeId("a" * 32), NodeId("b" * 32)


def proposer() -> Bootstrap:
    """A machine that has asked B for its promise."""
    rng = random.Random(1)
    machine = Bootstrap(
        me=A,
        expect=2,
        record=Record(),
        founded=False,
        fresh_id=lambda: f"{rng.getrandbits(128):032x}",
        now=0.0,
    )
    machine.handle(CandidatesSeen({B: "b"}, ()), now=0.0)
    return machine


def promise_of_b(machine: Bootstrap) -> Answered:
    assert machine.record.proposal is not None
    return Answered(B, Promised(machine.record.proposal, "0" * 16))


def test_a_founding_that_takes_long_on_the_disk_is_not_begun_again() -> None:
    machine = proposer()
    effects = [
        *machine.handle(promise_of_b(machine), now=0.9),
        *machine.handle(DeadlineReached(), now=1.0),
    ]
    assert sum(isinstance(effect, Found) for effect in effects) == 1


def test_a_proposer_that_joins_another_cluster_does_not_found_its_own() -> None:
    machine = proposer()
    promise = promise_of_b(machine)
    joined = machine.handle(CandidatesSeen({B: "b"}, (ClusterId("c" * 32),)), now=0.5)
    assert any(isinstance(effect, JoinCluster) for effect in joined)
    late = machine.handle(promise, now=0.6)
    assert not any(isinstance(effect, Found) for effect in late)


def decided() -> Bootstrap:
    """A proposer that has every promise and is about to found."""
    machine = proposer()
    machine.handle(promise_of_b(machine), now=0.1)
    return machine


def hints(effects: tuple[Effect, ...]) -> list[str]:
    return [str(e.fields.get("hint", "")) for e in effects if isinstance(e, Notify)]


def test_only_a_promise_that_is_open_is_voided() -> None:
    """A way out is named only where it is one."""
    other = CandidatesSeen({B: "b"}, (ClusterId("c" * 32),))
    machine = decided()
    assert not machine.has_open_promise
    assert machine.handle(ResetRequested(), now=0.2) == ()
    (hint,) = hints(machine.handle(other, now=0.3))
    assert "reset" not in hint


def test_a_decision_with_another_journal_of_ours_is_not_accepted() -> None:
    """A promise that was voided and made again has another generation."""
    for generation in ("0" * 16, None):
        machine = proposer()
        ask = Propose("e" * 32, "d" * 32, (A, B))
        machine.handle(ResetRequested(), now=0.1)
        machine.handle(Asked(B, ask, 1), now=0.2)
        ours = machine.record.generation if generation is None else generation
        seats = Configuration((Voter(A, ours), Voter(B, "1" * 16)))
        answered = Answered(B, Decide("e" * 32, "d" * 32, seats))
        founds = [e for e in machine.handle(answered, now=0.3) if isinstance(e, Found)]
        assert len(founds) == (generation is None)
