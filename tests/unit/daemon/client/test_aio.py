"""The trio client: the same rules, plus cancellation and concurrency."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

import muster
from muster.client.aio import connect
from muster.client.errors import Incompatible, NotFound, TimedOut, Unknown, Unreachable
from muster_protocol.session.messages import Code, Request
from muster_protocol.session.methods import SignalItem
from testkit.fake_daemon import (
    HANG_UP,
    SILENCE,
    FakeDaemon,
    Stream,
    a_kv_result,
    a_status,
    hello,
    refusal,
)


def a_signal(number: int) -> SignalItem:
    return SignalItem(
        id=str(number),
        type="cluster.node.left",
        source="web1",
        subject="web2",
        wall=0.0,
        priority="normal",
        scope="cluster",
        data={},
    )


async def test_connect_says_hello_and_calls_give_typed_results(daemon: FakeDaemon) -> None:
    daemon.answers("status", a_status())
    async with connect(str(daemon.path)) as cluster:
        assert cluster.server == hello()
        assert await cluster.call("status") == a_status()


async def test_a_daemon_that_is_not_there_is_known_at_once(tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match="there is no socket"):
        async with connect(str(tmp_path / "none.sock")):
            pass


async def test_silence_at_the_hello_times_out(daemon: FakeDaemon) -> None:
    daemon.greeting = SILENCE
    with pytest.raises(TimedOut):
        async with connect(str(daemon.path), timeout_s=0.2):
            pass


async def test_another_major_version_is_incompatible(daemon: FakeDaemon) -> None:
    daemon.greeting = hello(major=7)
    with pytest.raises(Incompatible):
        async with connect(str(daemon.path)):
            pass


async def test_a_refusal_is_typed(daemon: FakeDaemon) -> None:
    daemon.answers("kv.get", refusal(Code.NOT_FOUND, "there is no key 'k'"))
    async with connect(str(daemon.path)) as cluster:
        with pytest.raises(NotFound, match="no key"):
            await cluster.call("kv.get", key="k")


async def test_a_change_is_repeated_as_the_same_change(daemon: FakeDaemon) -> None:
    daemon.answers("kv.put", HANG_UP, a_kv_result(repeated=True))
    async with connect(str(daemon.path)) as cluster:
        assert (await cluster.call("kv.put", key="k", value=b"v")).repeated
    first, second = daemon.params("kv.put")
    assert (second.session, second.request) == (first.session, first.request)
    assert (first.since, second.since) == (None, 0)


async def test_a_change_without_an_answer_is_unknown(daemon: FakeDaemon) -> None:
    daemon.answers("kv.put", SILENCE)
    async with connect(str(daemon.path)) as cluster:
        with pytest.raises(Unknown):
            await cluster.call("kv.put", key="k", value=b"v", timeout_s=0.2)


async def test_changes_of_many_tasks_are_made_one_after_the_other(daemon: FakeDaemon) -> None:
    """The replicated state knows only the newest change of a session: a lower number that arrived
    later would be rejected."""
    daemon.answers("kv.put", a_kv_result())
    async with connect(str(daemon.path)) as cluster, trio.open_nursery() as nursery:
        for n in range(10):
            nursery.start_soon(lambda n=n: cluster.call("kv.put", key=f"k{n}", value=b""))
    assert [params.request for params in daemon.params("kv.put")] == list(range(1, 11))


async def test_reads_of_many_tasks_do_not_wait_for_each_other(daemon: FakeDaemon) -> None:
    def only_quick(request: Request) -> object:
        return SILENCE if request.params["key"] == "slow" else a_kv_result()

    daemon.answers("kv.get", only_quick)
    async with connect(str(daemon.path)) as cluster, trio.open_nursery() as nursery:
        nursery.start_soon(lambda: cluster.call("kv.get", key="slow"))
        with trio.fail_after(5):
            assert await cluster.call("kv.get", key="quick") == a_kv_result()
        nursery.cancel_scope.cancel()


async def test_a_stream_gives_items_until_its_end(daemon: FakeDaemon) -> None:
    daemon.answers("signals.tail", Stream([a_signal(1), a_signal(2)]))
    async with connect(str(daemon.path)) as cluster, cluster.stream("signals.tail") as signals:
        assert [item.id async for item in signals] == ["1", "2"]


async def test_a_stream_that_is_lost_is_unreachable(daemon: FakeDaemon) -> None:
    daemon.answers("signals.tail", Stream([a_signal(1), HANG_UP]))
    async with connect(str(daemon.path)) as cluster, cluster.stream("signals.tail") as signals:
        assert (await anext(signals)).id == "1"
        with pytest.raises(Unreachable):
            await anext(signals)


async def test_a_stream_may_stay_quiet_longer_than_the_time_out(daemon: FakeDaemon) -> None:
    daemon.answers("signals.tail", SILENCE)
    async with connect(str(daemon.path), timeout_s=0.1) as cluster:
        with trio.move_on_after(0.5) as waited:
            async with cluster.stream("signals.tail") as signals:
                await anext(signals)
        assert waited.cancelled_caught


async def test_the_package_gives_the_clients_by_name(daemon: FakeDaemon) -> None:
    assert muster.connect is connect
    with pytest.raises(AttributeError, match="nonsense"):
        _ = muster.nonsense
