"""Our voters in the same scenarios: the product's guard, engine and journal on an event heap."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from muster.sim.machines.raft import RaftVoters
from muster.sim.machines.voter import SimVoter
from muster_protocol.effects import Effect
from muster_protocol.raftguard.events import (
    FrameReceived,
    ReadsConfirmed,
    Role,
    SendFrame,
    TransferLeadership,
)
from muster_protocol.types import NodeId
from muster_protocol.wire.codec import encode
from muster_protocol.wire.raft import Append, RaftFrame


@dataclass(frozen=True, slots=True)
class Sent:
    """One frame, and when it was sent."""

    at: float
    sender: NodeId
    receiver: NodeId
    frame: RaftFrame


class Voters(RaftVoters):
    """Bare voters that keep what they have sent."""

    def __init__(self, n: int = 3, *, seed: int = 1, **options: Any) -> None:
        self.sent: list[Sent] = []
        self.answered: list[tuple[str, int]] = []
        """Who answered a read, and as of which index."""
        self.applied_at_once = 0
        """The most entries that one event has applied."""
        self._applied_now = 0
        super().__init__(n, seed=seed, **options)

    def _send(self, node: SimVoter, effect: SendFrame) -> None:
        self.sent.append(Sent(self.now, node.id, effect.peer, effect.frame))
        super()._send(node, effect)

    def _perform(self, node: SimVoter, effect: Effect) -> None:
        if isinstance(effect, ReadsConfirmed):
            self.answered.append((node.name, effect.index))
        super()._perform(node, effect)

    def step(self, node: SimVoter, event: Any) -> None:
        self._applied_now = 0
        super().step(node, event)

    def _applied(self, node: SimVoter, index: int, data: bytes) -> None:
        self._applied_now += 1
        self.applied_at_once = max(self.applied_at_once, self._applied_now)
        super()._applied(node, index, data)

    def sent_by(self, node: SimVoter, kind: type[Any]) -> list[Any]:
        """Its frames of this kind."""
        mine = (sent.frame for sent in self.sent if sent.sender == node.id)
        return [frame for frame in mine if type(frame) is kind]

    def hears(self, receiver: SimVoter, sender: NodeId, frame: RaftFrame) -> None:
        """This frame arrives now, for the first time or again."""
        self.step(receiver, FrameReceived(sender, receiver.links[sender], frame))

    def silence(self, *ways: tuple[NodeId, NodeId]) -> None:
        """What is sent on these ways is lost, although the connections stay."""
        self.ways.cut.update(dict.fromkeys(ways))

    def silence_all(self, node: SimVoter) -> None:
        """It hears nobody, and nobody hears it."""
        for other in self.ids:
            if other != node.id:
                self.silence((node.id, other), (other, node.id))

    def steady(self) -> SimVoter:
        """Run until there is one leader that all follow."""
        assert self.run_until(self.now + 20.0, self._is_steady)
        return self.leaders()[0]

    def _is_steady(self) -> bool:
        leaders = self.leaders()
        return len(leaders) == 1 and all(n.core.leader == leaders[0].id for n in self.live())

    def steady_among(self, *away: SimVoter) -> SimVoter:
        """As `steady`, of those that are not away."""

        def leaders() -> list[SimVoter]:
            return [node for node in self.leaders() if node not in away]

        assert self.run_until(self.now + 20.0, lambda: len(leaders()) == 1)
        return leaders()[0]

    def hand_over(self) -> SimVoter:
        """Another one leads: who is cut off is sent the log from the end of this one's on, for it
        does not know what the other has."""
        before = max(self.leaders(), key=lambda node: node.core.term)
        self.step(before, TransferLeadership())
        return self.steady_among(before)

    def followers(self) -> list[SimVoter]:
        return [node for node in self.live() if node.core.role is not Role.LEADER]

    def write(self, *texts: str) -> None:
        """One after the other, on the leader of the greatest term; each is acknowledged."""
        for text in texts:
            leader = max(self.leaders(), key=lambda node: node.core.term)
            self.propose(leader, command(text))
            self._until_acknowledged(text)

    def _until_acknowledged(self, text: str) -> None:
        is_there = self.run_until(self.now + 5.0, lambda: self.is_acknowledged(text))
        assert is_there, f"{text} is not acknowledged"

    def is_acknowledged(self, text: str) -> bool:
        return command(text) in self.acknowledged

    def settle(self) -> SimVoter:
        """Everybody comes back, every way is open, and all that are there agree."""
        for node in self.ids:
            self.restart(node)
        self.heal()
        leader = self.steady()
        self.write("the last one")
        assert self.run_until(self.now + 10.0, self._is_level)
        assert self.lost() == []
        return leader

    def _is_level(self) -> bool:
        return len({node.history.digest for node in self.live()}) == 1

    def lost(self) -> list[bytes]:
        """What was acknowledged, and is missing somewhere."""
        applied = [dict(node.applied) for node in self.live()]
        return [
            data
            for data, index in self.acknowledged.items()
            if any(history.get(index) != data for history in applied)
        ]


def command(text: str) -> bytes:
    return encode(["test", text])


def append_from(leader: SimVoter, *, after: int, up_to: int) -> Append:
    """What this leader sends of its log."""
    journal = leader.journal
    entries = tuple(journal.entry_at(index) for index in range(after + 1, up_to + 1))
    term = journal.term_at(after)
    assert term is not None
    return Append(leader.core.term, journal.commit_index, after, term, entries)
