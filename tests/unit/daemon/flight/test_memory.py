"""What a machine remembers goes into one that was built anew, exactly; and nothing else does."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest

from muster.flight.memory import recall, remember
from muster.sim.machines.gossip import GossipMembers
from muster_protocol.effects import DeadlineReached
from muster_protocol.errors import RemoteError
from muster_protocol.membership.config import MembershipConfig
from muster_protocol.membership.events import JoinHint
from muster_protocol.membership.member import Member
from muster_protocol.membership.swim import Swim
from muster_protocol.types import Address, NodeId


def through_a_file(memory: Any) -> Any:
    return msgspec.msgpack.decode(msgspec.msgpack.encode(memory))


def a_swim(seed: int = 1) -> Swim:
    me = Member(NodeId("a" * 32), "alpha", Address("127.0.0.1", 7411))
    return Swim(config=MembershipConfig.lan(), me=me, rng=random.Random(seed), boot="00", now=0.0)


def revived(machine: Swim) -> Swim:
    again = a_swim(seed=99)
    recall(again, through_a_file(remember(machine)))
    return again


def lives_on(machine: Swim, *, now: float) -> list[Any]:
    """What it does when nobody answers: it asks, suspects, gives up."""
    done: list[Any] = []
    for _ in range(60):
        now = max(now, machine.deadline or now)
        done.append((now, machine.handle(DeadlineReached(), now=now)))
    return done


@pytest.mark.parametrize("seed", range(12))
def test_a_member_of_a_cluster_under_faults_goes_on_from_its_memory_as_it_would_have(
    seed: int,
) -> None:
    cluster = GossipMembers(seed=seed, loss=0.2)
    cluster.add_many(4)
    nodes = cluster.members
    cluster.run(10.0)
    cluster.kill(nodes[3])
    cluster.run(1.0 + seed / 2)
    machine = nodes[0].swim
    copy = revived(machine)
    assert through_a_file(remember(copy)) == through_a_file(remember(machine))
    assert (copy.members(), copy.deadline) == (machine.members(), machine.deadline)
    assert lives_on(copy, now=cluster.now) == lives_on(machine, now=cluster.now)


def test_the_copy_shares_nothing_with_what_it_was_made_from() -> None:
    machine = a_swim()
    machine.handle(JoinHint((Address("127.0.0.2", 7411),)), now=0.0)
    before = through_a_file(remember(machine))
    lives_on(revived(machine), now=0.0)
    assert through_a_file(remember(machine)) == before


def test_what_this_code_has_got_since_keeps_its_first_value() -> None:
    memory = remember(a_swim())
    del memory["._awareness"]["score"]
    memory["._gone"] = {"x": 1}
    memory["._probing"]["_gone"] = 1
    again = a_swim()
    recall(again, through_a_file(memory))
    assert again.statistics().local_health == 0
    assert not hasattr(again, "_gone")


class _Odd:
    """A part with something that nobody can keep."""

    __module__ = "muster_protocol.odd"

    def __init__(self, value: Any) -> None:
        self.value = value


def test_a_part_with_something_that_cannot_be_kept_is_an_error() -> None:
    with pytest.raises(TypeError, match="cannot be remembered"):
        remember(_Odd(iter([1])))


def test_wiring_is_not_kept() -> None:
    assert remember(_Odd({"a": print}))["."] == {}
    assert remember(_Odd(print))["."] == {}


def test_plain_values_containers_and_shared_ones_come_back() -> None:
    shared = [1, 2**70, -5]
    value = {"a": shared, "b": (shared, None, True, 1.5, b"x"), "c": {3, 1, 2}}
    odd, again = _Odd(value), _Odd(None)
    recall(again, through_a_file(remember(odd)))
    assert again.value == value
    assert again.value["a"] is again.value["b"][0]


def test_a_set_that_the_constructor_made_alike_keeps_its_order() -> None:
    """Eight and zero collide: their order in a set is that in which they came."""
    odd, again = _Odd({0, 8}), _Odd({8, 0})
    recall(again, through_a_file(remember(odd)))
    assert list(again.value) == [8, 0]


@pytest.mark.parametrize(
    "data",
    [
        ["value", "os:stat_result", {}, 0],
        ["value", "muster.recorder:FlightRecorder", {}, 0],
        ["value", "muster_protocol.nowhere:X", {}, 0],
        ["value", "muster_protocol.effects:earliest", {}, 0],
        ["value", "muster_protocol.effects:Any", {}, 0],
        ["enum", "muster_protocol.types:Priority", 99],
        ["same", 3],
        ["part", "nowhere"],
        ["list", 5, 0],
        ["what", 1],
        [],
    ],
)
def test_a_memory_that_is_none_is_an_error_and_runs_nothing(data: Any) -> None:
    with pytest.raises(RemoteError, match="no memory"):
        recall(_Odd(None), {".": {"value": data}})
