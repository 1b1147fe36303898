"""The control socket's methods on whole nodes: what is refused, and in which words."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from muster_protocol.consistency.commands import Command, Put
from muster_protocol.errors import OutcomeForgotten, Refused, UsageError
from muster_protocol.wire.membership import MemberState
from testkit.control import ask, handlers_of
from testkit.node_cluster import node_cluster, registry_of

SESSION = "5" * 32


async def test_only_a_member_that_is_gone_is_forgotten(autojump_clock: object) -> None:
    async with node_cluster(3) as cluster:
        await cluster.start()
        await cluster.founded()
        one, _, three = cluster.nodes
        with pytest.raises(Refused, match="n3 is alive: only who failed or stopped is forgotten"):
            await ask(one, "forget", node="n3")
        with pytest.raises(Refused, match="n1 is alive"):
            await ask(one, "forget", node="n1")
        gone = three.me
        await cluster.crash(three)
        state = lambda: next(v.state for v in one.running.members() if v.id == gone)  # noqa: E731 (one line of meaning)
        await cluster.until(lambda: state() is MemberState.FAILED)
        await ask(one, "forget", node="n3")
        await cluster.until(lambda: state() is MemberState.LEFT)
        with pytest.raises(Refused, match="n3 is left"):
            await ask(one, "forget", node="n3")


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("0.0.0.0:7411", "no node can be reached there"),
        ("224.0.0.1:7411", "no node can be reached there"),
        ("127.0.0.9:0", "no node can be reached there"),
        ("127.0.0.1:7411", "that is this node itself"),
    ],
)
async def test_an_address_where_nobody_can_be_is_refused(
    autojump_clock: object, address: str, why: str
) -> None:
    async with node_cluster(3) as cluster:
        await cluster.start(cluster.nodes[0])
        with pytest.raises(UsageError, match=why):
            await ask(cluster.nodes[0], "join", addresses=[address])


async def test_a_promise_is_voided_only_where_one_is_open(autojump_clock: object) -> None:
    async with node_cluster(3) as cluster:
        await cluster.start(cluster.nodes[0])
        await trio.sleep(5.0)
        with pytest.raises(Refused, match="no promise that is still open"):
            await ask(cluster.nodes[0], "bootstrap.reset")
        await cluster.start(*cluster.nodes[1:])
        await cluster.founded()
        with pytest.raises(Refused, match="belongs to cluster"):
            await ask(cluster.nodes[0], "bootstrap.reset")


async def test_a_change_that_is_no_longer_remembered_is_said_to_be_unknown(
    autojump_clock: object,
) -> None:
    async with node_cluster(3) as cluster:
        await cluster.start()
        leader = await cluster.founded()
        for node in cluster.nodes:
            registry_of(node).sessions_max = 2
        one = {"key": "k", "value": b"1", "session": SESSION}
        first = await ask(leader, "kv.put", request=1, **one)
        assert not first.repeated
        assert (await ask(leader, "kv.put", request=1, since=0, **one)).repeated
        await ask(leader, "kv.put", request=2, **one)
        with pytest.raises(OutcomeForgotten, match="an older request of this session"):
            await ask(leader, "kv.put", request=1, since=0, **one)
        for number in range(2):
            await ask(leader, "kv.put", key=f"other {number}", value=b"")
        with pytest.raises(OutcomeForgotten, match="asked too long ago"):
            await ask(leader, "kv.put", request=2, since=0, **one)
        assert (await ask(leader, "kv.get", key="k")).entry.version == 2


@pytest.mark.parametrize("params", [{"session": SESSION}, {"request": 1}, {"since": 1}])
async def test_what_names_a_repetition_goes_together(
    autojump_clock: object, params: dict[str, Any]
) -> None:
    async with node_cluster(1) as cluster:
        await cluster.start()
        await cluster.founded()
        with pytest.raises(UsageError):
            await ask(cluster.nodes[0], "kv.put", key="k", value=b"", **params)


async def test_a_forwarded_request_passes_the_same_fence(autojump_clock: object) -> None:
    async with node_cluster(3) as cluster:
        await cluster.start()
        leader = await cluster.founded()
        for other in cluster.nodes:
            if other is not leader:
                cluster.fabric.cut(leader.host.ip, other.host.ip)
        await cluster.until(lambda: not leader.running.verdict().may_act)
        command = Command(SESSION, 1, 0, 0.0, Put("k", b"v"))
        with pytest.raises(Refused, match="this side may not act"):
            await leader.agents.consistency._submit_forwarded(
                command, deadline=trio.current_time() + 1.0
            )


async def test_a_hello_tells_which_revision_the_store_has(autojump_clock: object) -> None:
    async with node_cluster(1) as cluster:
        await cluster.start()
        await cluster.founded()
        handlers = handlers_of(cluster.nodes[0])
        assert handlers.greeting().revision == 0
        await cluster.put(cluster.nodes[0], "k", b"v")
        assert handlers.greeting().revision == 1


async def test_a_full_store_refuses_and_is_no_fault_of_the_command(autojump_clock: object) -> None:
    async with node_cluster(1) as cluster:
        await cluster.start()
        await cluster.founded()
        (sim,) = cluster.nodes
        await ask(sim, "kv.put", key="k", value=b"1")
        registry_of(sim).store_bytes_max = registry_of(sim).store_bytes
        with pytest.raises(Refused, match=r"the store is full, it takes .* delete keys first"):
            await ask(sim, "kv.put", key="other", value=b"")
        assert (await ask(sim, "kv.put", key="k", value=b"2")).entry.version == 2


async def test_a_refusal_tells_the_revisions_that_the_next_attempt_needs(
    autojump_clock: object,
) -> None:
    async with node_cluster(1) as cluster:
        await cluster.start()
        await cluster.founded()
        (sim,) = cluster.nodes
        await ask(sim, "kv.put", key="k", value=b"1")
        await ask(sim, "kv.put", key="other", value=b"1")
        for key, expected, entry in (("k", 7, 1), ("none", 7, 0)):
            with pytest.raises(Refused) as caught:
                await ask(sim, "kv.put", key=key, value=b"2", expected=expected)
            assert caught.value.details == {"revision": 2, "entry": entry}
        with pytest.raises(Refused) as caught:
            await ask(sim, "kv.get", key="none")
        assert caught.value.details == {"revision": 2}
