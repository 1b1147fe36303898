"""What is said of survivors is true in every history of a Raft that is drawn.

The model has logs, elections by those that have no more, appends that cut conflicts off, and
commits of a leader's own term. Acknowledged is what was committed.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from muster_protocol.raftguard.survivors import Survey, rank
from muster_protocol.wire.raft import Voter

Entry = tuple[int, int]


@dataclass
class Model:
    """`count` voters. An entry is (term, a number of its own)."""

    count: int
    term: int = 0
    leader: int | None = None
    made: int = 0
    logs: list[list[Entry]] = field(default_factory=list)
    committed: list[Entry] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.logs = [[(0, 0)] for _ in range(self.count)]

    @property
    def majority(self) -> int:
        return self.count // 2 + 1

    def rank_of(self, node: int) -> tuple[int, int]:
        return self.logs[node][-1][0], len(self.logs[node])

    def elect(self, node: int) -> None:
        support = [n for n in range(self.count) if self.rank_of(n) <= self.rank_of(node)]
        if len(support) >= self.majority:
            self.term, self.leader = self.term + 1, node

    def append(self) -> None:
        if self.leader is not None:
            self.made += 1
            self.logs[self.leader].append((self.term, self.made))

    def replicate(self, to: int, count: int) -> None:
        if self.leader is None or to == self.leader:
            return
        sent = self.logs[self.leader][: count + 1]
        if self.logs[to][: len(sent)] != sent:
            self.logs[to] = list(sent)

    def commit(self) -> None:
        if self.leader is None:
            return
        log = self.logs[self.leader]
        for end in range(len(log), len(self.committed), -1):
            holders = sum(other[:end] == log[:end] for other in self.logs)
            if log[end - 1][0] == self.term and holders >= self.majority:
                assert log[: len(self.committed)] == self.committed, "the model is no Raft"
                self.committed = log[:end]
                return

    def survey(self, node: int) -> Survey:
        term, length = self.rank_of(node)
        return Survey(
            name=str(node),
            node=f"{node:032x}",
            cluster="c" * 32,
            generation=f"{node:016x}",
            term=self.term,
            last_term=term,
            last_index=length,
            committed_index=1,
            revision=0,
            keys=0,
            voters=tuple(Voter(f"{n:032x}", f"{n:016x}") for n in range(self.count)),
            electorate_index=1,
        )


@st.composite
def histories(draw: st.DrawFn) -> tuple[Model, list[int]]:
    """Reigns: somebody is elected, if he may be, appends, and reaches some of the others."""
    model = Model(draw(st.integers(2, 5)))
    nodes = st.integers(0, model.count - 1)
    reign = st.tuples(nodes, st.integers(0, 3), st.lists(st.tuples(nodes, st.integers(1, 9))))
    for node, appends, reached in draw(st.lists(reign, min_size=1, max_size=8)):
        model.elect(node)
        for _ in range(appends):
            model.append()
        for to, count in reached:
            model.replicate(to, count)
            model.commit()
    survivors = draw(st.lists(nodes, min_size=1, unique=True))
    return model, survivors


@given(histories())
@settings(max_examples=600, deadline=None)
def test_no_other_survivor_has_something_acknowledged_that_the_best_has_not(
    history: tuple[Model, list[int]],
) -> None:
    model, survivors = history
    best = model.logs[int(rank([model.survey(node) for node in survivors]).best.name)]
    for node in survivors:
        held = [entry for entry in model.logs[node] if entry in model.committed]
        assert all(entry in best for entry in held)


@given(histories())
@settings(max_examples=600, deadline=None)
def test_nothing_acknowledged_is_missing_where_it_is_said_so(
    history: tuple[Model, list[int]],
) -> None:
    model, survivors = history
    ranking = rank([model.survey(node) for node in survivors])
    if not ranking.may_lose_acknowledged:
        assert model.logs[int(ranking.best.name)][: len(model.committed)] == model.committed


def test_what_may_be_lost_can_be_lost() -> None:
    """The dead majority of three had acknowledged an entry among themselves."""
    model = Model(3)
    model.elect(0)
    model.append()
    model.replicate(1, 9)
    model.commit()
    ranking = rank([model.survey(2)])
    assert ranking.may_lose_acknowledged
    assert model.committed[-1] not in model.logs[2]
