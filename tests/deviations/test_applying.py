"""Applying committed entries, and telling who waits for it (D16-D19, D29-D31, D34)."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest
import trio

from deviations.ours import Voters, command
from deviations.stock import LIBRARY, NodeName, StockCluster, StockNode, lock_table, way
from deviations.table import deviation
from muster.agents.consistency.proposals import Proposals
from muster.agents.consistency.raft.core import APPLY_BYTES_MAX, APPLY_ENTRIES_MAX
from muster.agents.consistency.replica import Replica
from muster.clock import TrioClock
from muster.sim.machines.voter import SimVoter
from muster_protocol.consistency.commands import (
    Batch,
    Command,
    Delete,
    Done,
    Get,
    List,
    Put,
    Rejected,
    Result,
)
from muster_protocol.consistency.registry import Registry
from muster_protocol.errors import OutcomeUnknown, RemoteError
from muster_protocol.limits import BATCH_BYTES_MAX
from muster_protocol.raftguard.events import TransferLeadership
from muster_protocol.raftguard.progress import SEND_WINDOW_BYTES
from muster_protocol.raftguard.translation import check_command
from muster_protocol.types import NodeId
from muster_protocol.wire.codec import Decoder, encode
from muster_protocol.wire.raft import Append, Entry

Stock = Callable[..., StockCluster]
CHUNK_BYTES = 65_536
"""How the library cuts a large entry (`appendEntriesBatchSizeBytes`)."""


def put(number: int, key: str) -> Command:
    return Command(f"{number:032x}", 1, 0, 0.0, Put(key, b"v"))


class Explosive(StockNode):
    """Has a bug."""

    @LIBRARY.replicated  # type: ignore[untyped-decorator]  # the library has no types
    def boom(self) -> None:
        raise KeyError("a bug")


class Faulty(Registry):
    """Has a bug."""

    def apply(self, command: Command) -> Result:
        if isinstance(command.operation, Put) and command.operation.key == "boom":
            raise KeyError("a bug")
        return super().apply(command)


@deviation(
    16,
    stock="every node raises at every tick, for ever and after a restart; nothing is applied",
    ours="the command is rejected, what stands beside and behind it is applied",
)
def test_d16_an_exception_in_a_replicated_method_stops_everybody(stock: Stock) -> None:
    """A replicated method has a bug and raises; correct commands follow."""
    cluster = stock("abc", journal=True, dump=True, node_class=Explosive)
    leader = cluster.lead("a")
    assert isinstance(leader, Explosive)
    leader.write("before")
    cluster.run(1.0)
    leader.boom()
    after = leader.write("after")
    cluster.run(5.0)
    assert all(len(cluster[name].errors) > 10 for name in "abc")
    cluster.restart("a", "b", "c")
    cluster.run(5.0)
    assert not after.is_acknowledged
    assert all(cluster[name].values == ["before"] for name in "abc")

    told: list[Sequence[Result]] = []
    replica = Replica(
        registry=Faulty(),
        applied_index=1,
        known=lambda origin, number: None,
        on_applied=lambda origin, number, results, index: told.append(results),
        notify=lambda notice: None,
    )
    replica.apply(encode(Batch("o", 1, (put(1, "boom"), put(2, "beside")))), 2)
    replica.apply(b"no batch", 3)
    replica.apply(encode(Batch("o", 2, (put(3, "behind"),))), 4)
    assert [type(result) for results in told for result in results] == [Rejected, Done, Done]
    assert (replica.applied_index, replica.registry.revision, replica.skipped) == (4, 2, 2)


class Raising(Voters):
    """Whoever is told of an applied command raises, once."""

    poison = command("poison")
    victim: NodeId | None = None

    def _applied(self, node: SimVoter, index: int, data: bytes) -> None:
        super()._applied(node, index, data)
        if data == self.poison and self.victim is None:
            self.victim = node.id
            raise RuntimeError("a bug")


@deviation(
    17,
    stock="the entry is applied twice on that node: the replicas differ",
    ours="applied once on every node",
)
def test_d17_an_exception_in_a_callback_applies_an_entry_twice(stock: Stock) -> None:
    """Who waits for a command raises when told that it is done."""
    cluster = stock("abc")
    leader = cluster.lead("a")

    def raises(result: Any, reason: Any) -> None:
        raise RuntimeError("a bug")

    leader.put("poison", callback=raises)
    cluster.run(2.0)
    assert leader.values == ["poison", "poison"]
    assert cluster["b"].values == ["poison"]

    voters = Raising(3)
    voters.propose(voters.steady(), voters.poison)
    with pytest.raises(RuntimeError, match="a bug"):
        voters.run_until(voters.now + 2.0)
    assert voters.victim is not None
    voters.crash(voters.victim, lose_unsynced=False)  # its core is thrown away, as always then
    voters.settle()
    for node in voters.live():
        assert [data for _, data in node.applied].count(voters.poison) == 1


class Newer(StockNode):
    """A later release: it can do one thing more."""

    @LIBRARY.replicated(ver=1)  # type: ignore[untyped-decorator]  # as above
    def clear(self) -> None:
        self.values.clear()


@deviation(
    18,
    stock="the older node applies commands twice",
    ours="such an entry is dropped, and what comes later is applied once",
)
def test_d18_a_version_entry_makes_an_older_node_apply_twice(stock: Stock) -> None:
    """Two of three nodes run a later release, and its version is switched on."""
    cluster = stock("abc", node_class=Newer)
    cluster.crash("b")
    cluster.start("b", StockNode)
    leader = cluster.lead("a")
    leader.setCodeVersion(1)
    cluster.run(1.0)
    for number in range(3):
        leader.write(number)
        cluster.run(0.5)
    assert leader.values == [0, 1, 2]
    assert cluster["b"].values == [0, 0, 1, 2]

    voters = Voters(3)
    ours = voters.steady()
    follower = voters.followers()[0]
    last = follower.journal.last_index
    previous_term = follower.journal.term_at(last)
    assert previous_term is not None
    version = Entry(b"\x03" + encode(1), last + 1, ours.core.term)
    voters.hears(follower, ours.id, Append(ours.core.term, last, last, previous_term, (version,)))
    assert follower.journal.last_index == last
    voters.write("0", "1", "2")
    voters.settle()
    assert len(follower.applied) == 4


class Extended(StockNode):
    """A later release: it has a method whose name comes before the others."""

    @LIBRARY.replicated  # type: ignore[untyped-decorator]  # as above
    def erase(self, value: Any) -> None:
        self.values.clear()


class Appended(msgspec.Struct, frozen=True, array_like=True, tag=9):
    """What a later release may add to our operations."""

    key: str


@deviation(
    19,
    stock="10 `put` of the old journal are carried out as `erase`",
    ours="an operation is named by a number of its own; the engine knows one method",
)
def test_d19_a_new_method_renames_the_old_ones(stock: Stock) -> None:
    """A node is restarted on its journal with a release that has one method more."""
    cluster = stock("a", journal=True, dump=True)
    cluster.lead("a").write_all(*range(10))
    cluster.run(1.0)
    cluster.crash("a")
    cluster.start("a", Extended)
    cluster.lead("a")
    assert cluster["a"].values == []

    later: Decoder[Any] = Decoder(Appended | Put | Get | Delete | List)
    assert later.decode(encode(Put("k", b"v"))) == Put("k", b"v")
    other_method = b"\x00" + encode((1, (b"batch",)))
    with pytest.raises(RemoteError):
        check_command(other_method)
    check_command(b"\x00" + encode((0, (b"batch",))))


@deviation(
    29,
    stock="4 of 5 clients of a deposed leader, and all of a lost forward, wait for ever",
    ours="each is told `unknown` in time",
)
async def test_d29_clients_are_never_told(stock: Stock, autojump_clock: object) -> None:
    """A leader with five writes is cut off and deposed; a follower's forward to its leader is lost.
    Then all is well again, and nobody writes."""
    cluster = stock("abc")
    old = cluster.lead("a")
    cluster.isolate("a")
    outcomes = old.write_all(*range(5))
    cluster.tick("a")
    cluster.elect("b")
    cluster.heal()
    cluster.run(5.0)
    forwarded = cluster["c"].write("forwarded")
    cluster.cut.add(("c", "b"))
    cluster.run(0.2, only="c")
    cluster.heal()
    cluster.run(60.0)
    assert sum(not outcome.told for outcome in outcomes) == 4
    assert forwarded.told == []

    proposals = Proposals(clock=TrioClock(), origin="o", propose=lambda batch: True)
    started = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(proposals.run)
        with pytest.raises(OutcomeUnknown):
            await proposals.submit(put(1, "k"), deadline=started + 1.0)
        assert trio.current_time() == started + 1.0
        nursery.start_soon(_deposed_in, proposals, 1.0)
        with pytest.raises(OutcomeUnknown):
            await proposals.submit(put(2, "k"), deadline=started + 99.0)
        assert trio.current_time() == started + 2.0
        nursery.cancel_scope.cancel()


async def _deposed_in(proposals: Proposals, delay_s: float) -> None:
    await trio.sleep(delay_s)
    proposals.leadership_lost()


@deviation(
    30,
    stock="a command of 131,067 bytes raises in the midst of its append",
    ours="no size around it raises; all are replicated",
)
def test_d30_commands_of_some_sizes_raise_half_way(stock: Stock) -> None:
    """A command that is a little shorter than two of the pieces in which large ones are sent."""
    cluster = stock("abc")
    leader = cluster.lead("a")
    around = len(LIBRARY.pickle.dumps((0, ("x" * 2 * CHUNK_BYTES,)))) + 1 - 2 * CHUNK_BYTES
    outcome = leader.write("x" * (2 * CHUNK_BYTES - 5 - around))
    assert cluster.run(2.0, lambda: outcome.is_acknowledged)  # it has two ends, and the second fits
    assert [type(error) for error in cluster["b"].errors] == [EOFError]

    voters = Voters(3)
    voters.steady()
    sizes = [*range(2 * CHUNK_BYTES - 40, 2 * CHUNK_BYTES + 2, 3), BATCH_BYTES_MAX - 128]
    voters.write(*("x" * (size - 20) for size in sizes))
    voters.settle()


@deviation(
    31,
    stock="sends 10 MiB to a follower without an answer",
    ours="sends 5 MiB at most",
)
def test_d31_all_that_a_follower_lacks_is_sent_at_once(stock: Stock) -> None:
    """A follower comes back that lacks 10 MiB of the log."""
    value = "x" * 60_000
    cluster = stock("abc")
    leader = cluster.lead("a")
    cluster.isolate("b")
    leader.write_all(*[value] * 175)
    cluster.run(2.0, only="ac")
    cluster.heal()
    cluster.run(0.3, lambda: cluster.newest(way("b", "a")).message.get("reset", False), only="a")
    before = len(cluster.sent)
    while cluster.newest(way("a", "b")).message.get("entries", []) == []:
        cluster.run(0.05, only="a")
    sent = [s for s in cluster.sent[before:] if way("a", "b")(s)]
    assert sum(len(e[0]) for s in sent for e in s.message.get("entries", ())) > 10 * 1024 * 1024

    voters = Voters(3)
    ours = voters.steady()
    behind = voters.followers()[0]
    voters.isolate(behind.id)
    voters.write(*(f"{number} {value}" for number in range(175)))
    voters.heal()
    assert voters.run_until(voters.now + 5.0, lambda: behind.applied == ours.applied)
    at_once: Counter[float] = Counter()
    for sent_frame in voters.sent:
        if sent_frame.receiver == behind.id and isinstance(sent_frame.frame, Append):
            size = sum(len(entry.command) for entry in sent_frame.frame.entries)
            at_once[sent_frame.at] += size
    assert SEND_WINDOW_BYTES < max(at_once.values()) <= SEND_WINDOW_BYTES + 1024 * 1024


@deviation(31, stock="applies 5,000 entries in one tick")
def test_d31_a_tick_applies_all_that_is_committed(stock: Stock) -> None:
    """Five thousand entries become committed at once."""
    cluster = stock("abc")
    leader = cluster.lead("a")
    leader.write_all(*range(5_000))
    while not leader.values:
        cluster.tick("a")
        assert len(leader.values) in (0, 5_000)
        cluster.run(0.05, only="bc")
        cluster.deliver()
    assert len(leader.values) == 5_000


@deviation(31, ours="applies a few hundred entries, and lets the loop go round")
def test_d31_one_event_of_ours_applies_so_many_entries_and_no_more() -> None:
    """A thousand entries become committed at once."""
    voters = Voters(3)
    ours = voters.steady()
    for number in range(1_000):
        voters.propose(ours, command(str(number)))
    assert voters.run_until(voters.now + 20.0, lambda: len(ours.applied) == 1_000)
    assert voters.applied_at_once <= 2 * APPLY_ENTRIES_MAX


def test_one_event_of_ours_applies_fewer_entries_where_they_are_large() -> None:
    """An entry holds all commands that came together."""
    voters = Voters(3)
    ours = voters.steady()
    size = APPLY_BYTES_MAX // 8
    for number in range(200):
        voters.propose(ours, command(str(number) * (size // len(str(number)))))
    assert voters.run_until(voters.now + 20.0, lambda: len(ours.applied) == 200)
    assert voters.applied_at_once <= 3 * 8  # as the engine's ticks for one append


@deviation(
    34,
    stock="5 writes are taken during a handover, and thrown away",
    ours="they are refused at once, for the successor to take",
)
def test_d34_a_handover_ignores_what_is_proposed(stock: Stock) -> None:
    """A leader hands over to a follower that has everything; clients go on writing to it."""
    cluster = stock("abc")
    old = cluster.lead("a")
    before = old.write("before")
    cluster.run(1.0)
    old.transferLeadership(NodeName("b"))
    outcomes = old.write_all(*range(5))
    cluster.tick("a")
    assert old.log_length == cluster["b"].log_length + 5
    cluster.isolate("a")
    cluster.deliver()
    assert cluster.run(1.0, lambda: "b" in cluster.leaders(), only="bc")
    cluster.heal()
    cluster.run(5.0)
    assert before.is_acknowledged
    assert cluster["b"].values == ["before"]
    assert not any(outcome.is_acknowledged for outcome in outcomes)

    voters = Voters(3)
    ours = voters.steady()
    voters.write("before")
    voters.run_until(voters.now + 1.0)
    last = ours.journal.last_index
    voters.step(ours, TransferLeadership())
    for number in range(5):
        voters.propose(ours, command(str(number)))
    assert (voters.refused, ours.journal.last_index) == (5, last)
    assert voters.run_until(voters.now + 1.0, lambda: ours not in voters.leaders())
    voters.settle()


class Locking(StockNode):
    """Has the library's locks."""

    def __init__(self, *arguments: Any) -> None:
        self.locks = lock_table(10.0)
        super().__init__(*arguments, consumers=[self.locks])


@deviation(
    34,
    stock="a client whose clock is fast takes a lock that is held",
    ours="its locks are not even imported",
)
def test_d34_locks_believe_their_clients_clocks(stock: Stock) -> None:
    """A lock is good for ten seconds. A second after it was taken, a client asks for it whose clock
    is half a minute fast."""
    cluster = stock("abc", node_class=Locking)
    leader = cluster.lead("a")
    assert isinstance(leader, Locking)
    taken: list[bool] = []

    def told(result: bool, reason: Any) -> None:
        taken.append(result)

    leader.locks.acquire("lock", "holder", 100.0, callback=told)
    cluster.run(1.0)
    assert leader.locks.isAcquired("lock", "holder", 101.0)
    leader.locks.acquire("lock", "thief", 131.0, callback=told)
    cluster.run(1.0)
    assert taken == [True, True]
    assert leader.locks.isAcquired("lock", "thief", 132.0)

    assert "pysyncobj.syncobj" in sys.modules
    assert "pysyncobj.batteries" not in sys.modules
